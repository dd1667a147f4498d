"""Cross entropy of logits and target classes, averaged over rows, with its gradient in the same pass.

    loss = 1/R sum_i (log sum_j e^(x_ij) - x_i,t(i))          dx_ij = (softmax(x_i)_j - [j = t(i)]) / R

The gradient for dy = 1 costs no further exponential, so the forward pass computes it and keeps it as residual: (R, V)
instead of reading the logits again.
"""

import math
from typing import Any

import numpy as np
from numba import prange

from .bounds import checked_ids
from .jit import FLOATS, REDUCE, frozen, jit
from .threads import PARALLEL_WORK, row_block
from .tile import exp_row, largest

# Letters: R rows, V classes.


@jit(fastmath=REDUCE)
def cross_entropy_forward_01_fused(logits, targets, losses, dlogits, first, last):
    """Loss and gradient from one exponential: 768 x 65 float32 in 38 us. Rows first to last: losses (R,) in
    float64 and dlogits (R, V), already divided by R.
    """
    R, V = logits.shape
    flat, flat_d = logits.reshape(-1), dlogits.reshape(-1)
    share = logits.dtype.type(1.0 / R)
    for i in range(first, last):
        row, drow, target = logits[i], dlogits[i], targets[i]
        m = largest(flat, i * V, V)
        total = exp_row(flat, i * V, flat_d, i * V, V, m)
        losses[i] = math.log(np.float64(total)) + (np.float64(m) - np.float64(row[target]))
        scale = share / total
        for j in range(V):
            drow[j] *= scale
        drow[target] -= share


@jit(parallel=True)
def cross_entropy_forward_02_threads(logits, targets, losses, dlogits, block):
    """Blocks of rows on all threads: 1.4 times rung 01 on two cores with everything around it (768 x 65)."""
    R = logits.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        cross_entropy_forward_01_fused(logits, targets, losses, dlogits, b * block, min(R, (b + 1) * block))


def accepts(logits: Any, targets: Any) -> bool:
    return (
        logits.dtype in FLOATS
        and targets.dtype.kind in "iu"
        and logits.ndim >= 1
        and targets.shape == logits.shape[:-1]
        and logits.shape[-1] > 0
    )


def forward(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss (0-d) of logits (..., V) and targets (...,); NaN for no rows, as the mean of nothing. residual:
    dlogits.

    IndexError when a target is not a class.
    """
    V = logits.shape[-1]
    ids = checked_ids(targets, V, "cross_entropy: targets", f"logits has {V} classes")
    dlogits = np.empty(logits.shape, logits.dtype)
    if not ids.size:
        return np.array(np.nan, logits.dtype), dlogits
    losses = np.empty(ids.size, np.float64)
    x2, dx2 = frozen(logits).reshape(-1, V), dlogits.reshape(-1, V)  # (R, V)
    if logits.size < PARALLEL_WORK:
        cross_entropy_forward_01_fused(x2, ids, losses, dx2, 0, ids.size)
    else:
        cross_entropy_forward_02_threads(x2, ids, losses, dx2, row_block(*x2.shape))
    return np.array(losses.sum() / ids.size, logits.dtype), dlogits


def vjp(
    dy: np.ndarray, y: Any, logits: Any, targets: Any, *, residuals: np.ndarray, wanted: Any, into: Any
) -> tuple[np.ndarray | None, None]:
    """dy times the residual: the residual itself when dy is 1 (it is never modified), else a new array."""
    if not wanted[0]:
        return None, None
    scale = residuals.dtype.type(dy)
    return residuals if scale == 1 else residuals * scale, None
