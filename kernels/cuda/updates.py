"""From kernels to the calls of kernels/cpu/adamw.py: a step of AdamW in place, a sum of squares, a scaling in place."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .launch import Kernel, blocks, empty
from .pairs import FLOAT32

SLAB = 4096
"""Numbers whose squares one block adds; the constant of the same name in the `.cu` files."""
THREADS = 256


@dataclass(frozen=True)
class AdamW:
    """update(param, grad, m, v, decay, beta1, rest1, beta2, rest2, step, root, eps, grad_scale, n), slabs(parts, grad, n),
    total(total, parts, slabs), scale(grad, factor, n); a thread of update and scale does `each` numbers.
    """

    update: Kernel
    slabs: Kernel
    total: Kernel
    scale: Kernel
    each: int = 1

    def adamw_update(
        self, param: Any, grad: Any, m: Any, v: Any, *,
        lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, step: int, grad_scale: float = 1.0,
    ) -> None:  # fmt: skip
        """One step on flat contiguous float32 arrays: param, m, v change in place, grad does not. step counts from 1."""
        _check("adamw_update", param=param, grad=grad, m=m, v=v)
        if step < 1:
            raise ValueError(f"adamw_update: step is {step}, but counts from 1")
        rates = (
            1.0 - lr * weight_decay, beta1, 1.0 - beta1, beta2, 1.0 - beta2, lr / (1.0 - beta1**step),
            1.0 / math.sqrt(1.0 - beta2**step), eps, grad_scale,
        )  # fmt: skip
        n = param.size
        if n:
            self.update(self._grid(n), (THREADS,), (param, grad, m, v, *map(np.float32, rates), np.int32(n)))

    def squared_norm(self, grad: Any) -> float:
        """Sum of squares of a flat contiguous array, in float64; the same bits at each run. It waits for the GPU."""
        _check("squared_norm", grad=grad)
        if not grad.size:
            return 0.0
        slabs = blocks(grad.size, SLAB)
        parts, total = empty((slabs,), grad, np.float64), empty((1,), grad, np.float64)
        self.slabs((slabs,), (THREADS,), (parts, grad, np.int32(grad.size)))
        self.total((1,), (THREADS,), (total, parts, np.int32(slabs)))
        return float(total[0])

    def scale_in_place(self, grad: Any, factor: float) -> None:
        """grad *= factor, for a flat contiguous array."""
        _check("scale_in_place", grad=grad)
        if grad.size:
            self.scale(self._grid(grad.size), (THREADS,), (grad, np.float32(factor), np.int32(grad.size)))

    def _grid(self, n: int) -> tuple[int]:
        return (blocks(n, THREADS * self.each),)


def _check(name: str, **arrays: Any) -> None:
    size = next(iter(arrays.values())).size
    for what, array in arrays.items():
        if array.ndim != 1 or not array.flags.c_contiguous:
            raise ValueError(f"{name}: {what} has shape {array.shape}, but wants a flat contiguous array")
        if array.size != size or array.dtype != FLOAT32:
            raise ValueError(f"{name}: {what} is {array.dtype}[{array.size}], but wants float32[{size}]")
