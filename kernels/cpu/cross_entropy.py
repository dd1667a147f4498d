"""Cross entropy of logits and target classes, averaged over the rows that count, with its gradient in the same pass.

    loss = 1/R sum_i (log sum_j e^(x_ij) - sum_j q_ij x_ij)          dx_ij = (softmax(x_i)_j - q_ij) / R
    q_ij = (1 - eps) [j = t(i)] + eps / V                            eps: label_smoothing, often 0

The gradient for dy = 1 costs no further exponential, so the forward pass computes it and keeps it as residual: (R, V)
instead of reading the logits again. In training dy is 1, and the way back hands the residual on for nothing; any other dy
costs a pass over it. Keeping a row's sum alone and computing its exponentials again took longer, 8.0 ms for 5.9 both ways
(512 x 50257, one thread): the time goes into exponentials, not into memory. Rows to ignore come with the target IGNORED and
are neither read nor counted in R.
"""

from typing import Any

import numpy as np
from numba import prange

from .bounds import checked_ids
from .exp import log
from .jit import FLOATS, REDUCE, frozen, jit, lent
from .row_passes import WRITE, mode_for, row_exp_kept, row_largest, row_scale
from .threads import CHUNK, PARALLEL_WORK, chunks, row_block

# Letters: R rows that count, V classes.
IGNORED = -1


@jit(fastmath=REDUCE, inner=True)
def smoothed_below(logits, start, V, target, m, smoothing):
    """sum_k q_k (m - x_k) of the row of logits (n,) from `start`, in float64; m is the largest. With log sum e^(x - m) it
    makes the loss.
    """
    peak, below = np.float64(m), 0.0
    for j in range(start, start + V):
        below += peak - np.float64(logits[j])
    below *= smoothing / V
    if smoothing < 1.0:  # else a target ruled out by minus infinity would give 0 * inf
        below += (1.0 - smoothing) * (peak - np.float64(logits[start + target]))
    return below


@jit()
def cross_entropy_forward_01_fused(logits, targets, losses, dlogits, count, smoothing, first, last):
    """Loss and gradient from one exponential, the next row fetched meanwhile: 768 x 65 float32 in 26 us. Rows first to
    last: losses (all rows,) in float64 and dlogits (all rows, V), already divided by R, which is `count`. dlogits may be
    logits itself. The logarithms come last, in lanes: no row waits for its own.
    """
    V = logits.shape[1]
    number = logits.dtype.type
    flat, flat_d = logits.reshape(-1), dlogits.reshape(-1)
    share, hit, uniform = number(1.0 / count), number((1.0 - smoothing) / count), number(-smoothing / (count * V))
    totals = np.empty(last - first)
    for i in range(first, last):
        start, target = i * V, targets[i]
        if target == IGNORED:
            losses[i], totals[i - first] = 0.0, 1.0
            flat_d[start : start + V] = number(0)
            continue
        m = row_largest(V, flat, start)
        losses[i] = np.float64(m) - np.float64(flat[start + target])
        if smoothing != 0.0:
            losses[i] = smoothed_below(flat, start, V, target, m, smoothing)
        total = row_exp_kept(V, flat, start, flat_d, start, m)  # from here on the logits may be gone
        totals[i - first] = total
        row_scale(V, flat_d, start, flat_d, start, share / total, uniform, WRITE)
        flat_d[start + target] -= hit
    for i in range(first, last):
        losses[i] += log(totals[i - first])


