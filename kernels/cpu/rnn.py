"""Plain recurrent network over a sequence (Elman 1990); backpropagation through time.

    a_t = x_t W + b + h_{t-1} U,   h_t = tanh a_t or relu a_t,   y_t = h_t
back: da = (dy_t + dh) (1 - h_t^2), or where h_t > 0 for relu,   dh = da U^T

Residuals: the outputs, in the memory of the input's product. recurrent.py has what is done for the whole sequence at once.
"""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import prange

from .exp import tanh
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

# Letters: T steps, B sequences, H hidden units. Here a step's arrays are (B, H).


@jit()
def rnn_step_01_naive(q, y, t, ends, relu):
    """The textbook, one unit after the other, with the library's tanh. y holds x_t W + b before."""
    B, H = y.shape
    for n in range(B):
        for j in range(H):
            a = y[n, j] + q[n, j]
            if t >= ends[n] or (relu and a < 0):
                y[n, j] = 0
            else:
                y[n, j] = a if relu else math.tanh(a)


@jit(fastmath=CONTRACT)
def rnn_step_02_vector(q, y, t, ends, relu, first, last):
    """Polynomial tanh in vector lanes. Rows first to last."""
    zero = y.dtype.type(0)
    for n in range(first, last):
        q_row, row = q[n], y[n]
        if t >= ends[n]:
            row[:] = zero
        elif relu:
            for j in range(row.size):
                a = row[j] + q_row[j]
                row[j] = zero if a < zero else a
        else:
            for j in range(row.size):
                row[j] = tanh(row[j] + q_row[j])


