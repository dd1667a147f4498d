"""Products with a matrix in fewer bits than the numbers that it is multiplied with: bfloat16, float16, int8 with a scale a row.

    y = x W^T + b,   W (O, I) is  w                 float32; uint16, the bits of a bfloat16; float16
                                  scale[o] w[o, i]  int8
x, y and the sums are float32. A few rows x: the products of matvec.py, which widen W in registers, and so take as long as its
bytes take from memory. More rows: W is widened once into a buffer for the products of matmul.py, which are bound by arithmetic.
"""

from typing import Any

import numpy as np
from numba import prange

from . import matvec
from .dots import widened
from .jit import frozen, jit
from .linear import affine
from .threads import PARALLEL_WORK, row_block


@jit()
def widen_01_rows(w, scale, y, first, last):
    """y (O, I) = w, or scale w: rows first to last, in vector lanes."""
    for o in range(first, last):
        row, y_row = w[o], y[o]
        for i in range(y_row.size):
            y_row[i] = widened(row[i], y_row[i])
        if scale.size:
            for i in range(y_row.size):
                y_row[i] *= scale[o]


@jit(parallel=True)
def widen_02_threads(w, scale, y, block):
    """Blocks of rows on all threads."""
    O = w.shape[0]
    for index in prange((O + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        widen_01_rows(w, scale, y, b * block, min(O, (b + 1) * block))


def _for_numba(w: np.ndarray) -> np.ndarray:
    return w.view(np.int16) if w.dtype == np.float16 else w


def accepts(x: Any, w: Any, scale: Any = None, bias: Any = None) -> bool:
    """x (R, I) float32, w (O, I) in one of the forms above, scale (O,) and bias (O,) float32."""
    vectors = [v for v in (scale, bias) if v is not None]
    return (
        x.ndim == w.ndim == 2
        and x.shape[1] == w.shape[1]
        and x.dtype == np.float32
        and w.dtype in (np.float32, np.uint16, np.float16, np.int8)
        and (scale is not None) == (w.dtype == np.int8)
        and all(v.dtype == np.float32 and v.shape == w.shape[:1] for v in vectors)
    )


def widen(w: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """The matrix (O, I) as float32."""
    O, I = w.shape
    y = np.empty((O, I), np.float32)
    arrays = frozen(_for_numba(w)), matvec.NOTHING[y.dtype] if scale is None else frozen(scale), y
    if y.size < PARALLEL_WORK:
        widen_01_rows(*arrays, 0, len(y))
    else:
        widen_02_threads(*arrays, row_block(O, I))
    return y


def linear(x: np.ndarray, w: np.ndarray, scale: np.ndarray | None = None, bias: np.ndarray | None = None) -> np.ndarray:
    """y (R, O) of what `accepts` lets through."""
    y = np.empty((len(x), len(w)), np.float32)
    if len(x) <= matvec.FEW:
        matvec.product(_for_numba(w), x, bias, y, scale)
    else:
        affine(x, widen(w, scale).T, bias, y)
    return y
