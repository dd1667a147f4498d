"""Log-sum-exp over the last axis: y = m + log sum_i e^(x_i - m), m = max_i x_i;  dx_i = dy e^(x_i - m) / sum_k e^(x_k - m).

Forward reads x once and keeps m and the sum of each row: the way back divides by the sum itself, where e^(x_i - y) would
show the digits that y lost where m is large. A row of nothing but -inf, or of nothing, has y = -inf and zero gradients;
+inf gives +inf, and NaN where its share inf / inf would be its gradient.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import prange

from .exp import log
from .jit import FLOATS, frozen, jit, lent
from .row_passes import mode_for, row_exp, row_exp_sum, row_largest
from .threads import PARALLEL_WORK, row_block

# Letters: R rows, N row length.


@jit()
def logsumexp_forward_01_naive(x, y, peaks, totals, first, last):
    """The textbook; x (R, N), y, peaks and totals (R,), rows first to last. The rung to measure from."""
    number = x.dtype.type
    for i in range(first, last):
        m = number(-np.inf)
        for j in range(x.shape[1]):
            m = max(m, x[i, j])
        if math.isinf(m):
            m = number(0)  # nothing to shift by
        total = number(0)
        for j in range(x.shape[1]):
            total += math.exp(x[i, j] - m)
        peaks[i], totals[i] = m, total
        y[i] = m + math.log(total)


@jit()
def logsumexp_forward_02_lanes(x, y, peaks, totals, first, last):
    """Vector lanes with four accumulators, and the next row fetched meanwhile: 9 times rung 01 (4096 x 64 float32: 892 to
    100 us), 21 times for long rows (512 x 50257: 89 to 4.3 ms).
    """
    N, number = x.shape[1], x.dtype.type
    flat = x.reshape(-1)
    for i in range(first, last):
        m = row_largest(N, flat, i * N)
        if math.isinf(m):
            m = number(0)  # nothing to shift by
        total = row_exp_sum(N, flat, i * N, m)
        peaks[i], totals[i] = m, total
        y[i] = m + log(total)


@jit(parallel=True)
def logsumexp_forward_03_threads(x, y, peaks, totals, block):
    """Blocks of rows on all threads."""
    R = x.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        logsumexp_forward_02_lanes(x, y, peaks, totals, b * block, min(R, (b + 1) * block))


@jit()
def logsumexp_vjp_01_naive(dy, x, peaks, totals, dx, first, last, add):
    """dx_i = dy e^(x_i - m) / total; dy (R,), x and dx (R, N), rows first to last. The rung to measure from."""
    number = x.dtype.type
    for i in range(first, last):
        scale = dy[i] / totals[i] if totals[i] != 0 else number(0)
        for j in range(x.shape[1]):
            dx[i, j] = math.exp(x[i, j] - peaks[i]) * scale + (dx[i, j] if add else number(0))


@jit()
def logsumexp_vjp_02_lanes(dy, x, peaks, totals, dx, first, last, add):
    """One vectorised pass, large results stored around the caches: 15 times rung 01 (538 to 35 us, 56 to
    3.7 ms).
    """
    N, number = x.shape[1], x.dtype.type
    flat, flat_dx, mode = x.reshape(-1), dx.reshape(-1), mode_for(dx, add)
    for i in range(first, last):
        scale = dy[i] / totals[i] if totals[i] != 0 else number(0)
        row_exp(N, flat, i * N, flat_dx, i * N, peaks[i], scale, mode)


@jit(parallel=True)
def logsumexp_vjp_03_threads(dy, x, peaks, totals, dx, block, add):
    """Blocks of rows on all threads."""
    R = x.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        logsumexp_vjp_02_lanes(dy, x, peaks, totals, dx, b * block, min(R, (b + 1) * block), add)


@dataclass(frozen=True)
class Reduction:
    """The pair of logsumexp from its rungs; without threaded ones all rows run on this thread."""

    forward_serial: Any
    vjp_serial: Any
    forward_threaded: Any = None
    vjp_threaded: Any = None

    def accepts(self, x: Any, *, axis: Any = None, keepdims: bool = False) -> bool:
        last = x.ndim - 1
        wanted = axis in (-1, last, (-1,), (last,)) or (axis is None and last == 0)
        return x.dtype in FLOATS and last >= 0 and wanted

    def forward(
        self, x: np.ndarray, *, axis: Any = None, keepdims: bool = False
    ) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """y (...) of x (..., N), or (..., 1) where keepdims. residuals: the shift and the sum of every row."""
        N = x.shape[-1]
        R = int(np.prod(x.shape[:-1]))
        y, peaks, totals = np.empty((3, R), x.dtype)
        arguments = frozen(x).reshape(R, N), y, peaks, totals
        if self.forward_threaded is None or x.size < PARALLEL_WORK:
            self.forward_serial(*arguments, 0, R)
        else:
            self.forward_threaded(*arguments, row_block(R, N))
        return y.reshape((*x.shape[:-1], 1) if keepdims else x.shape[:-1]), (peaks, totals)

    def vjp(
        self, dy: np.ndarray, y: Any, x: np.ndarray, *,
        residuals: tuple[np.ndarray, np.ndarray], wanted: Any, into: Any, axis: Any = None, keepdims: bool = False,
    ) -> tuple:  # fmt: skip
        """dx (..., N); into[0] may be written or added to."""
        if not wanted[0]:
            return (None,)
        dx, add = lent(into[0]) or (np.empty(x.shape, x.dtype), False)
        N, R = x.shape[-1], residuals[0].size
        arguments = frozen(dy).reshape(R), frozen(x).reshape(R, N), *map(frozen, residuals), dx.reshape(R, N)
        if self.vjp_threaded is None or x.size < PARALLEL_WORK:
            self.vjp_serial(*arguments, 0, R, add)
        else:
            self.vjp_threaded(*arguments, row_block(R, N), add)
        return (dx,)


production = Reduction(
    logsumexp_forward_02_lanes, logsumexp_vjp_02_lanes, logsumexp_forward_03_threads, logsumexp_vjp_03_threads
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts

RUNGS = {"numba 01_naive": Reduction(logsumexp_forward_01_naive, logsumexp_vjp_01_naive)}
"""The ladder's other rung as a pair, so that it is checked and timed by name."""
