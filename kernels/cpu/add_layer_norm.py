"""Addition and layer normalisation in one visit to memory (Ba, Kiros, Hinton, 2016).

    s = x + residual,   h = (s - mean) r,  r = 1 / sqrt(var + eps),   y = h weight + bias
    dbias = sum_i dy_i,   dweight = sum_i dy_i h_i
    g = dy weight,   dx = dresidual = ds + r (g - mean(g) - h mean(g h))

A row is summed, and its sum normalised, while it sits in cache; so is the way back. Residuals: mean and r, one number a
row of s.

Against the sum by NumPy and the kernel of layer_norm around it (rung 01) the way back takes 0.3 to 0.45 of the time from
768 x 128 to 4096 x 768; forward gains little (0.8 to 1.2 times), because the pages of the two results cost as much as the
visit saved. What the pair buys besides is a graph of one node, and x and residual that nobody keeps.
"""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import prange

from . import layer_norm
from .jit import FLOATS, REDUCE, frozen, jit, lent
from .layer_norm import add_blocks, gradient_sum, whole_block
from .norm_rows import ROWS, norm_vjp_four, norm_vjp_one
from .threads import PARALLEL_WORK, row_block

# Letters: R rows, C features.


@jit(fastmath=REDUCE)
def add_layer_norm_forward_02_rows(x, residual, weight, bias, has_bias, y, s, means, scales, eps, first, last):
    """Sum, mean, variance and result of a row while it is in cache: 1.3 times rung 01, though on one core (768 x 512
    float32: 127 to 101 us). Rows first to last of x, residual, y, s (R, C); means, scales (R,). Without has_bias,
    bias is any vector and not read.
    """
    C = x.shape[1]
    number = x.dtype.type
    share, zero = number(1.0 / C), number(0)
    for i in range(first, last):
        x_row, residual_row, s_row, y_row = x[i], residual[i], s[i], y[i]
        for j in range(C):
            s_row[j] = x_row[j] + residual_row[j]
        total = zero  # in a loop of its own: one that writes as well is vectorised only where arrays lie far apart
        for j in range(C):
            total += s_row[j]
        mean = total * share
        variance = zero
        for j in range(C):
            d = s_row[j] - mean
            variance += d * d
        r = number(1) / math.sqrt(variance * share + number(eps))
        means[i] = mean
        scales[i] = r
        if has_bias:
            for j in range(C):
                y_row[j] = (s_row[j] - mean) * r * weight[j] + bias[j]
        else:
            for j in range(C):
                y_row[j] = (s_row[j] - mean) * r * weight[j]


@jit(parallel=True)
def add_layer_norm_forward_03_threads(x, residual, weight, bias, has_bias, y, s, means, scales, eps, block):
    """Blocks of rows on all threads: 1.5 times rung 02 on two cores (101 to 68 us)."""
    R = x.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        first, last = b * block, min(R, (b + 1) * block)
        add_layer_norm_forward_02_rows(x, residual, weight, bias, has_bias, y, s, means, scales, eps, first, last)


@jit()
def add_layer_norm_vjp_02_rows(
    dy, ds, with_ds, s, weight, means, scales, dx, add, want_dx, twin, with_twin, dweight, dbias, first, last
):  # fmt: skip
    """All gradients of four rows in one visit (norm_rows.py): 1.1 times rung 01, though on one core (4096 x 768 float32: 1430
    to 1260 us). Rows first to last. dy, s (R, C); ds (R, C) where with_ds.

    dx (R, C), which is dresidual too, is written or added to, and copied to twin (R, C) where with_twin; without want_dx
    it is ROWS rows of scratch. dweight, dbias (C,) are added to.
    """
    C, i = s.shape[1], first
    share = s.dtype.type(1.0 / C)
    while i + ROWS <= last:
        to = i if want_dx else 0
        norm_vjp_four(
            dy, s, i, C, weight, means, scales, share, dx, to, add, ds, with_ds, twin, with_twin, dweight, dbias
        )
        i += ROWS
    while i < last:
        to = i if want_dx else 0
        norm_vjp_one(
            dy, s, i, C, weight, means, scales, share, dx, to, add, ds, with_ds, twin, with_twin, dweight, dbias
        )
        i += 1


@jit(parallel=True)
def add_layer_norm_vjp_03_threads(
    dy, ds, with_ds, s, weight, means, scales, dx, add, want_dx, twin, with_twin, dweight, dbias, block
):  # fmt: skip
    """Blocks of rows on all threads: 2.2 times rung 02 on two cores and their two L2 caches (1260 to 580 us). Each block has
    its own sums, which are added in order; and where dx is not wanted, its own ROWS rows of dx.
    """
    R, C = s.shape
    blocks = (R + block - 1) // block
    parts = np.zeros((2, blocks, C), s.dtype)
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        rows = dx if want_dx else dx[b * ROWS : (b + 1) * ROWS]
        add_layer_norm_vjp_02_rows(
            dy, ds, with_ds, s, weight, means, scales, rows, add, want_dx, twin, with_twin,
            parts[0, b], parts[1, b], b * block, min(R, (b + 1) * block),
        )  # fmt: skip
    add_blocks(parts[0], dweight, True)
    add_blocks(parts[1], dbias, True)


