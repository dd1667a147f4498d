"""Few queries against many keys, as when a text is written token by token: a pair of matrix-vector products a head.

Each key and value is used a few times only, so nothing is packed: they are read where they lie, once for all queries of the
heads that share them, and the memory's speed is the limit. Queries of a key head: R = H // G * T.

One unit of work is a block of keys of one key head. It leaves for each query its maximum m, its sum l and its o, and these
are put together in the order of the blocks, so that the threads do not matter:

    m = max m_c;   l = sum l_c e^(m_c - m);   y = sum o_c e^(m_c - m) / l;   lse = m + log l
"""

import math

import numpy as np
from numba import prange

from .attention_core import KEYS, UNKNOWN, block_of, pointer_to
from .attention_rows import add_four_rows, dot_row, scale_row
from .exp import exp
from .jit import carray, jit
from .tile import exp_row, largest

# Letters as in attention_core.py.

FEW = 4
"""Most queries for which this is faster than to pack keys and values for register tiles."""


@jit(inner=True)
def _scores(q, q0, k, start, stride, D, n, keep, scores):
    """scores[j] = <q, k_j> for n keys, -inf for those whose keep is False: these are not read."""
    for j in range(n):
        if keep.size and not keep[j]:
            scores[j] = -np.inf
        else:
            scores[j] = dot_row(q, q0, k, start + j * stride, D)


@jit(inner=True)
def _add_values(p, v, start, stride, D, n, keep, out):
    """out += sum over j of p_j v_j, four values at a time; those whose keep is False are not read."""
    four = 0 if keep.size else n // 4 * 4
    for j in range(0, four, 4):
        add_four_rows(p, j, v, start + j * stride, stride, out, D)
    for j in range(four, n):
        if keep.size == 0 or keep[j]:
            row, p_j = v[start + j * stride : start + j * stride + D], p[j]
            for e in range(out.size):
                out[e] += p_j * row[e]


@jit(inner=True)
def _block_of_keys(q_at, k_at, v_at, sizes, reach, masks, scale, parts, unit, blocks):
    """parts[unit] (R, D + 2): o, m and l of each query of a key head, from the keys of this block alone."""
    H, G, T, S, D = sizes
    before, after = reach
    key_head = unit // blocks
    key_0, key_stop = block_of(unit % blocks, blocks, S)
    b, g = key_head // G, key_head % G
    keep = masks[b % masks.shape[0]]
    q = carray(pointer_to(q_at[0], scale), (UNKNOWN,))
    k, k0, k_t = carray(pointer_to(k_at[0], scale), (UNKNOWN,)), b * k_at[1] + g * k_at[2], k_at[3]
    v, v0, v_t = carray(pointer_to(v_at[0], scale), (UNKNOWN,)), b * v_at[1] + g * v_at[2], v_at[3]
    number = parts.dtype.type
    zero = number(0)
    R = H // G * T
    queries, scores = np.empty(R * D, parts.dtype), np.empty(KEYS, parts.dtype)
    for r in range(R):
        start = b * q_at[1] + (g * (H // G) + r // T) * q_at[2] + r % T * q_at[3]
        scale_row(q, start, queries, r * D, D, scale)
        parts[unit, r, :] = zero
        parts[unit, r, D] = -np.inf
    for j0 in range(key_0, key_stop, KEYS):
        for r in range(R):
            here = r % T + S - T
            first, stop = max(j0, here - before), min(min(j0 + KEYS, key_stop), here + 1 + after)
            n = stop - first
            if n <= 0:
                continue
            seen, out = keep[first:stop], parts[unit, r, :D]
            _scores(queries, r * D, k, k0 + first * k_t, k_t, D, n, seen, scores)
            m_old = parts[unit, r, D]
            m = largest(scores, 0, n)
            m = m_old if m_old > m else m
            shift = m if m > -np.inf else zero  # nothing visible yet: e^(-inf - 0) = 0, and NaN stays NaN
            total, correction = exp_row(scores, 0, scores, 0, n, shift), exp(m_old - shift)
            for d in range(D):
                out[d] *= correction
            _add_values(scores, v, v0 + first * v_t, v_t, D, n, seen, out)
            parts[unit, r, D] = m
            parts[unit, r, D + 1] = parts[unit, r, D + 1] * correction + total


@jit(inner=True)
def _put_together(y_at, sizes, scale, lses, parts, blocks):
    """y and lse from all blocks of keys."""
    H, G, T, _, D = sizes
    number = lses.dtype.type
    zero, one = number(0), number(1)
    y = carray(pointer_to(y_at[0], scale), (UNKNOWN,))
    for head in range(lses.shape[0]):
        b, h = head // H, head % H
        first = (b * G + h // (H // G)) * blocks
        for t in range(T):
            r = h % (H // G) * T + t
            m = number(-np.inf)
            for c in range(first, first + blocks):
                m = max(m, parts[c, r, D])
            shift = m if m > -np.inf else zero
            start = b * y_at[1] + h * y_at[2] + t * y_at[3]
            out, total = y[start : start + D], zero
            out[:] = zero
            for c in range(first, first + blocks):
                part, factor = parts[c, r], exp(parts[c, r, D] - shift)
                total += part[D + 1] * factor
                for d in range(D):
                    out[d] += part[d] * factor
            inverse = zero if total == zero else one / total
            for d in range(D):
                out[d] *= inverse
            lses[head, t] = np.inf if total == zero else m + number(math.log(total))


@jit()
def attention_forward_few_queries(q_at, k_at, v_at, y_at, sizes, reach, masks, scale, lses, parts, blocks):
    """Keys and values as they lie, once: FEW_SERIAL"""
    for unit in range(parts.shape[0]):
        _block_of_keys(q_at, k_at, v_at, sizes, reach, masks, scale, parts, unit, blocks)
    _put_together(y_at, sizes, scale, lses, parts, blocks)


@jit(parallel=True)
def attention_forward_few_queries_threads(q_at, k_at, v_at, y_at, sizes, reach, masks, scale, lses, parts, blocks):
    """Heads, and blocks of keys where heads are few, on all threads: FEW_THREADS"""
    for unit in prange(parts.shape[0]):
        _block_of_keys(q_at, k_at, v_at, sizes, reach, masks, scale, parts, np.int64(unit), blocks)
    _put_together(y_at, sizes, scale, lses, parts, blocks)
