"""Cross entropy of a linear map's outputs, without ever holding all of these logits at once.

    z = x W + b,    loss = 1/R sum_i (log sum_j e^(z_ij) - sum_j q_ij z_ij),    dz_ij = dy/R (softmax(z_i)_j - q_ij)
    dx = dz W^T,    dW = x^T dz,    db = sum of the rows of dz

Up to BLOCK logits, they are computed once, as e^(z - max), and kept for the way back. More are computed twice: forwards a
block of rows at a time, keeping the maximum and the total of each row; backwards a block of classes at a time, so that
every column of dW is written once, and the pieces that add up are those of dx, the smaller gradient. That costs a third
product in forward's size, and saves writing, reading and holding two arrays of all logits.
"""

import math
from typing import Any

import numpy as np
from numba import prange

from .cross_entropy import IGNORED, counted_targets, smoothed_loss
from .jit import FLOATS, REDUCE, frozen, jit, lent
from .linear import linear_bias_01_add, linear_bias_02_threads
from .threads import PARALLEL_WORK, row_block
from .tile import exp_row, largest

# Letters: R rows, C features, V classes.
BLOCK = 1 << 20  # logits at a time: 4 MB in float32, what a product is worth starting for and a cache can hold
CLASSES = 512  # fewest classes in a block of the backward pass, however many rows there are


@jit(fastmath=REDUCE)
def linear_cross_entropy_forward_01_rows(logits, targets, losses, maxima, totals, smoothing, first, last):
    """Loss, maximum m and total of e^(z - m) of rows first to last, whose logits become e^(z - m)."""
    V = logits.shape[1]
    flat = logits.reshape(-1)
    for i in range(first, last):
        row, target = logits[i], targets[i]
        if target == IGNORED:
            losses[i] = 0.0
            continue
        m = largest(flat, i * V, V)
        if smoothing == 0.0:
            gap = np.float64(m) - np.float64(row[target])
        else:
            gap = smoothed_loss(row, target, m, 0.0, smoothing)
        total = exp_row(flat, i * V, flat, i * V, V, m)
        losses[i] = math.log(np.float64(total)) + gap
        maxima[i] = m
        totals[i] = total


