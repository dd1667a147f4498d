"""Embedding: y = weight[ids]; its gradient adds every row of dy to the row of dweight that it came from.

Repeated ids make the backward pass a sum, so threads share out the columns, never the rows: each number is added up
by one thread in the order of ids, and the result has the same bits for any number of threads.

Two ways back. Where there are more ids than rows (characters), the ids are sorted by row first; then a row's sum stays in
registers and is written once. Where there are many more rows (words), nearly all the work is to write zeros.

The row padding_idx is read like every other and gets no gradient.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types

from .bounds import checked_ids, flat_ids
from .jit import FLOATS, frozen, intrinsic, jit, lent
from .threads import PARALLEL_WORK, row_block
from .tile import _Row

# Letters: R ids, C features, V rows of weight.
_COLUMNS = 64  # columns of one block in the backward pass: whole cache lines
_ZEROS = 1 << 20  # zeros that one block writes: from megabytes on, the C library's memset passes the caches by


@jit()
def embedding_forward_01_gather(weight, ids, y, first, last):
    """Copies rows: 768 x 128 float32 in 5 us. Rows first to last of y (R, C); returns how many ids are no row of weight (V, C),
    which are left out.
    """
    V, bad = weight.shape[0], 0
    for i in range(first, last):
        if ids[i] < 0 or ids[i] >= V:
            bad += 1
            continue
        row, y_row = weight[ids[i]], y[i]
        for j in range(y_row.size):
            y_row[j] = row[j]
    return bad


@jit(parallel=True)
def embedding_forward_02_threads(weight, ids, y, block):
    """Blocks of rows on all threads: 1.5 times rung 01 on two cores (5.2 to 3.5 us), where the other thread is awake."""
    R, bad = ids.size, 0
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        bad += embedding_forward_01_gather(weight, ids, y, b * block, min(R, (b + 1) * block))
    return bad


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
def embedding_vjp_02_columns(dy, ids, padding, dweight, add):
    """Zeros, unless dweight is added to, and then blocks of columns, on all threads: no two threads touch one number. 50257 x
    768 float32, which NumPy fills with zeros in 3340 us, take 1110 us with 256 ids: 154 MB at the speed of memory.
    """
    C = dweight.shape[1]
    if not add:
        flat = dweight.reshape(-1)
        for index in prange((flat.size + _ZEROS - 1) // _ZEROS):
            first = np.int64(index) * _ZEROS
            flat[first : min(flat.size, first + _ZEROS)] = 0
    for index in prange((C + _COLUMNS - 1) // _COLUMNS):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        embedding_vjp_01_scatter(dy, ids, padding, dweight, b * _COLUMNS, min(C, (b + 1) * _COLUMNS))


@intrinsic
def _sum_rows(
    typingctx: Any,
    dy: Any,
    order: Any,
    first: Any,
    last: Any,
    C: Any,
    column: Any,
    width: Any,
    out: Any,
    at: Any,
    add: Any,
) -> Any:
    """out[at + j] (+)= sum of dy[order[k] C + column + j] over first <= k < last, one after the other, for j < width <=
    _COLUMNS: the sums lie in registers. dy and out flat.
    """
    i64 = types.int64
    signature = types.void(dy, order, i64, i64, i64, i64, i64, out, i64, types.boolean)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        dy_, order_, first_, last_, C_, column_, width_, out_, at_, add_ = arguments
        walk, index = _Row(context, builder, None, out.dtype), ir.IntType(64)
        vectors, order_at = range(_COLUMNS // walk.lanes), _Row(context, builder, None, types.float64)
        narrow, zero = ir.IntType(32), walk.constant(0.0)
        lanes = ir.Constant(ir.VectorType(narrow, walk.lanes), list(range(walk.lanes)))
        widths = builder.insert_element(
            ir.Constant(ir.VectorType(narrow, walk.lanes), ir.Undefined),
            builder.trunc(width_, narrow),
            ir.Constant(narrow, 0),
        )
        widths = builder.shuffle_vector(
            widths, widths, ir.Constant(ir.VectorType(narrow, walk.lanes), [0] * walk.lanes)
        )
        starts = [ir.Constant(index, v * walk.lanes) for v in vectors]
        masks = [
            builder.icmp_signed("<", builder.add(lanes, ir.Constant(lanes.type, [v * walk.lanes] * walk.lanes)), widths)
            for v in vectors
        ]
        out_at = walk.pointer(out_, out, at_)
        entry = builder.block
        with builder.if_then(add_):
            before = [walk.load(out_at, start, mask, zero) for start, mask in zip(starts, masks, strict=True)]
            inside = builder.block
        begin = [builder.phi(walk.vector) for _ in vectors]
        for phi, value in zip(begin, before, strict=True):
            phi.add_incoming(zero, entry)
            phi.add_incoming(value, inside)
        test, body, done = (builder.append_basic_block(name) for name in ("sum_test", "sum_body", "sum_done"))
        entry = builder.block
        builder.branch(test)
        builder.position_at_end(test)
        k, totals = builder.phi(index), [builder.phi(walk.vector) for _ in vectors]
        k.add_incoming(first_, entry)
        for total, value in zip(totals, begin, strict=True):
            total.add_incoming(value, entry)
        builder.cbranch(builder.icmp_signed("<", k, last_), body, done)
        builder.position_at_end(body)
        row = builder.load(order_at.pointer(order_, order, k))
        row_at = walk.pointer(dy_, dy, builder.add(builder.mul(row, C_), column_))
        for total, start, mask in zip(totals, starts, masks, strict=True):
            total.add_incoming(builder.fadd(total, walk.load(row_at, start, mask, zero)), body)
        k.add_incoming(builder.add(k, ir.Constant(index, 1)), body)
        builder.branch(test)
        builder.position_at_end(done)
        for total, start, mask in zip(totals, starts, masks, strict=True):
            walk.store(total, out_at, start, mask)
        return context.get_dummy_value()

    return signature, generate


@jit()
def _sorted_by_row(ids, V):
    """(order (R,), ends (V + 1,)): the ids of row v are ids[order[ends[v] : ends[v + 1]]], in their order."""
    ends, order = np.zeros(V + 1, np.int64), np.empty(ids.size, np.int64)
    for i in range(ids.size):
        ends[ids[i] + 1] += 1
    for v in range(V):
        ends[v + 1] += ends[v]
    for i in range(ids.size):  # ends[v] walks from where row v begins to where it ends
        order[ends[ids[i]]] = i
        ends[ids[i]] += 1
    for v in range(V, 0, -1):
        ends[v] = ends[v - 1]
    ends[0] = 0
    return order, ends


@jit(parallel=True)
def embedding_vjp_03_sorted(dy, ids, padding, dweight, add):
    """Ids sorted by row, so that a row's sum stays in registers and is written once, without zeros first: all of the vjp in
    5.8 us, where checks, zeros and rung 02 took 12.2 (768 ids of 65 rows of 128). It walks over all rows of dweight (V, C),
    so it is for R >= V.
    """
    V, C = dweight.shape
    order, ends = _sorted_by_row(ids, V)
    flat_dy, flat = dy.reshape(-1), dweight.reshape(-1)
    for index in prange((C + _COLUMNS - 1) // _COLUMNS):
        column = np.int64(index) * _COLUMNS
        width = min(_COLUMNS, C - column)
        for v in range(V):
            first, last = ends[v], ends[v + 1]
            _sum_rows(
                flat_dy, order, first, first if v == padding else last, C, column, width, flat, v * C + column, add
            )


def accepts(weight: Any, ids: Any, *, padding_idx: int | None = None) -> bool:
    return weight.dtype in FLOATS and weight.ndim == 2 and ids.dtype.kind in "iu"


def forward(weight: np.ndarray, ids: np.ndarray, *, padding_idx: int | None = None) -> tuple[np.ndarray, None]:
    """y (..., C) of weight (V, C) and ids (...,). IndexError when an id is no row."""
    V, C = weight.shape
    flat = flat_ids(ids)
    y = np.empty((*ids.shape, C), weight.dtype)
    if y.size:
        y2 = y.reshape(-1, C)  # (R, C)
        if y.size < PARALLEL_WORK:
            bad = embedding_forward_01_gather(frozen(weight), flat, y2, 0, flat.size)
        else:
            bad = embedding_forward_02_threads(frozen(weight), flat, y2, row_block(flat.size, C))
        if bad:
            checked_ids(ids, V, "embedding: ids", f"weight has {V} rows")  # says which
    return y, None


def vjp(
    dy: np.ndarray, y: Any, weight: Any, ids: np.ndarray, *,
    residuals: None, wanted: Any, into: Any, padding_idx: int | None = None,
) -> tuple[np.ndarray | None, None]:  # fmt: skip
    """dweight (V, C); into[0] may be overwritten or added to."""
    if not wanted[0]:
        return None, None
    V, C = weight.shape
    dweight, add = lent(into[0]) or (np.empty(weight.shape, weight.dtype), False)
    if not dy.size:
        if not add:
            dweight.fill(0)
        return dweight, None
    flat = checked_ids(ids, V, "embedding: ids", f"weight has {V} rows")
    dy2 = frozen(dy).reshape(flat.size, C)
    padding = -1 if padding_idx is None else padding_idx
    if flat.size >= V and dy.size >= PARALLEL_WORK:
        embedding_vjp_03_sorted(dy2, flat, padding, dweight, add)
    elif max(dy.size, dweight.size) >= PARALLEL_WORK:
        embedding_vjp_02_columns(dy2, flat, padding, dweight, add)
    else:
        if not add:
            dweight.fill(0)
        embedding_vjp_01_scatter(dy2, flat, padding, dweight, 0, C)
    return dweight, None
