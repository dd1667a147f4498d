"""RMS normalisation over the last axis (Zhang and Sennrich, 2019).

    h = x r,  r = 1 / sqrt(mean(x^2) + eps),   y = h weight
    dweight = sum_i dy_i h_i
    g = dy weight,   dx = r (g - h mean(g h))

One sum over a row, then one product, while the row sits in cache. Residual: r, one number a row.
"""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import prange

from .jit import FLOATS, REDUCE, frozen, jit, lent
from .layer_norm import add_blocks, gradient_sum, whole_block
from .norm_rows import ROWS, rms_vjp_four, rms_vjp_one
from .threads import PARALLEL_WORK, row_block

# Letters: R rows, C features.


@jit()
def rms_norm_forward_01_naive(x, weight, y, scales, eps):
    """The textbook, one row after the other; x, y (R, C), scales (R,): 768 x 512 float32 in 345 us. The rung to measure
    from.
    """
    C = x.shape[1]
    for i in range(x.shape[0]):
        total = x.dtype.type(0)
        for j in range(C):
            total += x[i, j] * x[i, j]
        scales[i] = x.dtype.type(1) / math.sqrt(total / x.dtype.type(C) + x.dtype.type(eps))
        for j in range(C):
            y[i, j] = x[i, j] * scales[i] * weight[j]


@jit(fastmath=REDUCE)
def rms_norm_forward_02_vector(x, weight, y, scales, eps, first, last):
    """The sum in vector lanes: 7.8 times rung 01 (345 to 44 us). Rows first to last of x, y (R, C); scales (R,)."""
    C = x.shape[1]
    number = x.dtype.type
    share = number(1.0 / C)
    for i in range(first, last):
        row, y_row = x[i], y[i]
        total = number(0)
        for j in range(C):
            total += row[j] * row[j]
        r = number(1) / math.sqrt(total * share + number(eps))
        scales[i] = r
        for j in range(C):
            y_row[j] = row[j] * r * weight[j]


@jit(parallel=True)
def rms_norm_forward_03_threads(x, weight, y, scales, eps, block):
    """Blocks of rows on all threads: 1.6 times rung 02 on two cores at 4096 x 768 (472 to 298 us)."""
    R = x.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        rms_norm_forward_02_vector(x, weight, y, scales, eps, b * block, min(R, (b + 1) * block))


@jit()
def rms_norm_vjp_01_naive(dy, x, weight, scales, dx, dweight):
    """Both gradients, one row after the other; dy, x, dx (R, C), dweight (C,): 768 x 512 float32 in 385 us. The rung to
    measure from.
    """
    C = x.shape[1]
    for j in range(C):
        dweight[j] = 0
    for i in range(x.shape[0]):
        r = scales[i]
        mean_gh = x.dtype.type(0)
        for j in range(C):
            mean_gh += dy[i, j] * weight[j] * x[i, j] * r / x.dtype.type(C)
        for j in range(C):
            dx[i, j] = r * (dy[i, j] * weight[j] - x[i, j] * r * mean_gh)
            dweight[j] += dy[i, j] * x[i, j] * r


@jit()
def rms_norm_vjp_02_four_rows(dy, x, weight, scales, dx, add, want_dx, dweight, first, last):
    """Vector sums, and four rows in one visit (norm_rows.py): 4 times rung 01 (768 x 512 float32: 291 to 74 us). Rows first
    to last.

    dx (R, C) is written or added to; without want_dx it is ROWS rows of scratch. dweight (C,) is added to.
    """
    C, i = x.shape[1], first
    share = x.dtype.type(1.0 / C)
    while i + ROWS <= last:
        to = i if want_dx else 0
        rms_vjp_four(dy, x, i, C, weight, scales, scales, share, dx, to, add, dx, False, dx, False, dweight, dweight)
        i += ROWS
    while i < last:
        to = i if want_dx else 0
        rms_vjp_one(dy, x, i, C, weight, scales, scales, share, dx, to, add, dx, False, dx, False, dweight, dweight)
        i += 1