@jit(parallel=True)
def linear_cross_entropy_forward_02_threads(logits, targets, losses, maxima, totals, smoothing, block):
    """Blocks of rows on all threads."""
    rows = logits.shape[0]
    for index in prange((rows + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        last = min(rows, (b + 1) * block)
        linear_cross_entropy_forward_01_rows(logits, targets, losses, maxima, totals, smoothing, b * block, last)


@jit(fastmath=REDUCE)
def linear_cross_entropy_vjp_01_rows(z, targets, maxima, totals, dz, start, slopes, fresh, first, last):
    """dz of rows first to last and the classes from `start` on. slopes: dy/R and the share of it that every class, and
    the target besides, deserves. z: e^(z - m), or the logits themselves where `fresh`, and then dz is the same array.
    """
    n = z.shape[1]
    number = z.dtype.type
    flat, flat_d = z.reshape(-1), dz.reshape(-1)
    uniform, hit = number(slopes[1]), number(slopes[2])
    for i in range(first, last):
        row, drow = z[i], dz[i]
        if targets[i] == IGNORED:
            drow[:] = number(0)
            continue
        if fresh:
            exp_row(flat, i * n, flat_d, i * n, n, maxima[i])
        scale = number(slopes[0]) / totals[i]
        for j in range(n):
            drow[j] = row[j] * scale - uniform
        target = targets[i] - start
        if 0 <= target < n:
            drow[target] -= hit


@jit(parallel=True)
def linear_cross_entropy_vjp_02_threads(z, targets, maxima, totals, dz, start, slopes, fresh, block):
    """Blocks of rows on all threads."""
    rows = z.shape[0]
    for index in prange((rows + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        last = min(rows, (b + 1) * block)
        linear_cross_entropy_vjp_01_rows(z, targets, maxima, totals, dz, start, slopes, fresh, b * block, last)


def _logits(x2: np.ndarray, matrix: np.ndarray, bias: np.ndarray | None, out: np.ndarray) -> np.ndarray:
    """out = x2 matrix + bias."""
    np.matmul(x2, matrix, out=out)
    if bias is not None:
        if out.size < PARALLEL_WORK:
            linear_bias_01_add(out, frozen(bias), 0, out.shape[0])
        else:
            linear_bias_02_threads(out, frozen(bias), row_block(*out.shape))
    return out


def accepts(
    x: Any, weight: Any, targets: Any, bias: Any = None, *,
    ignore_index: int | None = None, label_smoothing: float = 0.0, transposed: bool = False,
) -> bool:  # fmt: skip
    if x.dtype not in FLOATS or weight.dtype != x.dtype or x.ndim < 1 or weight.ndim != 2:
        return False
    C, V = weight.shape[::-1] if transposed else weight.shape
    return (
        x.shape[-1] == C
        and V > 0
        and targets.dtype.kind in "iu"
        and targets.shape == x.shape[:-1]
        and (bias is None or (bias.dtype == x.dtype and bias.shape == (V,)))
    )


def forward(
    x: np.ndarray, weight: np.ndarray, targets: np.ndarray, bias: np.ndarray | None = None, *,
    ignore_index: int | None = None, label_smoothing: float = 0.0, transposed: bool = False,
) -> tuple[np.ndarray, Any]:  # fmt: skip
    """Mean loss (0-d) of x (..., C), weight (C, V) or transposed (V, C), targets (...,) and bias (V,).

    residuals: targets and how many count, maxima and totals (R,), and e^(z - m) (R, V) where that is small.
    IndexError when a target is neither a class nor ignore_index.
    """
    matrix = weight.T if transposed else weight
    C, V = matrix.shape
    ids, count = counted_targets("linear_cross_entropy", targets, V, "weight", ignore_index)
    R, count, smoothing = ids.size, max(count, 1), float(label_smoothing)
    losses, maxima, totals = np.empty(R, np.float64), np.empty(R, x.dtype), np.empty(R, x.dtype)
    if not R:
        return np.array(np.nan, x.dtype), (ids, count, maxima, totals, None)
    x2, step = frozen(x).reshape(R, C), max(1, BLOCK // V)
    buffer = np.empty((min(step, R), V), x.dtype)
    for first in range(0, R, step):
        some = slice(first, first + step)
        z = _logits(x2[some], matrix, bias, buffer[: min(step, R - first)])  # (rows of the block, V)
        arguments = (z, ids[some], losses[some], maxima[some], totals[some], smoothing)
        if z.size < PARALLEL_WORK:
            linear_cross_entropy_forward_01_rows(*arguments, 0, z.shape[0])
        else:
            linear_cross_entropy_forward_02_threads(*arguments, row_block(*z.shape))
    kept = buffer if step >= R else None
    return np.array(losses.sum() / count, x.dtype), (ids, count, maxima, totals, kept)


def _place(offer: Any, shape: tuple[int, ...], dtype: Any) -> tuple[np.ndarray, bool]:
    """(buffer, add): the one lent, or a new one."""
    return lent(offer) or (np.empty(shape, dtype), False)


def _put(a: np.ndarray, b: np.ndarray, out: np.ndarray, add: bool) -> None:
    """out = a b, or out += a b."""
    if add:
        out += np.matmul(a, b)
    else:
        np.matmul(a, b, out=out)


def vjp(
    dy: np.ndarray, y: Any, x: np.ndarray, weight: np.ndarray, targets: np.ndarray, *biases: Any,
    residuals: Any, wanted: Any, into: Any,
    ignore_index: int | None = None, label_smoothing: float = 0.0, transposed: bool = False,
) -> tuple[Any, ...]:  # fmt: skip
    """dx, dweight, None[, dbias]; every one may be written to, or added to, the buffer lent for it."""
    ids, count, maxima, totals, kept = residuals
    matrix = weight.T if transposed else weight
    bias = biases[0] if biases else None
    R, (C, V) = ids.size, matrix.shape
    x2 = frozen(x).reshape(R, C)
    dx = dweight = dbias = None
    add_dx = add_dweight = add_dbias = False
    if wanted[0]:
        dx, add_dx = _place(into[0], x.shape, x.dtype)
    if wanted[1]:
        dweight, add_dweight = _place(into[1], weight.shape, x.dtype)
    if bias is not None and wanted[3]:
        dbias, add_dbias = _place(into[3], (V,), x.dtype)
    slope = float(dy) / count
    slopes = np.array([slope, slope * label_smoothing / V, slope * (1.0 - label_smoothing)])
    width = V if kept is not None else min(V, max(CLASSES, BLOCK // max(R, 1)))
    buffer = np.empty(R * width, x.dtype)
    for start in range(0, V, width):
        some = slice(start, min(V, start + width))
        columns = matrix[:, some]
        n = columns.shape[1]
        dz = buffer[: R * n].reshape(R, n)
        z = kept
        if z is None:
            z = _logits(x2, columns, None if bias is None else bias[some], dz)
        arguments = (z, ids, maxima, totals, dz, start, slopes, kept is None)
        if dz.size < PARALLEL_WORK:
            linear_cross_entropy_vjp_01_rows(*arguments, 0, R)
        else:
            linear_cross_entropy_vjp_02_threads(*arguments, row_block(R, n))
        if dx is not None:
            _put(dz, columns.T, dx.reshape(R, C), add_dx or start > 0)
        if dweight is not None:
            _put(x2.T, dz, (dweight.T if transposed else dweight)[:, some], add_dweight)
        if dbias is not None:
            dbias[some] = dz.sum(axis=0) + (dbias[some] if add_dbias else 0)
    return (dx, dweight, None, dbias) if biases else (dx, dweight, None)
