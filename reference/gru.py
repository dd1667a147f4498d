r"""GRU: a cell with two gates and one state, walked through a sequence; backwards, backpropagation through time.

Letters: T steps, B sequences, I input features, H hidden units; parts in PyTorch's order r, z, n. At step t, with h the
state before it (h_{t-1}), what comes from the input and what comes from the state are kept apart:

    p = x W + b        (B, 3H)    p = [p_r, p_z, p_n], (B, H) each
    q = h U + b_u      (B, 3H)    q = [q_r, q_z, q_n]
    r = sigma(p_r + q_r)                       reset gate: how much of the past the candidate sees
    z = sigma(p_z + q_z)                       update gate: how much of the past is kept
    n = tanh(p_n + r q_n)                      the candidate, between -1 and 1
    h' = (1 - z) n + z h                       a weighted mean of the candidate and the past

Here r acts after the product with U, as in cuDNN and PyTorch, so that one product serves all three parts and b_u cannot be
added to b; in the paper r acts on h before it.

Backwards, a bar for the cotangent (`d` in the code). h' reads h in three ways: through the mean, through q, and y_t is h'
itself, so hbar'_t = ybar_t + what the step after sends back:

    nbar = hbar' (1 - z),   zbar = hbar' (h - n)
    pbar_n = nbar (1 - n^2),   rbar = pbar_n q_n                       n reads r and q_n as the product r q_n
    pbar_r = rbar r (1 - r),   pbar_z = zbar z (1 - z)
    pbar = [pbar_r, pbar_z, pbar_n],   qbar = [pbar_r, pbar_z, r pbar_n]
    hbar = hbar' z + qbar U^T                  the highway (no matrix, no squashing), and the way through the gates

and at the end, with all steps one below the other and Hbefore = (h_0, .. h_{T-1}):

    xbar = Pbar W^T,   Wbar = X^T Pbar,   bbar = sum of Pbar,   Ubar = Hbefore^T Qbar,   b_ubar = sum of Qbar

Lengths, padding and `reverse` are those of recurrent.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .lstm_cell import sigmoid
from .namespace import Array, array_namespace, swap
from .op import Op, Sample
from .recurrent import (  # fmt: skip
    State,
    draw,
    each_on_its_own,
    over_time,
    product_over_time,
    still,
    tolerance,
    walk,
    without_padding,
    wrongs,
)

Two = tuple[Array, Array]
Three = tuple[Array, Array, Array]


# ---- the cell


def _thirds(p: Array) -> Three:
    """(B, 3H) -> three parts (B, H)."""
    n = p.shape[-1] // 3
    return p[:, :n], p[:, n : 2 * n], p[:, 2 * n :]


def _gates(p: Array, q: Array) -> Three:
    """r, z, n: (B, H) each."""
    (p_r, p_z, p_n), (q_r, q_z, q_n) = _thirds(p), _thirds(q)
    r = sigmoid(p_r + q_r)
    return r, sigmoid(p_z + q_z), array_namespace(p).tanh(p_n + r * q_n)


def _mean(gates: Three, h: Array) -> Array:
    """h' = (1 - z) n + z h."""
    _, z, n = gates
    return (1.0 - z) * n + z * h


def _through_cell(dh_new: Array, gates: Three, q: Array, h: Array) -> Three:
    """(pbar, qbar, the highway's part of hbar): (B, 3H), (B, 3H), (B, H)."""
    (r, z, n), xp = gates, array_namespace(h)
    dp_n = dh_new * (1.0 - z) * (1.0 - n * n)
    dp_z = dh_new * (h - n) * z * (1.0 - z)
    dp_r = dp_n * _thirds(q)[2] * r * (1.0 - r)
    return xp.concat([dp_r, dp_z, dp_n], axis=-1), xp.concat([dp_r, dp_z, r * dp_n], axis=-1), dh_new * z


# ---- the sequence


def gru(
    x: Array, h: Array, w: Array, u: Array, b: Array, b_u: Array, lengths: Array | None = None, *, reverse: bool = False
) -> Two:
    """(ys, the last h). Shapes: (T, B, I), (B, H), (I, 3H), (H, 3H), (3H), (3H) -> (T, B, H), (B, H).

    lengths: integers (B) from 0 to T; a sequence rests behind its length, and its outputs are zero there.
    """
    xp = array_namespace(x)

    def step(t: int, state: State) -> State:
        (h,) = state
        return (_mean(_gates(xp.matmul(x[t, ...], w) + b, xp.matmul(h, u) + b_u), h),)

    _, after, (h_n,) = walk(step, (h,), x.shape[0], lengths, reverse=reverse)
    return without_padding(over_time([state[0] for state in after], h), lengths), h_n


