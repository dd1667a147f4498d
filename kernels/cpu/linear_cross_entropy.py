"""Cross entropy of a linear map's outputs: the logits live for a few rows at a time, only their gradient is kept.

    z = x W + b,    loss = 1/R sum_i (log sum_j e^(z_ij) - sum_j q_ij z_ij),    dz_ij = (softmax(z_i)_j - q_ij) / R
    dx = dz W^T,    dW = x^T dz,    db = sum of the rows of dz

A block of rows of z is computed where its rows of dz will lie and, while some of it is in the cache, turned into these by the
kernel of cross_entropy in place. So one array of all logits' size is written and held until the way back, where the two rows
linear and cross_entropy hold two. A block has as many rows as make W, which is read once a block, worth reading.

Keeping nothing, and computing z again on the way back, would hold a tenth, but took 79 ms for 55: a fourth product.
"""

from typing import Any

import numpy as np

from . import linear
from .cross_entropy import counted_targets, cross_entropy_forward_01_fused, cross_entropy_forward_02_threads, scaled
from .jit import frozen
from .threads import PARALLEL_WORK, row_block

# Letters: R rows, C features, V classes.
BLOCK = (
    1 << 20
)  # logits at a time, at least: 4 MB in float32, what a product is worth starting for and a cache can hold
ROWS = 256  # rows at a time, at least: fewer, and reading W takes longer than the product


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
    step = max(ROWS, BLOCK // V)
    for start in range(0, R, step):
        rows = slice(start, min(R, start + step))
        z = dz[rows]
        linear.affine(x2[rows], matrix, bias, z)
        arguments = (frozen(z), ids[rows], losses[rows], z, count, smoothing)
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
    dz = scaled(residuals, dy, None)
    dx, dweight, *dbias = linear.vjp(
        dz, None, x, weight, *bias,
        residuals=None, wanted=(*wanted[:2], *wanted[3:]), into=(*into[:2], *into[3:]), transposed=transposed,
    )  # fmt: skip
    return (dx, dweight, None, *dbias)
