"""Layer normalisation over the last axis (Ba, Kiros, Hinton, 2016).

    h = (x - mean) r,  r = 1 / sqrt(var + eps),  y = h weight + bias           (var divides by C)
    dbias = sum_i dy_i,   dweight = sum_i dy_i h_i
    g = dy weight,   dx = r (g - mean(g) - h mean(g h))

Mean and variance take two passes over a row that sits in cache: no cancellation. Residuals: mean and r, one number a
row.
"""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import prange

from .jit import FLOATS, REDUCE, frozen, jit, lent
from .norm_rows import ROWS, norm_vjp_four, norm_vjp_one
from .threads import PARALLEL_WORK, row_block

# Letters: R rows, C features.


@jit()
def layer_norm_forward_01_naive(x, weight, bias, y, means, scales, eps):
    """The textbook, one row after the other; x, y (R, C), means, scales (R,). The rung to measure from."""
    R, C = x.shape
    for i in range(R):
        mean, variance = x.dtype.type(0), x.dtype.type(0)
        for j in range(C):
            mean += x[i, j] / C
        for j in range(C):
            variance += (x[i, j] - mean) * (x[i, j] - mean) / C
        means[i], scales[i] = mean, 1 / math.sqrt(variance + eps)
        for j in range(C):
            y[i, j] = (x[i, j] - mean) * scales[i] * weight[j] + bias[j]


@jit()
def layer_norm_vjp_01_naive(dy, x, weight, means, scales, dx, dweight, dbias):
    """The textbook; dx (R, C), dweight and dbias (C,) are overwritten. The rung to measure from."""
    R, C = x.shape
    dweight[:] = 0
    dbias[:] = 0
    for i in range(R):
        mean_g, mean_gh = x.dtype.type(0), x.dtype.type(0)
        for j in range(C):
            g, h = dy[i, j] * weight[j], (x[i, j] - means[i]) * scales[i]
            mean_g += g / C
            mean_gh += g * h / C
            dweight[j] += dy[i, j] * h
            dbias[j] += dy[i, j]
        for j in range(C):
            h = (x[i, j] - means[i]) * scales[i]
            dx[i, j] = scales[i] * (dy[i, j] * weight[j] - mean_g - h * mean_gh)


@jit(fastmath=REDUCE)
def layer_norm_forward_02_vector(x, weight, bias, has_bias, y, means, scales, eps, first, last):
    """Vector sums, two passes over a row in cache: 9.1 times rung 01 (768 x 128 float32: 304 to 33 us).

    Rows first to last of x, y (R, C); means, scales (R,). Without has_bias, bias is any vector and not read.
    """
    C = x.shape[1]
    number = x.dtype.type
    share = number(1.0 / C)
    for i in range(first, last):
        row, y_row = x[i], y[i]
        total = number(0)
        for j in range(C):
            total += row[j]
        mean = total * share
        variance = number(0)
        for j in range(C):
            d = row[j] - mean
            variance += d * d
        r = number(1) / math.sqrt(variance * share + number(eps))
        means[i] = mean
        scales[i] = r
        if has_bias:
            for j in range(C):
                y_row[j] = (row[j] - mean) * r * weight[j] + bias[j]
        else:
            for j in range(C):
                y_row[j] = (row[j] - mean) * r * weight[j]


@jit(parallel=True)
def layer_norm_forward_04_threads(x, weight, bias, has_bias, y, means, scales, eps, block):
    """Blocks of rows on all threads: 1.6 times rung 02 on two cores (33 to 20 us)."""
    R = x.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        layer_norm_forward_02_vector(
            x, weight, bias, has_bias, y, means, scales, eps, b * block, min(R, (b + 1) * block)
        )


@jit(fastmath=REDUCE)
def layer_norm_vjp_02_vector(dy, x, weight, means, scales, dx, dweight, dbias):
    """Vector sums, and a division less for each number: 6 times rung 01 (768 x 128 float32: 210 to 37 us). Four passes over
    a row in cache; dweight and dbias are read and written for each row.
    """
    R, C = x.shape
    number = x.dtype.type
    share = number(1.0 / C)
    dweight[:] = number(0)
    dbias[:] = number(0)
    for i in range(R):
        dy_row, row, dx_row, mean, r = dy[i], x[i], dx[i], means[i], scales[i]
        mean_g, mean_gh = number(0), number(0)
        for j in range(C):
            g = dy_row[j] * weight[j]
            mean_g += g
            mean_gh += g * (row[j] - mean)
        mean_g *= share
        mean_gh *= r * r * share
        for j in range(C):
            dx_row[j] = r * (dy_row[j] * weight[j] - mean_g - (row[j] - mean) * mean_gh)
        for j in range(C):
            dweight[j] += dy_row[j] * ((row[j] - mean) * r)
        for j in range(C):
            dbias[j] += dy_row[j]


