"""The walk of an LSTM through time on packed weights: rung 04 of the ladder in lstm.py.

OpenBLAS multiplies the few rows of one step, (20, 256) by (256, 1024), at half the speed of a large product: it packs the
same U anew at every step. Here U is packed once a sequence, and the hidden units are dealt out to the threads in blocks of
W (two vectors): a thread computes all four gates of its units and at once what follows from them. So its share of U stays
in its own cache for the whole sequence, and a step is one parallel region.

    panels   (4, N, H, W)   U by gates and blocks of units: W columns that lie together
    gates    (T, N, 4, B, W)  i, f, g, o of the steps, in the order of the walk; the residual
    cells    (T + 1, N, B, W) c in front of each step, and after the last
Backwards dh of a block is da (B, 4H) by its columns of U^T, packed likewise (1, N, 4H, W); then its units' da of the step.

A sequence that rests (it has ended, or in reverse has not begun) has the gates i = g = o = 0 and f = 1: so c and dc go by
unchanged, y and da are zero. Every sum over k is one chain of multiply-adds, whatever the threads: the same bits always.
T: steps, B: sequences, H: hidden units, N: blocks of units, W: units of a block; columns behind H are zero.
"""

from typing import Any

import numpy as np
from numba import prange

from .exp import exp, tanh
from .jit import CONTRACT, frozen, jit
from .tile import ROWS, VECTOR_BYTES, make_tile, never_inline

