"""Softmax over the last axis: y_i = e^(x_i - m) / sum_j e^(x_j - m), m = max_j x_j.

A row is read once from memory: maximum, exponentials and sum work on it while it sits in the first-level cache. -inf
gives 0; a NaN makes its row NaN (the maximum ignores it, the sum does not); a row of -inf alone is NaN, as in NumPy.
"""

import math

import numpy as np
from numba import prange

from .jit import REDUCE, jit
from .pairs import Naive, Rows
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


@jit(fastmath=REDUCE)
def softmax_forward_02_vector(x, y, first, last):
    """Vector lanes for maximum, exponential and sum: 8.7 times rung 01 (4096 x 64 float32: 977 to 113 us). Rows first
    to last.
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


@jit(parallel=True)
def softmax_forward_03_threads(x, y, block):
    """Blocks of rows on all threads: 1.8 times rung 02 on two cores (4096 x 64: 138 to 75 us)."""
    R = x.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        softmax_forward_02_vector(x, y, b * block, min(R, (b + 1) * block))


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
    """The inner product in vector lanes: 3.1 times rung 01 (4096 x 64 float32: 155 to 50 us). Rows first to last."""
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


@jit(parallel=True)
def softmax_vjp_03_threads(dy, y, dx, block, add):
    """Blocks of rows on all threads: 1.5 times rung 02 on two cores (4096 x 64: 50 to 33 us, the speed of memory)."""
    R = y.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        softmax_vjp_02_vector(dy, y, dx, b * block, min(R, (b + 1) * block), add)


production = Rows(
    forward_serial=softmax_forward_02_vector,
    forward_threaded=softmax_forward_03_threads,
    vjp_serial=softmax_vjp_02_vector,
    vjp_threaded=softmax_vjp_03_threads,
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
"""The pair of production, by Rows in pairs.py: small arrays run serially, large ones on all threads."""

RUNGS = {"numba 01_naive": Naive(softmax_forward_01_naive, softmax_vjp_01_naive, production)}
"""The ladder's other rungs as pairs, so that they are checked and timed by name."""
