"""LSTM over a sequence (Hochreiter and Schmidhuber 1997), gates i, f, g, o as in PyTorch; backpropagation through time.

    a_t = x_t W + b + h_{t-1} U,   i, f, o = sigma(a_i), sigma(a_f), sigma(a_o),   g = tanh(a_g)
    c_t = f c_{t-1} + i g,   h_t = o tanh c_t,   y_t = h_t
back: d = dy_t + dh,   e = dc + d o (1 - tanh^2 c_t)
    da = [e g i (1 - i), e c_{t-1} f (1 - f), e i (1 - g^2), d tanh(c_t) o (1 - o)],   dh = da U^T,   dc = e f

Residuals: the gates (T, B, 4H), in the memory of the input's product, the cells and the outputs (T, B, H). tanh c_t is
computed again: that costs less than another array. recurrent.py has what is done for the whole sequence at once.
"""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import prange

from . import lstm_packed
from .exp import exp, tanh
from .jit import CONTRACT, frozen, jit
from .recurrent import (
    fits,
    input_gradients,
    laid_out,
    order,
    outputs_cotangent,
    projected,
    projected_by_step,
    sequence_ends,
    start,
    state_after,
    state_weight_gradient,
)  # fmt: skip
from .threads import PARALLEL_WORK, row_block

# Letters: T steps, B sequences, H hidden units. Here a step's arrays: q, gates, da (B, 4H), all others (B, H).


@jit()
def lstm_step_01_naive(q, gates, c, c_new, y, t, ends):
    """The textbook, one unit after the other, with the library's exp and tanh: 140 us for (20, 200) float32."""
    B, H = y.shape
    one = y.dtype.type(1)
    for n in range(B):
        if t >= ends[n]:
            gates[n, :] = 0
            y[n, :] = 0
            c_new[n, :] = c[n, :]
            continue
        for j in range(H):
            i = one / (one + math.exp(-(gates[n, j] + q[n, j])))
            f = one / (one + math.exp(-(gates[n, H + j] + q[n, H + j])))
            g = math.tanh(gates[n, 2 * H + j] + q[n, 2 * H + j])
            o = one / (one + math.exp(-(gates[n, 3 * H + j] + q[n, 3 * H + j])))
            gates[n, j], gates[n, H + j], gates[n, 2 * H + j], gates[n, 3 * H + j] = i, f, g, o
            c_new[n, j] = f * c[n, j] + i * g
            y[n, j] = o * math.tanh(c_new[n, j])


@jit(fastmath=CONTRACT)
def lstm_step_02_vector(q, gates, c, c_new, y, t, ends, first, last):
    """Polynomial exp and tanh in vector lanes, a loop over each part of a row, which stays in the cache: 9 us for (20, 200)
    float32. Rows first to last.
    """
    H = y.shape[1]
    one, zero = y.dtype.type(1), y.dtype.type(0)
    for n in range(first, last):
        a, c_row, c_new_row, y_row = gates[n], c[n], c_new[n], y[n]
        if t >= ends[n]:
            a[:] = zero
            y_row[:] = zero
            c_new_row[:] = c_row
            continue
        q_row = q[n]
        for k in range(4 * H):
            a[k] += q_row[k]
        i_and_f, g, o = a[: 2 * H], a[2 * H : 3 * H], a[3 * H :]
        for k in range(i_and_f.size):
            i_and_f[k] = one / (one + exp(-i_and_f[k]))
        for j in range(g.size):
            g[j] = tanh(g[j])
        for j in range(o.size):
            o[j] = one / (one + exp(-o[j]))
        i, f = a[:H], a[H : 2 * H]
        for j in range(c_new_row.size):
            c_new_row[j] = f[j] * c_row[j] + i[j] * g[j]
        for j in range(y_row.size):
            y_row[j] = o[j] * tanh(c_new_row[j])