_tile_block, _tile_half, _tile_row = make_tile(ROWS, 2), make_tile(ROWS // 2, 2), make_tile(1, 2)


@jit(inner=True)
def _block_product(rows, K, a, a0, a_i, b, b0, b_k, c, c0, c_i, add):
    """C[rows, W] (+)= A B, rows of a packed panel; offsets and strides as in make_tile."""
    never_inline()
    i = 0
    while i + ROWS <= rows:
        _tile_block(K, a, a0 + i * a_i, a_i, 1, b, b0, b_k, c, c0 + i * c_i, c_i, add)
        i += ROWS
    while i + ROWS // 2 <= rows:
        _tile_half(K, a, a0 + i * a_i, a_i, 1, b, b0, b_k, c, c0 + i * c_i, c_i, add)
        i += ROWS // 2
    while i < rows:
        _tile_row(K, a, a0 + i * a_i, a_i, 1, b, b0, b_k, c, c0 + i * c_i, c_i, add)
        i += 1


@jit(parallel=True)
def pack(matrix, panels):
    """panels[g, n, k, j] = matrix[k, g C + n W + j], zero behind column C of each part g. matrix (K, G C) of any layout.

    Eight rows at a time: whichever way the matrix lies, a line of the cache that was fetched is used up.
    """
    G, N, K, W = panels.shape
    C = matrix.shape[1] // G
    for index in prange(G * N):
        g, n = np.int64(index) // N, np.int64(index) % N
        panel, first, count = panels[g, n], g * C + n * W, min(W, C - n * W)
        for k0 in range(0, K, 8):
            last = min(K, k0 + 8)
            for j in range(count):
                for k in range(k0, last):
                    panel[k, j] = matrix[k, first + j]
            for j in range(count, W):
                for k in range(k0, last):
                    panel[k, j] = panels.dtype.type(0)


@jit(fastmath=CONTRACT, inner=True)
def _forward_block(n, a, h, panels, gates, c, c_new, y, h_new, t, ends):
    """One step of block n: a (B, 4H) from the input, h (B, H) the state before; all others are written."""
    never_inline()
    B, H = h.shape
    W = c.shape[1]
    first = n * W
    count = min(W, H - first)
    zero, one = c.dtype.type(0), c.dtype.type(1)
    for g in range(4):
        q = gates[g]
        for row in range(B):
            for j in range(count):
                q[row, j] = a[row, g * H + first + j]
            for j in range(count, W):
                q[row, j] = zero
        _block_product(B, H, h.reshape(-1), 0, H, panels[g, n].reshape(-1), 0, W, q.reshape(-1), 0, W, 1)
    i_f, i, f = gates[:2].reshape(-1), gates[0].reshape(-1), gates[1].reshape(-1)
    g_, o = gates[2].reshape(-1), gates[3].reshape(-1)
    for k in range(i_f.size):
        i_f[k] = one / (one + exp(-i_f[k]))
    for k in range(g_.size):
        g_[k] = tanh(g_[k])
    for k in range(o.size):
        o[k] = one / (one + exp(-o[k]))
    for row in range(B):
        if t >= ends[row]:
            gates[0, row] = zero
            gates[1, row] = one
            gates[2, row] = zero
            gates[3, row] = zero
    flat, flat_new = c.reshape(-1), c_new.reshape(-1)
    for k in range(flat.size):
        flat_new[k] = f[k] * flat[k] + i[k] * g_[k]
    for row in range(B):
        y_row, state, c_row, o_row = (
            y[row, first : first + count],
            h_new[row, first : first + count],
            c_new[row],
            gates[3, row],
        )
        if t >= ends[row]:
            y_row[:] = zero
            state[:] = h[row, first : first + count]
            continue
        for j in range(count):
            y_row[j] = o_row[j] * tanh(c_row[j])
        state[:] = y_row


@jit(fastmath=CONTRACT, inner=True)
def _backward_block(n, panels, gates, c, c_new, dy, da_after, da, dh, dc, dq, t, after, ends):
    """One step of block n backwards: da_after (B, 4H) of the step after, which is at `after` (-1: there is none).

    dh and dc (B, W) are this block's, from the step after; dq (4, B, W) is work space; da (B, 4H) is written.
    """
    never_inline()
    B, H = dy.shape
    W = dh.shape[1]
    first = n * W
    count = min(W, H - first)
    zero, one = dc.dtype.type(0), dc.dtype.type(1)
    if after >= 0:
        for row in range(B):
            if after < ends[row]:
                dh[row] = zero
        _block_product(B, 4 * H, da_after.reshape(-1), 0, 4 * H, panels.reshape(-1), 0, W, dh.reshape(-1), 0, W, 1)
    v, d = dq[3].reshape(-1), dq[2]
    for row in range(B):
        d[row] = dh[row]
        if t < ends[row]:
            for j in range(count):
                d[row, j] += dy[row, first + j]
    d = d.reshape(-1)
    e, before, now = dc.reshape(-1), c.reshape(-1), c_new.reshape(-1)
    i, f, g, o = gates[0].reshape(-1), gates[1].reshape(-1), gates[2].reshape(-1), gates[3].reshape(-1)
    da_i, da_f = dq[0].reshape(-1), dq[1].reshape(-1)
    for k in range(v.size):
        v[k] = tanh(now[k])
    for k in range(e.size):
        e[k] += d[k] * o[k] * (one - v[k] * v[k])
    for k in range(v.size):
        v[k] *= d[k] * o[k] * (one - o[k])
    for k in range(d.size):
        d[k] = e[k] * i[k] * (one - g[k] * g[k])
    for k in range(da_i.size):
        da_i[k] = e[k] * g[k] * i[k] * (one - i[k])
    for k in range(da_f.size):
        da_f[k] = e[k] * before[k] * f[k] * (one - f[k])
    for k in range(e.size):
        e[k] *= f[k]
    for part in range(4):
        for row in range(B):
            for j in range(count):
                da[row, part * H + first + j] = dq[part, row, j]


@jit(parallel=True)
def lstm_forward_04_packed(a, panels, gates, cells, hs, ys, ends, reverse):
    """The walk: hs (2, B, H) holds the state before the first step in hs[0], and the last one in hs[T % 2] at the end."""
    T = ys.shape[0]
    for s in range(T):
        t = T - 1 - s if reverse else s
        for index in prange(panels.shape[1]):
            n = np.int64(index)  # not the unsigned index: one compiled version of the callee
            _forward_block(
                n, a[t], hs[s % 2], panels, gates[s, n], cells[s, n], cells[s + 1, n], ys[t], hs[1 - s % 2], t, ends
            )


@jit(parallel=True)
def lstm_vjp_04_packed(panels, gates, cells, dys, da, dh, dc, dq, ends, reverse):
    """The walk back: dh and dc (N, B, W) hold the last state's cotangents; in the end the first state's are dc, and dh
    before the product with the first da.
    """
    T = dys.shape[0]
    for s in range(T - 1, -1, -1):
        t = T - 1 - s if reverse else s
        after = -1 if s == T - 1 else (t - 1 if reverse else t + 1)
        for index in prange(panels.shape[0]):
            n = np.int64(index)
            _backward_block(
                n, panels[n], gates[s, n], cells[s, n], cells[s + 1, n], dys[t], da[max(after, 0)], da[t], dh[n], dc[n],
                dq[n], t, after, ends,
            )  # fmt: skip


@jit(parallel=True)
def first_cotangent(panels, da, dh, t, ends):
    """dh (N, B, W) in front of the first step, which is at t, from its da (B, 4H)."""
    B, K = da.shape
    W = dh.shape[2]
    for index in prange(panels.shape[0]):
        n = np.int64(index)
        for row in range(B):
            if t < ends[row]:
                dh[n, row] = dh.dtype.type(0)
        _block_product(B, K, da.reshape(-1), 0, K, panels[n].reshape(-1), 0, W, dh[n].reshape(-1), 0, W, 1)


def width(dtype: Any) -> int:
    """W: two vectors."""
    return 2 * VECTOR_BYTES // np.dtype(dtype).itemsize


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An empty array that begins at a vector's border, so that no load of a packed row touches two lines of the cache."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + VECTOR_BYTES, np.uint8)
    start = -raw.__array_interface__["data"][0] % VECTOR_BYTES
    return raw[start : start + size].view(dtype).reshape(shape)


def blocked(state: np.ndarray, out: np.ndarray) -> None:
    """out (N, B, W) from state (B, H), zero behind H."""
    N, B, W = out.shape
    wide = np.zeros((B, N * W), state.dtype)
    wide[:, : state.shape[1]] = state
    out[...] = wide.reshape(B, N, W).transpose(1, 0, 2)


def unblocked(blocks: np.ndarray, H: int) -> np.ndarray:
    """(B, H) from (N, B, W)."""
    N, B, W = blocks.shape
    return np.ascontiguousarray(blocks.transpose(1, 0, 2).reshape(B, N * W)[:, :H])


def forward(
    a: np.ndarray, h: np.ndarray, c: np.ndarray, u: np.ndarray, ends: np.ndarray, reverse: bool
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """((ys, h, c), (gates, cells)) from a = x W + b (T, B, 4H), h and c (B, H), u (H, 4H)."""
    T, (B, H) = a.shape[0], h.shape
    W = width(a.dtype)
    N = -(-H // W)
    panels = aligned((4, N, H, W), a.dtype)
    pack(u, panels)
    gates, cells = aligned((T, N, 4, B, W), a.dtype), aligned((T + 1, N, B, W), a.dtype)
    ys, hs = np.empty((T, B, H), a.dtype), np.empty((2, B, H), a.dtype)
    hs[0] = h
    blocked(c, cells[0])
    lstm_forward_04_packed(frozen(a), frozen(panels), gates, cells, hs, ys, ends, reverse)
    return (ys, hs[T % 2].copy(), unblocked(cells[T], H)), (gates, cells)


def vjp(
    dys: np.ndarray, dh: np.ndarray, dc: np.ndarray, u: np.ndarray, residuals: tuple[np.ndarray, ...], ends: np.ndarray,
    reverse: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """(da (T, B, 4H), dh, dc in front of the first step) from dys (T, B, H) and the last state's dh, dc (B, H)."""
    gates, cells = residuals
    T, N, _, B, W = gates.shape
    H = dh.shape[1]
    panels = aligned((1, N, 4 * H, W), gates.dtype)
    pack(u.T, panels)
    da, dq = np.empty((T, B, 4 * H), gates.dtype), aligned((N, 4, B, W), gates.dtype)
    dhs, dcs = aligned((N, B, W), gates.dtype), aligned((N, B, W), gates.dtype)
    blocked(dh, dhs)
    blocked(dc, dcs)
    panels = frozen(panels[0])
    lstm_vjp_04_packed(panels, frozen(gates), frozen(cells), dys, da, dhs, dcs, dq, ends, reverse)
    if T:
        t = T - 1 if reverse else 0
        first_cotangent(panels, da[t], dhs, t, ends)
    return da, unblocked(dhs, H), unblocked(dcs, H)
