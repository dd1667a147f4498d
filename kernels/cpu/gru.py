"""GRU over a sequence (Cho et al. 2014), parts r, z, n as in PyTorch; backpropagation through time.

    p_t = x_t W + b,   q_t = h_{t-1} U + b_u
    r = sigma(p_r + q_r),   z = sigma(p_z + q_z),   n = tanh(p_n + r q_n),   h_t = (1 - z) n + z h_{t-1},   y_t = h_t
back: d = dy_t + dh
    dp_n = d (1 - z) (1 - n^2),   dp_z = d (h_{t-1} - n) z (1 - z),   dp_r = dp_n q_n r (1 - r)
    dq = [dp_r, dp_z, r dp_n],   dh = d z + dq U^T

Residuals: r, z, n (T, B, 3H), in the memory of the input's product, q_n and the outputs (T, B, H). recurrent.py has what
is done for the whole sequence at once.
"""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import prange

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
    state_before,
    state_weight_gradient,
)  # fmt: skip
from .threads import PARALLEL_WORK, row_block

# Letters: T steps, B sequences, H hidden units. Here a step's arrays: q, gates, dp, dq (B, 3H), all others (B, H).


@jit()
def gru_step_01_naive(q, b_u, gates, h, q_n, y, t, ends):
    """The textbook, one unit after the other, with the library's exp and tanh."""
    B, H = y.shape
    one = y.dtype.type(1)
    for row in range(B):
        if t >= ends[row]:
            gates[row, :] = 0
            q_n[row, :] = 0
            y[row, :] = 0
            continue
        for j in range(H):
            r = one / (one + math.exp(-(gates[row, j] + q[row, j] + b_u[j])))
            z = one / (one + math.exp(-(gates[row, H + j] + q[row, H + j] + b_u[H + j])))
            q_n[row, j] = q[row, 2 * H + j] + b_u[2 * H + j]
            n = math.tanh(gates[row, 2 * H + j] + r * q_n[row, j])
            gates[row, j], gates[row, H + j], gates[row, 2 * H + j] = r, z, n
            y[row, j] = (one - z) * n + z * h[row, j]


@jit(fastmath=CONTRACT)
def gru_step_02_vector(q, b_u, gates, h, q_n, y, t, ends, first, last):
    """Polynomial exp and tanh in vector lanes: a loop over each part of a row, which stays in the cache. Rows first to last."""
    H = y.shape[1]
    one, zero = y.dtype.type(1), y.dtype.type(0)
    for row in range(first, last):
        p, h_row, q_n_row, y_row = gates[row], h[row], q_n[row], y[row]
        if t >= ends[row]:
            p[:] = zero
            q_n_row[:] = zero
            y_row[:] = zero
            continue
        q_row = q[row]
        r_and_z, r, z, n = p[: 2 * H], p[:H], p[H : 2 * H], p[2 * H :]
        for k in range(r_and_z.size):
            r_and_z[k] += q_row[k] + b_u[k]
        for k in range(r_and_z.size):
            r_and_z[k] = one / (one + exp(-r_and_z[k]))
        q_last, b_last = q_row[2 * H :], b_u[2 * H :]
        for j in range(q_n_row.size):
            q_n_row[j] = q_last[j] + b_last[j]
        for j in range(n.size):
            n[j] = tanh(n[j] + r[j] * q_n_row[j])
        for j in range(y_row.size):
            y_row[j] = (one - z[j]) * n[j] + z[j] * h_row[j]


