"""GELU, tanh form: y = x/2 (1 + tanh u), u = sqrt(2/pi) (x + 0.044715 x^3)   (Hendrycks and Gimpel, 2016).

Because (1 + tanh u) / 2 = sigmoid(2u), one exponential is enough: y = x s with s = 1 / (1 + e^(-2u)).
    dy/dx = s + x s (1 - s) 2u',   2u' = 2 sqrt(2/pi) (1 + 3 * 0.044715 x^2)
Beyond |x| = 30, s is 0 or 1 to the last bit of float64, so x is clamped there before it is cubed: no inf * 0.
"""

import numpy as np
from numba import prange

from .exp import exp
from .jit import CONTRACT, jit
from .pairs import Elementwise
from .threads import CHUNK

_SLOPE = 1.5957691216057308  # 2 sqrt(2 / pi)
_CUBIC = 0.044715


@jit(fastmath=CONTRACT)
def gelu_forward_01_sigmoid(x, y, first, last):
    """One polynomial exponential an element, vector lanes: 393216 float32 in 180 us. Elements first to last."""
    number = x.dtype.type
    one, slope, cubic, limit = number(1), number(_SLOPE), number(_CUBIC), number(30)
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        v = x[i]
        c = limit if v > limit else v  # NaN stays NaN: both comparisons are false
        c = -limit if c < -limit else c
        y[i] = v / (one + exp(-slope * (c + cubic * c * c * c)))


@jit(parallel=True)
def gelu_forward_02_threads(x, y, blocks):
    """Chunks on all threads: 1.8 times rung 01 on two cores (393216 float32: 180 to 100 us)."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        gelu_forward_01_sigmoid(x, y, b * CHUNK, (b + 1) * CHUNK)


@jit(fastmath=CONTRACT)
def gelu_vjp_01_sigmoid(dy, x, dx, first, last, add):
    """Recomputes s: 393216 float32 in 240 us. s (1 - s) is t / (1 + t)^2 with t = e^(-|2u|), because 1 - s would
    cancel.
    """
    number = x.dtype.type
    one, slope, cubic, cubic3, limit = number(1), number(_SLOPE), number(_CUBIC), number(3 * _CUBIC), number(30)
    dy, x, dx = dy[first:last], x[first:last], dx[first:last]
    for i in range(x.size):
        v = x[i]
        v = limit if v > limit else v
        v = -limit if v < -limit else v
        square = v * v
        tail = exp(-slope * abs(v) * (one + cubic * square))  # at most 1
        share = one / (one + tail)
        s = share if v > 0 else tail * share
        derivative = s + v * slope * (one + cubic3 * square) * (tail * share * share)
        dx[i] = dy[i] * derivative + (dx[i] if add else number(0))


@jit(parallel=True)
def gelu_vjp_02_threads(dy, x, dx, blocks, add):
    """Chunks on all threads: 2 times rung 01 on two cores (393216 float32: 240 to 120 us)."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        gelu_vjp_01_sigmoid(dy, x, dx, b * CHUNK, (b + 1) * CHUNK, add)


production = Elementwise(
    forward_serial=gelu_forward_01_sigmoid,
    forward_threaded=gelu_forward_02_threads,
    vjp_serial=gelu_vjp_01_sigmoid,
    vjp_threaded=gelu_vjp_02_threads,
    reads="x",
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
"""The pair of production, by Elementwise in pairs.py: small arrays run serially, large ones on all threads."""