def gru_vjp(
    dy: Two, y: Any, x: Array, h: Array, w: Array, u: Array, b: Array, b_u: Array, *lengths: Array | None,
    reverse: bool = False,
) -> tuple[Array | None, ...]:  # fmt: skip
    """The recurrence for hbar backwards through time; then the products over time."""
    dys, dh_n = dy
    xp, steps, ends = array_namespace(x), x.shape[0], lengths[0] if lengths else None
    x = without_padding(x, ends)
    p = xp.matmul(x, w) + b  # (T, B, 3H)
    nothing: list[Any] = [None] * steps
    qs, gates, dps, dqs = (list(nothing) for _ in range(4))

    def again(t: int, state: State) -> State:
        qs[t] = xp.matmul(state[0], u) + b_u
        gates[t] = _gates(p[t, ...], qs[t])
        return (_mean(gates[t], state[0]),)

    def back(t: int, dstate: State) -> State:
        dps[t], dqs[t], dh = _through_cell(dys[t, ...] + dstate[0], gates[t], qs[t], before[t][0])
        return (dh + xp.matmul(dqs[t], swap(u)),)

    before, _, _ = walk(again, (h,), steps, ends, reverse=reverse)
    _, _, (dh,) = walk(back, (dh_n,), steps, ends, reverse=not reverse)
    dp, dq = (without_padding(over_time(parts, h, 3), ends) for parts in (dps, dqs))  # (T, B, 3H)
    dw, du = product_over_time(x, dp), product_over_time(over_time([s[0] for s in before], h), dq)
    db, db_u = xp.sum(dp, axis=(0, 1)), xp.sum(dq, axis=(0, 1))
    return xp.matmul(dp, swap(w)), dh, dw, du, db, db_u, *(None for _ in lengths)


def gru_jvp(dinputs: tuple[Any, ...], y: Any, inputs: tuple[Any, ...], *, reverse: bool = False) -> Two:
    """The product rule through the cell, step by step. None stands still."""
    x, h, w, u, b, b_u, *lengths = inputs
    dx, dh, dw, du, db, db_u = still(dinputs, inputs[:6])
    xp, ends = array_namespace(x), lengths[0] if lengths else None

    def step(t: int, state: State) -> State:
        h, dh = state
        q = xp.matmul(h, u) + b_u
        gates = r, z, n = _gates(xp.matmul(x[t, ...], w) + b, q)
        dp_r, dp_z, dp_n = _thirds(xp.matmul(dx[t, ...], w) + xp.matmul(x[t, ...], dw) + db)
        dq_r, dq_z, dq_n = _thirds(xp.matmul(dh, u) + xp.matmul(h, du) + db_u)
        dr, dz = r * (1.0 - r) * (dp_r + dq_r), z * (1.0 - z) * (dp_z + dq_z)
        dn = (1.0 - n * n) * (dp_n + dr * _thirds(q)[2] + r * dq_n)
        return _mean(gates, h), (1.0 - z) * dn + (h - n) * dz + z * dh

    _, after, (_, dh_n) = walk(step, (h, dh), x.shape[0], ends, reverse=reverse)
    return without_padding(over_time([state[1] for state in after], h), ends), dh_n


def gru_definition(
    x: Array, h: Array, w: Array, u: Array, b: Array, b_u: Array, lengths: Array | None = None, *, reverse: bool = False
) -> tuple[Array, ...]:
    """One unit of one sequence at a time."""

    def sigma(v: float) -> float:
        return 1 / (1 + math.exp(-v)) if v >= 0 else math.exp(v) / (1 + math.exp(v))

    def affine(row: Array, matrix: Array, bias: Array, column: int) -> float:
        return math.fsum(
            [*(float(v) * float(k) for v, k in zip(row, matrix[:, column], strict=True)), float(bias[column])]
        )

    def cell(x_t: Array, state: State) -> State:
        (before,) = state[0]
        h_new, size = np.empty_like(state[0]), len(before)
        for unit in range(size):
            p = [affine(x_t[0], w, b, k * size + unit) for k in range(3)]
            q = [affine(before, u, b_u, k * size + unit) for k in range(3)]
            r, z = sigma(p[0] + q[0]), sigma(p[1] + q[1])
            h_new[0, unit] = (1 - z) * math.tanh(p[2] + r * q[2]) + z * float(before[unit])
        return (h_new,)

    return each_on_its_own(cell, x, (h,), lengths, reverse)