@jit(parallel=True)
def gru_step_03_threads(q, b_u, gates, h, q_n, y, t, ends, block):
    """Blocks of rows on all threads."""
    B = y.shape[0]
    for index in prange((B + block - 1) // block):
        k = np.int64(index)  # not the unsigned index: one compiled version of the callee
        gru_step_02_vector(q, b_u, gates, h, q_n, y, t, ends, k * block, min(B, (k + 1) * block))


@jit()
def gru_step_vjp_01_naive(gates, q_n, h, dy, dh, dp, dq, t, ends):
    """The textbook, one unit after the other."""
    B, H = dy.shape
    one = dy.dtype.type(1)
    for row in range(B):
        if t >= ends[row]:
            dp[row, :] = 0
            dq[row, :] = 0
            continue
        for j in range(H):
            r, z, n = gates[row, j], gates[row, H + j], gates[row, 2 * H + j]
            d = dy[row, j] + dh[row, j]
            dp_n = d * (one - z) * (one - n * n)
            dp_r, dp_z = dp_n * q_n[row, j] * r * (one - r), d * (h[row, j] - n) * z * (one - z)
            dp[row, j], dp[row, H + j], dp[row, 2 * H + j] = dp_r, dp_z, dp_n
            dq[row, j], dq[row, H + j], dq[row, 2 * H + j] = dp_r, dp_z, r * dp_n
            dh[row, j] = d * z


@jit(fastmath=CONTRACT)
def gru_step_vjp_02_vector(gates, q_n, h, dy, dh, dp, dq, t, ends, first, last):
    """In vector lanes: a loop for each of the results, since LLVM widens only what a few comparisons of addresses show to
    lie apart. Rows first to last. dh becomes d z where a sequence runs (the walk adds dq U^T).
    """
    H = dy.shape[1]
    one, zero = dy.dtype.type(1), dy.dtype.type(0)
    for row in range(first, last):
        dp_row, dq_row = dp[row], dq[row]
        if t >= ends[row]:
            dp_row[:] = zero
            dq_row[:] = zero
            continue
        p, q_n_row, h_row, dy_row, d = gates[row], q_n[row], h[row], dy[row], dh[row]
        r, z, n = p[:H], p[H : 2 * H], p[2 * H :]
        dp_r, dp_z, dp_n = dp_row[:H], dp_row[H : 2 * H], dp_row[2 * H :]
        for j in range(d.size):
            d[j] += dy_row[j]
        for j in range(dp_n.size):
            dp_n[j] = d[j] * (one - z[j]) * (one - n[j] * n[j])
        for j in range(dp_z.size):
            dp_z[j] = d[j] * (h_row[j] - n[j]) * z[j] * (one - z[j])
        for j in range(dp_r.size):
            dp_r[j] = dp_n[j] * q_n_row[j] * r[j] * (one - r[j])
        for k in range(2 * H):
            dq_row[k] = dp_row[k]
        dq_n = dq_row[2 * H :]
        for j in range(dq_n.size):
            dq_n[j] = r[j] * dp_n[j]
        for j in range(d.size):
            d[j] *= z[j]


@jit(parallel=True)
def gru_step_vjp_03_threads(gates, q_n, h, dy, dh, dp, dq, t, ends, block):
    """Blocks of rows on all threads."""
    B = dy.shape[0]
    for index in prange((B + block - 1) // block):
        k = np.int64(index)  # not the unsigned index: one compiled version of the callee
        gru_step_vjp_02_vector(gates, q_n, h, dy, dh, dp, dq, t, ends, k * block, min(B, (k + 1) * block))


def step(q: Any, b_u: Any, gates: Any, *rest: Any) -> None:
    """The production step: on all threads where it is worth it."""
    B, width = gates.shape
    if gates.size < PARALLEL_WORK:
        gru_step_02_vector(q, b_u, gates, *rest, 0, B)
    else:
        gru_step_03_threads(q, b_u, gates, *rest, row_block(B, width))


def step_vjp(gates: Any, *rest: Any) -> None:
    """The production step backwards."""
    B, width = gates.shape
    if gates.size < PARALLEL_WORK:
        gru_step_vjp_02_vector(gates, *rest, 0, B)
    else:
        gru_step_vjp_03_threads(gates, *rest, row_block(B, width))


def accepts(x: Any, h: Any, w: Any, u: Any, b: Any, b_u: Any, lengths: Any = None, *, reverse: bool = False) -> bool:
    return fits(x, w, u, (h,), (b, b_u), lengths) and u.shape[1] == 3 * u.shape[0]


def walk(
    x: np.ndarray, h: np.ndarray, w: np.ndarray, u: np.ndarray, b: np.ndarray, b_u: np.ndarray, lengths: Any, reverse: bool,
    project: Any, step: Any,
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:  # fmt: skip
    """Forward with these two parts of the ladder."""
    T, (B, H) = x.shape[0], h.shape
    ends = sequence_ends(lengths, x)
    ragged = bool(np.any(ends < T))
    gates = project(x, w, b)  # (T, B, 3H)
    ys, q_ns, q = np.empty((T, B, H), x.dtype), np.empty((T, B, H), x.dtype), np.empty((B, 3 * H), x.dtype)
    h, b_u, u = frozen(h), frozen(b_u), laid_out(u)
    for t in order(T, reverse):
        np.dot(h, u, out=q)
        step(q, b_u, gates[t], h, q_ns[t], ys[t], t, ends)
        h = state_after(ys[t], h, t, ends, ragged)
    return (ys, np.array(h, order="C")), (gates, q_ns, ys, ends)


def walk_back(
    dy: tuple[Any, Any], x: np.ndarray, h: np.ndarray, w: np.ndarray, u: np.ndarray, b: Any, b_u: Any,
    residuals: tuple[np.ndarray, ...], wanted: Any, into: Any, reverse: bool, step_vjp: Any,
) -> tuple:  # fmt: skip
    """Backward with this part of the ladder; then the products for the whole sequence."""
    gates, q_ns, ys, ends = residuals
    T, h, back = x.shape[0], frozen(h), laid_out(u.T)
    dys, dh = outputs_cotangent(dy[0], ys), start(dy[1], h)
    dp, dq = np.empty(gates.shape, x.dtype), np.empty(gates.shape, x.dtype)
    for t in order(T, not reverse):
        before = state_before(ys, h, t, ends, reverse)
        step_vjp(frozen(gates[t]), frozen(q_ns[t]), before, dys[t], dh, dp[t], dq[t], t, ends)
        dh += np.dot(dq[t], back)
    asked, offers = (tuple(each[k] for k in (0, 2, 4)) for each in (wanted, into))  # x, w, b
    dx, dw, db = input_gradients(dp, x, w, b, ends, asked, offers)
    du = state_weight_gradient(dq, ys, h, u, ends, reverse, into[3]) if wanted[3] else None
    _, _, db_u = input_gradients(dq, x, w, b_u, ends, (False, False, wanted[5]), (None, None, into[5]))
    return dx, dh if wanted[1] else None, dw, du, db, db_u


def pair(project: Any, step: Any, step_vjp: Any) -> SimpleNamespace:
    """forward, vjp and accepts from three parts of the ladder."""

    def forward(
        x: Any, h: Any, w: Any, u: Any, b: Any, b_u: Any, lengths: Any = None, *, reverse: bool = False
    ) -> tuple:
        """ys (T, B, H), the last h (B, H) of x (T, B, I), h (B, H), w (I, 3H), u (H, 3H), b, b_u (3H,), lengths (B,)."""
        return walk(x, h, w, u, b, b_u, lengths, reverse, project, step)

    def vjp(
        dy: Any, y: Any, x: Any, h: Any, w: Any, u: Any, b: Any, b_u: Any, *lengths: Any,
        residuals: Any, wanted: Any, into: Any, reverse: bool = False,
    ) -> tuple:  # fmt: skip
        """(dx, dh, dw, du, db, db_u[, None]); all but dh may be written to, or added to, the buffers lent for them."""
        gradients = walk_back(dy, x, h, w, u, b, b_u, residuals, wanted, into, reverse, step_vjp)
        return *gradients, *(None for _ in lengths)

    return SimpleNamespace(forward=forward, vjp=vjp, accepts=accepts)


_production = pair(projected, step, step_vjp)
forward, vjp = _production.forward, _production.vjp

RUNGS = {"numba 01_naive": pair(projected_by_step, gru_step_01_naive, gru_step_vjp_01_naive)}
"""The ladder's other rungs as pairs, so that they are checked and timed by name.

35 steps of (20, 200) float32 on one thread, processor time: forward 11.3 ms, production 5.5; backward 10 ms, which is
nearly all products.
"""