@jit(parallel=True)
def rms_norm_vjp_03_threads(dy, x, weight, scales, dx, add, want_dx, dweight, block):
    """Blocks of rows on all threads: 2.6 times rung 02 on two cores and their two L2 caches at 4096 x 768 (1030 to 390 us).
    Each block has its own sum, which are added in order; and where dx is not wanted, its own ROWS rows of dx.
    """
    R, C = x.shape
    blocks = (R + block - 1) // block
    parts = np.zeros((blocks, C), x.dtype)
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        rows, last = dx if want_dx else dx[b * ROWS : (b + 1) * ROWS], min(R, (b + 1) * block)
        rms_norm_vjp_02_four_rows(dy, x, weight, scales, rows, add, want_dx, parts[b], b * block, last)
    add_blocks(parts, dweight, True)


def accepts(x: Any, weight: Any, *, eps: float = 1e-6) -> bool:
    return x.dtype in FLOATS and x.ndim >= 1 and weight.dtype == x.dtype and weight.shape == x.shape[-1:]


def forward(x: np.ndarray, weight: np.ndarray, *, eps: float = 1e-6) -> tuple[np.ndarray, np.ndarray]:
    """y (..., C) of x (..., C) and weight (C,); residual: 1 / sqrt(mean(x^2) + eps) of every row."""
    C = x.shape[-1]
    R = x.size // C if C else 0
    y, scales = np.empty(x.shape, x.dtype), np.empty(R, x.dtype)
    if R:
        arguments = (frozen(x).reshape(R, C), frozen(weight), y.reshape(R, C), scales, float(eps))
        if x.size < PARALLEL_WORK:
            rms_norm_forward_02_vector(*arguments, 0, R)
        else:
            rms_norm_forward_03_threads(*arguments, row_block(R, C))
    return y, scales


def vjp(
    dy: np.ndarray, y: Any, x: np.ndarray, weight: np.ndarray, *,
    residuals: np.ndarray, wanted: Any, into: Any, eps: float = 1e-6,
) -> tuple:  # fmt: skip
    """(dx, dweight); both may be written to, or added to, the buffer lent for it."""
    C, R = x.shape[-1], residuals.size
    threaded = x.size >= PARALLEL_WORK
    block = whole_block(R, C) if threaded else max(R, 1)
    want_dx = bool(wanted[0])
    if want_dx:
        dx, add = lent(into[0]) or (np.empty(x.shape, x.dtype), False)
    else:
        dx, add = np.empty((-(-R // block) * ROWS, C), x.dtype), False
    dweight = gradient_sum(C, x.dtype, wanted[1], into[1])
    if R:
        arguments = (
            frozen(dy).reshape(R, C), frozen(x).reshape(R, C), frozen(weight), residuals,
            dx.reshape(-1, C), add, want_dx, dweight,
        )  # fmt: skip
        if threaded:
            rms_norm_vjp_03_threads(*arguments, block)
        else:
            rms_norm_vjp_02_four_rows(*arguments, 0, R)
    return dx if want_dx else None, dweight if wanted[1] else None


def naive_forward(x: np.ndarray, weight: np.ndarray, *, eps: float = 1e-6) -> tuple[np.ndarray, np.ndarray]:
    """Rung 01 as a pair: y (..., C) and its residual."""
    C = x.shape[-1]
    y, scales = np.empty(x.shape, x.dtype), np.empty(x.size // C if C else 0, x.dtype)
    if x.size:
        rms_norm_forward_01_naive(frozen(x).reshape(-1, C), frozen(weight), y.reshape(-1, C), scales, float(eps))
    return y, scales


def naive_vjp(
    dy: np.ndarray, y: Any, x: np.ndarray, weight: np.ndarray, *,
    residuals: np.ndarray, wanted: Any, into: Any, eps: float = 1e-6,
) -> tuple:  # fmt: skip
    """Rung 01 as a pair: (dx, dweight); it takes no offer of `into`."""
    C = x.shape[-1]
    dx, dweight = np.empty(x.shape, x.dtype), np.zeros(C, x.dtype)
    if x.size:
        flat = frozen(dy).reshape(-1, C), frozen(x).reshape(-1, C)
        rms_norm_vjp_01_naive(*flat, frozen(weight), residuals, dx.reshape(-1, C), dweight)
    return dx if wanted[0] else None, dweight if wanted[1] else None


RUNGS = {"numba 01_naive": SimpleNamespace(forward=naive_forward, vjp=naive_vjp, accepts=accepts)}
"""The ladder's other rungs as pairs, so that they are checked and timed by name."""
