"""The way back of the core in attention_core.py: gradients of a block of keys at a time, p recomputed from lse.

One unit of work is a block of keys of one key head with all query heads that read it: nobody else adds to its dk and dv, in
whatever order units run. Where key heads are many a block is all keys, and dq is the unit's own too. Where they are few each
unit leaves its part of dq beside the others', blocks x T x D numbers, and the parts are added in the order of the blocks.

    p = e^(s - lse);  ds = p (dy v^T - delta), delta = <dy, y>;  dv += p^T dy;  dk += ds^T q;  dq += ds k
"""

import numpy as np
from numba import prange

from .attention_core import KEYS, UNKNOWN, block_of, finite, pack_columns, pack_rows, pointer_to
from .attention_rows import scale_row, softmax_row_back
from .jit import REDUCE, carray, jit
from .tile import ROWS, lanes_of, product

# Letters as in attention_core.py.


@jit(inner=True)
def _unpack_rows(packed, W, rows, D, scale, keep, target, start, stride, add):
    """Rows of target (+)= scale * packed; nothing (0) for a row whose keep is False."""
    for i in range(rows):
        out = target[start + i * stride : start + i * stride + D]
        if keep.size and not keep[i]:
            if not add:
                out[:] = packed.dtype.type(0)
        elif add:
            row = packed[i * W : i * W + D]
            for d in range(D):
                out[d] += row[d] * scale
        else:
            scale_row(packed, i * W, target, start + i * stride, D, scale)


