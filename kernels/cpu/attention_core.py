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

from .attention_rows import scale_row
from .exp import exp
from .jit import REDUCE, carray, intrinsic, jit
from .tile import ROWS, exp_row, lanes_of, largest, product, transpose

# Letters: H query heads, G key heads (query head h reads key head h // (H // G)), T queries, S keys, D head_dim, W = D
# padded to whole vectors.
KEYS = 64  # keys in one tile: a multiple of every vector length and of ROWS
UNKNOWN = 1 << 40  # length of an array known by address only


@intrinsic
def pointer_to(typingctx: Any, address: Any, like: Any) -> Any:
    """The integer address as a pointer to numbers of like's type."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target = ir.FloatType() if like == types.float32 else ir.DoubleType()
        return builder.inttoptr(arguments[0], target.as_pointer())

    return types.CPointer(like)(address, like), generate


@jit(inner=True)
def pack_rows(source, start, stride, rows, D, scale, keep, packed, W):
    """packed (., W) = scale * rows of D numbers; packed comes as zeros, and a row whose keep is False stays that.

    An empty keep keeps all.
    """
    for i in range(rows):
        if keep.size == 0 or keep[i]:
            scale_row(source, start + i * stride, packed, i * W, D, scale)


@jit(fastmath=REDUCE, inner=True)
def finite(packed):
    """0 if every number is finite, NaN otherwise."""
    zero = packed.dtype.type(0)
    probe = zero
    for i in range(packed.size):
        probe += packed[i] * zero
    return probe


@jit(inner=True)
def pack_columns(rows, W, padded_rows, columns):
    """columns[tile, d, j] = rows[tile * KEYS + j, d]: keys as the columns that a product's right side wants."""
    lanes = lanes_of(rows)
    for j in range(0, padded_rows, lanes):
        for d in range(0, W, lanes):
            transpose(rows, j * W + d, W, columns, j // KEYS * KEYS * W + d * KEYS + j % KEYS, KEYS)


@jit(inner=True)
def block_of(index, blocks, length):
    """(first, stop) of block `index` of a sequence in `blocks` parts of whole ROWS. Taken from both ends in turn: in causal
    attention two neighbours together have what two others have, so that threads with as many of them are done together.
    """
    part = index // 2 if index % 2 == 0 else blocks - 1 - index // 2
    stop = length if part == blocks - 1 else length * (part + 1) // blocks // KEYS * KEYS
    return length * part // blocks // KEYS * KEYS, stop


@jit(fastmath=REDUCE)
def attention_forward_05_registers(q_at, k_at, v_at, y_at, sizes, reach, masks, scale, lses, unit, blocks):
    """Products in register tiles, of rows packed once a head: 3.0 times rung 04 (12 x 4 x 64 x 32 causal, float32:
    0.82 to 0.27 ms).

    Unit: a block of queries of one head, on this thread; there are B * H * blocks of them. lses (B * H, T); masks
    (B or 1, S) of bool, or (1, 0) for none; reach: (before, after).
    """
    H, G, T, S, D = sizes
    before, after = reach
    head = unit // blocks
    i_first, i_stop = block_of(unit % blocks, blocks, T)
    b, h = head // H, head % H
    g = h // (H // G)
    lse, keep = lses[head], masks[b % masks.shape[0]]
    q, q0, q_t = carray(pointer_to(q_at[0], scale), (UNKNOWN,)), b * q_at[1] + h * q_at[2], q_at[3]
    k, k0, k_t = carray(pointer_to(k_at[0], scale), (UNKNOWN,)), b * k_at[1] + g * k_at[2], k_at[3]
    v, v0, v_t = carray(pointer_to(v_at[0], scale), (UNKNOWN,)), b * v_at[1] + g * v_at[2], v_at[3]
    y, y0, y_t = carray(pointer_to(y_at[0], scale), (UNKNOWN,)), b * y_at[1] + h * y_at[2], y_at[3]
    number = lse.dtype.type
    zero, one, infinity = number(0), number(1), number(np.inf)
    lanes = lanes_of(lse)
    none, single, tile = (
        np.int64(0),
        np.int64(1),
        np.int64(KEYS),
    )  # not literals, for which `product` would compile anew
    key_0 = max(0, i_first + S - T - before) // KEYS * KEYS  # the tile of the first key that a query of this block sees
    n_keys = max(0, min(S, i_stop + S - T + after) - key_0)
    W, padded = (D + lanes - 1) // lanes * lanes, (n_keys + KEYS - 1) // KEYS * KEYS
    rows = i_stop - i_first
    queries, values = np.zeros((rows + ROWS - 1) // ROWS * ROWS * W, lse.dtype), np.zeros(padded * W, lse.dtype)
    key_rows, keys = np.zeros(padded * W, lse.dtype), np.empty(padded * W, lse.dtype)
    every = keep[:0]
    pack_rows(q, q0 + i_first * q_t, q_t, rows, D, scale, every, queries, W)
    pack_rows(k, k0 + key_0 * k_t, k_t, n_keys, D, one, keep[key_0:], key_rows, W)
    pack_rows(v, v0 + key_0 * v_t, v_t, n_keys, D, one, keep[key_0:], values, W)
    pack_columns(key_rows, W, padded, keys)
    probe = finite(queries) + finite(key_rows) + finite(values)
    step = ROWS if probe == zero and T > 2 else 1

    scores, out = np.empty(ROWS * KEYS, lse.dtype), np.empty(ROWS * W, lse.dtype)
    maxima, totals = np.empty(ROWS, lse.dtype), np.empty(ROWS, lse.dtype)
    for i0 in range(i_first, i_stop, step):
        rows = min(step, i_stop - i0)
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
            columns = (width + lanes - 1) // lanes * lanes
            at = (i0 - i_first) * W
            product(step, D, queries, at, W, single, keys, (j0 - key_0) * W, tile, scores, none, tile, columns, none)
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
            at = (j0 - key_0 + low) * W
            product(step, width - low, scores, low, tile, single, values, at, W, out, none, W, W, add)  # p v
        for r in range(rows):
            total = totals[r]
            inverse = zero if total == zero else one / total
            lse[i0 + r] = infinity if total == zero else maxima[r] + number(math.log(total))
            scale_row(out, r * W, y, y0 + (i0 + r) * y_t, D, inverse)


@jit(parallel=True)
def attention_forward_06_threads(q_at, k_at, v_at, y_at, sizes, reach, masks, scale, lses, blocks):
    """Heads, and blocks of queries where heads are few, on all threads: 1.9 times rung 05 on two cores."""
    for unit in prange(lses.shape[0] * blocks):
        attention_forward_05_registers(
            q_at, k_at, v_at, y_at, sizes, reach, masks, scale, lses, np.int64(unit), blocks
        )  # fmt: skip
