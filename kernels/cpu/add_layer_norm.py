"""Addition and layer normalisation in one visit to memory (Ba, Kiros, Hinton, 2016).

    s = x + residual,   h = (s - mean) r,  r = 1 / sqrt(var + eps),   y = h weight + bias
    dbias = sum_i dy_i,   dweight = sum_i dy_i h_i
    g = dy weight,   dx = dresidual = ds + r (g - mean(g) - h mean(g h))

A row is summed, and its sum normalised, while it sits in cache; so is the way back. Residuals: mean and r, one number a
row of s.

Against the sum by NumPy and the kernel of layer_norm after it (rung 01) the whole pair gains little: 0.8 to 1.2 times
forward and 0.9 to 1.3 times backward from 768 x 128 to 4096 x 768, because the pages of the two results cost as much as
the visit saved. What it buys is a graph of one node, and x and residual that nobody keeps.
"""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import prange

from . import layer_norm
from .jit import FLOATS, REDUCE, frozen, jit, lent
from .layer_norm import add_blocks
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


@jit(fastmath=REDUCE)
def add_layer_norm_vjp_02_rows(dy, ds, s, weight, means, scales, dx, add, twin, dweight, dbias, want, first, last):
    """All gradients in one visit to a row: 1.5 times rung 01, though on one core (768 x 512 float32: 214 to 139 us).
    Rows first to last. dx (R, C), which is dresidual too, is written or added to, and copied to twin (R, C) unless that
    is empty; dweight, dbias (C,) receive this block's sums. dy and ds are (R, C), or one row of zeros.

    want = (dx, dweight, dbias): what is not wanted is neither read nor written.
    """
    C = s.shape[1]
    number = s.dtype.type
    share, zero = number(1.0 / C), number(0)
    want_dx, want_dweight, want_dbias = want
    if want_dweight:
        dweight[:] = zero
    if want_dbias:
        dbias[:] = zero
    for i in range(first, last):
        dy_row, ds_row = dy[min(i, dy.shape[0] - 1)], ds[min(i, ds.shape[0] - 1)]
        row, mean, r = s[i], means[i], scales[i]
        if want_dx:
            dx_row = dx[i]
            mean_g, mean_gh = zero, zero
            for j in range(C):
                g = dy_row[j] * weight[j]
                mean_g += g
                mean_gh += g * (row[j] - mean)
            mean_g *= share
            mean_gh *= r * r * share
            if add:
                for j in range(C):
                    dx_row[j] += ds_row[j] + r * (dy_row[j] * weight[j] - mean_g - (row[j] - mean) * mean_gh)
            else:
                for j in range(C):
                    dx_row[j] = ds_row[j] + r * (dy_row[j] * weight[j] - mean_g - (row[j] - mean) * mean_gh)
            if twin.size:
                twin_row = twin[i]
                for j in range(C):
                    twin_row[j] = dx_row[j]
        if want_dweight:
            for j in range(C):
                dweight[j] += dy_row[j] * ((row[j] - mean) * r)
        if want_dbias:
            for j in range(C):
                dbias[j] += dy_row[j]


@jit(parallel=True)
def add_layer_norm_vjp_03_threads(dy, ds, s, weight, means, scales, dx, add, twin, dweights, dbiases, want, block):
    """Blocks of rows on all threads: 1.3 times rung 02 on two cores (139 to 108 us); block b leaves its sums in row b
    of dweights, dbiases (blocks, C).
    """
    R = s.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        first, last = b * block, min(R, (b + 1) * block)
        add_layer_norm_vjp_02_rows(
            dy, ds, s, weight, means, scales, dx, add, twin, dweights[b], dbiases[b], want, first, last
        )


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
    want = (bool(wanted[0] or wanted[1]), bool(wanted[2]), bool(bias) and bias[0] is not None and bool(wanted[3]))
    offers = [lent(offer) for offer in into]
    g, add, twin = None, False, np.empty((0, 0), s.dtype)
    if bool(wanted[0]) != bool(wanted[1]):
        g, add = offers[0 if wanted[0] else 1] or (None, False)
    elif wanted[0] and offers[0] and offers[1] and not offers[0][1] and not offers[1][1]:
        g, twin = offers[0][0], offers[1][0]
    if g is None:
        g = np.empty(s.shape if want[0] else (0, 0), s.dtype)
    block = row_block(R, C) if s.size >= PARALLEL_WORK else max(R, 1)
    blocks = max(1, -(-R // block))
    dweights, dbiases = (np.zeros((blocks, C if w else 0), s.dtype) for w in want[1:])
    if R:
        dy2, ds2 = (frozen(np.zeros((1, C), s.dtype)) if d is None else frozen(d).reshape(R, C) for d in dy)
        arguments = (
            dy2, ds2, frozen(s).reshape(R, C), frozen(weight), *residuals,
            g.reshape(R, C) if want[0] else g, add, twin.reshape(R, C) if twin.size else twin,
        )  # fmt: skip
        if blocks == 1:
            add_layer_norm_vjp_02_rows(*arguments, dweights[0], dbiases[0], want, 0, R)
        else:
            add_layer_norm_vjp_03_threads(*arguments, dweights, dbiases, want, block)
    gradients: list[Any] = [g if wanted[0] else None, (twin if twin.size else g) if wanted[1] else None]
    for i, parts in enumerate((dweights, dbiases)[: 1 + len(bias)], start=2):
        if want[i - 1]:
            total, add = offers[i] or (np.empty(C, s.dtype), False)
            add_blocks(parts, total, add)
            gradients.append(total)
        else:
            gradients.append(None)
    return tuple(gradients)


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
