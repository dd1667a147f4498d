"""The one core of `attention` and `packed_attention`: strided, tiled, online softmax; no T x S array is made.

One unit of work is one head of one batch entry, on the way back one key head with all query heads that read it: nobody
else adds to its dk and dv, in whatever order units run. Rows are packed into padded local blocks (queries times the
scale, keys once as columns), so that every product runs in whole register tiles whatever T, S and D are. Then, for
ROWS queries at a time and KEYS keys at a time (Dao et al., 2022; Milakov and Gimelshein, 2018):

    s = q k^T;  m' = max(m, max s);  p = e^(s - m');  l = l e^(m - m') + sum p;  o = o e^(m - m') + p v;   y = o / l

    p = e^(s - lse);  ds = p (dy v^T - delta), delta = <dy, y>;  dv += p^T dy;  dk += ds^T q;  dq += ds k

Query i stands at i + S - T and sees the keys from `before` places before it to `after` places after it (causal: after
= 0; a window of w: before = w - 1) whose mask is True; tiles outside are never touched. A query that sees nothing gets
y = 0 and lse = +inf, so that p = 0 on the way back. Numbers that are not finite may reach only the rows that see them, but a
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

# Letters: H query heads, G key heads (query head h reads key head h // (H // G)), T queries, S keys, D head_dim, W = D
# padded to whole vectors.
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
def attention_forward_02_tiled(q_at, k_at, v_at, y_at, sizes, reach, masks, scale, lses, head):
    """Register tiles and online softmax: 3.5 times rung 01 (48 heads of 64 x 32, causal: 2.03 to about 0.55 ms).

    One head (0 to B * H - 1) on this thread. lses (B * H, T); masks (B or 1, S) of bool, or (1, 0) for none; reach:
    (before, after).
    """
    H, G, T, S, D = sizes
    before, after = reach
    b, h = head // H, head % H
    g = h // (H // G)
    lse, keep = lses[head], masks[b % masks.shape[0]]
    q, q0, q_t = carray(_pointer(q_at[0], scale), (_UNKNOWN,)), b * q_at[1] + h * q_at[2], q_at[3]
    k, k0, k_t = carray(_pointer(k_at[0], scale), (_UNKNOWN,)), b * k_at[1] + g * k_at[2], k_at[3]
    v, v0, v_t = carray(_pointer(v_at[0], scale), (_UNKNOWN,)), b * v_at[1] + g * v_at[2], v_at[3]
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
        start = max(0, i0 + S - T - before)  # the first key that the first of these rows sees
        visible = min(S, i0 + rows + S - T + after)  # behind the last key that the last of them sees; may be <= 0
        tile_0 = start // KEYS * KEYS
        for r in range(rows):
            maxima[r] = -infinity
            totals[r] = zero
        if visible <= 0:
            out[:] = zero
        for j0 in range(tile_0, visible, KEYS):
            width, low = min(KEYS, visible - j0), max(0, start - j0)
            columns = -(-width // lanes) * lanes
            product(step, D, queries, i0 * W, W, unit, keys, j0 * W, tile, scores, none, tile, columns, none)
            for r in range(rows):
                here = i0 + r + S - T - j0
                first = max(0, min(width, here - before))
                if first > low:
                    for j in range(r * KEYS + low, r * KEYS + first):
                        scores[j] = zero
                # The row from its first visible key on: indices from 0, so that LLVM sees no wraparound.
                n = max(0, min(width, here + 1 + after) - first)
                row = scores[r * KEYS + first : (r + 1) * KEYS]
                if keep.size:
                    for j in range(n):
                        if not keep[j0 + first + j]:
                            row[j] = -infinity
                m_old = maxima[r]
                m = largest(scores, r * KEYS + first, n)
                m = m_old if m_old > m else m
                shift = m if m > -infinity else zero  # nothing visible yet: e^(-inf - 0) = 0, and NaN stays NaN
                total = exp_row(scores, r * KEYS + first, scores, r * KEYS + first, n, shift)
                for j in range(n, width - first):
                    row[j] = zero
                maxima[r] = m
                if j0 == tile_0:
                    totals[r] = total
                else:
                    correction = exp(m_old - shift)
                    totals[r] = totals[r] * correction + total
                    if correction != one:
                        out_row = out[r * W : (r + 1) * W]
                        for d in range(W):
                            out_row[d] *= correction
            add = j0 - tile_0
            product(step, width - low, scores, low, tile, unit, values, (j0 + low) * W, W, out, none, W, W, add)  # p v
        for r in range(rows):
            total = totals[r]
            inverse = zero if total == zero else one / total
            lse[i0 + r] = infinity if total == zero else maxima[r] + number(math.log(total))
            y_at = y0 + (i0 + r) * y_t
            y_row, out_row = y[y_at : y_at + D], out[r * W : (r + 1) * W]
            for d in range(D):
                y_row[d] = out_row[d] * inverse


@jit(parallel=True)
def attention_forward_03_threads(q_at, k_at, v_at, y_at, sizes, reach, masks, scale, lses):
    """Heads on all threads: 1.3 times rung 02 on two cores (48 heads of 64 x 32: 397 to 301 us), waking them included."""
    for head in prange(lses.shape[0]):
        attention_forward_02_tiled(q_at, k_at, v_at, y_at, sizes, reach, masks, scale, lses, np.int64(head))


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
    dy_at, y_at, q_at, k_at, v_at, dq_at, dk_at, dv_at, sizes, reach, masks, scale, lses, want, add, key_head
):  # fmt: skip
    """Register tiles, p recomputed from lse: 5 times rung 01 (48 heads of 64 x 32, causal: 3.9 to about 0.75 ms).

    One key head (0 to B * G - 1), and the query heads that read it in turn, on this thread. want, add: three flags each,
    for dq, dk, dv; what is not wanted is neither computed nor written.
    """
    H, G, T, S, D = sizes
    before, after = reach
    b, g = key_head // G, key_head % G
    keep = masks[b % masks.shape[0]]
    dy, y = carray(_pointer(dy_at[0], scale), (_UNKNOWN,)), carray(_pointer(y_at[0], scale), (_UNKNOWN,))
    q, dq = carray(_pointer(q_at[0], scale), (_UNKNOWN,)), carray(_pointer(dq_at[0], scale), (_UNKNOWN,))
    k, k0, k_t = carray(_pointer(k_at[0], scale), (_UNKNOWN,)), b * k_at[1] + g * k_at[2], k_at[3]
    v, v0, v_t = carray(_pointer(v_at[0], scale), (_UNKNOWN,)), b * v_at[1] + g * v_at[2], v_at[3]
    dk, dk0, dk_t = carray(_pointer(dk_at[0], scale), (_UNKNOWN,)), b * dk_at[1] + g * dk_at[2], dk_at[3]
    dv, dv0, dv_t = carray(_pointer(dv_at[0], scale), (_UNKNOWN,)), b * dv_at[1] + g * dv_at[2], dv_at[3]
    number = lses.dtype.type
    zero, one = number(0), number(1)
    lanes = VECTOR_BYTES // lses.itemsize
    none, unit, tile = np.int64(0), np.int64(1), np.int64(KEYS)  # not literals, for which `product` would compile anew
    W, S_padded, T_padded = -(-D // lanes) * lanes, -(-S // KEYS) * KEYS, -(-T // ROWS) * ROWS
    queries, cotangents = np.empty(T_padded * W, lses.dtype), np.empty(T_padded * W, lses.dtype)
    key_rows, value_rows = np.empty(S_padded * W, lses.dtype), np.empty(S_padded * W, lses.dtype)
    keys, values = np.empty(S_padded * W, lses.dtype), np.empty(S_padded * W, lses.dtype)
    dqueries, dkeys = np.empty(T_padded * W, lses.dtype), np.zeros(S_padded * W, lses.dtype)
    dvalues, delta = np.zeros(S_padded * W, lses.dtype), np.empty(T, lses.dtype)
    p, ds = np.empty(KEYS * KEYS, lses.dtype), np.empty(KEYS * KEYS, lses.dtype)
    every = keep[:0]
    probe = _pack_rows(k, k0, k_t, S, D, one, keep, key_rows, W, S_padded)
    probe += _pack_rows(v, v0, v_t, S, D, one, keep, value_rows, W, S_padded)
    _pack_columns(key_rows, W, S_padded, keys)
    _pack_columns(value_rows, W, S_padded, values)

    for h in range(g * (H // G), (g + 1) * (H // G)):
        lse = lses[b * H + h]
        dy0, dy_t, y0, y_t = b * dy_at[1] + h * dy_at[2], dy_at[3], b * y_at[1] + h * y_at[2], y_at[3]
        probe_h = probe + _pack_rows(q, b * q_at[1] + h * q_at[2], q_at[3], T, D, scale, every, queries, W, T_padded)
        probe_h += _pack_rows(dy, dy0, dy_t, T, D, one, every, cotangents, W, T_padded)
        step = ROWS if probe_h == zero else 1
        dqueries[:] = zero
        for i in range(T):
            dy_row, y_row = dy[dy0 + i * dy_t : dy0 + i * dy_t + D], y[y0 + i * y_t : y0 + i * y_t + D]
            total = zero
            for d in range(D):
                total += dy_row[d] * y_row[d]
            delta[i] = total

        for j0 in range(0, S, KEYS):
            width = min(KEYS, S - j0)
            first_i = max(0, j0 - after - (S - T)) // ROWS * ROWS  # the first query block that sees key j0
            stop_i = min(T, j0 + width + before - (S - T))  # behind the last query that sees a key of this tile
            for i0 in range(first_i, stop_i, KEYS):
                height = min(KEYS, stop_i - i0)
                for i in range(0, height, step):
                    rows, here = min(step, height - i), i0 + i + S - T - j0
                    low, last = max(0, here - before), min(width, here + rows + after)
                    if last <= low:  # step 1 starts before the first query that sees this tile
                        p[i * KEYS : i * KEYS + width] = zero
                        ds[i * KEYS : i * KEYS + width] = zero
                        continue
                    columns = -(-last // lanes) * lanes
                    at = (i0 + i) * W
                    product(step, D, queries, at, W, unit, keys, j0 * W, tile, p, i * KEYS, tile, columns, none)
                    product(step, D, cotangents, at, W, unit, values, j0 * W, tile, ds, i * KEYS, tile, columns, none)
                    for r in range(i, i + step):
                        first, n = 0, 0  # rows of padding
                        if r < height:
                            first = max(0, min(width, here + r - i - before))
                            n = max(0, min(width, here + r - i + 1 + after) - first)
                        if first > 0:
                            for j in range(r * KEYS, r * KEYS + first):
                                p[j] = zero
                                ds[j] = zero
                        # Rows from their first visible key on: indices from 0, so that LLVM sees no wraparound.
                        p_row, ds_row = p[r * KEYS + first : (r + 1) * KEYS], ds[r * KEYS + first : (r + 1) * KEYS]
                        if n > 0:
                            lse_r, delta_r = lse[i0 + r], delta[i0 + r]
                            exp_row(p, r * KEYS + first, p, r * KEYS + first, n, lse_r)
                            for j in range(n):
                                ds_row[j] = p_row[j] * (ds_row[j] - delta_r)
                            if keep.size:
                                for j in range(n):
                                    if not keep[j0 + first + j]:
                                        p_row[j] = zero
                                        ds_row[j] = zero
                        if n < width - first:
                            for j in range(n, width - first):
                                p_row[j] = zero
                                ds_row[j] = zero
                    if want[0]:
                        at_ds, at_k = i * KEYS + low, (j0 + low) * W
                        product(step, last - low, ds, at_ds, tile, unit, key_rows, at_k, W, dqueries, at, W, W, unit)
                for j in range(0, width, step):
                    i = max(0, j0 + j - after - (S - T) - i0)  # the first query of this block that sees key j
                    # ... and how many of them see it, or one of the keys next to it.
                    seen = min(height, j0 + j + step + before - (S - T) - i0) - i
                    if seen <= 0:
                        continue
                    at, to = (i0 + i) * W, (j0 + j) * W
                    if want[2]:
                        product(step, seen, p, i * KEYS + j, unit, tile, cotangents, at, W, dvalues, to, W, W, unit)
                    if want[1]:
                        product(step, seen, ds, i * KEYS + j, unit, tile, queries, at, W, dkeys, to, W, W, unit)
        if want[0]:
            _unpack_rows(dqueries, W, T, D, scale, every, dq, b * dq_at[1] + h * dq_at[2], dq_at[3], add[0])
    if want[1]:
        _unpack_rows(dkeys, W, S, D, one, keep, dk, dk0, dk_t, add[1])
    if want[2]:
        _unpack_rows(dvalues, W, S, D, one, keep, dv, dv0, dv_t, add[2])


@jit(parallel=True)
def attention_vjp_03_threads(
    dy_at, y_at, q_at, k_at, v_at, dq_at, dk_at, dv_at, sizes, reach, masks, scale, lses, want, add
):  # fmt: skip
    """Key heads on all threads: 1.35 times rung 02 on two cores (48 heads of 64 x 32: 1041 to 770 us), waking them included."""
    for key_head in prange(lses.shape[0] // sizes[0] * sizes[1]):
        attention_vjp_02_tiled(
            dy_at, y_at, q_at, k_at, v_at, dq_at, dk_at, dv_at, sizes, reach, masks, scale, lses, want, add,
            np.int64(key_head),
        )  # fmt: skip
