"""Clipping by the global norm (Pascanu, Mikolov and Bengio 2013); AdamW(max_norm=...) does the same inside its pass."""

from __future__ import annotations

import math
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np

from ...kernels.cuda import ladders
from ..device import device_of, library
from ..kernel_table import SMALLEST, announce_compilation
from ..tensor import Tensor


def adamw_kernels(array: Any) -> ModuleType | None:
    """What updates flat arrays where this one is: kernels/cpu/adamw.py, or its namesake in kernels/cuda, loaded when first
    needed. None where the formula must do, for float64 on a GPU.
    """
    if device_of(array) == "cpu":
        announce_compilation()
        from ...kernels.cpu import adamw

        return adamw
    return ladders.rung("adamw", ladders.NO_ROWS["adamw"][-1]) if array.dtype == np.float32 else None


def clip_scale(norm: float, max_norm: float) -> float:
    """What every gradient is multiplied by: min(1, max_norm / (norm + 1e-6)). A norm that is not a number stays one."""
    scale = float(max_norm) / (norm + 1e-6)
    return 1.0 if scale > 1.0 else scale  # min(1.0, nan) would be 1.0


def clip_grad_norm_(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scales all gradients, in place, so that the norm of all of them together is at most max_norm.

    Returns the norm before clipping; where it is NaN, all gradients become NaN. RuntimeError, before anything is changed,
    where a `.grad` that would have to be scaled was set by hand.
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm_: max_norm is {max_norm}, but it must be positive")
    with_grad = [(p, p.grad) for p in parameters if p.grad is not None]
    norm = math.sqrt(math.fsum(_squared_norm(grad.data) for _, grad in with_grad))
    scale = clip_scale(norm, max_norm)
    if scale != 1.0:
        ours = [p.accumulator[1] for p, grad in with_grad if p.accumulator is not None and p.accumulator[0] is grad]
        if len(ours) < len(with_grad):
            raise RuntimeError(
                "clip_grad_norm_: a .grad was set by hand; only gradients from backward can be scaled in place"
            )
        for array in ours:
            kernels = _worth_kernels(array)
            if kernels is not None:
                kernels.scale_in_place(array.reshape(-1), scale)
            else:
                array *= array.dtype.type(scale)
    return norm


def _worth_kernels(array: Any) -> ModuleType | None:
    if array.size < SMALLEST or not array.flags.c_contiguous or array.dtype not in (np.float32, np.float64):
        return None
    return adamw_kernels(array)


def _squared_norm(array: Any) -> float:
    """The sum of squares, in float64."""
    kernels = _worth_kernels(array)
    if kernels is not None:
        return kernels.squared_norm(array.reshape(-1))
    xp = library(array)
    return float(xp.sum(xp.square(array, dtype=np.float64)))
