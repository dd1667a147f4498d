"""Dropout with a given mask: y = x mask / (1 - p), dx = dy mask / (1 - p)   (Srivastava et al., 2014, inverted form).

The mask (True: keep) is an input, drawn by `philox.bernoulli_mask`. A dropped NaN or infinity is 0, as in the formula.
"""

from typing import Any

import numpy as np
from numba import prange

from .jit import FLOATS, frozen, jit, lent
from .threads import CHUNK, PARALLEL_WORK, chunks


@jit()
def dropout_forward_01_scale(x, mask, y, scale, add, first, last):
    """Elements first to last: y (+)= x times scale where the mask keeps, 0 elsewhere, whatever x is there. All flat."""
    keep, drop = x.dtype.type(scale), x.dtype.type(0)
    x, mask, y = x[first:last], mask[first:last], y[first:last]
    if add:
        for i in range(x.size):
            y[i] += x[i] * keep if mask[i] else drop
    else:
        for i in range(x.size):
            y[i] = x[i] * keep if mask[i] else drop


@jit(parallel=True)
def dropout_forward_02_threads(x, mask, y, scale, add, blocks):
    """Chunks on all threads."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        dropout_forward_01_scale(x, mask, y, scale, add, b * CHUNK, (b + 1) * CHUNK)


def _apply(x: np.ndarray, mask: np.ndarray, y: np.ndarray, p: float, add: bool) -> None:
    arguments = frozen(x).reshape(-1), frozen(mask).reshape(-1), y.reshape(-1), 1.0 / (1.0 - p), add
    if y.size < PARALLEL_WORK:
        dropout_forward_01_scale(*arguments, 0, y.size)
    else:
        dropout_forward_02_threads(*arguments, chunks(y.size))


def accepts(x: Any, mask: Any, *, p: float) -> bool:
    return x.dtype in FLOATS and mask.dtype == np.bool_ and mask.shape == x.shape and 0 <= p < 1


def forward(x: np.ndarray, mask: np.ndarray, *, p: float) -> tuple[np.ndarray, None]:
    """y of x and a boolean mask of its shape; p is the share that is dropped, 0 <= p < 1."""
    y = np.empty(x.shape, x.dtype)
    _apply(x, mask, y, p, False)
    return y, None


def vjp(
    dy: np.ndarray, y: Any, x: Any, mask: np.ndarray, *, residuals: None, wanted: Any, into: Any, p: float
) -> tuple[np.ndarray | None, None]:
    """dx: the same scaling of dy (the operation is linear and its own transpose)."""
    if not wanted[0]:
        return None, None
    dx, add = lent(into[0]) or (np.empty(x.shape, x.dtype), False)
    _apply(dy, mask, dx, p, add)
    return dx, None
