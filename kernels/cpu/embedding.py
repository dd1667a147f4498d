"""Embedding: y = weight[ids]; its gradient adds every row of dy to the row of dweight that it came from.

Repeated ids make the backward pass a sum, so threads share out the columns, never the rows: each number is added up
by one thread in the order of ids, and the result has the same bits for any number of threads.

The row padding_idx is read like every other and gets no gradient.
"""

from typing import Any

import numpy as np
from numba import prange

from .bounds import checked_ids
from .jit import FLOATS, frozen, jit, lent
from .threads import PARALLEL_WORK, row_block

# Letters: R ids, C features.
_COLUMNS = 64  # columns of one block in the backward pass: whole cache lines


@jit()
def embedding_forward_01_gather(weight, ids, y, first, last):
    """Copies rows: 768 x 128 float32 in 7 us. Rows first to last of y (R, C)."""
    for i in range(first, last):
        row, y_row = weight[ids[i]], y[i]
        for j in range(y_row.size):
            y_row[j] = row[j]


@jit(parallel=True)
def embedding_forward_02_threads(weight, ids, y, block):
    """Blocks of rows on all threads: nothing at 768 x 128 (8 us), meant for what exceeds a cache."""
    R = ids.size
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        embedding_forward_01_gather(weight, ids, y, b * block, min(R, (b + 1) * block))


@jit()
def embedding_vjp_01_scatter(dy, ids, padding, dweight, first, last):
    """Adds rows: 768 x 128 float32 in 10 us, where np.add.at takes 900. Columns first to last of dweight (V, C) +=
    rows of dy (R, C), in the order of ids; not those whose id is `padding` (-1: there is none).
    """
    for i in range(ids.size):
        if ids[i] == padding:
            continue
        dy_row, row = dy[i, first:last], dweight[ids[i], first:last]
        for j in range(row.size):
            row[j] += dy_row[j]


@jit(parallel=True)
def embedding_vjp_02_columns(dy, ids, padding, dweight):
    """Blocks of columns on all threads: no two threads touch one number."""
    C = dweight.shape[1]
    for index in prange((C + _COLUMNS - 1) // _COLUMNS):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        embedding_vjp_01_scatter(dy, ids, padding, dweight, b * _COLUMNS, min(C, (b + 1) * _COLUMNS))


def accepts(weight: Any, ids: Any, *, padding_idx: int | None = None) -> bool:
    return weight.dtype in FLOATS and weight.ndim == 2 and ids.dtype.kind in "iu"


def forward(weight: np.ndarray, ids: np.ndarray, *, padding_idx: int | None = None) -> tuple[np.ndarray, None]:
    """y (..., C) of weight (V, C) and ids (...,). IndexError when an id is no row."""
    V, C = weight.shape
    flat = checked_ids(ids, V, "embedding: ids", f"weight has {V} rows")
    y = np.empty((*ids.shape, C), weight.dtype)
    if y.size:
        y2 = y.reshape(-1, C)  # (R, C)
        if y.size < PARALLEL_WORK:
            embedding_forward_01_gather(frozen(weight), flat, y2, 0, flat.size)
        else:
            embedding_forward_02_threads(frozen(weight), flat, y2, row_block(flat.size, C))
    return y, None


def vjp(
    dy: np.ndarray, y: Any, weight: Any, ids: np.ndarray, *,
    residuals: None, wanted: Any, into: Any, padding_idx: int | None = None,
) -> tuple[np.ndarray | None, None]:  # fmt: skip
    """dweight (V, C); into[0] may be overwritten or added to."""
    if not wanted[0]:
        return None, None
    V, C = weight.shape
    offer = lent(into[0])
    if offer is None:
        # The system's zero pages: rows that no id names are never touched.
        dweight = np.zeros(weight.shape, weight.dtype)
    else:
        dweight = offer[0]
        if not offer[1]:
            dweight.fill(0)
    if dy.size:
        flat = checked_ids(ids, V, "embedding: ids", f"weight has {V} rows")
        dy2 = frozen(dy).reshape(-1, C)  # (R, C)
        padding = -1 if padding_idx is None else padding_idx
        if dy.size < PARALLEL_WORK:
            embedding_vjp_01_scatter(dy2, flat, padding, dweight, 0, C)
        else:
            embedding_vjp_02_columns(dy2, flat, padding, dweight)
    return dweight, None
