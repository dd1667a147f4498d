"""Matrix-vector products, for a few rows x at a time: y = x W^T + b with W (O, I) as layers store it, or x W with W (I, O).

    y[r, o] = scale[o] sum_i x[r, i] w[o, i] + bias[o]          scale: only where W is stored as integers, see quantization.py

A language model that writes one token after the other multiplies each of its weights with one number and adds it up. So
all weights are read for two operations each: what counts is how fast they come from memory, and how small they are stored
(dots.py widens bfloat16, float16 and int8 in registers). For one row of float32 BLAS is as good (83 GB/s where rung 04 reaches
78, on a machine whose memory gives 99), and linear.py takes it. A row of y has the same bits whatever rows stand beside it.
"""

import numpy as np
from numba import prange

from .dots import make_dots, widened
from .jit import CONTRACT, FLOATS, REDUCE, frozen, jit
from .threads import PARALLEL_WORK

# Letters: R rows of x, I inputs, O outputs.
FEW, FEW_BY_COLUMNS = 16, 4
"""Rows of x up to which these products are faster than BLAS, from the second on: for W (O, I) 2 rows 7 times, 8 rows twice."""
_WEIGHTS_A_NANOSECOND = 8
_BLOCK = 1 << 15  # weights in one block of rows: about 2 us
_STRIP = 128  # columns of y in one block: they stay in the first cache, for all rows of x
_dots_4, _dots_1 = make_dots(4), make_dots(1)
NOTHING = {dtype: frozen(np.empty(0, dtype)) for dtype in FLOATS}
"""What stands for a bias or a scale that is not there."""


@jit()
def matvec_forward_01_naive(w, scale, x, bias, y):
    """The textbook, one number after the other; w (O, I), x (R, I), y (R, O). The rung to measure from."""
    O, I = w.shape
    for r in range(x.shape[0]):
        for o in range(O):
            total = y.dtype.type(0)
            for i in range(I):
                total += widened(w[o, i], total) * x[r, i]
            if scale.size:
                total *= scale[o]
            y[r, o] = total + bias[o] if bias.size else total


@jit(fastmath=REDUCE)
def matvec_forward_02_lanes(w, scale, x, bias, y):
    """The sum runs in vector lanes, several vectors at once: 8 times rung 01 (3072 x 768 float32 in L3: 1090 to 128 us)."""
    O, I = w.shape
    for r in range(x.shape[0]):
        x_row = x[r]
        for o in range(O):
            row = w[o]
            total = y.dtype.type(0)
            for i in range(I):
                total += widened(row[i], total) * x_row[i]
            if scale.size:
                total *= scale[o]
            y[r, o] = total + bias[o] if bias.size else total


@jit()
def matvec_forward_03_rows(w, scale, x, bias, y, first, last):
    """Four rows of W at once, and memory asked ahead: 1.3 times rung 02 (128 to 96 us). Rows first to last of W."""
    O, I = w.shape
    for o in range(first, last, 4):  # all rows of x meet the four while they are in the first cache
        end = min(o + 4, last)
        for r in range(x.shape[0]):
            if end - o == 4:
                _dots_4(w, o * I, I, x, r * I, I, y, r * O + o)
            else:
                for j in range(o, end):
                    _dots_1(w, j * I, I, x, r * I, I, y, r * O + j)
            if scale.size:
                for j in range(o, end):
                    y[r, j] *= scale[j]
            if bias.size:
                for j in range(o, end):
                    y[r, j] += bias[j]


@jit(parallel=True)
def matvec_forward_04_threads(w, scale, x, bias, y, block):
    """Blocks of rows of W on all threads: 1.8 times rung 03 on two cores (96 to 52 us)."""
    O = w.shape[0]
    for index in prange((O + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        matvec_forward_03_rows(w, scale, x, bias, y, b * block, min(O, (b + 1) * block))


@jit(fastmath=CONTRACT)
def matvec_columns_01_strip(w, x, bias, y, first, last):
    """w (I, O): four rows of a strip of W at once are added to the strip of every row of y. Columns first to last."""
    I = w.shape[0]
    zero = y.dtype.type(0)
    for r in range(x.shape[0]):
        for j in range(first, last):
            y[r, j] = bias[j] if bias.size else zero
    for i in range(0, I - 3, 4):
        w_a, w_b, w_c, w_d = w[i, first:last], w[i + 1, first:last], w[i + 2, first:last], w[i + 3, first:last]
        for r in range(x.shape[0]):
            strip, a, b, c, d = y[r, first:last], x[r, i], x[r, i + 1], x[r, i + 2], x[r, i + 3]
            for j in range(strip.size):
                strip[j] = strip[j] + a * w_a[j] + b * w_b[j] + c * w_c[j] + d * w_d[j]
    for i in range(I // 4 * 4, I):
        w_a = w[i, first:last]
        for r in range(x.shape[0]):
            strip, a = y[r, first:last], x[r, i]
            for j in range(strip.size):
                strip[j] += a * w_a[j]


@jit(parallel=True)
def matvec_columns_02_threads(w, x, bias, y, block):
    """Strips of `block` columns on all threads."""
    O = w.shape[1]
    for index in prange((O + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        matvec_columns_01_strip(w, x, bias, y, b * block, min(O, (b + 1) * block))


def product(
    w: np.ndarray, x: np.ndarray, bias: np.ndarray | None, y: np.ndarray, scale: np.ndarray | None = None
) -> None:
    """y (R, O), contiguous, = x (R, I) w^T [scale] [+ bias]; w (O, I) as dots.py says, x, bias and scale of y's dtype."""
    O, I = w.shape
    none = NOTHING[y.dtype]
    arrays = frozen(w), none if scale is None else frozen(scale), frozen(x), none if bias is None else frozen(bias), y
    if w.size * x.shape[0] < PARALLEL_WORK * _WEIGHTS_A_NANOSECOND:
        matvec_forward_03_rows(*arrays, 0, O)
    else:
        matvec_forward_04_threads(*arrays, max(4, _BLOCK // max(I, 1) // 4 * 4))


def product_by_columns(w: np.ndarray, x: np.ndarray, bias: np.ndarray | None, y: np.ndarray) -> None:
    """y (R, O), contiguous, = x (R, I) w [+ bias]; w (I, O), all of one dtype."""
    arrays = frozen(w), frozen(x), NOTHING[y.dtype] if bias is None else frozen(bias), y
    if w.size * x.shape[0] < PARALLEL_WORK * _WEIGHTS_A_NANOSECOND:
        for first in range(0, w.shape[1], _STRIP):
            matvec_columns_01_strip(*arrays, first, min(first + _STRIP, w.shape[1]))
    else:
        matvec_columns_02_threads(*arrays, _STRIP)
