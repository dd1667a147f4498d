"""Softmax over the entries of the last axis that a mask allows, zeros elsewhere; zeros where it allows none.

    y_i = m_i e^(x_i - m) / sum_j m_j e^(x_j - m),  m the largest entry allowed;      dx_i = y_i (dy_i - <dy, y>)

The vjp is softmax's own: y is zero where the mask was. The mask (a byte an entry, a quarter of what x is) is loaded into
a mask register and selects lanes, so what is masked may be anything, even NaN. A mask with fewer axes than x is read again
for each stretch of rows that it is long, (T, N) for scores (B, H, T, N), say; one that is stretched otherwise is
written out first.
"""

import math
from typing import Any

import numpy as np
from numba import prange

from . import softmax
from .jit import CONTRACT, frozen, jit
from .row_passes import mode_for, row_exp_sum_where, row_exp_where, row_largest_where
from .threads import PARALLEL_WORK, row_block

# Letters: R rows, M rows of the mask, N row length.


@jit()
def masked_softmax_forward_01_naive(x, mask, y, first, last):
    """The textbook; x, y (R, N), mask (M, N), rows first to last. The rung to measure from."""
    number = x.dtype.type
    for i in range(first, last):
        allowed, m, total = mask[i % mask.shape[0]], number(-np.inf), number(0)
        for j in range(x.shape[1]):
            if allowed[j]:
                m = max(m, x[i, j])
        if m == -np.inf:
            m = number(0)
        for j in range(x.shape[1]):
            y[i, j] = math.exp(x[i, j] - m) if allowed[j] else number(0)
            total += y[i, j]
        for j in range(x.shape[1]):
            if allowed[j] and total != 0:
                y[i, j] /= total


@jit(fastmath=CONTRACT)
def masked_softmax_forward_02_lanes(x, mask, y, first, last):
    """Lanes selected by the mask: 14 times rung 01 (4096 x 64 float32: 1660 to 117 us; 512 x 50257: 155 to 8.0 ms)."""
    N, M, number = x.shape[1], mask.shape[0], x.dtype.type
    flat, allowed, flat_y, mode = x.reshape(-1), mask.reshape(-1), y.reshape(-1), mode_for(y, False)
    for i in range(first, last):
        x0, a0 = i * N, i % M * N
        m = row_largest_where(N, flat, x0, allowed, a0)
        if m == -np.inf:
            m = number(0)  # nothing to shift by
        total = row_exp_sum_where(N, flat, x0, allowed, a0, m)
        scale = number(1) / total if total != 0 else number(0)
        row_exp_where(N, flat, x0, allowed, a0, flat_y, x0, m, scale, mode)


@jit(parallel=True)
def masked_softmax_forward_03_threads(x, mask, y, block):
    """Blocks of rows on all threads."""
    R = x.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        masked_softmax_forward_02_lanes(x, mask, y, b * block, min(R, (b + 1) * block))


def accepts(x: Any, mask: Any, *, axis: int = -1) -> bool:
    return softmax.accepts(x, axis=axis) and mask.dtype == np.bool_


def mask_rows(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The mask as rows (M, N), which x (..., N) of this shape goes through again and again."""
    axes = mask.shape
    while axes and axes[0] == 1:
        axes = axes[1:]
    if axes != shape[len(shape) - len(axes) :] or not axes:
        axes, mask = shape, np.broadcast_to(mask, shape)
    return frozen(mask).reshape(-1, axes[-1])


def forward(x: np.ndarray, mask: np.ndarray, *, axis: int = -1) -> tuple[np.ndarray, None]:
    """y (..., N) of x (..., N) and a mask that broadcasts to it; axis is the last one."""
    return _forward(masked_softmax_forward_02_lanes, masked_softmax_forward_03_threads, x, mask)


def _forward(serial: Any, threaded: Any, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, None]:
    x, y = frozen(x), np.empty(x.shape, x.dtype)
    if x.size:
        x2, y2, allowed = x.reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1]), mask_rows(mask, x.shape)
        if x.size < PARALLEL_WORK or threaded is None:
            serial(x2, allowed, y2, 0, x2.shape[0])
        else:
            threaded(x2, allowed, y2, row_block(*x2.shape))
    return y, None


def vjp(
    dy: np.ndarray, y: np.ndarray, x: Any, mask: Any, *, residuals: None, wanted: Any, into: Any, axis: int = -1
) -> tuple:
    """dx (..., N) from dy and y, as softmax; into[0] may be written or added to."""
    return *softmax.vjp(dy, y, x, residuals=None, wanted=wanted[:1], into=into[:1], axis=axis), None


class _Naive:
    """Rung 01 as a pair: all rows on this thread; the way back is rung 01 of softmax."""

    accepts = staticmethod(accepts)

    @staticmethod
    def forward(x: np.ndarray, mask: np.ndarray, *, axis: int = -1) -> tuple[np.ndarray, None]:
        return _forward(masked_softmax_forward_01_naive, None, x, mask)

    @staticmethod
    def vjp(dy: np.ndarray, y: np.ndarray, x: Any, mask: Any, **rest: Any) -> tuple:
        rest |= {"wanted": rest["wanted"][:1], "into": rest["into"][:1]}
        return *softmax.RUNGS["numba 01_naive"].vjp(dy, y, x, **rest), None


RUNGS = {"numba 01_naive": _Naive}
"""The ladder's other rung as a pair, so that it is checked and timed by name."""
