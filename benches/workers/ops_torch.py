"""PyTorch's side of ops.py: what a user would call for the same row, eager or through torch.compile."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import cases
import numpy as np
import torch
from rotation import Rotation, poison
from serve import serve
from torch.nn import functional as F


def _recurrent(kind: str) -> Callable[..., Any]:
    """torch.nn.LSTM and its like from the row's matrices (in, out)."""

    def make(x: Any, *rest: Any) -> tuple[Callable[[], Any], list[Any]]:
        states = rest[: 2 if kind == "LSTM" else 1]
        w, u, *biases = rest[len(states) :]
        layer = getattr(torch.nn, kind)(x.shape[2], states[0].shape[1])
        with torch.no_grad():
            layer.weight_ih_l0.copy_(w.T)
            layer.weight_hh_l0.copy_(u.T)
            layer.bias_ih_l0.copy_(biases[0])
            layer.bias_hh_l0.copy_(biases[1]) if kind == "GRU" else layer.bias_hh_l0.zero_()
        first = tuple(s[None] for s in states)
        hidden = first if kind == "LSTM" else first[0]
        leaves = [x, *states, layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0]
        leaves += [layer.bias_hh_l0] if kind == "GRU" else []
        return (lambda: layer(x, hidden)[0]), leaves

    return make


