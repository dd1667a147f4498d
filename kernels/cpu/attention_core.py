"""The one core of `attention` and `packed_attention`: strided, tiled, online softmax; no T x S array, no transposed
copy.

One unit of work is one head of one batch entry. Its rows are packed into padded local blocks (queries times the
scale, keys once as columns), so that every product runs in whole register tiles whatever T, S and D are. Then, for
ROWS queries at a time and KEYS keys at a time (Dao et al., 2022; Milakov and Gimelshein, 2018):

    s = q k^T;  m' = max(m, max s);  p = e^(s - m');  l = l e^(m - m') + sum p;  o = o e^(m - m') + p v;   y = o / l

    p = e^(s - lse);  ds = p (dy v^T - delta), delta = <dy, y>;  dv += p^T dy;  dk += ds^T q;  dq += ds k

Key j is visible to query i if j <= i + S - T (causal) and its mask is True. A query that sees nothing gets y = 0 and
lse = +inf, so that p = 0 on the way back. Numbers that are not finite may reach only the rows that see them, but a
tile multiplies what is hidden by 0, and 0 * NaN is NaN: a head that holds such a number goes row by row with exact
bounds.

An array is passed as (address, batch stride, head stride, row stride) in elements, the last axis contiguous: one
compiled version serves every layout. The caller keeps the arrays alive.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types

from .exp import exp
from .jit import REDUCE, carray, intrinsic, jit
from .tile import ROWS, VECTOR_BYTES, exp_row, largest, product, transpose

# Letters: T queries, S keys, D head_dim, W = D padded to whole vectors.
KEYS = 64  # keys in one tile: a multiple of every vector length and of ROWS
_UNKNOWN = 1 << 40  # length of an array known by address only


@intrinsic
def _pointer(typingctx: Any, address: Any, like: Any) -> Any:
    """The integer address as a pointer to numbers of like's type."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target = ir.FloatType() if like == types.float32 else ir.DoubleType()
        return builder.inttoptr(arguments[0], target.as_pointer())

    return types.CPointer(like)(address, like), generate


@jit(fastmath=REDUCE, inner=True)
def _pack_rows(source, start, stride, rows, D, scale, keep, packed, W, padded_rows):
    """packed (padded_rows, W) = scale * rows of D numbers, padded with zeros; a row whose keep is False is zeros.

    Returns 0 if every packed number is finite, NaN otherwise. An empty keep keeps all.
    """
    zero = packed.dtype.type(0)
    probe = zero
    for i in range(padded_rows):
        out = packed[i * W : (i + 1) * W]
        n = D if i < rows and (keep.size == 0 or keep[i]) else 0
        row = source[start + i * stride : start + i * stride + n]
        for d in range(n):
            out[d] = row[d] * scale
            probe += row[d] * zero
        for d in range(n, W):
            out[d] = zero
    return probe


