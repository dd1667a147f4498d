"""Softmax over the last axis: y_i = e^(x_i - m) / sum_j e^(x_j - m), m = max_j x_j;  dx_i = y_i (dy_i - <dy, y>).

A row is read once from memory: maximum, exponentials and sum work on it while it sits in a cache. -inf gives 0; a NaN makes
its row NaN (the maximum ignores it, the sum does not); a row of -inf alone is NaN, as in NumPy.
"""

import math

import numpy as np
from numba import prange

from .exp import exp
from .jit import REDUCE, jit
from .pairs import Naive, Rows
from .row_passes import WRITE, mode_for, row_dot, row_exp_kept, row_largest, row_scale, row_softmax_vjp
from .tile import exp_row, largest

# Letters: R rows, N row length.


@jit()
def softmax_forward_01_naive(x, y):
    """The textbook, one row after the other; x, y (R, N). The rung to measure from."""
    for i in range(x.shape[0]):
        m = x[i, 0]
        for j in range(x.shape[1]):
            m = max(m, x[i, j])
        total = x.dtype.type(0)
        for j in range(x.shape[1]):
            y[i, j] = math.exp(x[i, j] - m)
            total += y[i, j]
        for j in range(x.shape[1]):
            y[i, j] /= total


@jit()
def softmax_forward_02_reciprocal(x, y, first, last):
    """One division a row, not one an entry: 1.0 times rung 01 (863 to 870 us; float32, one thread, as all below: 4096 x 64,
    then 512 x 50257). Divisions overlap with the calls of exp, which are all the time. Rows first to last.
    """
    N = x.shape[1]
    one = x.dtype.type(1)
    for i in range(first, last):
        m = x[i, 0]
        for j in range(N):
            m = max(m, x[i, j])
        total = x.dtype.type(0)
        for j in range(N):
            y[i, j] = math.exp(x[i, j] - m)
            total += y[i, j]
        scale = one / total
        for j in range(N):
            y[i, j] *= scale


@jit(fastmath=REDUCE)
def softmax_forward_03_vector_exp(x, y, first, last):
    """A polynomial for the exponential, which runs in vector lanes as a call cannot: 5 times rung 02 (870 to 172 us, 89 to
    18 ms).
    """
    N = x.shape[1]
    one = x.dtype.type(1)
    for i in range(first, last):
        row, y_row = x[i], y[i]
        m = row[0]
        for j in range(N):
            m = max(m, row[j])
        for j in range(N):
            y_row[j] = exp(row[j] - m)
        total = x.dtype.type(0)
        for j in range(N):
            total += y_row[j]
        scale = one / total
        for j in range(N):
            y_row[j] *= scale


@jit(fastmath=REDUCE)
def softmax_forward_04_vector_max(x, y, first, last):
    """The maximum in vector lanes, too, which LLVM refuses because of NaN, and the sum while the exponentials are made:
    2.5 times rung 03 (172 to 70 us, 18 to 7.3 ms).
    """
    N = x.shape[1]
    flat, flat_y = x.reshape(-1), y.reshape(-1)
    one = x.dtype.type(1)
    for i in range(first, last):
        y_row = y[i]
        m = largest(flat, i * N, N)
        total = exp_row(flat, i * N, flat_y, i * N, N, m)
        scale = one / total
        for j in range(N):
            y_row[j] *= scale


@jit()
def softmax_forward_05_ahead(x, y, first, last):
    """The next row is fetched while this one's exponentials keep the arithmetic busy, and sums have four accumulators: 1.23
    times rung 04 where rows are long (7.3 to 6.0 ms), 0.92 where they lie in the cache anyway (70 to 76 us).
    """
    N = x.shape[1]
    flat, flat_y = x.reshape(-1), y.reshape(-1)
    one, zero = x.dtype.type(1), x.dtype.type(0)
    for i in range(first, last):
        m = row_largest(N, flat, i * N)
        total = row_exp_kept(N, flat, i * N, flat_y, i * N, m)
        row_scale(N, flat_y, i * N, flat_y, i * N, one / total, zero, WRITE)


@jit(parallel=True)
def softmax_forward_06_threads(x, y, block):
    """Blocks of rows on all threads: 1.8 to 2.0 times rung 05 on two cores (83 to 45 us, 6.1 to 3.1 ms)."""
    R = x.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        softmax_forward_05_ahead(x, y, b * block, min(R, (b + 1) * block))


@jit()
def softmax_vjp_01_naive(dy, y, dx):
    """dx_i = y_i (dy_i - <dy, y>), one row after the other; all (R, N). The rung to measure from."""
    for i in range(y.shape[0]):
        inner = y.dtype.type(0)
        for j in range(y.shape[1]):
            inner += dy[i, j] * y[i, j]
        for j in range(y.shape[1]):
            dx[i, j] = y[i, j] * (dy[i, j] - inner)


@jit(fastmath=REDUCE)
def softmax_vjp_02_vector(dy, y, dx, first, last, add):
    """The inner product in vector lanes: 2.0 times rung 01 (79 to 39 us, 16 to 8.0 ms). Rows first to last."""
    N = y.shape[1]
    for i in range(first, last):
        dy_row, y_row, dx_row = dy[i], y[i], dx[i]
        inner = y.dtype.type(0)
        for j in range(N):
            inner += dy_row[j] * y_row[j]
        if add:
            for j in range(N):
                dx_row[j] += y_row[j] * (dy_row[j] - inner)
        else:
            for j in range(N):
                dx_row[j] = y_row[j] * (dy_row[j] - inner)


@jit()
def softmax_vjp_05_passes(dy, y, dx, first, last, add):
    """Large results are stored around the caches, and the next row is fetched meanwhile: 1.24 times rung 02 for 512 x 50257
    (8.0 to 6.4 ms); no change for small ones (39 us).
    """
    N = y.shape[1]
    flat_dy, flat_y, flat_dx, mode = dy.reshape(-1), y.reshape(-1), dx.reshape(-1), mode_for(dx, add)
    for i in range(first, last):
        inner = row_dot(N, flat_dy, i * N, flat_y, i * N)
        row_softmax_vjp(N, flat_dy, i * N, flat_y, i * N, flat_dx, i * N, inner, mode)


@jit(parallel=True)
def softmax_vjp_06_threads(dy, y, dx, block, add):
    """Blocks of rows on all threads: 1.5 to 1.9 times rung 03 on two cores (35 to 23 us, 6.4 to 3.3 ms)."""
    R = y.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        softmax_vjp_05_passes(dy, y, dx, b * block, min(R, (b + 1) * block), add)


production = Rows(
    forward_serial=softmax_forward_05_ahead,
    forward_threaded=softmax_forward_06_threads,
    vjp_serial=softmax_vjp_05_passes,
    vjp_threaded=softmax_vjp_06_threads,
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
"""The pair of production, by Rows in pairs.py: small arrays run serially, large ones on all threads."""

RUNGS = {
    "numba 01_naive": Naive(softmax_forward_01_naive, softmax_vjp_01_naive, production),
    "numba 02_reciprocal": Rows.on_one_thread(softmax_forward_02_reciprocal, softmax_vjp_02_vector),
    "numba 03_vector_exp": Rows.on_one_thread(softmax_forward_03_vector_exp, softmax_vjp_02_vector),
    "numba 04_vector_max": Rows.on_one_thread(softmax_forward_04_vector_max, softmax_vjp_02_vector),
    "numba 05_ahead": Rows.on_one_thread(softmax_forward_05_ahead, softmax_vjp_05_passes),
}
"""The ladder's other rungs as pairs, so that they are checked and timed by name."""
