"""The walk of an LSTM through time on packed weights: rung 04 of the ladder in lstm.py.

OpenBLAS multiplies the few rows of one step, (20, 256) by (256, 1024), at half the speed of a large product: it packs the
same U anew at every step. Here U is packed once a sequence, and the hidden units are dealt out to the threads in blocks of
W (two vectors): a thread computes all four gates of its units and at once what follows from them. So its share of U stays
in its own cache for the whole sequence, and a step is one parallel region.

    panels   (4, N, H, W)   U by gates and blocks of units: W columns that lie together
    gates    (4, N, T, B, W)  first x W + b, then i, f, g, o: the residual. The packed product of matmul.py writes them so.
             One step more than T lies between blocks: at multiples of 4096 bytes they would share lines of the cache
    cells    (T + 1, N, B, W) c in front of each step of the walk, and after the last
    states   (T + 1, B, H)  h in front of step t is states[t] and after it states[t + 1]; in reverse the other way round
Backwards dh of a block is da (B, 4H) by its columns of U^T, packed likewise (N, 4H, W); then its units' da of the step. da
lies like the gates, and so the products of the whole sequence take it: what one thread writes lies side by side. For the
other threads each block also sends its da of the step in lines of all its gates, so that their tiles run over 4 W of k.

A sequence that rests (it has ended, or in reverse has not begun) has the gates i = g = o = 0 and f = 1: so c and dc go by
unchanged, y and da are zero. Every sum over k is one chain of multiply-adds, whatever the threads: the same bits always.
T: steps, B: sequences, H: hidden units, N: blocks of units, W: units of a block; columns behind H are zero.
"""

from typing import Any

import numpy as np
from numba import prange

from .exp import exp, tanh
from .jit import CONTRACT, frozen, jit, lent
from .matmul import Operand, multiply, operand
from .packing import pack
from .recurrent import lies_transposed, without_rests
from .tile import ROWS, VECTOR_BYTES, lanes_of, make_tile, move, never_inline, prefetch

