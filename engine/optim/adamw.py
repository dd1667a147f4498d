"""AdamW over flat memory: a step is one pass over parameters, gradients and both moments.

The update formula is derived in reference/adamw.py, the pass is kernels/cpu/adamw.py, or its namesake in kernels/cuda.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Any

import numpy as np

from ...reference.adamw import adamw_update
from .clip import adamw_kernels
from .flat import FlatOptimizer, not_negative


class AdamW(FlatOptimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), PyTorch's arguments, order of operations and result.

    params: Tensors, or a list of groups {"params": Tensors, "lr": ..., "weight_decay": ...} with what differs.
    max_norm: clip the gradients' global norm to this inside the step, in the same pass.

    The Tensors' numbers move into one array, and their gradients will lie in another: a `.grad` that you want to keep
    beyond `zero_grad()` must be copied. A parameter without a gradient is left alone.
    """

    STATE = ("m", "v")
    m: np.ndarray
    v: np.ndarray

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
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}, max_norm)

    def _limits(self, group: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
        yield from super()._limits(group)
        betas = group["betas"]
        pair = isinstance(betas, (tuple, list)) and len(betas) == 2
        yield (
            "betas",
            pair and all(isinstance(beta, Real) and 0 <= float(beta) < 1 for beta in betas),
            "two numbers in [0, 1)",
        )
        yield from not_negative(group, "eps")

    def _squared_norm(self, grad: np.ndarray) -> float:
        kernels = adamw_kernels(grad)
        return super()._squared_norm(grad) if kernels is None else kernels.squared_norm(grad)

    def _update(self, group: Mapping[str, Any], step: int, scale: float, start: int, stop: int) -> None:
        self._pass(group, step, scale, self.flat_grad[start:stop], group["weight_decay"], start, stop)

    def _pass(
        self, group: Mapping[str, Any], step: int, scale: float, grad: np.ndarray, decay: float, start: int, stop: int
    ) -> None:
        """AdamW's update with this gradient and this decay: by a kernel, in float64 on a GPU by the formula."""
        param, m, v = self.flat[start:stop], self.m[start:stop], self.v[start:stop]
        settings: dict[str, Any] = {
            "lr": float(group["lr"]), "beta1": float(group["betas"][0]), "beta2": float(group["betas"][1]),
            "eps": float(group["eps"]), "weight_decay": float(decay), "step": step,
        }  # fmt: skip
        kernels = adamw_kernels(param)
        if kernels is not None:
            kernels.adamw_update(param, grad, m, v, **settings, grad_scale=scale)
        else:
            param[...], m[...], v[...] = adamw_update(param, grad * scale, m, v, **settings)
