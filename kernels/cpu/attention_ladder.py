"""The lower rungs of attention's ladder: what lies between the textbook and the kernel of attention_core.py.

    01_naive      a score at a time: a dot product that waits for itself, the library's exp
    02_rows       the same loops over rows that lie in lines: vector lanes along head_dim, and along the keys for exp
    03_products   matrix products of whole heads, softmax by rows between them: what a composition of operations does. It
                  keeps the scores of all heads, N x T x S numbers, and computes those that the order hides
    04_tiles      tiles of queries by keys, softmax as it goes: nothing of size T x S, and what a tile needs is in the cache
    05_registers  a tile's products in registers, of rows packed once a head (attention_core.py)
    06_threads    heads, or blocks of one, on all threads: production

q, y, dy, dq (N, T, D) and k, v, dk, dv (N, S, D), contiguous, N heads of all batch entries; lse (N, T). Query i sees the keys
up to i + S - T where causal; no mask, window or groups, which are production's.
"""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from .attention_core import KEYS
from .attention_rows import add_row, dot_row
from .exp import exp
from .jit import CONTRACT, REDUCE, frozen, jit


@jit(inner=True)
def visible(i, T, S, causal):
    """How many keys query i sees, from the first on."""
    return max(0, min(S, i + 1 + S - T)) if causal else S


@jit()
def attention_forward_01_naive(q, k, v, y, lse, scale, causal):
    """The textbook with a whole row of scores; q, y (N, T, D), k, v (N, S, D), lse (N, T). The rung to measure from."""
    N, T, D = q.shape
    S = k.shape[1]
    scores = np.empty(S, q.dtype)
    for n in range(N):
        for i in range(T):
            visible = max(0, min(S, i + 1 + S - T)) if causal else S
            m = q.dtype.type(-np.inf)
            for j in range(visible):
                total = q.dtype.type(0)
                for d in range(D):
                    total += q[n, i, d] * k[n, j, d]
                scores[j] = total * scale
                m = max(m, scores[j])
            total = q.dtype.type(0)
            for j in range(visible):
                scores[j] = math.exp(scores[j] - m)
                total += scores[j]
            lse[n, i] = m + math.log(total) if visible else np.inf
            for d in range(D):
                y[n, i, d] = 0
            for j in range(visible):
                for d in range(D):
                    y[n, i, d] += scores[j] / total * v[n, j, d]


@jit()
def attention_vjp_01_naive(dy, y, q, k, v, lse, dq, dk, dv, scale, causal):
    """The textbook, one score at a time; shapes as forward_01. dq, dk, dv are overwritten. The rung to measure from."""
    N, T, D = q.shape
    S = k.shape[1]
    dq[:] = 0
    dk[:] = 0
    dv[:] = 0
    for n in range(N):
        for i in range(T):
            delta = q.dtype.type(0)
            for d in range(D):
                delta += dy[n, i, d] * y[n, i, d]
            for j in range(max(0, min(S, i + 1 + S - T)) if causal else S):
                s, dp = q.dtype.type(0), q.dtype.type(0)
                for d in range(D):
                    s += q[n, i, d] * k[n, j, d]
                    dp += dy[n, i, d] * v[n, j, d]
                p = math.exp(s * scale - lse[n, i])
                ds = p * (dp - delta) * scale
                for d in range(D):
                    dv[n, j, d] += p * dy[n, i, d]
                    dq[n, i, d] += ds * k[n, j, d]
                    dk[n, j, d] += ds * q[n, i, d]


@jit(fastmath=REDUCE)
def attention_forward_02_rows(q, k, v, y, lse, scale, causal):
    """Sums over head_dim in vector lanes, exp as a polynomial in lanes, y as a sum of rows: 1.9 times rung 01
    (12 x 4 x 64 x 32 causal, float32, one thread: 1.41 to 0.75 ms).
    """
    N, T, D = q.shape
    S = k.shape[1]
    scores = np.empty(S, q.dtype)
    zero, one = q.dtype.type(0), q.dtype.type(1)
    for n in range(N):
        for i in range(T):
            row, q_row, y_row = scores[: visible(i, T, S, causal)], q[n, i], y[n, i]
            m = q.dtype.type(-np.inf)
            for j in range(row.size):
                row[j] = dot_row(q_row, 0, k[n, j], 0, D) * scale
                m = max(m, row[j])
            for j in range(row.size):
                row[j] = exp(row[j] - m)
            total = zero
            for j in range(row.size):
                total += row[j]
            lse[n, i] = m + math.log(total) if row.size else np.inf
            inverse = one / total
            y_row[:] = zero
            for j in range(row.size):
                add_row(row[j] * inverse, v[n, j], 0, y_row, 0, D)