_tile_block, _tile_half, _tile_row = make_tile(ROWS, 2), make_tile(ROWS // 2, 2), make_tile(1, 2)
_narrow_block, _narrow_half, _narrow_row = make_tile(ROWS, 1), make_tile(ROWS // 2, 1), make_tile(1, 1)


@jit(inner=True)
def _block_product(rows, K, a, a0, a_i, b, b0, c, c0, columns):
    """C (rows, W) += A B, the panel of B from b0; offsets and strides as in make_tile. columns: how many are of interest."""
    never_inline()
    lanes = lanes_of(c)
    W = 2 * lanes
    i = 0
    if columns <= lanes:
        while i + ROWS <= rows:
            _narrow_block(K, a, a0 + i * a_i, a_i, 1, b, b0, W, c, c0 + i * W, W, 1)
            i += ROWS
        while i + ROWS // 2 <= rows:
            _narrow_half(K, a, a0 + i * a_i, a_i, 1, b, b0, W, c, c0 + i * W, W, 1)
            i += ROWS // 2
        while i < rows:
            _narrow_row(K, a, a0 + i * a_i, a_i, 1, b, b0, W, c, c0 + i * W, W, 1)
            i += 1
        return
    while i + ROWS <= rows:
        _tile_block(K, a, a0 + i * a_i, a_i, 1, b, b0, W, c, c0 + i * W, W, 1)
        i += ROWS
    while i + ROWS // 2 <= rows:
        _tile_half(K, a, a0 + i * a_i, a_i, 1, b, b0, W, c, c0 + i * W, W, 1)
        i += ROWS // 2
    while i < rows:
        _tile_row(K, a, a0 + i * a_i, a_i, 1, b, b0, W, c, c0 + i * W, W, 1)
        i += 1


@jit(inner=True)
def _move_lines(a, a0, a_i, b, b0, b_i, rows, columns):
    """b[b0 + i b_i + j] = a[a0 + i a_i + j] for j < columns, whole lines of W a vector at a time."""
    lanes = lanes_of(b)
    if columns == 2 * lanes:
        for i in range(rows):
            move(a, a0 + i * a_i, b, b0 + i * b_i)
            move(a, a0 + i * a_i + lanes, b, b0 + i * b_i + lanes)
    else:
        for i in range(rows):
            for j in range(columns):
                b[b0 + i * b_i + j] = a[a0 + i * a_i + j]


@jit(parallel=True)
def pack_weights(u, u_k, u_w, jump, H, panels):
    """panels[g, n, k, j] = U(k, g H + n W + j), zero behind H of n W + j. u: U (H, 4H) as an operand; panels (4, N, H, W)."""
    _, N, _, W = panels.shape
    for index in prange(4 * N):
        g, n = np.int64(index) // N, np.int64(index) % N
        pack(u, u_k, u_w, jump, 0, g * H + n * W, H, min(W, H - n * W), W, panels[g, n].reshape(-1))


@jit(parallel=True)
def pack_weights_back(u, u_k, u_w, jump, H, panels):
    """panels[n, 4 W q + g units + k, j] = U^T(g H + q W + k, n W + j) for the `units` of block q, zero behind H of n W + j.

    u: U^T (4H, H) as an operand; panels (N, 4H, W).
    """
    N, _, W = panels.shape
    for index in prange(N):
        n = np.int64(index)  # not the unsigned index: one compiled version of the callee
        for q in range(N):
            units = min(W, H - q * W)
            for g in range(4):
                panel = panels[n, 4 * W * q + g * units :].reshape(-1)
                pack(u, u_k, u_w, jump, g * H + q * W, n * W, units, min(W, H - n * W), W, panel)


@jit(inner=True)
def _ask_for(numbers, first, count):
    """Prefetches numbers[first : first + count] while the product before them runs: blocks lie too far apart for the
    processor to see them coming.
    """
    for at in range(first, first + count, lanes_of(numbers)):
        prefetch(numbers, at)


@jit(fastmath=CONTRACT, inner=True)
def _forward_block(n, h, panels, gates, c, c_new, y, h_new, v, t, ends, rests):
    """Step t of block n: its gates come as x W + b; h (B, H) is the state before. c_new, y and h_new are written.

    rests: whether any sequence ever rests; else y and h_new are one. v (B, W): room.
    """
    never_inline()
    B, H = h.shape
    W = c.shape[1]
    first = n * W
    count = min(W, H - first)
    zero, one = c.dtype.type(0), c.dtype.type(1)
    for g in range(4):
        a = gates[g, n, t]
        if count < W:
            for row in range(B):
                a[row, count:] = zero
        ahead = gates[min(g + 1, 3), n, t].reshape(-1)
        _ask_for(ahead, 0, ahead.size)
        _block_product(B, H, h.reshape(-1), 0, H, panels[g, n].reshape(-1), 0, a.reshape(-1), 0, count)
    i, f = gates[0, n, t].reshape(-1), gates[1, n, t].reshape(-1)
    g_, o = gates[2, n, t].reshape(-1), gates[3, n, t].reshape(-1)
    for k in range(i.size):
        i[k] = one / (one + exp(-i[k]))
    for k in range(f.size):
        f[k] = one / (one + exp(-f[k]))
    for k in range(g_.size):
        g_[k] = tanh(g_[k])
    for k in range(o.size):
        o[k] = one / (one + exp(-o[k]))
    if rests:
        for row in range(B):
            if t >= ends[row]:
                gates[0, n, t, row] = zero
                gates[1, n, t, row] = one
                gates[2, n, t, row] = zero
                gates[3, n, t, row] = zero
    before, now, out = c.reshape(-1), c_new.reshape(-1), v.reshape(-1)
    for k in range(now.size):
        now[k] = f[k] * before[k] + i[k] * g_[k]
    for k in range(out.size):
        out[k] = o[k] * tanh(now[k])
    _move_lines(out, 0, W, h_new.reshape(-1), first, H, B, count)
    if rests:
        _move_lines(out, 0, W, y.reshape(-1), first, H, B, count)
        for row in range(B):
            if t >= ends[row]:
                h_new[row, first : first + count] = h[row, first : first + count]


@jit(fastmath=CONTRACT, inner=True)
def _cotangent(panels, sent, dh, count, H, t, ends, rests):
    """dh (B, W) in front of step t from what it is behind it, and from that step's da, as _backward_block has sent it.

    count: units of this block.
    """
    B, W = dh.shape
    weights, flat = panels.reshape(-1), dh.reshape(-1)
    if rests:
        for row in range(B):
            if t < ends[row]:
                dh[row] = dh.dtype.type(0)
    else:
        flat[:] = dh.dtype.type(0)
    for q in range(0, H, W):
        K = 4 * min(W, H - q)
        _block_product(B, K, sent, 4 * q * B, K, weights, 4 * q * W, flat, 0, count)


@jit(fastmath=CONTRACT, inner=True)
def _backward_block(n, panels, gates, c, c_new, dy, da, received, sent, dh, dc, db, work, t, after, ends, rests):
    """Step t of block n backwards: `received` is what was sent at the step after, whose number is `after` (-1: there is none).

    dh and dc (B, W) are this block's, from the step after; work (2, B, W), zero behind H. da of step t is written, added
    to db (4, B W), and sent: from 4 n W B on lines of the four gates of this block's units, (B, 4 count), for all blocks.
    """
    never_inline()
    B, H = dy.shape
    W = dh.shape[1]
    first = n * W
    count = min(W, H - first)
    one = dc.dtype.type(1)
    if after >= 0:
        _cotangent(panels, received, dh, count, H, after, ends, rests)
    v, d, e, dh_flat = work[0].reshape(-1), work[1].reshape(-1), dc.reshape(-1), dh.reshape(-1)
    _move_lines(dy.reshape(-1), first, H, d, 0, W, B, count)
    if rests:
        for row in range(B):
            if t >= ends[row]:
                work[1, row] = dc.dtype.type(0)
    for k in range(d.size):
        d[k] += dh_flat[k]
    before, now = c.reshape(-1), c_new.reshape(-1)
    i, da_i = gates[0, n, t].reshape(-1), da[0, n, t].reshape(-1)
    f, da_f = gates[1, n, t].reshape(-1), da[1, n, t].reshape(-1)
    g, da_g = gates[2, n, t].reshape(-1), da[2, n, t].reshape(-1)
    o, da_o = gates[3, n, t].reshape(-1), da[3, n, t].reshape(-1)
    for k in range(v.size):
        v[k] = tanh(now[k])
    for k in range(e.size):
        e[k] += d[k] * o[k] * (one - v[k] * v[k])
    for k in range(da_o.size):
        da_o[k] = d[k] * v[k] * o[k] * (one - o[k])
    for k in range(da_g.size):
        da_g[k] = e[k] * i[k] * (one - g[k] * g[k])
    for k in range(da_i.size):
        da_i[k] = e[k] * g[k] * i[k] * (one - i[k])
    for k in range(da_f.size):
        da_f[k] = e[k] * before[k] * f[k] * (one - f[k])
    for k in range(e.size):
        e[k] *= f[k]
    for part in range(4):
        total, line = db[part], da[part, n, t].reshape(-1)
        for k in range(total.size):
            total[k] += line[k]
        _move_lines(line, 0, W, sent, 4 * first * B + part * count, 4 * count, B, count)


@jit(parallel=True)
def lstm_forward_04_packed(panels, gates, cells, befores, afters, ys, work, ends, rests, reverse):
    """The walk: befores[t] and afters[t] (B, H) are the states in front of and behind step t."""
    T, N = ys.shape[0], panels.shape[1]  # block N - 1 may be small: it comes first, where the larger share lies
    for s in range(T):
        t = T - 1 - s if reverse else s
        for index in prange(N):
            n = N - 1 - np.int64(index)
            c, c_new = cells[s, n], cells[s + 1, n]
            _forward_block(n, befores[t], panels, gates, c, c_new, ys[t], afters[t], work[n], t, ends, rests)


@jit(parallel=True)
def lstm_vjp_04_packed(panels, gates, cells, dys, da, sent, dh, dc, db, work, ends, rests, reverse):
    """The walk back: dh and dc (N, B, W) hold the last state's cotangents, and in the end the first state's.

    sent (2, 4 H B): of this step and of the one after, in turn.
    """
    T, H = dys.shape[0], dys.shape[2]
    N, _, W = dh.shape
    for s in range(T - 1, -1, -1):
        t = T - 1 - s if reverse else s
        after = -1 if s == T - 1 else (t - 1 if reverse else t + 1)
        send, receive = sent[s % 2], sent[(s + 1) % 2]
        for index in prange(N):
            n = N - 1 - np.int64(index)
            c, c_new = cells[s, n], cells[s + 1, n]
            _backward_block(
                n, panels[n], gates, c, c_new, dys[t], da, receive, send, dh[n], dc[n], db[n], work[n], t, after, ends, rests
            )  # fmt: skip
    for index in prange(N):
        n = N - 1 - np.int64(index)
        _cotangent(panels[n], sent[0], dh[n], min(W, H - n * W), H, T - 1 if reverse else 0, ends, rests)


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


def parts(H: int, W: int) -> list[tuple[slice, slice]]:
    """(columns of W or U, panels) of what is multiplied at once: all gates, or each where its last panel is not full."""
    N = -(-H // W)
    if H % W == 0:
        return [(slice(0, 4 * H), slice(0, 4 * N))]
    return [(slice(g * H, (g + 1) * H), slice(g * N, (g + 1) * N)) for g in range(4)]


def in_panels(blocks: np.ndarray) -> Operand:
    """(P, T, B, W) as a matrix of T B rows and P W columns."""
    _, steps, B, W = blocks.shape
    return blocks.reshape(-1), W, 1, steps * B * W


def lines(array: np.ndarray, length: int) -> Operand:
    """A contiguous array as a matrix of lines to write to."""
    return array.reshape(-1), length, 1, width(array.dtype)


def turned(matrix: Operand) -> Operand:
    """The transposed one."""
    numbers, first, second, jump = matrix
    return numbers, second, first, jump


def forward(
    x: np.ndarray, h: np.ndarray, c: np.ndarray, w: np.ndarray, u: np.ndarray, b: np.ndarray, ends: np.ndarray,
    reverse: bool,
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:  # fmt: skip
    """((ys, h, c), (gates, cells, states)) from x (T, B, I), h and c (B, H), w (I, 4H), u (H, 4H), b (4H,); none empty."""
    (T, B, I), H, W = x.shape, h.shape[1], width(x.dtype)
    N = -(-H // W)
    gates, cells = aligned((4, N, T + 1, B, W), x.dtype), aligned((T + 1, N, B, W), x.dtype)
    panels, states = aligned((4, N, H, W), x.dtype), np.empty((T + 1, B, H), x.dtype)
    rows, blocks = operand(x.reshape(T * B, I)), gates.reshape(4 * N, T + 1, B, W)
    for columns, at in parts(H, W):
        part = w[:, columns]
        multiply(rows, operand(part), in_panels(blocks[at]), T * B, I, part.shape[1], bias=b[columns])
    pack_weights(*operand(u), H, panels)
    befores, afters = (states[1:], states[:-1]) if reverse else (states[:-1], states[1:])
    rests = bool((ends < T).any())
    ys = np.empty((T, B, H), x.dtype) if rests else afters
    states[T if reverse else 0] = h
    blocked(c, cells[0])
    work = aligned((N, B, W), x.dtype)
    lstm_forward_04_packed(frozen(panels), gates, cells, befores, afters, ys, work, ends, rests, reverse)
    return (ys, states[0 if reverse else T].copy(), unblocked(cells[T], H)), (gates, cells, states)


def vjp(
    dys: np.ndarray, dh: np.ndarray, dc: np.ndarray, x: np.ndarray, w: np.ndarray, u: np.ndarray,
    residuals: tuple[np.ndarray, ...], ends: np.ndarray, wanted: tuple[bool, ...], offers: tuple[Any, ...], reverse: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """(dx, dh, dc, dw, du, db) from dys (T, B, H) and the last state's dh, dc (B, H).

    wanted, offers: of x, w, u, b; offers are the buffers that may be written to or added to.
    """
    gates, cells, states = residuals
    N, W = gates.shape[1], gates.shape[4]
    (T, B, I), H = x.shape, dh.shape[1]
    panels, da = aligned((N, 4 * H, W), x.dtype), aligned(gates.shape, x.dtype)
    pack_weights_back(*operand(u.T), H, panels)
    sent, work = aligned((2, 4 * H * B), x.dtype), np.zeros((N, 2, B, W), x.dtype)
    dhs, dcs, db = aligned((N, B, W), x.dtype), aligned((N, B, W), x.dtype), np.zeros((N, 4, B * W), x.dtype)
    blocked(dh, dhs)
    blocked(dc, dcs)
    rests = bool((ends < T).any())
    lstm_vjp_04_packed(
        frozen(panels), frozen(gates), frozen(cells), dys, da, sent, dhs, dcs, db, work, ends, rests, reverse
    )
    blocks = frozen(da).reshape(4 * N, T + 1, B, W)
    dx = dw = du = dbias = None
    if wanted[0]:
        dx, add = lent(offers[0]) or (np.empty(x.shape, x.dtype), False)
        for columns, at in parts(H, W):
            part = w[:, columns].T
            multiply(in_panels(blocks[at]), operand(part), lines(dx, I), T * B, part.shape[0], I, add=add)
            add = True
    if wanted[1]:
        dw = weight_gradient(without_rests(x, ends).reshape(T * B, I), blocks, w, offers[1])
    if wanted[2]:
        befores = states[1:] if reverse else states[:-1]
        du = weight_gradient(befores.reshape(T * B, H), blocks, u, offers[2])
    if wanted[3]:
        dbias, add = lent(offers[3]) or (np.zeros(4 * H, x.dtype), False)
        found = db.reshape(N, 4, B, W).sum(2).transpose(1, 0, 2).reshape(4, N * W)[:, :H].reshape(-1)
        np.add(dbias, found, out=dbias) if add else np.copyto(dbias, found)
    return dx, unblocked(dhs, H), unblocked(dcs, H), dw, du, dbias


def weight_gradient(rows: np.ndarray, blocks: np.ndarray, weight: np.ndarray, offer: Any) -> np.ndarray:
    """rows^T da (R, 4H) for rows (T B, R) and da in blocks (4N, T, B, W), lying in memory as the weight does."""
    (TB, R), G, W = rows.shape, weight.shape[1], blocks.shape[3]
    transposed = lies_transposed(weight, offer)
    target, add = lent(offer) or (np.empty((G, R) if transposed else (R, G), rows.dtype), False)
    for columns, at in parts(G // 4, W):
        da, count = in_panels(blocks[at]), columns.stop - columns.start
        if transposed:
            multiply(turned(da), operand(rows), lines(target[columns], R), count, TB, R, add=add)
        else:
            numbers, first, second, jump = lines(target, G)
            part = numbers[columns.start :], first, second, jump
            multiply(turned(operand(rows)), da, part, R, TB, count, add=add)
    return target.T if transposed else target
