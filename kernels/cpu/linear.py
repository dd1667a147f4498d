"""Linear map: y = x W + b with W (in, out), or y = x W^T + b with W (out, in) when `transposed`.

    dx = dy W^T,   dW = x^T dy   (transposed: dW = dy^T x),   db = sum of the rows of dy
The products are those of matmul.py, which put dW straight into the leaf's gradient, or add it there, and start y from
the bias. Small ones are NumPy's BLAS: a transposed view is passed on as a flag, nothing is copied. So is that of one row x,
which reads W as fast as memory gives it; those of a few rows, for which BLAS packs W first, are those of matvec.py.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import prange

from . import matmul, matvec
from .jit import FLOATS, frozen, jit, lent
from .layer_norm import add_blocks
from .threads import PARALLEL_WORK, row_block

# Letters: R rows, I inputs, O outputs.


@jit()
def linear_bias_01_add(y, bias, first, last):
    """Rows first to last of y (R, O) += bias (O,)."""
    for i in range(first, last):
        row = y[i]
        for j in range(row.size):
            row[j] += bias[j]


@jit(parallel=True)
def linear_bias_02_threads(y, bias, block):
    """Blocks of rows on all threads."""
    R = y.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        linear_bias_01_add(y, bias, b * block, min(R, (b + 1) * block))


@jit()
def linear_bias_vjp_01_sum(dy, dbias, first, last):
    """dbias (O,) = sum of rows first to last of dy (R, O): lanes run along a row, so nothing is reordered."""
    dbias[:] = dy.dtype.type(0)
    for i in range(first, last):
        row = dy[i]
        for j in range(row.size):
            dbias[j] += row[j]


@jit(parallel=True)
def linear_bias_vjp_02_threads(dy, dbiases, block):
    """Block b of rows is summed into row b of dbiases (blocks, O), on all threads."""
    R = dy.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        linear_bias_vjp_01_sum(dy, dbiases[b], b * block, min(R, (b + 1) * block))


def _product(a: np.ndarray, b: np.ndarray, shape: tuple[int, ...], offer: Any) -> np.ndarray:
    """a b as an array of `shape`, in the buffer offered where there is one."""
    out, add = lent(offer) or (np.empty(shape, a.dtype), False)
    matmul.product(a, b, out.reshape(a.shape[0], b.shape[1]), add=add)
    return out


def affine(x: np.ndarray, matrix: np.ndarray, bias: np.ndarray | None, y: np.ndarray) -> None:
    """y (R, O), contiguous, = x (R, I) matrix (I, O) [+ bias (O,)]."""
    if 1 < len(x) <= matvec.FEW and matrix.T.flags.c_contiguous and y.size:
        matvec.product(matrix.T, x, bias, y)
        return
    if 1 < len(x) <= matvec.FEW_BY_COLUMNS and matrix.flags.c_contiguous and y.size:
        matvec.product_by_columns(matrix, x, bias, y)
        return
    if matmul.packs(x, matrix):
        matmul.packed(x, matrix, y, bias=bias)
        return
    np.dot(x, matrix, out=y)
    if bias is None or not y.size:
        return
    if y.size < PARALLEL_WORK:
        linear_bias_01_add(y, frozen(bias), 0, y.shape[0])
    else:
        linear_bias_02_threads(y, frozen(bias), row_block(*y.shape))


def accepts(x: Any, weight: Any, bias: Any = None, *, transposed: bool = False) -> bool:
    return (
        x.dtype in FLOATS
        and weight.dtype == x.dtype
        and x.ndim >= 1
        and weight.ndim == 2
        and x.shape[-1] == weight.shape[1 if transposed else 0]
        and (bias is None or (bias.dtype == x.dtype and bias.shape == (weight.shape[0 if transposed else 1],)))
    )


def forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, transposed: bool = False
) -> tuple[np.ndarray, None]:
    """y (..., O) of x (..., I), weight (I, O) or transposed (O, I), and bias (O,)."""
    matrix = weight.T if transposed else weight  # (I, O)
    I, O = matrix.shape
    R = x.size // I if I else int(np.prod(x.shape[:-1]))
    y = np.empty((*x.shape[:-1], O), x.dtype)
    affine(x.reshape(R, I), matrix, bias, y.reshape(R, O))
    return y, None


def vjp(
    dy: np.ndarray, y: Any, x: np.ndarray, weight: np.ndarray, *bias: Any,
    residuals: None, wanted: Any, into: Any, transposed: bool = False,
) -> tuple:  # fmt: skip
    """(dx, dweight[, dbias]); every one may be written to, or added to, the buffer lent for it."""
    O, I = weight.shape if transposed else weight.shape[::-1]
    R = int(np.prod(x.shape[:-1]))
    dy2, x2 = frozen(dy).reshape(R, O), frozen(x).reshape(R, I)  # BLAS rounds strided operands differently
    dx = dweight = None
    if wanted[0]:
        dx = _product(dy2, weight if transposed else weight.T, x.shape, into[0])
    if wanted[1]:
        left, right = (dy2, x2) if transposed else (x2, dy2)
        dweight = _product(left.T, right, weight.shape, into[1])
    if not bias:
        return dx, dweight
    if bias[0] is None or not wanted[2]:
        return dx, dweight, None
    dbias, add = lent(into[2]) or (np.empty(O, dy.dtype), False)
    block = row_block(R, O) if dy.size >= PARALLEL_WORK else max(R, 1)
    dbiases = np.zeros((max(1, -(-R // block)), O), dy.dtype)
    if dbiases.shape[0] == 1:
        linear_bias_vjp_01_sum(dy2, dbiases[0], 0, R)
    else:
        linear_bias_vjp_02_threads(dy2, dbiases, block)
    add_blocks(dbiases, dbias, add)
    return dx, dweight, dbias


def rung(loops: Callable[..., None], *work: int) -> SimpleNamespace:
    """A rung of matvec.py as a pair, for a few rows; its vjp is production's."""

    def few(x: Any, weight: Any, bias: Any = None, *, transposed: bool = False) -> bool:
        return accepts(x, weight, bias, transposed=transposed) and 1 <= np.prod(x.shape[:-1]) <= matvec.FEW

    def forward_rung(x: Any, weight: Any, bias: Any = None, *, transposed: bool = False) -> tuple[np.ndarray, None]:
        w, none = frozen(weight if transposed else weight.T), matvec.NOTHING[x.dtype]
        y = np.empty((*x.shape[:-1], len(w)), x.dtype)
        R = int(np.prod(x.shape[:-1]))
        rows = frozen(x).reshape(R, w.shape[1]), none if bias is None else frozen(bias), y.reshape(R, len(w))
        loops(w, none, *rows, *work)
        return y, None

    return SimpleNamespace(forward=forward_rung, vjp=vjp, accepts=few)


RUNGS = {
    "numba matvec_01_naive": rung(matvec.matvec_forward_01_naive),
    "numba matvec_02_lanes": rung(matvec.matvec_forward_02_lanes),
    "numba matvec_04_threads": rung(matvec.matvec_forward_04_threads, 4),
}
"""The rungs for a few rows as pairs, so that they are checked and timed by name."""
