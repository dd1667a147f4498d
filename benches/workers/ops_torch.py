"""PyTorch's side of ops.py: what a user would call for the same row, eager."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import cases
import numpy as np
import torch
from serve import serve, timed_block
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
    b, t, c = x.shape
    q, k, v = (part.view(b, t, n_head, c // 3 // n_head).transpose(1, 2) for part in x.split(c // 3, dim=2))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).contiguous().view(b, t, c // 3)


OPS: dict[str, Callable[..., Any]] = {
    "matmul": torch.matmul,
    "linear": lambda x, w, b: torch.addmm(b, x, w),
    "softmax": lambda x: F.softmax(x, dim=-1),
    "log_softmax": lambda x: F.log_softmax(x, dim=-1),
    "layer_norm": lambda x, w, b: F.layer_norm(x, w.shape, w, b),
    "rms_norm": lambda x, w: F.rms_norm(x, w.shape, w, 1e-6),
    "add_layer_norm": lambda x, r, w, b: F.layer_norm(x + r, w.shape, w, b),
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_erf": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "relu": F.relu,
    "attention": lambda q, k, v, causal: F.scaled_dot_product_attention(q, k, v, is_causal=causal),
    "packed_attention": _packed_attention,
    "rotary_embedding": _rotary,
    "embedding": lambda w, ids: F.embedding(ids, w),
    "cross_entropy": F.cross_entropy,
    "linear_cross_entropy": lambda x, w, ids: F.cross_entropy(x @ w, ids),
    "bias_gelu": lambda x, b: F.gelu(x + b, approximate="tanh"),
    "bias_silu": lambda x, b: F.silu(x + b),
    "swiglu": lambda g, u: F.silu(g) * u,
    "dropout_add": lambda x, r, draw, p: r + F.dropout(x, p),  # with a mask of its own: see ops.own_mask
}
RECURRENT = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


class Side:
    """A row at one size and its inputs, between requests."""

    def start(self, threads: int) -> dict[str, Any]:
        """Threads."""
        torch.set_num_threads(threads)
        names = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GOMP_SPINCOUNT")
        environ = {name: os.environ[name] for name in names if name in os.environ}
        return {"threads": torch.get_num_threads(), "torch": torch.__version__, "environ": environ}

    def prepare(self, case: str, version: str, direction: str, copies: int, path: str) -> bool:
        """Make the inputs, run once and leave y, or the gradients, in an npz file; False for a row that PyTorch lacks."""
        this = cases.case(case)
        if this.op not in OPS and this.op not in RECURRENT:
            return False
        backward = direction == "backward"
        runs = []
        for copy in range(max(1, copies)):
            tensors = [torch.from_numpy(a) for a in this.arrays(copy)]
            for t in tensors:
                t.requires_grad_(backward and t.is_floating_point())
            if this.op in RECURRENT:
                runs.append(_recurrent(RECURRENT[this.op])(*tensors))
            else:
                leaves = [t for t in tensors if t.requires_grad]
                runs.append((lambda tensors=tensors: OPS[this.op](*tensors, **this.params), leaves))
        if backward:
            dy = np.random.default_rng(1).standard_normal(tuple(runs[0][0]().shape)).astype(np.float32)
            cotangent = torch.from_numpy(np.asarray(dy))
            graphs = [(run(), leaves) for run, leaves in runs]

            def backwards(y: Any, leaves: list[Any]) -> None:
                for leaf in leaves:
                    leaf.grad = None
                y.backward(cotangent, retain_graph=True)

            self.steps = [lambda y=y, leaves=leaves: backwards(y, leaves) for y, leaves in graphs]
            self.steps[0]()
            found = [leaf.grad.numpy() for leaf in graphs[0][1]]
            if this.op in RECURRENT:  # back to the row's (in, out)
                w = 3 if this.op == "lstm" else 2
                found[w : w + 2] = [g.T for g in found[w : w + 2]]
            np.savez(path, *found, dy=dy)
        else:
            self.steps = [run for run, _ in runs]
            with torch.no_grad():
                np.savez(path, self.steps[0]().numpy())
        self.turn, self.grad = 0, backward
        return True

    def step(self) -> None:
        """One pass over the next copy of the inputs."""
        self.turn = (self.turn + 1) % len(self.steps)
        self.steps[self.turn]()

    def block(self, seconds: float, inner: int = 1) -> list[tuple[float, float]]:
        """Passes for about `seconds`."""
        with torch.set_grad_enabled(self.grad):
            return timed_block(self.step, seconds, inner=inner)


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "prepare", "block")})