@jit(fastmath=REDUCE)
def attention_vjp_02_rows(dy, y, q, k, v, lse, dq, dk, dv, scale, causal):
    """All sums and updates in vector lanes: 2.3 times rung 01 (12 x 4 x 64 x 32 causal, float32: 2.5 to 1.1 ms)."""
    N, T, D = q.shape
    S = k.shape[1]
    zero = q.dtype.type(0)
    p, ds = np.empty(S, q.dtype), np.empty(S, q.dtype)
    dq[:] = zero
    dk[:] = zero
    dv[:] = zero
    for n in range(N):
        for i in range(T):
            q_row, dy_row, y_row, dq_row = q[n, i], dy[n, i], y[n, i], dq[n, i]
            delta = dot_row(dy_row, 0, y_row, 0, D)
            seen = visible(i, T, S, causal)
            p_row, ds_row = p[:seen], ds[:seen]
            for j in range(seen):
                p_row[j] = dot_row(q_row, 0, k[n, j], 0, D) * scale
                ds_row[j] = dot_row(dy_row, 0, v[n, j], 0, D) - delta
            for j in range(p_row.size):  # apart from the product, which must be rounded as it was for lse
                p_row[j] = exp(p_row[j] - lse[n, i])
            for j in range(p_row.size):
                ds_row[j] *= p_row[j] * scale
            for j in range(seen):
                add_row(p_row[j], dy_row, 0, dv[n, j], 0, D)
                add_row(ds_row[j], k[n, j], 0, dq_row, 0, D)
                add_row(ds_row[j], q_row, 0, dk[n, j], 0, D)


@jit(fastmath=CONTRACT)
def _softmax_rows(scores, lse, scale, causal):
    """p in the place of the scores (N, T, S), zeros where the order hides; lse (N, T)."""
    N, T, S = scores.shape
    zero = scores.dtype.type(0)
    for n in range(N):
        for i in range(T):
            seen = visible(i, T, S, causal)
            row, hidden = scores[n, i, :seen], scores[n, i, seen:]
            m, total = scores.dtype.type(-np.inf), zero
            for j in range(row.size):
                row[j] *= scale
            for j in range(row.size):
                m = max(m, row[j])
            for j in range(row.size):
                row[j] = exp(row[j] - m)
            for j in range(row.size):
                total += row[j]
            for j in range(row.size):
                row[j] /= total
            hidden[:] = zero
            lse[n, i] = m + math.log(total) if seen else np.inf


def attention_forward_03_products(q, k, v, y, lse, scale, causal):
    """Matrix products of NumPy for whole heads, and N x T x S numbers of memory between them: 2.2 times rung 02, with BLAS's
    threads (0.75 to 0.34 ms).
    """
    scores = np.matmul(q, k.swapaxes(1, 2))  # (N, T, S)
    _softmax_rows(scores, lse, scale, causal)
    np.matmul(scores, v, out=y)


@jit(fastmath=CONTRACT)
def _softmax_rows_back(p, dp, lse, delta, scale, causal):
    """From scores and dy v^T (N, T, S): p and ds in their places, zeros where the order hides."""
    N, T, S = p.shape
    zero = p.dtype.type(0)
    for n in range(N):
        for i in range(T):
            seen, lse_i, delta_i = visible(i, T, S, causal), lse[n, i], delta[n, i]
            row, d_row = p[n, i, :seen], dp[n, i, :seen]
            for j in range(row.size):
                row[j] *= scale
            for j in range(row.size):  # apart from the product, which must be rounded as it was for lse
                row[j] = exp(row[j] - lse_i)
            for j in range(row.size):
                d_row[j] = row[j] * (d_row[j] - delta_i) * scale
            p[n, i, seen:] = zero
            dp[n, i, seen:] = zero


