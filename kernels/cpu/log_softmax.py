"""Log-softmax over the last axis: y_i = x_i - m - log sum_j e^(x_j - m), m = max_j x_j;  dx_j = dy_j - e^(y_j) sum_i dy_i.

A row is read once from memory: maximum, exponentials, sum and difference work on it while it sits in a cache, and no
exponential is stored. A NaN makes its row NaN; so does a row of -inf alone, as in NumPy.
"""

import math

import numpy as np
from numba import prange

from .exp import exp, log
from .jit import CONTRACT, REDUCE, jit
from .pairs import Naive, Rows
from .row_passes import mode_for, row_exp_sum, row_largest, row_log_vjp, row_shift, row_sum
from .tile import exp_row, largest

# Letters: R rows, N row length.
GROUP = 4096  # entries of short rows taken together: 16 or 32 KB, in the first cache
SHORT = 256  # rows above it have enough work in themselves


@jit()
def log_softmax_forward_01_naive(x, y):
    """The textbook, one row after the other; x, y (R, N): 768 x 512 float32 in 1515 us. The rung to measure from."""
    for i in range(x.shape[0]):
        m = x[i, 0]
        for j in range(x.shape[1]):
            m = max(m, x[i, j])
        total = x.dtype.type(0)
        for j in range(x.shape[1]):
            total += math.exp(x[i, j] - m)
        for j in range(x.shape[1]):
            y[i, j] = x[i, j] - m - math.log(total)


@jit(fastmath=CONTRACT)
def log_softmax_forward_02_vector(x, y, first, last):
    """Vector lanes for maximum, exponential and sum: 11 times rung 01 (1515 to 137 us). Rows first to last.

    No `reassoc` here: (x - m) - log_total has the digits that x - (m + log_total) rounds away where m is large.
    """
    N = x.shape[1]
    flat, flat_y = x.reshape(-1), y.reshape(-1)
    for i in range(first, last):
        row, y_row = x[i], y[i]
        m = largest(flat, i * N, N)
        log_total = math.log(exp_row(flat, i * N, flat_y, i * N, N, m))
        for j in range(N):
            y_row[j] = (row[j] - m) - log_total


@jit()
def log_softmax_forward_03_ahead(x, y, first, last):
    """Exponentials are summed and forgotten, the next row is fetched meanwhile, large results are stored around the
    caches: 1.05 times rung 02 (4096 x 64: 91 to 86 us; 512 x 50257: 7.3 to 6.1 ms; one thread).
    """
    N = x.shape[1]
    flat, flat_y, mode = x.reshape(-1), y.reshape(-1), mode_for(y, False)
    for i in range(first, last):
        m = row_largest(N, flat, i * N)
        total = row_exp_sum(N, flat, i * N, m)
        row_shift(N, flat, i * N, flat_y, i * N, m, math.log(total), mode)


@jit()
def log_softmax_forward_04_groups(x, y, first, last):
    """Several short rows together, step by step: no row waits for its own logarithm, and all logarithms run in lanes: 1.08
    times rung 03 (86 to 80 us).
    """
    N, mode = x.shape[1], mode_for(y, False)
    if N > SHORT:
        log_softmax_forward_03_ahead(x, y, first, last)
        return
    flat, flat_y = x.reshape(-1), y.reshape(-1)
    group = GROUP // N
    peaks, logs = np.empty((2, group), x.dtype)
    for start in range(first, last, group):
        rows = min(group, last - start)
        for i in range(rows):
            peaks[i] = row_largest(N, flat, (start + i) * N)
            logs[i] = row_exp_sum(N, flat, (start + i) * N, peaks[i])
        for i in range(rows):
            logs[i] = log(logs[i])
        for i in range(rows):
            row_shift(N, flat, (start + i) * N, flat_y, (start + i) * N, peaks[i], logs[i], mode)


@jit(parallel=True)
def log_softmax_forward_05_threads(x, y, block):
    """Blocks of rows on all threads: about 1.8 times rung 04 on two cores (4096 x 64)."""
    R = x.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        log_softmax_forward_04_groups(x, y, b * block, min(R, (b + 1) * block))


@jit()
def log_softmax_vjp_01_naive(dy, y, dx):
    """dx_j = dy_j - e^(y_j) sum_i dy_i, one row after the other; all (R, N): 768 x 512 float32 in 1210 us. The rung to
    measure from.
    """
    for i in range(y.shape[0]):
        total = y.dtype.type(0)
        for j in range(y.shape[1]):
            total += dy[i, j]
        for j in range(y.shape[1]):
            dx[i, j] = dy[i, j] - math.exp(y[i, j]) * total


@jit(fastmath=REDUCE)
def log_softmax_vjp_02_vector(dy, y, dx, first, last, add):
    """The sum and the exponentials in vector lanes: 10 times rung 01 (1210 to 117 us). Rows first to last. dx (R, N) is
    written or added to.
    """
    N = y.shape[1]
    number = y.dtype.type
    for i in range(first, last):
        dy_row, y_row, dx_row = dy[i], y[i], dx[i]
        total = number(0)
        for j in range(N):
            total += dy_row[j]
        for j in range(N):
            dx_row[j] = dy_row[j] - exp(y_row[j]) * total + (dx_row[j] if add else number(0))


@jit()
def log_softmax_vjp_03_passes(dy, y, dx, first, last, add):
    """Four accumulators, large results stored around the caches: 1.3 times rung 02 (4096 x 64: 57 to 44 us;
    512 x 50257: 7.8 to 6.4 ms; one thread).
    """
    N = y.shape[1]
    flat_dy, flat_y, flat_dx, mode = dy.reshape(-1), y.reshape(-1), dx.reshape(-1), mode_for(dx, add)
    for i in range(first, last):
        minus_total = -row_sum(N, flat_dy, i * N)
        row_log_vjp(N, flat_dy, i * N, flat_y, i * N, flat_dx, i * N, minus_total, mode)


@jit(parallel=True)
def log_softmax_vjp_05_threads(dy, y, dx, block, add):
    """Blocks of rows on all threads: 1.5 to 1.9 times rung 03 on two cores (4096 x 64, 512 x 50257)."""
    R = y.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        log_softmax_vjp_03_passes(dy, y, dx, b * block, min(R, (b + 1) * block), add)


production = Rows(
    forward_serial=log_softmax_forward_04_groups,
    forward_threaded=log_softmax_forward_05_threads,
    vjp_serial=log_softmax_vjp_03_passes,
    vjp_threaded=log_softmax_vjp_05_threads,
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
"""The pair of production, by Rows in pairs.py: small arrays run serially, large ones on all threads."""

RUNGS = {
    "numba 01_naive": Naive(log_softmax_forward_01_naive, log_softmax_vjp_01_naive, production),
    "numba 02_vector": Rows.on_one_thread(log_softmax_forward_02_vector, log_softmax_vjp_02_vector),
    "numba 03_ahead": Rows.on_one_thread(log_softmax_forward_03_ahead, log_softmax_vjp_03_passes),
    "numba 04_groups": Rows.on_one_thread(log_softmax_forward_04_groups, log_softmax_vjp_03_passes),
}
"""The ladder's other rungs as pairs, so that they are checked and timed by name."""