def _rotary(x: Any) -> Any:
    """Rotary embedding as it is usually written in PyTorch: the halves of the last axis are turned."""
    d, t = x.shape[-1], x.shape[-2]
    angle = torch.arange(t)[:, None] * 10000.0 ** (-torch.arange(0, d, 2) / d)
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., : d // 2], x[..., d // 2 :]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def _packed_attention(x: Any, n_head: int) -> Any:
    """Causal self-attention as nanoGPT writes it."""
    b, t, c = x.shape
    q, k, v = (part.view(b, t, n_head, c // 3 // n_head).transpose(1, 2) for part in x.split(c // 3, dim=2))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).contiguous().view(b, t, c // 3)


OPS: dict[str, Callable[..., Any]] = {
    "matmul": torch.matmul,
    "linear": lambda x, w, b: torch.addmm(b, x, w),
    "softmax": lambda x: F.softmax(x, dim=-1),
    "log_softmax": lambda x: F.log_softmax(x, dim=-1),
    "masked_softmax": lambda x, mask: F.softmax(x.masked_fill(~mask, -torch.inf), dim=-1),
    "add": torch.add,
    "multiply": torch.mul,
    "logsumexp": lambda x, axis: torch.logsumexp(x, dim=axis),
    "layer_norm": lambda x, w, b: F.layer_norm(x, w.shape, w, b),
    "rms_norm": lambda x, w: F.rms_norm(x, w.shape, w, 1e-6),
    "add_layer_norm": lambda x, r, w, b: F.layer_norm(x + r, w.shape, w, b),
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_erf": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "relu": F.relu,
    "dropout": lambda x, mask, p: x.mul(mask).mul_(1 / (1 - p)),  # what F.dropout does once it has drawn the mask
    "attention": lambda q, k, v, causal: F.scaled_dot_product_attention(q, k, v, is_causal=causal),
    "packed_attention": _packed_attention,
    "rotary_embedding": _rotary,
    "embedding": lambda w, ids: F.embedding(ids, w),
    "cross_entropy": F.cross_entropy,
    "linear_cross_entropy": lambda x, w, ids: F.cross_entropy(x @ w, ids),
    "bias_gelu": lambda x, b: F.gelu(x + b, approximate="tanh"),
    "bias_silu": lambda x, b: F.silu(x + b),
    "swiglu": lambda g, u: F.silu(g) * u,
    "dropout_add": lambda x, r, draw, p: r + F.dropout(x, p),  # with a mask of its own: see checks.own_mask
}
RECURRENT = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GOMP_SPINCOUNT")


class Side(Rotation):
    """A row at one size and its inputs, between requests."""

    def start(self, threads: int, compiled: bool = False) -> dict[str, Any]:
        """Threads; compiled: rows are called through torch.compile."""
        torch.set_num_threads(threads)
        self.compiled = compiled
        if compiled:
            import torch._functorch.config as functorch

            functorch.donated_buffer = False  # a graph that is kept may not give its memory away
        environ = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        return {"threads": torch.get_num_threads(), "compiled": compiled, "environ": environ}

    def prepare(
        self, case: str, version: str, direction: str, copies: int, shape: list[int] | None, path: str
    ) -> dict[str, Any] | None:
        """Make the inputs, and leave what a pass over poisoned memory gives (y, or the gradients) in an npz file; None for a
        row that PyTorch lacks.
        """
        this = cases.case(case)
        if this.op in cases.UPDATES:
            return None if self.compiled else self.update(this, path)
        if this.op not in OPS and this.op not in RECURRENT:
            return None
        if self.compiled:
            torch.compiler.reset()
        backward = direction == "backward"
        runs = [self.run(this, copy, backward, shape) for copy in range(copies)]
        with torch.set_grad_enabled(backward):
            run, leaves = runs[0]
            y = run()
            results = [tuple(leaf.shape) for leaf in leaves] if backward else [tuple(y.shape)]
            for leaf in leaves:
                leaf.grad = None
            del y
            poisoned = poison(results, lambda shape: torch.full(shape, torch.nan), torch.empty)
            y = run()
        if backward:
            found = [leaf.grad.numpy() for leaf in leaves]
            if this.op in RECURRENT:  # back to the row's (in, out)
                w = 3 if this.op == "lstm" else 2
                found[w : w + 2] = [g.T for g in found[w : w + 2]]
            np.savez(path, *found, dy=cases.cotangent(shape))
        else:
            np.savez(path, y.numpy())
        self.turn_to([run for run, _ in runs])
        self.grad = backward
        poison(results, lambda shape: torch.full(shape, torch.nan), torch.empty)
        return {"poisoned": poisoned}

    def run(self, this: Any, copy: int, backward: bool, shape: Any) -> tuple[Callable[[], Any], list[Any]]:
        """(a pass over fresh inputs, the leaves that it leaves gradients in)."""
        tensors = [torch.from_numpy(a) for a in this.arrays(copy)]
        for t in tensors:
            t.requires_grad_(backward and t.is_floating_point())
        if this.op in RECURRENT:
            forward, leaves = _recurrent(RECURRENT[this.op])(*tensors)
            if self.compiled:
                forward = torch.compile(forward)
        else:
            op = torch.compile(OPS[this.op]) if self.compiled else OPS[this.op]
            forward, leaves = lambda: op(*tensors, **this.params), [t for t in tensors if t.requires_grad]
        if not backward:
            return forward, []
        y, dy = forward(), torch.from_numpy(cases.cotangent(shape, copy))

        def backwards() -> None:
            for leaf in leaves:
                leaf.grad = None
            y.backward(dy, retain_graph=True)

        return backwards, leaves

    def update(self, this: Any, path: str) -> dict[str, Any]:
        """AdamW in one pass (fused=True), or clipping, on parameters with gradients."""
        arrays, self.grad = this.arrays(), False
        if this.op == "adamw":
            p = torch.nn.Parameter(torch.from_numpy(arrays[0]))
            p.grad = torch.from_numpy(arrays[1])
            optimizer = torch.optim.AdamW([p], fused=True, **this.params)
            optimizer.step()
            state = optimizer.state[p]
            np.savez(path, p.detach().numpy(), state["exp_avg"].numpy(), state["exp_avg_sq"].numpy())
            self.turn_to([optimizer.step])
        else:
            parameters, bounds = (
                [torch.nn.Parameter(torch.zeros(a.shape)) for a in arrays],
                cases.tighter(**this.params),
            )
            for p, a in zip(parameters, arrays, strict=True):
                p.grad = torch.from_numpy(a)
            torch.nn.utils.clip_grad_norm_(parameters, next(bounds))
            np.savez(path, *arrays)
            self.turn_to([lambda: torch.nn.utils.clip_grad_norm_(parameters, next(bounds))])
        return {"poisoned": False}

    def block(self, seconds: float, inner: int = 1) -> list[tuple[float, float]]:
        """Passes for about `seconds`."""
        with torch.set_grad_enabled(self.grad):
            return super().block(seconds, inner)


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "prepare", "block")})