def attention_vjp_03_products(dy, y, q, k, v, lse, dq, dk, dv, scale, causal):
    """Five matrix products of NumPy, and twice N x T x S numbers of memory: 1.9 times rung 02, with BLAS's threads (1.1 to
    0.58 ms).
    """
    p, ds = np.matmul(q, k.swapaxes(1, 2)), np.matmul(dy, v.swapaxes(1, 2))  # (N, T, S)
    _softmax_rows_back(p, ds, lse, (dy * y).sum(-1), scale, causal)
    np.matmul(p.swapaxes(1, 2), dy, out=dv)
    np.matmul(ds, k, out=dq)
    np.matmul(ds.swapaxes(1, 2), q, out=dk)


@jit(fastmath=REDUCE)
def attention_forward_04_tiles(q, k, v, y, lse, scale, causal):
    """Tiles of KEYS queries by KEYS keys with online softmax (Milakov and Gimelshein, 2018; Dao et al., 2022): it buys memory,
    not time, while dot products are made one by one (0.82 ms; rung 02 takes 0.75).
    """
    N, T, D = q.shape
    S = k.shape[1]
    zero, one, lowest = q.dtype.type(0), q.dtype.type(1), q.dtype.type(-np.inf)
    scores, maxima, totals = np.empty(KEYS, q.dtype), np.empty(KEYS, q.dtype), np.empty(KEYS, q.dtype)
    for n in range(N):
        for i0 in range(0, T, KEYS):
            i1 = min(T, i0 + KEYS)
            y[n, i0:i1] = zero
            maxima[:] = lowest
            totals[:] = zero
            for j0 in range(0, visible(i1 - 1, T, S, causal), KEYS):
                for i in range(i0, i1):
                    row = scores[: max(0, min(KEYS, visible(i, T, S, causal) - j0))]
                    q_row, y_row, m_old = q[n, i], y[n, i], maxima[i - i0]
                    m = m_old
                    for j in range(row.size):
                        row[j] = dot_row(q_row, 0, k[n, j0 + j], 0, D) * scale
                        m = max(m, row[j])
                    if row.size == 0:
                        continue
                    for j in range(row.size):
                        row[j] = exp(row[j] - m)
                    correction, total = exp(m_old - m), zero
                    for j in range(row.size):
                        total += row[j]
                    for d in range(D):
                        y_row[d] *= correction
                    for j in range(row.size):
                        add_row(row[j], v[n, j0 + j], 0, y_row, 0, D)
                    maxima[i - i0], totals[i - i0] = m, totals[i - i0] * correction + total
            for i in range(i0, i1):
                total = totals[i - i0]
                lse[n, i] = np.inf if total == zero else maxima[i - i0] + math.log(total)
                inverse, y_row = zero if total == zero else one / total, y[n, i]
                for d in range(D):
                    y_row[d] *= inverse


@jit(fastmath=REDUCE)
def attention_vjp_04_tiles(dy, y, q, k, v, lse, dq, dk, dv, scale, causal):
    """Tiles of KEYS queries by KEYS keys, so that rows of k, v, dk and dv are in the cache for all queries of a tile: at a
    length of 64 it buys nothing yet (1.4 ms; rung 02 takes 1.1).
    """
    N, T, D = q.shape
    S = k.shape[1]
    zero = q.dtype.type(0)
    p, ds, delta = np.empty(KEYS, q.dtype), np.empty(KEYS, q.dtype), np.empty(T, q.dtype)
    dq[:] = zero
    dk[:] = zero
    dv[:] = zero
    for n in range(N):
        for i in range(T):
            delta[i] = dot_row(dy[n, i], 0, y[n, i], 0, D)
        for j0 in range(0, S, KEYS):
            for i in range(max(0, j0 - (S - T)) if causal else 0, T):
                q_row, dy_row, dq_row, delta_i, lse_i = q[n, i], dy[n, i], dq[n, i], delta[i], lse[n, i]
                seen = max(0, min(KEYS, visible(i, T, S, causal) - j0))
                p_row, ds_row = p[:seen], ds[:seen]
                for j in range(seen):
                    p_row[j] = dot_row(q_row, 0, k[n, j0 + j], 0, D) * scale
                    ds_row[j] = dot_row(dy_row, 0, v[n, j0 + j], 0, D) - delta_i
                for j in range(p_row.size):  # apart from the product, which must be rounded as it was for lse
                    p_row[j] = exp(p_row[j] - lse_i)
                for j in range(p_row.size):
                    ds_row[j] *= p_row[j] * scale
                for j in range(seen):
                    add_row(p_row[j], dy_row, 0, dv[n, j0 + j], 0, D)
                    add_row(ds_row[j], k[n, j0 + j], 0, dq_row, 0, D)
                    add_row(ds_row[j], q_row, 0, dk[n, j0 + j], 0, D)


