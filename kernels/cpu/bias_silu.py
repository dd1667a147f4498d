"""Bias and SiLU in one visit to memory: y = silu(x + bias)   (Elfwing et al., 2017; Ramachandran, Zoph, Le, 2017).

    dx = dy silu'(x + bias),   dbias = sum_i dx_i

The sum is made again on the way back; x and bias are all that is kept. silu and its slope are those of silu.py, with
t = e^(-|v|) in place of 1 - s, and v clamped at 1000 on the way back.
"""

import numpy as np
from numba import prange

from . import silu
from .bias_rows import BiasRows, Composition
from .exp import exp
from .jit import CONTRACT, jit

# Letters: R rows, C features.


@jit(fastmath=CONTRACT)
def bias_silu_forward_02_rows(x, bias, y, first, last):
    """x + bias is never stored: 2.5 times rung 01 with the threads of rung 03 (768 x 512 float32: 93 to 37 us).
    Rows first to last of x, y (R, C); bias (C,).
    """
    C = x.shape[1]
    one = x.dtype.type(1)
    for i in range(first, last):
        row, y_row = x[i], y[i]
        for j in range(C):
            v = row[j] + bias[j]
            y_row[j] = v / (one + exp(-v))


@jit(parallel=True)
def bias_silu_forward_03_threads(x, bias, y, block):
    """Blocks of rows on all threads."""
    R = x.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        bias_silu_forward_02_rows(x, bias, y, b * block, min(R, (b + 1) * block))


@jit(fastmath=CONTRACT)
def bias_silu_vjp_02_rows(dy, x, bias, dx, add, dbias, want, first, last):
    """dx and its sum in one visit: 1.5 times rung 01 with the threads of rung 03 (132 to 88 us). Rows first to last;
    dx (R, C) is written or added to; dbias (C,) receives this block's sum.

    want = (dx, dbias): what is not wanted is neither read nor written. A row that is only added is made
    beside dx, in cache.
    """
    C = x.shape[1]
    number = x.dtype.type
    one, limit = number(1), number(1000)
    want_dx, want_dbias = want
    beside = np.empty(C, x.dtype)
    if want_dbias:
        dbias[:] = number(0)
    for i in range(first, last):
        dy_row, row = dy[i], x[i]
        found = dx[i] if want_dx and not add else beside
        for j in range(C):
            v = row[j] + bias[j]
            v = limit if v > limit else v  # NaN stays NaN: both comparisons are false
            v = -limit if v < -limit else v
            tail = exp(-abs(v))  # at most 1
            share = one / (one + tail)
            s = share if v > 0 else tail * share
            found[j] = dy_row[j] * (s + v * (tail * share * share))
        if want_dx and add:
            dx_row = dx[i]
            for j in range(C):
                dx_row[j] += found[j]
        if want_dbias:
            for j in range(C):
                dbias[j] += found[j]


@jit(parallel=True)
def bias_silu_vjp_03_threads(dy, x, bias, dx, add, dbiases, want, block):
    """Blocks of rows on all threads; block b leaves its sum in row b of dbiases (blocks, C)."""
    R = x.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        bias_silu_vjp_02_rows(dy, x, bias, dx, add, dbiases[b], want, b * block, min(R, (b + 1) * block))


production = BiasRows(
    forward_serial=bias_silu_forward_02_rows,
    forward_threaded=bias_silu_forward_03_threads,
    vjp_serial=bias_silu_vjp_02_rows,
    vjp_threaded=bias_silu_vjp_03_threads,
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
"""The pair of production, by BiasRows in bias_rows.py: small arrays run serially, large ones on all threads."""

RUNGS = {"numba 01_composition": Composition(silu)}
"""The ladder's other rungs as pairs, so that they are checked and timed by name."""