@jit()
def layer_norm_vjp_03_four_rows(dy, x, weight, means, scales, dx, add, want_dx, dweight, dbias, first, last):
    """Four rows in one visit, their weight gradients added up in registers first (norm_rows.py): 2.3 times rung 02 (37 to
    16 us). Rows first to last.

    dx (R, C) is written or added to; without want_dx it is ROWS rows of scratch. dweight, dbias (C,) are added to.
    """
    C, i = x.shape[1], first
    share = x.dtype.type(1.0 / C)
    while i + ROWS <= last:
        to = i if want_dx else 0
        norm_vjp_four(dy, x, i, C, weight, means, scales, share, dx, to, add, dx, False, dx, False, dweight, dbias)
        i += ROWS
    while i < last:
        to = i if want_dx else 0
        norm_vjp_one(dy, x, i, C, weight, means, scales, share, dx, to, add, dx, False, dx, False, dweight, dbias)
        i += 1


@jit(parallel=True)
def layer_norm_vjp_04_threads(dy, x, weight, means, scales, dx, add, want_dx, dweight, dbias, block):
    """Blocks of rows on all threads: 2.3 times rung 03 on two cores and their two L2 caches at 4096 x 768 (1100 to 480 us).
    Each block has its own sums, which are added in order; and where dx is not wanted, its own ROWS rows of dx.
    """
    R, C = x.shape
    blocks = (R + block - 1) // block
    parts = np.zeros((2, blocks, C), x.dtype)
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        rows = dx if want_dx else dx[b * ROWS : (b + 1) * ROWS]
        layer_norm_vjp_03_four_rows(
            dy, x, weight, means, scales, rows, add, want_dx, parts[0, b], parts[1, b], b * block, min(R, (b + 1) * block)
        )  # fmt: skip
    add_blocks(parts[0], dweight, True)
    add_blocks(parts[1], dbias, True)


@jit()
def add_blocks(parts, total, add):
    """total (C,) (+)= the rows of parts (blocks, C), in their order: the same bits for any number of threads."""
    for j in range(total.size):
        total[j] = total[j] + parts[0, j] if add else parts[0, j]
    for b in range(1, parts.shape[0]):
        for j in range(total.size):
            total[j] += parts[b, j]


def accepts(x: Any, weight: Any, bias: Any = None, *, eps: float = 1e-5) -> bool:
    return (
        x.dtype in FLOATS
        and x.ndim >= 1
        and weight.dtype == x.dtype
        and weight.shape == x.shape[-1:]
        and (bias is None or (bias.dtype == x.dtype and bias.shape == weight.shape))
    )


def forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, eps: float = 1e-5
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """y (..., C) of x (..., C), weight (C,) and bias (C,); residuals: mean and 1/sqrt(var + eps) of every row."""
    return _forward(x, weight, bias, eps, x.size >= PARALLEL_WORK)


def _forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, eps: float, threaded: bool) -> Any:
    C = x.shape[-1]
    R = x.size // C if C else 0
    y, means, scales = np.empty(x.shape, x.dtype), np.empty(R, x.dtype), np.empty(R, x.dtype)
    if R:
        weight = frozen(weight)
        arguments = (
            frozen(x).reshape(R, C), weight, weight if bias is None else frozen(bias), bias is not None,
            y.reshape(R, C), means, scales, float(eps),
        )  # fmt: skip
        if threaded:
            layer_norm_forward_04_threads(*arguments, row_block(R, C))
        else:
            layer_norm_forward_02_vector(*arguments, 0, R)
    return y, (means, scales)


def vjp(
    dy: np.ndarray, y: Any, x: np.ndarray, weight: np.ndarray, *bias: Any,
    residuals: tuple[np.ndarray, np.ndarray], wanted: Any, into: Any, eps: float = 1e-5,
) -> tuple:  # fmt: skip
    """(dx, dweight[, dbias]); every one may be written to, or added to, the buffer lent for it."""
    return _vjp(dy, x, weight, bias, residuals, wanted, into, x.size >= PARALLEL_WORK)


