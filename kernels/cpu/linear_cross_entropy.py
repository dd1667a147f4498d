"""Cross entropy of a linear map's outputs: the logits live for a few rows at a time, only their gradient is kept.

    z = x W + b,    loss = 1/R sum_i (log sum_j e^(z_ij) - sum_j q_ij z_ij),    dz_ij = (softmax(z_i)_j - q_ij) / R
    dx = dz W^T,    dW = x^T dz,    db = sum of the rows of dz

A block of rows of z is computed into one buffer and, while it is in the cache, turned into losses and rows of dz by the
kernel of cross_entropy; the next block overwrites it. So one array of all logits' size is written where the two rows
linear and cross_entropy write two and hold both until the way back: nearly half of the memory in nearly the same time
(768 x 128 x 8000 in float32, forward and backward: 28 MiB for 47, 59 ms for 56 on one core; with the weight transposed
65 for 60).

Keeping neither, and computing z again on the way back, would hold a tenth, but took 79 ms for 55: a fourth product.
"""

from typing import Any

import numpy as np

from . import linear
from .cross_entropy import counted_targets, cross_entropy_forward_01_fused, cross_entropy_forward_02_threads
from .jit import frozen
from .threads import PARALLEL_WORK, row_block

# Letters: R rows, C features, V classes.
BLOCK = 1 << 20  # logits at a time: 4 MB in float32, what a product is worth starting for and a cache can hold


def accepts(
    x: Any, weight: Any, targets: Any, bias: Any = None, *,
    ignore_index: int | None = None, label_smoothing: float = 0.0, transposed: bool = False,
) -> bool:  # fmt: skip
    return (
        linear.accepts(x, weight, bias, transposed=transposed)
        and weight.shape[0 if transposed else 1] > 0
        and targets.dtype.kind in "iu"
        and targets.shape == x.shape[:-1]
    )


def forward(
    x: np.ndarray, weight: np.ndarray, targets: np.ndarray, bias: np.ndarray | None = None, *,
    ignore_index: int | None = None, label_smoothing: float = 0.0, transposed: bool = False,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Mean loss (0-d) of x (..., C), weight (C, V) or transposed (V, C), targets (...,) and bias (V,); NaN for no rows
    at all, 0 where every row is ignored. residual: dz (R, V).

    IndexError when a target is neither a class nor ignore_index.
    """
    matrix = weight.T if transposed else weight
    C, V = matrix.shape
    ids, count = counted_targets("linear_cross_entropy", targets, V, "weight", ignore_index)
    R, count, smoothing = ids.size, max(count, 1), float(label_smoothing)
    dz = np.empty((R, V), x.dtype)
    if not R:
        return np.array(np.nan, x.dtype), dz
    losses, x2 = np.empty(R, np.float64), frozen(x).reshape(R, C)
    step = min(R, max(1, BLOCK // V))
    buffer = np.empty((step, V), x.dtype)
    for start in range(0, R, step):
        rows = slice(start, min(R, start + step))
        z = buffer[: rows.stop - start]
        linear.affine(x2[rows], matrix, bias, z)
        arguments = (frozen(z), ids[rows], losses[rows], dz[rows], count, smoothing)
        if z.size < PARALLEL_WORK:
            cross_entropy_forward_01_fused(*arguments, 0, z.shape[0])
        else:
            cross_entropy_forward_02_threads(*arguments, row_block(*z.shape))
    return np.array(losses.sum() / count, x.dtype), dz


def vjp(
    dy: np.ndarray, y: Any, x: np.ndarray, weight: np.ndarray, targets: Any, *bias: Any,
    residuals: np.ndarray, wanted: Any, into: Any,
    ignore_index: int | None = None, label_smoothing: float = 0.0, transposed: bool = False,
) -> tuple[Any, ...]:  # fmt: skip
    """dx, dweight, None[, dbias]; every one may be written to, or added to, the buffer lent for it."""
    scale = residuals.dtype.type(dy)
    dz = residuals if scale == 1 else residuals * scale
    dx, dweight, *dbias = linear.vjp(
        dz, None, x, weight, *bias,
        residuals=None, wanted=(*wanted[:2], *wanted[3:]), into=(*into[:2], *into[3:]), transposed=transposed,
    )  # fmt: skip
    return (dx, dweight, None, *dbias)