def accepts(x: Any, residual: Any, weight: Any, bias: Any = None, *, eps: float = 1e-5) -> bool:
    return (
        x.dtype in FLOATS
        and x.ndim >= 1
        and residual.dtype == x.dtype
        and residual.shape == x.shape
        and weight.dtype == x.dtype
        and weight.shape == x.shape[-1:]
        and (bias is None or (bias.dtype == x.dtype and bias.shape == weight.shape))
    )


def forward(
    x: np.ndarray, residual: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, eps: float = 1e-5
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(y, s), both (..., C), of x, residual (..., C), weight and bias (C,); residuals: mean and r of every row of s."""
    C = x.shape[-1]
    R = x.size // C if C else 0
    y, s = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    means, scales = np.empty(R, x.dtype), np.empty(R, x.dtype)
    if R:
        weight = frozen(weight)
        arguments = (
            frozen(x).reshape(R, C), frozen(residual).reshape(R, C), weight, weight if bias is None else frozen(bias),
            bias is not None, y.reshape(R, C), s.reshape(R, C), means, scales, float(eps),
        )  # fmt: skip
        if x.size < PARALLEL_WORK:
            add_layer_norm_forward_02_rows(*arguments, 0, R)
        else:
            add_layer_norm_forward_03_threads(*arguments, row_block(R, C))
    return (y, s), (means, scales)


def vjp(
    dy: tuple[Any, Any], y: tuple[Any, np.ndarray], x: Any, residual: Any, weight: np.ndarray, *bias: Any,
    residuals: tuple[np.ndarray, np.ndarray], wanted: Any, into: Any, eps: float = 1e-5,
) -> tuple:  # fmt: skip
    """(dx, dresidual, dweight[, dbias]). dx and dresidual are the same numbers: one array where both are wanted, unless
    each has a buffer to be written to. A single one may be written to, or added to, the buffer lent for it; so may dweight
    and dbias.
    """
    s = y[1]
    C, R = s.shape[-1], residuals[0].size
    threaded = s.size >= PARALLEL_WORK
    block = whole_block(R, C) if threaded else max(R, 1)
    want_dx = bool(wanted[0] or wanted[1])
    want_dbias = bool(bias) and bias[0] is not None and bool(wanted[3])
    offers = [lent(offer) for offer in into]
    dx, add, twin = None, False, None
    if bool(wanted[0]) != bool(wanted[1]):
        dx, add = offers[0 if wanted[0] else 1] or (None, False)
    elif wanted[0] and offers[0] and offers[1] and not offers[0][1] and not offers[1][1]:
        dx, twin = offers[0][0], offers[1][0]
    if dx is None:
        dx = np.empty(s.shape if want_dx else (-(-R // block) * ROWS, C), s.dtype)
    dweight = gradient_sum(C, s.dtype, wanted[2], into[2])
    dbias = gradient_sum(C, s.dtype, want_dbias, into[3] if want_dbias else None)
    if R:
        s2, dx2 = frozen(s).reshape(R, C), dx.reshape(-1, C)
        dy2 = np.zeros((R, C), s.dtype) if dy[0] is None else dy[0]
        ds2 = s2 if dy[1] is None else frozen(dy[1]).reshape(R, C)
        arguments = (
            frozen(dy2).reshape(R, C), ds2, dy[1] is not None, s2, frozen(weight), *residuals,
            dx2, add, want_dx, dx2 if twin is None else twin.reshape(R, C), twin is not None, dweight, dbias,
        )  # fmt: skip
        if threaded:
            add_layer_norm_vjp_03_threads(*arguments, block)
        else:
            add_layer_norm_vjp_02_rows(*arguments, 0, R)
    return (
        dx if wanted[0] else None,
        (dx if twin is None else twin) if wanted[1] else None,
        dweight if wanted[2] else None,
        *([dbias if want_dbias else None] if bias else []),
    )


def composed_forward(
    x: np.ndarray, residual: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, eps: float = 1e-5
) -> tuple[tuple[np.ndarray, np.ndarray], Any]:
    """Rung 01, the composition: the whole sum, then the kernel of layer_norm. Another visit to memory."""
    s = x + residual
    y, saved = layer_norm.forward(s, weight, bias, eps=eps)
    return (y, s), saved


def composed_vjp(
    dy: tuple[Any, Any], y: tuple[Any, np.ndarray], x: Any, residual: Any, weight: np.ndarray, *bias: Any,
    residuals: Any, wanted: Any, into: Any, eps: float = 1e-5,
) -> tuple:  # fmt: skip
    """Rung 01: layer_norm's gradients, then the sum; it takes no offer of `into`."""
    s, inner = y[1], (bool(wanted[0] or wanted[1]), *wanted[2:])
    dy_norm, ds = (np.zeros_like(s) if d is None else d for d in dy)
    nothing = (None,) * len(inner)
    g, *rest = layer_norm.vjp(dy_norm, None, s, weight, *bias, residuals=residuals, wanted=inner, into=nothing, eps=eps)
    dx = ds + g if inner[0] else None
    return (dx if wanted[0] else None, dx if wanted[1] else None, *rest)


RUNGS = {"numba 01_composition": SimpleNamespace(forward=composed_forward, vjp=composed_vjp, accepts=accepts)}
"""The ladder's other rungs as pairs, so that they are checked and timed by name."""
