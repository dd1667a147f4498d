"""AdamW over flat memory: parameters, gradients and both moments lie one after the other, and a step is one pass.

The update formula is derived in reference/adamw.py, the pass is kernels/cpu/adamw.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..kernel_table import announce_compilation
from ..tensor import Tensor


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), PyTorch's arguments, order of operations and result.

    params: Tensors, or a list of groups {"params": Tensors, "lr": ..., "weight_decay": ...} with what differs.
    max_norm: clip the gradients' global norm to this inside the step, in the same pass.

    The Tensors' numbers move into one array, and their gradients will lie in another: a `.grad` that you want to keep
    beyond `zero_grad()` must be copied. A parameter without a gradient is left alone.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        max_norm: float | None = None,
    ) -> None:
        given = list(params)
        groups = given if given and isinstance(given[0], Mapping) else [{"params": given}]
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        self.param_groups: list[dict[str, Any]] = [{**defaults, **g, "params": list(g["params"])} for g in groups]
        self.max_norm = max_norm
        for group in self.param_groups:
            _check(group, max_norm)
        self.params: list[Tensor] = [p for group in self.param_groups for p in group["params"]]
        if not self.params:
            raise ValueError("AdamW: got no parameters")
        if len({id(p) for p in self.params}) < len(self.params):
            raise ValueError("AdamW: a parameter is listed twice")
        if any(not isinstance(p, Tensor) or p.node is not None or p.version is None for p in self.params):
            raise TypeError("AdamW: a parameter must be a Tensor that you made, not an array or an operation's result")
        dtypes = {p.dtype for p in self.params}
        if len(dtypes) > 1 or next(iter(dtypes)).kind != "f":
            raise TypeError(
                f"AdamW: parameters are {', '.join(sorted(map(str, dtypes)))}, but all must be one float dtype"
            )
        self.steps = [0] * len(self.params)
        self._lay_flat()

    def _lay_flat(self) -> None:
        self.offsets = np.cumsum([0, *[p.size for p in self.params]]).tolist()
        flat, grad, m, v = (np.zeros(self.offsets[-1], self.params[0].dtype) for _ in range(4))
        self.flat, self.flat_grad, self.m, self.v = flat, grad, m, v
        for p, start, stop in zip(self.params, self.offsets, self.offsets[1:], strict=False):
            flat[start:stop] = p.data.reshape(-1)
            p.data = flat[start:stop].reshape(p.shape)
            p.data.flags.writeable = False
            p.grad_home = grad[start:stop].reshape(p.shape)
        self._views = [p.data for p in self.params]

    def zero_grad(self) -> None:
        """Forgets all gradients: `.grad` becomes None; nothing is written."""
        for p in self.params:
            p.grad = None

    def step(self) -> float:
        """One update in place. Returns the global norm of the gradients (before clipping), or NaN where there was none.

        Raises, before anything is changed: RuntimeError where somebody replaced a parameter's array or another optimizer
        took it over, ValueError where a `.grad` set by hand has another shape than its parameter.
        """
        announce_compilation()
        from ...kernels.cpu.adamw import adamw_update, squared_norm

        for p, view in zip(self.params, self._views, strict=True):
            if p.data is not view:
                raise RuntimeError(
                    "AdamW: a parameter's array was replaced since; make the optimizer after casting or moving it"
                )
            if p.grad is not None and p.grad.shape != p.shape:
                raise ValueError(f"AdamW: a .grad has shape {p.grad.shape}, but its parameter has shape {p.shape}")
        spans = self._spans()
        norm, scale = float("nan"), 1.0
        if self.max_norm is not None:
            norm = float(np.sqrt(sum(squared_norm(self.flat_grad[a:b]) for _, _, a, b in _joined(spans))))
            scale = min(1.0, self.max_norm / (norm + 1e-6))
        for group, step, a, b in spans:
            adamw_update(
                self.flat[a:b], self.flat_grad[a:b], self.m[a:b], self.v[a:b],
                lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1], eps=group["eps"],
                weight_decay=group["weight_decay"], step=step, grad_scale=scale,
            )  # fmt: skip
        return norm

    def _spans(self) -> list[tuple[dict[str, Any], int, int, int]]:
        """(group, step, start, stop) of neighbours that are updated alike; gradients lie in the flat array afterwards."""
        spans: list[tuple[dict[str, Any], int, int, int]] = []
        i = 0
        for group in self.param_groups:
            for p in group["params"]:
                start, stop = self.offsets[i], self.offsets[i + 1]
                if p.grad is not None:
                    made = p.accumulator
                    if made is None or made[0] is not p.grad or made[1] is not p.grad_home:
                        # It was set by hand, or is older than this optimizer.
                        self.flat_grad[start:stop] = p.grad.data.reshape(-1)
                    self.steps[i] += 1
                    p.version[0] += 1  # type: ignore[index]
                    if spans and spans[-1][0] is group and spans[-1][1] == self.steps[i] and spans[-1][3] == start:
                        spans[-1] = (*spans[-1][:3], stop)
                    else:
                        spans.append((group, self.steps[i], start, stop))
                i += 1
        return spans

    def state_dict(self) -> dict[str, np.ndarray]:
        """Both moments and the number of updates of each parameter: what a resumed run needs, as arrays."""
        return {"m": self.m.copy(), "v": self.v.copy(), "steps": np.array(self.steps, np.int64)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on where `state_dict` was taken. ValueError where it belongs to other parameters."""
        for name, own in (("m", self.m), ("v", self.v), ("steps", np.array(self.steps))):
            if name not in state or state[name].shape != own.shape:
                got = "nothing" if name not in state else f"shape {state[name].shape}"
                raise ValueError(f"AdamW: state {name} has {got}, but these parameters need shape {own.shape}")
        self.m[:], self.v[:] = state["m"], state["v"]
        self.steps = [int(n) for n in state["steps"]]


def _joined(spans: list[tuple[dict[str, Any], int, int, int]]) -> list[tuple[dict[str, Any], int, int, int]]:
    """Neighbours as one span, whatever their group: for the norm."""
    out: list[tuple[dict[str, Any], int, int, int]] = []
    for span in spans:
        if out and out[-1][3] == span[2]:
            out[-1] = (*out[-1][:3], span[3])
        else:
            out.append(span)
    return out


def _check(group: dict[str, Any], max_norm: float | None) -> None:
    beta1, beta2 = group["betas"]
    for name, value, good in (
        ("lr", group["lr"], group["lr"] >= 0),
        ("betas", group["betas"], 0 <= beta1 < 1 and 0 <= beta2 < 1),
        ("eps", group["eps"], group["eps"] >= 0),
        ("weight_decay", group["weight_decay"], group["weight_decay"] >= 0),
        ("max_norm", max_norm, max_norm is None or max_norm > 0),
    ):
        if not good:
            raise ValueError(
                f"AdamW: {name} is {value}, but it must be {'in [0, 1)' if name == 'betas' else 'positive'}"
            )