@jit(parallel=True)
def rnn_step_03_threads(q, y, t, ends, relu, block):
    """Blocks of rows on all threads."""
    B = y.shape[0]
    for index in prange((B + block - 1) // block):
        k = np.int64(index)  # not the unsigned index: one compiled version of the callee
        rnn_step_02_vector(q, y, t, ends, relu, k * block, min(B, (k + 1) * block))


@jit()
def rnn_step_vjp_01_naive(y, dy, dh, da, t, ends, relu):
    """The textbook, one unit after the other."""
    B, H = dy.shape
    one = dy.dtype.type(1)
    for n in range(B):
        for j in range(H):
            if t >= ends[n]:
                da[n, j] = 0
                continue
            d = dy[n, j] + dh[n, j]
            if relu:
                da[n, j] = 0 if y[n, j] <= 0 else d
            else:
                da[n, j] = d * (one - y[n, j] * y[n, j])
            dh[n, j] = 0


@jit(fastmath=CONTRACT)
def rnn_step_vjp_02_vector(y, dy, dh, da, t, ends, relu, first, last):
    """In vector lanes. Rows first to last. dh becomes zero where a sequence runs: the walk adds da U^T."""
    one, zero = dy.dtype.type(1), dy.dtype.type(0)
    for n in range(first, last):
        da_row = da[n]
        if t >= ends[n]:
            da_row[:] = zero
            continue
        y_row, dy_row, d = y[n], dy[n], dh[n]
        for j in range(d.size):
            d[j] += dy_row[j]
        if relu:
            for j in range(da_row.size):
                da_row[j] = zero if y_row[j] <= zero else d[j]
        else:
            for j in range(da_row.size):
                da_row[j] = d[j] * (one - y_row[j] * y_row[j])
        d[:] = zero


@jit(parallel=True)
def rnn_step_vjp_03_threads(y, dy, dh, da, t, ends, relu, block):
    """Blocks of rows on all threads."""
    B = dy.shape[0]
    for index in prange((B + block - 1) // block):
        k = np.int64(index)  # not the unsigned index: one compiled version of the callee
        rnn_step_vjp_02_vector(y, dy, dh, da, t, ends, relu, k * block, min(B, (k + 1) * block))


def step(q: Any, y: Any, *rest: Any) -> None:
    """The production step: on all threads where it is worth it."""
    B, width = y.shape
    if y.size < PARALLEL_WORK:
        rnn_step_02_vector(q, y, *rest, 0, B)
    else:
        rnn_step_03_threads(q, y, *rest, row_block(B, width))


def step_vjp(y: Any, *rest: Any) -> None:
    """The production step backwards."""
    B, width = y.shape
    if y.size < PARALLEL_WORK:
        rnn_step_vjp_02_vector(y, *rest, 0, B)
    else:
        rnn_step_vjp_03_threads(y, *rest, row_block(B, width))


def accepts(
    x: Any, h: Any, w: Any, u: Any, b: Any, lengths: Any = None, *, nonlinearity: str = "tanh", reverse: bool = False
) -> bool:
    return fits(x, w, u, (h,), (b,), lengths) and u.shape[1] == u.shape[0]


def walk(
    x: np.ndarray, h: np.ndarray, w: np.ndarray, u: np.ndarray, b: np.ndarray, lengths: Any, relu: bool, reverse: bool,
    project: Any, step: Any,
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:  # fmt: skip
    """Forward with these two parts of the ladder."""
    T = x.shape[0]
    ends = sequence_ends(lengths, x)
    ragged = bool(np.any(ends < T))
    ys = project(x, w, b)  # (T, B, H)
    q, h, u = np.empty(h.shape, x.dtype), frozen(h), laid_out(u)
    for t in order(T, reverse):
        np.dot(h, u, out=q)
        step(q, ys[t], t, ends, relu)
        h = state_after(ys[t], h, t, ends, ragged)
    return (ys, np.array(h, order="C")), (ys, ends)


def walk_back(
    dy: tuple[Any, Any], x: np.ndarray, h: np.ndarray, w: np.ndarray, u: np.ndarray, b: Any,
    residuals: tuple[np.ndarray, ...], wanted: Any, into: Any, relu: bool, reverse: bool, step_vjp: Any,
) -> tuple:  # fmt: skip
    """Backward with this part of the ladder; then the products for the whole sequence."""
    ys, ends = residuals
    dys, dh = outputs_cotangent(dy[0], ys), start(dy[1], h)
    da, back = np.empty(ys.shape, x.dtype), laid_out(u.T)
    for t in order(x.shape[0], not reverse):
        step_vjp(frozen(ys[t]), dys[t], dh, da[t], t, ends, relu)
        dh += np.dot(da[t], back)
    asked, offers = (tuple(each[k] for k in (0, 2, 4)) for each in (wanted, into))  # x, w, b
    dx, dw, db = input_gradients(da, x, w, b, ends, asked, offers)
    du = state_weight_gradient(da, ys, h, u, ends, reverse, into[3]) if wanted[3] else None
    return dx, dh if wanted[1] else None, dw, du, db


def pair(project: Any, step: Any, step_vjp: Any) -> SimpleNamespace:
    """forward, vjp and accepts from three parts of the ladder."""

    def forward(
        x: Any,
        h: Any,
        w: Any,
        u: Any,
        b: Any,
        lengths: Any = None,
        *,
        nonlinearity: str = "tanh",
        reverse: bool = False,
    ) -> tuple:
        """ys (T, B, H), the last h (B, H) of x (T, B, I), h (B, H), w (I, H), u (H, H), b (H,), lengths (B,)."""
        return walk(x, h, w, u, b, lengths, nonlinearity == "relu", reverse, project, step)

    def vjp(
        dy: Any, y: Any, x: Any, h: Any, w: Any, u: Any, b: Any, *lengths: Any,
        residuals: Any, wanted: Any, into: Any, nonlinearity: str = "tanh", reverse: bool = False,
    ) -> tuple:  # fmt: skip
        """(dx, dh, dw, du, db[, None]); all but dh may be written to, or added to, the buffers lent for them."""
        relu = nonlinearity == "relu"
        gradients = walk_back(dy, x, h, w, u, b, residuals, wanted, into, relu, reverse, step_vjp)
        return *gradients, *(None for _ in lengths)

    return SimpleNamespace(forward=forward, vjp=vjp, accepts=accepts)


_production = pair(projected, step, step_vjp)
forward, vjp = _production.forward, _production.vjp

RUNGS = {"numba 01_naive": pair(projected_by_step, rnn_step_01_naive, rnn_step_vjp_01_naive)}
"""The ladder's other rungs as pairs, so that they are checked and timed by name.

35 steps of (20, 200) float32 on one thread, processor time: forward 3.8 ms, production 1.3; backward 3 ms, which is
nearly all products.
"""