def _vjp(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    bias: tuple,
    residuals: Any,
    wanted: Any,
    into: Any,
    threaded: bool,
) -> tuple:
    C, R = x.shape[-1], residuals[0].size
    block = whole_block(R, C) if threaded else max(R, 1)
    want_dx = bool(wanted[0])
    if want_dx:
        dx, add = lent(into[0]) or (np.empty(x.shape, x.dtype), False)
    else:
        dx, add = np.empty((-(-R // block) * ROWS, C), x.dtype), False
    want_dbias = bool(bias) and bias[0] is not None and bool(wanted[2])
    dweight = gradient_sum(C, x.dtype, wanted[1], into[1])
    dbias = gradient_sum(C, x.dtype, want_dbias, into[2] if want_dbias else None)
    if R:
        arguments = (
            frozen(dy).reshape(R, C), frozen(x).reshape(R, C), frozen(weight), *residuals,
            dx.reshape(-1, C), add, want_dx, dweight, dbias,
        )  # fmt: skip
        if threaded:
            layer_norm_vjp_04_threads(*arguments, block)
        else:
            layer_norm_vjp_03_four_rows(*arguments, 0, R)
    found = (dx if want_dx else None, dweight if wanted[1] else None, dbias if want_dbias else None)
    return found[: 2 + len(bias)]


def whole_block(rows: int, width: int) -> int:
    """row_block, rounded up to a multiple of ROWS: a row that is left over costs nearly as much as four."""
    return -(-row_block(rows, width) // ROWS) * ROWS


def gradient_sum(C: int, dtype: Any, wanted: Any, offer: Any) -> np.ndarray:
    """(C,) for a sum to be added to: what was lent, or new. Not wanted, it is scratch."""
    total, add = (lent(offer) if wanted else None) or (np.empty(C, dtype), False)
    if not add:
        total.fill(0)
    return total


def naive_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, eps: float = 1e-5
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Rung 01 as a pair."""
    C = x.shape[-1]
    R = x.size // C if C else 0
    y, means, scales = np.empty(x.shape, x.dtype), np.empty(R, x.dtype), np.empty(R, x.dtype)
    if R:
        bias = np.zeros(C, x.dtype) if bias is None else bias
        rows = frozen(x).reshape(R, C), frozen(weight), frozen(bias)
        layer_norm_forward_01_naive(*rows, y.reshape(R, C), means, scales, x.dtype.type(eps))
    return y, (means, scales)


def vector_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, eps: float = 1e-5) -> Any:
    """Rung 02 as a pair: production's on this thread."""
    return _forward(x, weight, bias, eps, False)


def _plain_vjp(rung: Any) -> Any:
    """Rung 01 or 02 as a pair: (dx, dweight[, dbias]); it takes no offer of `into`."""

    def vjp(
        dy: np.ndarray, y: Any, x: np.ndarray, weight: np.ndarray, *bias: Any,
        residuals: tuple[np.ndarray, np.ndarray], wanted: Any, into: Any, eps: float = 1e-5,
    ) -> tuple:  # fmt: skip
        C, R = x.shape[-1], residuals[0].size
        dx, dweight, dbias = np.empty(x.shape, x.dtype), np.zeros(C, x.dtype), np.zeros(C, x.dtype)
        if R:
            given = frozen(dy).reshape(R, C), frozen(x).reshape(R, C), frozen(weight)
            rung(*given, *residuals, dx.reshape(R, C), dweight, dbias)
        found = (dx, dweight, dbias if bias and bias[0] is not None else None)
        return tuple(g if w else None for g, w in zip(found, wanted, strict=False))

    return vjp


def four_rows_vjp(
    dy: np.ndarray, y: Any, x: np.ndarray, weight: np.ndarray, *bias: Any,
    residuals: tuple[np.ndarray, np.ndarray], wanted: Any, into: Any, eps: float = 1e-5,
) -> tuple:  # fmt: skip
    """Rung 03 as a pair: production's on this thread."""
    return _vjp(dy, x, weight, bias, residuals, wanted, into, False)


RUNGS = {
    "numba 01_naive": SimpleNamespace(forward=naive_forward, vjp=_plain_vjp(layer_norm_vjp_01_naive), accepts=accepts),
    "numba 02_vector": SimpleNamespace(
        forward=vector_forward, vjp=_plain_vjp(layer_norm_vjp_02_vector), accepts=accepts
    ),
    "numba 03_four_rows": SimpleNamespace(forward=vector_forward, vjp=four_rows_vjp, accepts=accepts),
}
"""The ladder's other rungs as pairs, so that they are checked and timed by name. Rung 03 is one of the vjp alone."""
