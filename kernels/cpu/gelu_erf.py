"""GELU, exact form: y = x Phi(x), Phi(x) = (1 + erf(x / sqrt(2))) / 2   (Hendrycks and Gimpel, 2016).

    dy/dx = Phi(x) + x phi(x),   phi(x) = e^(-x^2 / 2) / sqrt(2 pi)

In float64 the polynomial erf (erf.py) holds e^(-x^2 / 2) already, and the compiler computes it once for both. Beyond |x| =
40, Phi is 0 or 1 and phi is 0, so x is clamped there on the way back: no inf * 0.
"""

import math

import numpy as np
from numba import prange

from .erf import erf
from .exp import exp
from .jit import CONTRACT, jit
from .pairs import Elementwise, Naive
from .threads import CHUNK

_ROOT_HALF = 0.7071067811865476  # 1 / sqrt(2)
_DENSITY = 0.3989422804014327  # 1 / sqrt(2 pi)


@jit()
def gelu_erf_forward_01_naive(x, y):
    """The textbook, one number after the other: 393216 float32 in 2540 us. The rung to measure from."""
    one = x.dtype.type(1)
    for i in range(x.size):
        y[i] = x[i] * x.dtype.type(0.5) * (one + math.erf(x[i] * x.dtype.type(_ROOT_HALF)))


@jit(fastmath=CONTRACT)
def gelu_erf_forward_02_vector(x, y, first, last):
    """The polynomial erf in vector lanes: 27 times rung 01 (94 us). Elements first to last."""
    number = x.dtype.type
    one, half, root_half = number(1), number(0.5), number(_ROOT_HALF)
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = half * x[i] * (one + erf(x[i] * root_half))


@jit(parallel=True)
def gelu_erf_forward_03_threads(x, y, blocks):
    """Chunks on all threads: 1.9 times rung 02 on two cores (94 to 50 us)."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        gelu_erf_forward_02_vector(x, y, b * CHUNK, (b + 1) * CHUNK)


@jit()
def gelu_erf_vjp_01_naive(dy, x, dx):
    """The textbook, one number after the other: 393216 float32 in 3640 us. The rung to measure from."""
    number = x.dtype.type
    one = number(1)
    for i in range(x.size):
        density = math.exp(-x[i] * x[i] * number(0.5)) * number(_DENSITY)
        dx[i] = dy[i] * (number(0.5) * (one + math.erf(x[i] * number(_ROOT_HALF))) + x[i] * density)


@jit(fastmath=CONTRACT)
def gelu_erf_vjp_02_vector(dy, x, dx, first, last, add):
    """Vector lanes: 20 times rung 01 (182 us). Elements first to last."""
    number = x.dtype.type
    one, half, root_half = number(1), number(0.5), number(_ROOT_HALF)
    density, limit = number(_DENSITY), number(40)
    dy, x, dx = dy[first:last], x[first:last], dx[first:last]
    for i in range(x.size):
        v = x[i]
        v = limit if v > limit else v  # NaN stays NaN: both comparisons are false
        v = -limit if v < -limit else v
        u = v * root_half
        derivative = half * (one + erf(u)) + v * density * exp(-(u * u))
        dx[i] = dy[i] * derivative + (dx[i] if add else number(0))


@jit(parallel=True)
def gelu_erf_vjp_03_threads(dy, x, dx, blocks, add):
    """Chunks on all threads: 1.9 times rung 02 on two cores (182 to 94 us)."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        gelu_erf_vjp_02_vector(dy, x, dx, b * CHUNK, (b + 1) * CHUNK, add)


production = Elementwise(
    forward_serial=gelu_erf_forward_02_vector,
    forward_threaded=gelu_erf_forward_03_threads,
    vjp_serial=gelu_erf_vjp_02_vector,
    vjp_threaded=gelu_erf_vjp_03_threads,
    reads="x",
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
"""The pair of production, by Elementwise in pairs.py: small arrays run serially, large ones on all threads."""

RUNGS = {"numba 01_naive": Naive(gelu_erf_forward_01_naive, gelu_erf_vjp_01_naive, production)}
"""The ladder's other rungs as pairs, so that they are checked and timed by name."""