# ---- the row


def _tolerance(x: Array, h: Array, *rest: Any, **params: Any) -> float:
    return tolerance(gru(x, h, *rest, **params), x, h)


def _cost(x: Any, h: Any, w: Any, u: Any, b: Any, b_u: Any, lengths: Any = None, **params: Any) -> tuple[int, int]:
    steps, rows = x.shape[:2]
    read = x.size + w.size + u.size + 2 * b.size
    return steps * (2 * rows * (w.size + u.size) + 30 * h.size), read + (steps + 2) * h.size


def _one_bias(dy: Two, y: Any, *inputs: Any, **params: Any) -> tuple[Any, ...]:
    dx, dh, dw, du, db, _, *rest = gru_vjp(dy, y, *inputs, **params)
    return dx, dh, dw, du, db, db, *rest


def _kept_is_new(dy: Two, y: Any, *inputs: Any, **params: Any) -> tuple[Any, ...]:
    """r and z change places on the way back."""

    def swapped(a: Array) -> Array:
        r, z, n = np.split(a, 3, axis=-1)
        return np.concatenate([z, r, n], axis=-1)

    dx, dh, dw, du, db, db_u, *rest = gru_vjp(dy, y, *inputs, **params)
    return dx, dh, swapped(dw), swapped(du), swapped(db), swapped(db_u), *rest


_LONG = (np.arange(8.0).reshape(4, 2, 1) / 8, np.array([[0.5], [-0.5]]))
_WEIGHTS = (
    np.array([[1.0, -1.0, 0.5]]),
    np.array([[0.5, 1.0, -1.0]]),
    np.array([0.0, 1.0, 0.5]),
    np.array([0.5, 0.0, 1.0]),
)
_KEPT = (np.zeros((1, 3)), np.zeros((1, 3)), np.array([0.0, 50.0, 1.0]), np.zeros(3))

GRU = Op(
    "gru",
    gru,
    gru_vjp,
    gru_jvp,
    inputs=("x", "h", "w", "u", "b", "b_u", "lengths"),
    outputs=("ys", "h_n"),
    reads=("x", "h", "w", "u", "b", "b_u", "lengths"),
    nondiff=("lengths",),
    definition=gru_definition,
    signature="(t,b,i),(b,h),(i,3h),(h,3h),(3h),(3h),(b):int?->(t,b,h),(b,h)",
    draw=lambda rng: draw(rng, states=1, gates=3, biases=2),
    formula=r"h_t = (1 - z) \odot n + z \odot h_{t-1}, \quad n = \tanh(p_n + r \odot q_n), \quad"
    r" r = \sigma(p_r + q_r), \quad z = \sigma(p_z + q_z), \quad p = x_t W + b, \quad q = h_{t-1} U + b_u",
    gradient=r"\bar p_n = \bar h_t (1 - z)(1 - n^2), \quad \bar p_z = \bar h_t (h_{t-1} - n) z (1 - z), \quad"
    r" \bar p_r = \bar p_n q_n r (1 - r), \quad \bar q = [\bar p_r, \bar p_z, r \bar p_n], \quad"
    r" \bar h_{t-1} = \bar h_t z + \bar q U^T",
    samples=(
        Sample((*_LONG, *_WEIGHTS), {}, "two sequences, four steps"),
        Sample((*_LONG, *_WEIGHTS), {"reverse": True}, "from the last step to the first"),
        Sample((*_LONG, *_WEIGHTS, np.array([4, 2])), {}, "the second sequence is shorter: its state stops there"),
        Sample(
            (*_LONG, *_WEIGHTS, np.array([2, 4])), {"reverse": True}, "reversed, each begins at its own last element"
        ),
        Sample((*_LONG, *_WEIGHTS, np.array([0, 0])), {}, "no sequence has an element: the state stays"),
        Sample((*_LONG, *_KEPT), {}, "update gate at one: the past is kept for all steps"),
        Sample((np.zeros((0, 2, 1)), _LONG[1], *_WEIGHTS), {}, "no steps: the last state is the first"),
    ),
    laws=("padding_is_unseen", "reverse_reads_backwards", "goes_on_from_its_state"),
    wrong={
        **wrongs(gru_vjp, 1),
        "takes both biases for one": _one_bias,
        "exchanges the gates": _kept_is_new,
    },
    tolerance=_tolerance,
    cost=_cost,
    source="Cho et al. 2014, Learning Phrase Representations using RNN Encoder-Decoder; PyTorch's nn.GRU (where r acts)",
)
