"""Logistic sigmoid: y = 1 / (1 + e^(-x)); dy/dx = y (1 - y), so that y alone is read."""

import math

import numpy as np
from numba import prange

from .exp import exp
from .jit import CONTRACT, jit
from .pairs import Elementwise, Naive
from .threads import CHUNK


@jit()
def sigmoid_forward_01_naive(x, y):
    """The textbook, one number after the other: 393216 float32 in 1050 us. The rung to measure from."""
    one = x.dtype.type(1)
    for i in range(x.size):
        y[i] = one / (one + math.exp(-x[i]))


@jit(fastmath=CONTRACT)
def sigmoid_forward_02_vector(x, y, first, last):
    """The polynomial exponential in vector lanes: 10 times rung 01 (104 us). Elements first to last."""
    one = x.dtype.type(1)
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = one / (one + exp(-x[i]))


@jit(parallel=True)
def sigmoid_forward_03_threads(x, y, blocks):
    """Chunks on all threads: 1.3 times rung 02 on two cores (104 to 82 us)."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        sigmoid_forward_02_vector(x, y, b * CHUNK, (b + 1) * CHUNK)


@jit()
def sigmoid_vjp_01_naive(dy, y, dx):
    """The textbook, one number after the other: 393216 float32 in 50 us. The rung to measure from."""
    one = y.dtype.type(1)
    for i in range(y.size):
        dx[i] = dy[i] * y[i] * (one - y[i])


@jit(fastmath=CONTRACT)
def sigmoid_vjp_02_vector(dy, y, dx, first, last, add):
    """In vector lanes: as fast as rung 01, which the compiler had vectorised. Elements first to last."""
    number = y.dtype.type
    dy, y, dx = dy[first:last], y[first:last], dx[first:last]
    for i in range(y.size):
        dx[i] = dy[i] * y[i] * (number(1) - y[i]) + (dx[i] if add else number(0))


@jit(parallel=True)
def sigmoid_vjp_03_threads(dy, y, dx, blocks, add):
    """Chunks on all threads: 1.6 times rung 02 on two cores at 4096 x 768 (790 to 490 us)."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        sigmoid_vjp_02_vector(dy, y, dx, b * CHUNK, (b + 1) * CHUNK, add)


production = Elementwise(
    forward_serial=sigmoid_forward_02_vector,
    forward_threaded=sigmoid_forward_03_threads,
    vjp_serial=sigmoid_vjp_02_vector,
    vjp_threaded=sigmoid_vjp_03_threads,
    reads="y",
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
"""The pair of production, by Elementwise in pairs.py: small arrays run serially, large ones on all threads."""

RUNGS = {"numba 01_naive": Naive(sigmoid_forward_01_naive, sigmoid_vjp_01_naive, production)}
"""The ladder's other rungs as pairs, so that they are checked and timed by name."""