@jit(inner=True)
def _pack_columns(rows, W, padded_rows, columns):
    """columns[tile, d, j] = rows[tile * KEYS + j, d]: keys as the columns that a product's right side wants."""
    lanes = VECTOR_BYTES // rows.itemsize
    for j in range(0, padded_rows, lanes):
        for d in range(0, W, lanes):
            transpose(rows, j * W + d, W, columns, j // KEYS * KEYS * W + d * KEYS + j % KEYS, KEYS)


@jit(fastmath=REDUCE)
def attention_forward_02_tiled(q_at, k_at, v_at, y_at, sizes, causal, masks, scale, lses, head):
    """Register tiles and online softmax: 3.5 times rung 01 (48 heads of 64 x 32, causal: 2.03 to about 0.55 ms).

    One head (0 to B * H - 1) on this thread. lses (B * H, T); masks (B or 1, S) of bool, or (1, 0) for none.
    """
    H, T, S, D = sizes
    b, h = head // H, head % H
    lse, keep = lses[head], masks[b % masks.shape[0]]
    q, q0, q_t = carray(_pointer(q_at[0], scale), (_UNKNOWN,)), b * q_at[1] + h * q_at[2], q_at[3]
    k, k0, k_t = carray(_pointer(k_at[0], scale), (_UNKNOWN,)), b * k_at[1] + h * k_at[2], k_at[3]
    v, v0, v_t = carray(_pointer(v_at[0], scale), (_UNKNOWN,)), b * v_at[1] + h * v_at[2], v_at[3]
    y, y0, y_t = carray(_pointer(y_at[0], scale), (_UNKNOWN,)), b * y_at[1] + h * y_at[2], y_at[3]
    number = lse.dtype.type
    zero, one, infinity = number(0), number(1), number(np.inf)
    lanes = VECTOR_BYTES // lse.itemsize
    none, unit, tile = np.int64(0), np.int64(1), np.int64(KEYS)  # not literals, for which `product` would compile anew
    W, S_padded, T_padded = -(-D // lanes) * lanes, -(-S // KEYS) * KEYS, -(-T // ROWS) * ROWS
    queries, values = np.empty(T_padded * W, lse.dtype), np.empty(S_padded * W, lse.dtype)
    key_rows, keys = np.empty(S_padded * W, lse.dtype), np.empty(S_padded * W, lse.dtype)
    every = keep[:0]
    probe = _pack_rows(q, q0, q_t, T, D, scale, every, queries, W, T_padded)
    probe += _pack_rows(k, k0, k_t, S, D, one, keep, key_rows, W, S_padded)
    probe += _pack_rows(v, v0, v_t, S, D, one, keep, values, W, S_padded)
    _pack_columns(key_rows, W, S_padded, keys)
    step = ROWS if probe == zero and T > 2 else 1

    scores, out = np.empty(ROWS * KEYS, lse.dtype), np.empty(ROWS * W, lse.dtype)
    maxima, totals = np.empty(ROWS, lse.dtype), np.empty(ROWS, lse.dtype)
    for i0 in range(0, T, step):
        rows = min(step, T - i0)
        visible = min(S, i0 + rows + S - T) if causal else S  # keys that the last of these rows sees; may be <= 0
        for r in range(rows):
            maxima[r] = -infinity
            totals[r] = zero
        if visible <= 0:
            out[:] = zero
        for j0 in range(0, visible, KEYS):
            width = min(KEYS, visible - j0)
            columns = -(-width // lanes) * lanes
            product(step, D, queries, i0 * W, W, unit, keys, j0 * W, tile, scores, none, tile, columns, none)
            for r in range(rows):
                n = max(0, min(width, i0 + r + 1 + S - T - j0)) if causal else width
                row = scores[r * KEYS : (r + 1) * KEYS]
                if keep.size:
                    for j in range(n):
                        if not keep[j0 + j]:
                            row[j] = -infinity
                m_old = maxima[r]
                m = largest(scores, r * KEYS, n)
                m = m_old if m_old > m else m
                shift = m if m > -infinity else zero  # nothing visible yet: e^(-inf - 0) = 0, and NaN stays NaN
                total = exp_row(scores, r * KEYS, scores, r * KEYS, n, shift)
                for j in range(n, width):
                    row[j] = zero
                maxima[r] = m
                if j0 == 0:
                    totals[r] = total
                else:
                    correction = exp(m_old - shift)
                    totals[r] = totals[r] * correction + total
                    if correction != one:
                        out_row = out[r * W : (r + 1) * W]
                        for d in range(W):
                            out_row[d] *= correction
            product(step, width, scores, none, tile, unit, values, j0 * W, W, out, none, W, W, j0)  # (+)= p v
        for r in range(rows):
            total = totals[r]
            inverse = zero if total == zero else one / total
            lse[i0 + r] = infinity if total == zero else maxima[r] + number(math.log(total))
            y_at = y0 + (i0 + r) * y_t
            y_row, out_row = y[y_at : y_at + D], out[r * W : (r + 1) * W]
            for d in range(D):
                y_row[d] = out_row[d] * inverse


@jit(parallel=True)
def attention_forward_03_threads(q_at, k_at, v_at, y_at, sizes, causal, masks, scale, lses):
    """Heads on all threads: 1.3 times rung 02 on two cores (48 heads of 64 x 32: 397 to 301 us), waking them included."""
    for head in prange(lses.shape[0]):
        attention_forward_02_tiled(q_at, k_at, v_at, y_at, sizes, causal, masks, scale, lses, np.int64(head))


@jit(inner=True)
def _unpack_rows(packed, W, rows, D, scale, keep, target, start, stride, add):
    """Rows of target (+)= scale * packed; nothing (0) for a row whose keep is False."""
    zero = packed.dtype.type(0)
    for i in range(rows):
        row, out = packed[i * W : i * W + D], target[start + i * stride : start + i * stride + D]
        if keep.size and not keep[i]:
            if not add:
                out[:] = zero
        elif add:
            for d in range(D):
                out[d] += row[d] * scale
        else:
            for d in range(D):
                out[d] = row[d] * scale


@jit(fastmath=REDUCE)
def attention_vjp_02_tiled(
    dy_at, y_at, q_at, k_at, v_at, dq_at, dk_at, dv_at, sizes, causal, masks, scale, lses, want, add, head
):  # fmt: skip
    """Register tiles, p recomputed from lse: 5 times rung 01 (48 heads of 64 x 32, causal: 3.9 to about 0.75 ms).

    One head on this thread. want, add: three flags each, for dq, dk, dv; what is not wanted is neither computed nor
    written.
    """
    H, T, S, D = sizes
    b, h = head // H, head % H
    lse, keep = lses[head], masks[b % masks.shape[0]]
    dy, dy0, dy_t = carray(_pointer(dy_at[0], scale), (_UNKNOWN,)), b * dy_at[1] + h * dy_at[2], dy_at[3]
    y, y0, y_t = carray(_pointer(y_at[0], scale), (_UNKNOWN,)), b * y_at[1] + h * y_at[2], y_at[3]
    q, q0, q_t = carray(_pointer(q_at[0], scale), (_UNKNOWN,)), b * q_at[1] + h * q_at[2], q_at[3]
    k, k0, k_t = carray(_pointer(k_at[0], scale), (_UNKNOWN,)), b * k_at[1] + h * k_at[2], k_at[3]
    v, v0, v_t = carray(_pointer(v_at[0], scale), (_UNKNOWN,)), b * v_at[1] + h * v_at[2], v_at[3]
    dq, dq0, dq_t = carray(_pointer(dq_at[0], scale), (_UNKNOWN,)), b * dq_at[1] + h * dq_at[2], dq_at[3]
    dk, dk0, dk_t = carray(_pointer(dk_at[0], scale), (_UNKNOWN,)), b * dk_at[1] + h * dk_at[2], dk_at[3]
    dv, dv0, dv_t = carray(_pointer(dv_at[0], scale), (_UNKNOWN,)), b * dv_at[1] + h * dv_at[2], dv_at[3]
    number = lse.dtype.type
    zero, one = number(0), number(1)
    lanes = VECTOR_BYTES // lse.itemsize
    none, unit, tile = np.int64(0), np.int64(1), np.int64(KEYS)  # not literals, for which `product` would compile anew
    W, S_padded, T_padded = -(-D // lanes) * lanes, -(-S // KEYS) * KEYS, -(-T // ROWS) * ROWS
    queries, cotangents = np.empty(T_padded * W, lse.dtype), np.empty(T_padded * W, lse.dtype)
    key_rows, value_rows = np.empty(S_padded * W, lse.dtype), np.empty(S_padded * W, lse.dtype)
    keys, values = np.empty(S_padded * W, lse.dtype), np.empty(S_padded * W, lse.dtype)
    dqueries, dkeys = np.zeros(T_padded * W, lse.dtype), np.zeros(S_padded * W, lse.dtype)
    dvalues = np.zeros(S_padded * W, lse.dtype)
    every = keep[:0]
    probe = _pack_rows(q, q0, q_t, T, D, scale, every, queries, W, T_padded)
    probe += _pack_rows(dy, dy0, dy_t, T, D, one, every, cotangents, W, T_padded)
    probe += _pack_rows(k, k0, k_t, S, D, one, keep, key_rows, W, S_padded)
    probe += _pack_rows(v, v0, v_t, S, D, one, keep, value_rows, W, S_padded)
    _pack_columns(key_rows, W, S_padded, keys)
    _pack_columns(value_rows, W, S_padded, values)
    step = ROWS if probe == zero else 1

    delta = np.empty(T, lse.dtype)
    for i in range(T):
        dy_row, y_row = dy[dy0 + i * dy_t : dy0 + i * dy_t + D], y[y0 + i * y_t : y0 + i * y_t + D]
        total = zero
        for d in range(D):
            total += dy_row[d] * y_row[d]
        delta[i] = total

    p, ds = np.empty(KEYS * KEYS, lse.dtype), np.empty(KEYS * KEYS, lse.dtype)
    for j0 in range(0, S, KEYS):
        width = min(KEYS, S - j0)
        first = max(0, j0 - (S - T)) // ROWS * ROWS if causal else 0  # the first query block that sees key j0
        for i0 in range(first, T, KEYS):
            height = min(KEYS, T - i0)
            for i in range(0, height, step):
                rows = min(step, height - i)
                last = min(width, i0 + i + rows + S - T - j0) if causal else width
                if last <= 0:  # step 1 starts above the diagonal
                    p[i * KEYS : i * KEYS + width] = zero
                    ds[i * KEYS : i * KEYS + width] = zero
                    continue
                columns = -(-last // lanes) * lanes
                at = (i0 + i) * W
                product(step, D, queries, at, W, unit, keys, j0 * W, tile, p, i * KEYS, tile, columns, none)
                product(step, D, cotangents, at, W, unit, values, j0 * W, tile, ds, i * KEYS, tile, columns, none)
                for r in range(i, i + step):
                    n = 0  # rows of padding
                    if r < height:
                        n = max(0, min(width, i0 + r + 1 + S - T - j0)) if causal else width
                    p_row, ds_row = p[r * KEYS : (r + 1) * KEYS], ds[r * KEYS : (r + 1) * KEYS]
                    if n > 0:
                        lse_r, delta_r = lse[i0 + r], delta[i0 + r]
                        exp_row(p, r * KEYS, p, r * KEYS, n, lse_r)
                        for j in range(n):
                            ds_row[j] = p_row[j] * (ds_row[j] - delta_r)
                        if keep.size:
                            for j in range(n):
                                if not keep[j0 + j]:
                                    p_row[j] = zero
                                    ds_row[j] = zero
                    for j in range(n, width):
                        p_row[j] = zero
                        ds_row[j] = zero
                if want[0]:
                    product(step, last, ds, i * KEYS, tile, unit, key_rows, j0 * W, W, dqueries, at, W, W, unit)
            for j in range(0, width, step):
                i = max(0, j0 + j - (S - T) - i0) if causal else 0  # the first query of this block that sees key j
                if i >= height:
                    break
                at, to = (i0 + i) * W, (j0 + j) * W
                if want[2]:
                    product(step, height - i, p, i * KEYS + j, unit, tile, cotangents, at, W, dvalues, to, W, W, unit)
                if want[1]:
                    product(step, height - i, ds, i * KEYS + j, unit, tile, queries, at, W, dkeys, to, W, W, unit)
    if want[0]:
        _unpack_rows(dqueries, W, T, D, scale, every, dq, dq0, dq_t, add[0])
    if want[1]:
        _unpack_rows(dkeys, W, S, D, one, keep, dk, dk0, dk_t, add[1])
    if want[2]:
        _unpack_rows(dvalues, W, S, D, one, keep, dv, dv0, dv_t, add[2])


@jit(parallel=True)
def attention_vjp_03_threads(
    dy_at, y_at, q_at, k_at, v_at, dq_at, dk_at, dv_at, sizes, causal, masks, scale, lses, want, add
):  # fmt: skip
    """Heads on all threads: 1.35 times rung 02 on two cores (48 heads of 64 x 32: 1041 to 770 us), waking them included."""
    for head in prange(lses.shape[0]):
        attention_vjp_02_tiled(
            dy_at, y_at, q_at, k_at, v_at, dq_at, dk_at, dv_at, sizes, causal, masks, scale, lses, want, add,
            np.int64(head),
        )  # fmt: skip