@jit(fastmath=REDUCE)
def attention_vjp_05_registers(
    dy_at, y_at, q_at, k_at, v_at, dq_at, dk_at, dv_at, sizes, reach, masks, scale, lses, want, add, parts, unit, blocks
):  # fmt: skip
    """Products in register tiles, of rows packed once a head: 2.7 times rung 04 (12 x 4 x 64 x 32 causal, float32:
    1.4 to 0.52 ms).

    Unit: a block of keys of one key head, and the query heads that read it in turn, on this thread; there are B * G * blocks
    of them. want, add: three flags each, for dq, dk, dv; what is not wanted is neither computed nor written. parts
    (B * G * blocks, H // G, .): dq of a unit where there are several blocks.
    """
    H, G, T, S, D = sizes
    before, after = reach
    key_head = unit // blocks
    key_0, key_stop = block_of(unit % blocks, blocks, S)
    b, g = key_head // G, key_head % G
    n_keys, keep = key_stop - key_0, masks[b % masks.shape[0]][key_0:]
    dy, y = carray(pointer_to(dy_at[0], scale), (UNKNOWN,)), carray(pointer_to(y_at[0], scale), (UNKNOWN,))
    q, dq = carray(pointer_to(q_at[0], scale), (UNKNOWN,)), carray(pointer_to(dq_at[0], scale), (UNKNOWN,))
    k, k0, k_t = carray(pointer_to(k_at[0], scale), (UNKNOWN,)), b * k_at[1] + g * k_at[2], k_at[3]
    v, v0, v_t = carray(pointer_to(v_at[0], scale), (UNKNOWN,)), b * v_at[1] + g * v_at[2], v_at[3]
    dk, dk0, dk_t = carray(pointer_to(dk_at[0], scale), (UNKNOWN,)), b * dk_at[1] + g * dk_at[2], dk_at[3]
    dv, dv0, dv_t = carray(pointer_to(dv_at[0], scale), (UNKNOWN,)), b * dv_at[1] + g * dv_at[2], dv_at[3]
    number = lses.dtype.type
    zero, one = number(0), number(1)
    lanes = lanes_of(lses)
    none, single, tile = (
        np.int64(0),
        np.int64(1),
        np.int64(KEYS),
    )  # not literals, for which `product` would compile anew
    W, padded = (D + lanes - 1) // lanes * lanes, (n_keys + KEYS - 1) // KEYS * KEYS
    i_low = max(0, key_0 - after - (S - T)) // ROWS * ROWS  # the first query block that sees a key of ours
    n_rows = max(0, min(T, key_stop + before - (S - T)) - i_low)
    room = (n_rows + ROWS - 1) // ROWS * ROWS * W
    queries, cotangents = np.zeros(room, lses.dtype), np.zeros(room, lses.dtype)
    key_rows, value_rows = np.zeros(padded * W, lses.dtype), np.zeros(padded * W, lses.dtype)
    keys, values = np.empty(padded * W, lses.dtype), np.empty(padded * W, lses.dtype)
    dkeys, dvalues = np.zeros(padded * W, lses.dtype), np.zeros(padded * W, lses.dtype)
    own = np.empty((T + ROWS - 1) // ROWS * ROWS * W if blocks == 1 else 0, lses.dtype)
    p, ds, delta = np.empty(KEYS * KEYS, lses.dtype), np.empty(KEYS * KEYS, lses.dtype), np.empty(n_rows, lses.dtype)
    every = keep[:0]
    pack_rows(k, k0 + key_0 * k_t, k_t, n_keys, D, one, keep, key_rows, W)
    pack_rows(v, v0 + key_0 * v_t, v_t, n_keys, D, one, keep, value_rows, W)
    pack_columns(key_rows, W, padded, keys)
    pack_columns(value_rows, W, padded, values)
    probe = finite(key_rows) + finite(value_rows)

    for h in range(g * (H // G), (g + 1) * (H // G)):
        lse = lses[b * H + h]
        dqueries = own if blocks == 1 else parts[unit, h - g * (H // G)]
        dqueries[:] = zero
        q0, q_t = b * q_at[1] + h * q_at[2], q_at[3]
        dy0, dy_t, y0, y_t = b * dy_at[1] + h * dy_at[2], dy_at[3], b * y_at[1] + h * y_at[2], y_at[3]
        pack_rows(q, q0 + i_low * q_t, q_t, n_rows, D, scale, every, queries, W)
        pack_rows(dy, dy0 + i_low * dy_t, dy_t, n_rows, D, one, every, cotangents, W)
        step = ROWS if probe + finite(queries) + finite(cotangents) == zero else 1
        for i in range(n_rows):
            dy_i, y_i = dy0 + (i_low + i) * dy_t, y0 + (i_low + i) * y_t
            dy_row, y_row = dy[dy_i : dy_i + D], y[y_i : y_i + D]
            total = zero
            for d in range(D):
                total += dy_row[d] * y_row[d]
            delta[i] = total

        for j0 in range(key_0, key_stop, KEYS):
            width = min(KEYS, key_stop - j0)
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
                    columns = (last + lanes - 1) // lanes * lanes
                    at, at_j, to = (i0 + i - i_low) * W, (j0 - key_0) * W, i * KEYS
                    product(step, D, queries, at, W, single, keys, at_j, tile, p, to, tile, columns, none)
                    product(step, D, cotangents, at, W, single, values, at_j, tile, ds, to, tile, columns, none)
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
                            softmax_row_back(p, ds, r * KEYS + first, n, lse[i0 + r], delta[i0 + r - i_low])
                            if keep.size:
                                for j in range(n):
                                    if not keep[j0 - key_0 + first + j]:
                                        p_row[j] = zero
                                        ds_row[j] = zero
                        if n < width - first:
                            for j in range(n, width - first):
                                p_row[j] = zero
                                ds_row[j] = zero
                    if want[0]:
                        at_ds, at_k, at_i = i * KEYS + low, (j0 - key_0 + low) * W, (i0 + i) * W
                        product(
                            step, last - low, ds, at_ds, tile, single, key_rows, at_k, W, dqueries, at_i, W, W, single
                        )
                for j in range(0, width, step):
                    i = max(0, j0 + j - after - (S - T) - i0)  # the first query of this block that sees key j
                    # ... and how many of them see it, or one of the keys next to it.
                    seen = min(height, j0 + j + step + before - (S - T) - i0) - i
                    if seen <= 0:
                        continue
                    at, at_p, to = (i0 + i - i_low) * W, i * KEYS + j, (j0 - key_0 + j) * W
                    if want[2]:
                        product(step, seen, p, at_p, single, tile, cotangents, at, W, dvalues, to, W, W, single)
                    if want[1]:
                        product(step, seen, ds, at_p, single, tile, queries, at, W, dkeys, to, W, W, single)
        if want[0] and blocks == 1:
            _unpack_rows(dqueries, W, T, D, scale, every, dq, b * dq_at[1] + h * dq_at[2], dq_at[3], add[0])
    if want[1]:
        _unpack_rows(dkeys, W, n_keys, D, one, keep, dk, dk0 + key_0 * dk_t, dk_t, add[1])
    if want[2]:
        _unpack_rows(dvalues, W, n_keys, D, one, keep, dv, dv0 + key_0 * dv_t, dv_t, add[2])


@jit(inner=True)
def _add_parts(dq_at, sizes, scale, parts, add, unit, blocks, every):
    """dq of a share of one head's queries: the parts of all blocks of keys, in their order."""
    H, G, T, _, D = sizes
    head = unit // blocks
    b, h = head // H, head % H
    first, index, W = (b * G + h // (H // G)) * blocks, h % (H // G), parts.shape[2] // ((T + ROWS - 1) // ROWS * ROWS)
    i_first, i_stop = T * (unit % blocks) // blocks, T * (unit % blocks + 1) // blocks
    total = parts[first, index, i_first * W : i_stop * W]
    for c in range(1, blocks):
        part = parts[first + c, index, i_first * W : i_stop * W]
        for e in range(total.size):
            total[e] += part[e]
    dq = carray(pointer_to(dq_at[0], scale), (UNKNOWN,))
    start = b * dq_at[1] + h * dq_at[2] + i_first * dq_at[3]
    _unpack_rows(total, W, i_stop - i_first, D, scale, every, dq, start, dq_at[3], add[0])


@jit(parallel=True)
def attention_vjp_06_threads(
    dy_at, y_at, q_at, k_at, v_at, dq_at, dk_at, dv_at, sizes, reach, masks, scale, lses, want, add, parts, blocks
):  # fmt: skip
    """Key heads, and blocks of keys where heads are few, on all threads: 1.8 times rung 05 on two cores."""
    for unit in prange(lses.shape[0] // sizes[0] * sizes[1] * blocks):
        attention_vjp_05_registers(
            dy_at, y_at, q_at, k_at, v_at, dq_at, dk_at, dv_at, sizes, reach, masks, scale, lses, want, add, parts,
            np.int64(unit), blocks,
        )  # fmt: skip
    if want[0] and blocks > 1:
        for unit in prange(lses.shape[0] * blocks):
            _add_parts(dq_at, sizes, scale, parts, add, np.int64(unit), blocks, masks[0, :0])