@jit(parallel=True)
def cross_entropy_forward_02_threads(logits, targets, losses, dlogits, count, smoothing, block):
    """Blocks of rows on all threads: 1.4 times rung 01 on two cores with everything around it (768 x 65)."""
    rows = logits.shape[0]
    for index in prange((rows + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        last = min(rows, (b + 1) * block)
        cross_entropy_forward_01_fused(logits, targets, losses, dlogits, count, smoothing, b * block, last)


@jit()
def cross_entropy_vjp_01_scale(residuals, scale, dx, add, first, last):
    """dx (n,) (+)= scale residuals, elements first to last."""
    n, zero = min(last, residuals.size) - first, residuals.dtype.type(0)
    row_scale(n, residuals, first, dx, first, scale, zero, mode_for(dx, add))


@jit(parallel=True)
def cross_entropy_vjp_02_threads(residuals, scale, dx, add, blocks):
    """Chunks on all threads."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        cross_entropy_vjp_01_scale(residuals, scale, dx, add, b * CHUNK, (b + 1) * CHUNK)


def counted_targets(
    op: str, targets: np.ndarray, V: int, source: str, ignore_index: int | None
) -> tuple[np.ndarray, int]:
    """(targets flat as int64, IGNORED where they are not to count; how many do). IndexError where one is no class."""
    what, against = f"{op}: targets", f"{source} has {V} classes"
    if ignore_index is None:
        return checked_ids(targets, V, what, against), targets.size
    ignored = targets == ignore_index
    ids = checked_ids(np.where(ignored, 0, targets), V, what, against)
    return frozen(np.where(ignored.reshape(-1), IGNORED, ids)), targets.size - int(np.count_nonzero(ignored))


def accepts(logits: Any, targets: Any, *, ignore_index: int | None = None, label_smoothing: float = 0.0) -> bool:
    return (
        logits.dtype in FLOATS
        and targets.dtype.kind in "iu"
        and logits.ndim >= 1
        and targets.shape == logits.shape[:-1]
        and logits.shape[-1] > 0
    )


def forward(
    logits: np.ndarray, targets: np.ndarray, *, ignore_index: int | None = None, label_smoothing: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss (0-d) of logits (..., V) and targets (...,); NaN for no rows at all, as the mean of nothing, but 0
    where every row is ignored. residual: dlogits.

    IndexError when a target is neither a class nor ignore_index.
    """
    V = logits.shape[-1]
    ids, count = counted_targets("cross_entropy", targets, V, "logits", ignore_index)
    dlogits = np.empty(logits.shape, logits.dtype)
    if not ids.size:
        return np.array(np.nan, logits.dtype), dlogits
    count = max(count, 1)
    losses = np.empty(ids.size, np.float64)
    x2, dx2 = frozen(logits).reshape(-1, V), dlogits.reshape(-1, V)  # (rows, V)
    smoothing = float(label_smoothing)
    if logits.size < PARALLEL_WORK:
        cross_entropy_forward_01_fused(x2, ids, losses, dx2, count, smoothing, 0, ids.size)
    else:
        cross_entropy_forward_02_threads(x2, ids, losses, dx2, count, smoothing, row_block(*x2.shape))
    return np.array(losses.sum() / count, logits.dtype), dlogits


def scaled(residuals: np.ndarray, dy: np.ndarray, offer: Any) -> np.ndarray:
    """dy times the residuals, in the buffer lent for it; without one the residuals themselves where dy is 1."""
    scale, target = residuals.dtype.type(dy), lent(offer)
    if target is None and scale == 1:
        return residuals
    dx, add = target or (np.empty(residuals.shape, residuals.dtype), False)
    arguments = frozen(residuals).reshape(-1), scale, dx.reshape(-1), add
    if dx.size < PARALLEL_WORK:
        cross_entropy_vjp_01_scale(*arguments, 0, dx.size)
    else:
        cross_entropy_vjp_02_threads(*arguments, chunks(dx.size))
    return dx


def vjp(
    dy: np.ndarray, y: Any, logits: Any, targets: Any, *, residuals: np.ndarray, wanted: Any, into: Any, **params: Any
) -> tuple[np.ndarray | None, None]:
    """dy times the residual, which is never modified; the buffer lent for it may be written or added to."""
    return scaled(residuals, dy, into[0]) if wanted[0] else None, None
