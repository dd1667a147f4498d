"""SiLU: y = x s, s = 1 / (1 + e^(-x))   (Hendrycks and Gimpel, 2016; Ramachandran, Zoph, Le: swish, 2017).

    dy/dx = s + x s (1 - s),   s (1 - s) = t / (1 + t)^2 with t = e^(-|x|)

Written with t, 1 - s cannot cancel. Beyond |x| = 1000, t is 0 in both formats, so x is clamped there on the way back: no
inf * 0.
"""

import math

import numpy as np
from numba import prange

from .exp import exp
from .jit import CONTRACT, jit
from .pairs import Elementwise, Naive
from .threads import CHUNK


@jit()
def silu_forward_01_naive(x, y):
    """The textbook, one number after the other: 393216 float32 in 1070 us. The rung to measure from."""
    one = x.dtype.type(1)
    for i in range(x.size):
        y[i] = x[i] / (one + math.exp(-x[i]))


@jit(fastmath=CONTRACT)
def silu_forward_02_vector(x, y, first, last):
    """The polynomial exponential in vector lanes: 10 times rung 01 (106 us). Elements first to last."""
    one = x.dtype.type(1)
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = x[i] / (one + exp(-x[i]))


@jit(parallel=True)
def silu_forward_03_threads(x, y, blocks):
    """Chunks on all threads: 1.5 times rung 02 on two cores (106 to 71 us)."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        silu_forward_02_vector(x, y, b * CHUNK, (b + 1) * CHUNK)


@jit()
def silu_vjp_01_naive(dy, x, dx):
    """The textbook, one number after the other: 393216 float32 in 1010 us. The rung to measure from."""
    one = x.dtype.type(1)
    for i in range(x.size):
        s = one / (one + math.exp(-x[i]))
        dx[i] = dy[i] * (s + x[i] * s * (one - s))


@jit(fastmath=CONTRACT)
def silu_vjp_02_vector(dy, x, dx, first, last, add):
    """Vector lanes, and t in place of 1 - s: 6 times rung 01 (170 us). Elements first to last."""
    number = x.dtype.type
    one, limit = number(1), number(1000)
    dy, x, dx = dy[first:last], x[first:last], dx[first:last]
    for i in range(x.size):
        v = x[i]
        v = limit if v > limit else v  # NaN stays NaN: both comparisons are false
        v = -limit if v < -limit else v
        tail = exp(-abs(v))  # at most 1
        share = one / (one + tail)
        s = share if v > 0 else tail * share
        dx[i] = dy[i] * (s + v * (tail * share * share)) + (dx[i] if add else number(0))


@jit(parallel=True)
def silu_vjp_03_threads(dy, x, dx, blocks, add):
    """Chunks on all threads: 1.8 times rung 02 on two cores (170 to 94 us)."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        silu_vjp_02_vector(dy, x, dx, b * CHUNK, (b + 1) * CHUNK, add)


production = Elementwise(
    forward_serial=silu_forward_02_vector,
    forward_threaded=silu_forward_03_threads,
    vjp_serial=silu_vjp_02_vector,
    vjp_threaded=silu_vjp_03_threads,
    reads="x",
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
"""The pair of production, by Elementwise in pairs.py: small arrays run serially, large ones on all threads."""

RUNGS = {"numba 01_naive": Naive(silu_forward_01_naive, silu_vjp_01_naive, production)}
"""The ladder's other rungs as pairs, so that they are checked and timed by name."""
