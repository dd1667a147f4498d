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
def layer_norm_forward_03_threads(x, weight, bias, has_bias, y, means, scales, eps, block):
    """Blocks of rows on all threads: 1.6 times rung 02 on two cores (33 to 20 us)."""
    R = x.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        layer_norm_forward_02_vector(
            x, weight, bias, has_bias, y, means, scales, eps, b * block, min(R, (b + 1) * block)
        )


@jit(fastmath=REDUCE)
def layer_norm_vjp_02_vector(dy, x, weight, means, scales, dx, add, dweight, dbias, want, first, last):
    """Vector sums, and a division less for each number: 4.6 times rung 01 (768 x 128 float32: 310 to 68 us).

    Rows first to last. dx (R, C) is written or added to; dweight, dbias (C,) receive this block's sums.

    want = (dx, dweight, dbias): what is not wanted is neither read nor written.
    """
    C = x.shape[1]
    number = x.dtype.type
    share = number(1.0 / C)
    want_dx, want_dweight, want_dbias = want
    if want_dweight:
        dweight[:] = number(0)
    if want_dbias:
        dbias[:] = number(0)
    for i in range(first, last):
        dy_row, row, mean, r = dy[i], x[i], means[i], scales[i]
        if want_dx:
            dx_row = dx[i]
            mean_g, mean_gh = number(0), number(0)
            for j in range(C):
                g = dy_row[j] * weight[j]
                mean_g += g
                mean_gh += g * (row[j] - mean)
            mean_g *= share
            mean_gh *= r * r * share
            if add:
                for j in range(C):
                    dx_row[j] += r * (dy_row[j] * weight[j] - mean_g - (row[j] - mean) * mean_gh)
            else:
                for j in range(C):
                    dx_row[j] = r * (dy_row[j] * weight[j] - mean_g - (row[j] - mean) * mean_gh)
        if want_dweight:
            for j in range(C):
                dweight[j] += dy_row[j] * ((row[j] - mean) * r)
        if want_dbias:
            for j in range(C):
                dbias[j] += dy_row[j]


@jit(parallel=True)
def layer_norm_vjp_03_threads(dy, x, weight, means, scales, dx, add, dweights, dbiases, want, block):
    """Blocks of rows on all threads: 1.4 times rung 02 on two cores (68 to 47 us); block b leaves its sums in row
    b of dweights, dbiases (blocks, C).
    """
    R = x.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        layer_norm_vjp_02_vector(
            dy, x, weight, means, scales, dx, add, dweights[b], dbiases[b], want, b * block, min(R, (b + 1) * block)
        )


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
    C = x.shape[-1]
    R = x.size // C if C else 0
    y, means, scales = np.empty(x.shape, x.dtype), np.empty(R, x.dtype), np.empty(R, x.dtype)
    if R:
        weight = frozen(weight)
        arguments = (
            frozen(x).reshape(R, C), weight, weight if bias is None else frozen(bias), bias is not None,
            y.reshape(R, C), means, scales, float(eps),
        )  # fmt: skip
        if x.size < PARALLEL_WORK:
            layer_norm_forward_02_vector(*arguments, 0, R)
        else:
            layer_norm_forward_03_threads(*arguments, row_block(R, C))
    return y, (means, scales)


def vjp(
    dy: np.ndarray, y: Any, x: np.ndarray, weight: np.ndarray, *bias: Any,
    residuals: tuple[np.ndarray, np.ndarray], wanted: Any, into: Any, eps: float = 1e-5,
) -> tuple:  # fmt: skip
    """(dx, dweight[, dbias]); every one may be written to, or added to, the buffer lent for it."""
    C, R = x.shape[-1], residuals[0].size
    dtype = x.dtype
    want = (bool(wanted[0]), bool(wanted[1]), bool(bias) and bias[0] is not None and bool(wanted[2]))
    offers = [lent(offer) for offer in into]
    dx, add = (offers[0] or (np.empty(x.shape, dtype), False)) if want[0] else (np.empty((0,), dtype), False)
    block = row_block(R, C) if x.size >= PARALLEL_WORK else max(R, 1)
    blocks = max(1, -(-R // block))
    dweights, dbiases = (np.zeros((blocks, C), dtype) if w else np.empty((blocks, 0), dtype) for w in want[1:])
    if R:
        arguments = (
            frozen(dy).reshape(R, C), frozen(x).reshape(R, C), frozen(weight), *residuals,
            dx.reshape(R, C) if want[0] else dx.reshape(0, 0), add,
        )  # fmt: skip
        if blocks == 1:
            layer_norm_vjp_02_vector(*arguments, dweights[0], dbiases[0], want, 0, R)
        else:
            layer_norm_vjp_03_threads(*arguments, dweights, dbiases, want, block)
    gradients = [dx if want[0] else None]
    for i, parts in enumerate((dweights, dbiases)[: 1 + len(bias)], start=1):
        if want[i]:
            total, add = offers[i] or (np.empty(C, dtype), False)
            add_blocks(parts, total, add)
            gradients.append(total)
        else:
            gradients.append(None)
    return tuple(gradients)


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


def naive_vjp(
    dy: np.ndarray, y: Any, x: np.ndarray, weight: np.ndarray, *bias: Any,
    residuals: tuple[np.ndarray, np.ndarray], wanted: Any, into: Any, eps: float = 1e-5,
) -> tuple:  # fmt: skip
    """Rung 01 as a pair: (dx, dweight[, dbias]); it takes no offer of `into`."""
    C, R = x.shape[-1], residuals[0].size
    dx, dweight, dbias = np.empty(x.shape, x.dtype), np.zeros(C, x.dtype), np.zeros(C, x.dtype)
    if R:
        given = frozen(dy).reshape(R, C), frozen(x).reshape(R, C), frozen(weight)
        layer_norm_vjp_01_naive(*given, *residuals, dx.reshape(R, C), dweight, dbias)
    found = (dx, dweight, dbias if bias and bias[0] is not None else None)
    return tuple(g if w else None for g, w in zip(found, wanted, strict=False))


RUNGS = {"numba 01_naive": SimpleNamespace(forward=naive_forward, vjp=naive_vjp, accepts=accepts)}
"""The ladder's other rungs as pairs, so that they are checked and timed by name."""