def pair(
    loops: Callable[..., None], loops_back: Callable[..., None], shapes_fit: Callable[..., bool]
) -> SimpleNamespace:
    """forward, vjp and accepts of two of these rungs; vjp takes no offer of `into`. shapes_fit: production's accepts."""

    def accepts(
        q: Any, k: Any, v: Any, mask: Any = None, bias: Any = None, *,
        causal: bool = False, scale: float | None = None, window: int | None = None, grouped: bool = False,
    ) -> bool:  # fmt: skip
        return mask is None and window is None and not grouped and shapes_fit(q, k, v, mask, bias)

    def forward(
        q: np.ndarray, k: np.ndarray, v: np.ndarray, *nothing: None,
        causal: bool = False, scale: float | None = None, window: None = None, grouped: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """y of q, k, v, with no mask, bias, window or groups. residual: lse (N, T)."""
        (T, D), S = q.shape[-2:], k.shape[-2]
        N = math.prod(q.shape[:-2])
        y, lse = np.empty(q.shape, q.dtype), np.empty((N, T), q.dtype)
        factor = q.dtype.type(1 / math.sqrt(D) if scale is None else scale)
        three = frozen(q).reshape(N, T, D), frozen(k).reshape(N, S, D), frozen(v).reshape(N, S, D)
        loops(*three, y.reshape(N, T, D), lse, factor, causal)
        return y, lse

    def vjp(
        dy: np.ndarray, y: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, *nothing: None,
        residuals: np.ndarray, wanted: Any, into: Any, causal: bool = False, scale: float | None = None,
        window: None = None, grouped: bool = False,
    ) -> tuple:  # fmt: skip
        """(dq, dk, dv), all computed, those given that are wanted."""
        (T, D), S = q.shape[-2:], k.shape[-2]
        N = math.prod(q.shape[:-2])
        factor = q.dtype.type(1 / math.sqrt(D) if scale is None else scale)
        queries = [frozen(a).reshape(N, T, D) for a in (dy, y, q)]
        keys = [frozen(a).reshape(N, S, D) for a in (k, v)]
        gradients = [np.empty(a.shape, a.dtype) for a in (q, k, v)]
        flat = [g.reshape(N, n, D) for g, n in zip(gradients, (T, S, S), strict=True)]
        loops_back(*queries, *keys, residuals, *flat, factor, causal)
        return (*(g if w else None for g, w in zip(gradients, wanted, strict=False)), *nothing)

    return SimpleNamespace(forward=forward, vjp=vjp, accepts=accepts)


def ladder(shapes_fit: Callable[..., bool]) -> dict[str, SimpleNamespace]:
    """These rungs as pairs by name."""
    return {
        "numba 01_naive": pair(attention_forward_01_naive, attention_vjp_01_naive, shapes_fit),
        "numba 02_rows": pair(attention_forward_02_rows, attention_vjp_02_rows, shapes_fit),
        "numba 03_products": pair(attention_forward_03_products, attention_vjp_03_products, shapes_fit),
        "numba 04_tiles": pair(attention_forward_04_tiles, attention_vjp_04_tiles, shapes_fit),
    }