@jit(parallel=True)
def lstm_step_03_threads(q, gates, c, c_new, y, t, ends, block):
    """Blocks of rows on all threads."""
    B = y.shape[0]
    for index in prange((B + block - 1) // block):
        k = np.int64(index)  # not the unsigned index: one compiled version of the callee
        lstm_step_02_vector(q, gates, c, c_new, y, t, ends, k * block, min(B, (k + 1) * block))


@jit()
def lstm_step_vjp_01_naive(gates, c, c_new, dy, dh, dc, da, t, ends):
    """The textbook, one unit after the other."""
    B, H = dy.shape
    one = dy.dtype.type(1)
    for n in range(B):
        if t >= ends[n]:
            da[n, :] = 0
            continue
        for j in range(H):
            i, f, g, o = gates[n, j], gates[n, H + j], gates[n, 2 * H + j], gates[n, 3 * H + j]
            v, d = math.tanh(c_new[n, j]), dy[n, j] + dh[n, j]
            e = dc[n, j] + d * o * (one - v * v)
            da[n, j] = e * g * i * (one - i)
            da[n, H + j] = e * c[n, j] * f * (one - f)
            da[n, 2 * H + j] = e * i * (one - g * g)
            da[n, 3 * H + j] = d * v * o * (one - o)
            dc[n, j] = e * f
            dh[n, j] = 0


@jit(fastmath=CONTRACT)
def lstm_step_vjp_02_vector(gates, c, c_new, dy, dh, dc, da, t, ends, first, last):
    """In vector lanes: a loop for each of the results, since LLVM widens only what a few comparisons of addresses show to
    lie apart. Rows first to last. dh becomes zero where a sequence runs (the walk adds da U^T), dc is e f.
    """
    H = dy.shape[1]
    one, zero = dy.dtype.type(1), dy.dtype.type(0)
    for n in range(first, last):
        da_row = da[n]
        if t >= ends[n]:
            da_row[:] = zero
            continue
        a, c_row, c_new_row, dy_row, d, e = gates[n], c[n], c_new[n], dy[n], dh[n], dc[n]
        i, f, g, o = a[:H], a[H : 2 * H], a[2 * H : 3 * H], a[3 * H :]
        da_i, da_f, da_g, da_o = da_row[:H], da_row[H : 2 * H], da_row[2 * H : 3 * H], da_row[3 * H :]
        for j in range(d.size):
            d[j] += dy_row[j]
        for j in range(da_o.size):
            da_o[j] = tanh(c_new_row[j])  # for a moment v
        for j in range(e.size):
            e[j] += d[j] * o[j] * (one - da_o[j] * da_o[j])
        for j in range(da_o.size):
            da_o[j] *= d[j] * o[j] * (one - o[j])
        for j in range(da_i.size):
            da_i[j] = e[j] * g[j] * i[j] * (one - i[j])
        for j in range(da_f.size):
            da_f[j] = e[j] * c_row[j] * f[j] * (one - f[j])
        for j in range(da_g.size):
            da_g[j] = e[j] * i[j] * (one - g[j] * g[j])
        for j in range(e.size):
            e[j] *= f[j]
        d[:] = zero


@jit(parallel=True)
def lstm_step_vjp_03_threads(gates, c, c_new, dy, dh, dc, da, t, ends, block):
    """Blocks of rows on all threads."""
    B = dy.shape[0]
    for index in prange((B + block - 1) // block):
        k = np.int64(index)  # not the unsigned index: one compiled version of the callee
        lstm_step_vjp_02_vector(gates, c, c_new, dy, dh, dc, da, t, ends, k * block, min(B, (k + 1) * block))


def step(q: Any, gates: Any, *rest: Any) -> None:
    """The production step: on all threads where it is worth it."""
    B, width = gates.shape
    if gates.size < PARALLEL_WORK:
        lstm_step_02_vector(q, gates, *rest, 0, B)
    else:
        lstm_step_03_threads(q, gates, *rest, row_block(B, width))


def step_vjp(gates: Any, *rest: Any) -> None:
    """The production step backwards."""
    B, width = gates.shape
    if gates.size < PARALLEL_WORK:
        lstm_step_vjp_02_vector(gates, *rest, 0, B)
    else:
        lstm_step_vjp_03_threads(gates, *rest, row_block(B, width))


def accepts(x: Any, h: Any, c: Any, w: Any, u: Any, b: Any, lengths: Any = None, *, reverse: bool = False) -> bool:
    return fits(x, w, u, (h, c), (b,), lengths) and u.shape[1] == 4 * u.shape[0]


def walk(
    x: np.ndarray, h: np.ndarray, c: np.ndarray, w: np.ndarray, u: np.ndarray, b: np.ndarray, lengths: Any, reverse: bool,
    project: Any, step: Any,
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:  # fmt: skip
    """Forward with these two parts of the ladder."""
    T, (B, H) = x.shape[0], h.shape
    ends = sequence_ends(lengths, x)
    ragged = bool(np.any(ends < T))
    gates = project(x, w, b)  # (T, B, 4H)
    ys, cells, q = np.empty((T, B, H), x.dtype), np.empty((T, B, H), x.dtype), np.empty((B, 4 * H), x.dtype)
    h, c, u = frozen(h), frozen(c), laid_out(u)
    for t in order(T, reverse):
        np.dot(h, u, out=q)
        step(q, gates[t], c, cells[t], ys[t], t, ends)
        h, c = state_after(ys[t], h, t, ends, ragged), frozen(cells[t])
    return (ys, np.array(h, order="C"), np.array(c, order="C")), (gates, cells, ys, ends)


def walk_back(
    dy: tuple[Any, Any, Any], x: np.ndarray, h: np.ndarray, c: np.ndarray, w: np.ndarray, u: np.ndarray, b: Any,
    residuals: tuple[np.ndarray, ...], wanted: Any, into: Any, reverse: bool, step_vjp: Any,
) -> tuple:  # fmt: skip
    """Backward with this part of the ladder; then the products for the whole sequence."""
    gates, cells, ys, ends = residuals
    T = x.shape[0]
    dys, dh, dc = outputs_cotangent(dy[0], ys), start(dy[1], h), start(dy[2], c)
    da, c, back = np.empty(gates.shape, x.dtype), frozen(c), laid_out(u.T)
    for t in order(T, not reverse):
        source = t + 1 if reverse else t - 1
        before = frozen(cells[source]) if 0 <= source < T else c
        step_vjp(frozen(gates[t]), before, frozen(cells[t]), dys[t], dh, dc, da[t], t, ends)
        dh += np.dot(da[t], back)
    return after_the_walk(da, dh, dc, ys, x, h, w, u, b, ends, wanted, into, reverse)


def after_the_walk(
    da: np.ndarray, dh: np.ndarray, dc: np.ndarray, ys: np.ndarray, x: np.ndarray, h: np.ndarray, w: np.ndarray,
    u: np.ndarray, b: Any, ends: np.ndarray, wanted: Any, into: Any, reverse: bool,
) -> tuple:  # fmt: skip
    """The gradients of all inputs from da (T, B, 4H) and those of the first state: products for the whole sequence."""
    asked, offers = (tuple(each[k] for k in (0, 3, 5)) for each in (wanted, into))  # x, w, b
    dx, dw, db = input_gradients(da, x, w, b, ends, asked, offers)
    du = state_weight_gradient(da, ys, h, u, ends, reverse, into[4]) if wanted[4] else None
    return dx, dh if wanted[1] else None, dc if wanted[2] else None, dw, du, db


def pair(project: Any, step: Any, step_vjp: Any) -> SimpleNamespace:
    """forward, vjp and accepts from three parts of the ladder."""

    def forward(x: Any, h: Any, c: Any, w: Any, u: Any, b: Any, lengths: Any = None, *, reverse: bool = False) -> tuple:
        """ys (T, B, H), the last h and c (B, H) of x (T, B, I), h, c (B, H), w (I, 4H), u (H, 4H), b (4H,), lengths (B,)."""
        return walk(x, h, c, w, u, b, lengths, reverse, project, step)

    def vjp(
        dy: Any, y: Any, x: Any, h: Any, c: Any, w: Any, u: Any, b: Any, *lengths: Any,
        residuals: Any, wanted: Any, into: Any, reverse: bool = False,
    ) -> tuple:  # fmt: skip
        """(dx, dh, dc, dw, du, db[, None]); dx, dw, du and db may be written to, or added to, the buffers lent for them."""
        gradients = walk_back(dy, x, h, c, w, u, b, residuals, wanted, into, reverse, step_vjp)
        return *gradients, *(None for _ in lengths)

    return SimpleNamespace(forward=forward, vjp=vjp, accepts=accepts)


_stepwise = pair(projected, step, step_vjp)

PACKED_STEPS = 8
"""From this many steps on packing U for the whole sequence costs less than it saves."""


def forward(x: Any, h: Any, c: Any, w: Any, u: Any, b: Any, lengths: Any = None, *, reverse: bool = False) -> tuple:
    """As in `pair`: on packed weights, or step by step where the sequence is short."""
    if x.shape[0] < PACKED_STEPS or not (x.size and u.size):
        return _stepwise.forward(x, h, c, w, u, b, lengths, reverse=reverse)
    ends = sequence_ends(lengths, x)
    y, residuals = lstm_packed.forward(frozen(x), frozen(h), frozen(c), w, u, b, ends, reverse)
    return y, (*residuals, ends)


def vjp(
    dy: Any, y: Any, x: Any, h: Any, c: Any, w: Any, u: Any, b: Any, *lengths: Any,
    residuals: Any, wanted: Any, into: Any, reverse: bool = False,
) -> tuple:  # fmt: skip
    """As in `pair`."""
    if x.shape[0] < PACKED_STEPS or not (x.size and u.size):
        return _stepwise.vjp(
            dy, y, x, h, c, w, u, b, *lengths, residuals=residuals, wanted=wanted, into=into, reverse=reverse
        )
    *kept, ends = residuals
    dh, dc = start(dy[1], h), start(dy[2], c)
    dys = outputs_cotangent(dy[0], kept[2][1:])
    asked, offers = (tuple(each[k] for k in (0, 3, 4, 5)) for each in (wanted, into))  # x, w, u, b
    dx, dh, dc, *rest = lstm_packed.vjp(dys, dh, dc, x, w, u, tuple(kept), ends, asked, offers, reverse)
    return dx, dh if wanted[1] else None, dc if wanted[2] else None, *rest, *(None for _ in lengths)


RUNGS = {
    "numba 01_naive": pair(projected_by_step, lstm_step_01_naive, lstm_step_vjp_01_naive),
    "numba 02_one_projection": pair(projected, lstm_step_01_naive, lstm_step_vjp_01_naive),
    "numba 03_stepwise": _stepwise,
}
"""The ladder's other rungs as pairs, so that they are checked and timed by name.

IDEAS tells them, because they differ in more than the function of a step.

Forward, 35 steps of (20, 200) float32 on one thread, processor time: 01 13.9 ms; 02 13.9 ms (for 20 rows a product a
step is as good); 03 6.2 ms, most of it products. Backward: 15, 16 and 14 ms, nearly all products. 04_packed
(lstm_packed.py), 64 steps of (20, 256) on two threads: the walk takes 3.7 ms where 03 takes 7.4, and back 4.3 for 9.
"""

_ONE_PROJECTION = "The inputs of all steps in one product"
_LANES = "Polynomial exp and tanh in vector lanes, blocks of rows on all threads"
_WALK = "The whole walk in one call, on packed weights (lstm_packed.py)"
IDEAS = {
    "forward": {"numba 02_one_projection": _ONE_PROJECTION, "numba 03_stepwise": _LANES, "numba, 1 thread": _WALK,
                "numba": "Each thread a part of the units, in step with the others"},
    "backward": {"numba 02_one_projection": _ONE_PROJECTION, "numba 03_stepwise": _LANES, "numba, 1 thread": _WALK,
                 "numba": "Each thread a part of the units, the cotangents of the gates sent to the others"},
}  # fmt: skip
