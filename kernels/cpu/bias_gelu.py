"""Bias and GELU in one visit to memory: y = gelu(x + bias), tanh form (Hendrycks and Gimpel, 2016).

    dx = dy gelu'(x + bias),   dbias = sum_i dx_i

The sum is made again on the way back; x and bias are all that is kept. gelu and its slope are those of gelu.py, with one
exponential: y = v s with s = 1 / (1 + e^(-2u)), beyond |v| = 30 clamped before v is cubed.
"""

import numpy as np
from numba import prange

from . import gelu
from .bias_rows import BiasRows, Composition
from .exp import exp
from .jit import CONTRACT, jit

_SLOPE = 1.5957691216057308  # 2 sqrt(2 / pi)
_CUBIC = 0.044715

# Letters: R rows, C features.


@jit(fastmath=CONTRACT)
def bias_gelu_forward_02_rows(x, bias, y, first, last):
    """x + bias is never stored. Rows first to last of x, y (R, C); bias (C,)."""
    C = x.shape[1]
    number = x.dtype.type
    one, slope, cubic, limit = number(1), number(_SLOPE), number(_CUBIC), number(30)
    for i in range(first, last):
        row, y_row = x[i], y[i]
        for j in range(C):
            v = row[j] + bias[j]
            c = limit if v > limit else v  # NaN stays NaN: both comparisons are false
            c = -limit if c < -limit else c
            y_row[j] = v / (one + exp(-slope * (c + cubic * c * c * c)))


@jit(parallel=True)
def bias_gelu_forward_03_threads(x, bias, y, block):
    """Blocks of rows on all threads."""
    R = x.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        bias_gelu_forward_02_rows(x, bias, y, b * block, min(R, (b + 1) * block))


@jit(fastmath=CONTRACT)
def bias_gelu_vjp_02_rows(dy, x, bias, dx, add, dbias, want, first, last):
    """dx and its sum in one visit. Rows first to last; dx (R, C) is written or added to; dbias (C,) receives this block's sum.

    want = (dx, dbias): what is not wanted is neither read nor written. A row that is only added is made
    beside dx, in cache.
    """
    C = x.shape[1]
    number = x.dtype.type
    one, slope, cubic, cubic3, limit = number(1), number(_SLOPE), number(_CUBIC), number(3 * _CUBIC), number(30)
    want_dx, want_dbias = want
    beside = np.empty(C, x.dtype)
    if want_dbias:
        dbias[:] = number(0)
    for i in range(first, last):
        dy_row, row = dy[i], x[i]
        found = dx[i] if want_dx and not add else beside
        for j in range(C):
            v = row[j] + bias[j]
            v = limit if v > limit else v
            v = -limit if v < -limit else v
            square = v * v
            tail = exp(-slope * abs(v) * (one + cubic * square))  # at most 1
            share = one / (one + tail)
            s = share if v > 0 else tail * share
            found[j] = dy_row[j] * (s + v * slope * (one + cubic3 * square) * (tail * share * share))
        if want_dx and add:
            dx_row = dx[i]
            for j in range(C):
                dx_row[j] += found[j]
        if want_dbias:
            for j in range(C):
                dbias[j] += found[j]


@jit(parallel=True)
def bias_gelu_vjp_03_threads(dy, x, bias, dx, add, dbiases, want, block):
    """Blocks of rows on all threads; block b leaves its sum in row b of dbiases (blocks, C)."""
    R = x.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        bias_gelu_vjp_02_rows(dy, x, bias, dx, add, dbiases[b], want, b * block, min(R, (b + 1) * block))


production = BiasRows(
    forward_serial=bias_gelu_forward_02_rows,
    forward_threaded=bias_gelu_forward_03_threads,
    vjp_serial=bias_gelu_vjp_02_rows,
    vjp_threaded=bias_gelu_vjp_03_threads,
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
"""The pair of production, by BiasRows in bias_rows.py: small arrays run serially, large ones on all threads."""

RUNGS = {"numba 01_composition": Composition(gelu)}
"""The ladder's other rungs as pairs, so that they are checked and timed by name."""
