r"""LSTM: the cell of lstm_cell.py, walked through a sequence; backwards, backpropagation through time.

Letters: T steps, B sequences, I input features, H hidden units; gates in PyTorch's order i, f, g, o. With the state
(h_t, c_t) and for t = 1 .. T,

    (h_t, c_t) = lstm_cell(x_t, h_{t-1}, c_{t-1}),        y_t = h_t

that is z_t = x_t W + h_{t-1} U + bias, c_t = f_t c_{t-1} + i_t g_t, h_t = o_t tanh(c_t). Two lines lead from one step to
the next: h through the matrix U and all four gates, c through a product with f_t alone.

Backwards, a bar for the cotangent (`d` in the code) and v_t = tanh c_t. What arrives at h_t comes from the output and
from the step after it, what arrives at c_t from h_t and from the step after it:

    hbar_t     = ybar_t + zbar_{t+1} U^T
    e_t        = cbar_t + hbar_t o_t (1 - v_t^2)                      everything that flows through the cell
    zbar_t     = [e_t g_t i_t (1 - i_t),  e_t c_{t-1} f_t (1 - f_t),  e_t i_t (1 - g_t^2),  hbar_t v_t o_t (1 - o_t)]
    cbar_{t-1} = e_t f_t

from t = T, where the last term of hbar_T is the cotangent of the last h and cbar_T that of the last c, down to t = 1. So
dc_T / dc_s is the product of the forget gates between them: as long as they stay open (near 1) a gradient neither
vanishes nor explodes on this line, whatever U is. When all zbar_t are known, what is the same at every step is one product:

    xbar = Zbar W^T,   Wbar = X^T Zbar,   Ubar = Hbefore^T Zbar,   biasbar = sum of Zbar over time and sequences

with Hbefore = (h_0, .. h_{T-1}). Lengths, padding and `reverse` are those of recurrent.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .lstm_cell import activated, lstm_cell, lstm_cell_definition, lstm_cell_jvp, through_cell
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

Three = tuple[Array, Array, Array]


def lstm(
    x: Array, h: Array, c: Array, w: Array, u: Array, b: Array, lengths: Array | None = None, *, reverse: bool = False
) -> Three:
    """(ys, the last h, the last c). Shapes: (T, B, I), (B, H), (B, H), (I, 4H), (H, 4H), (4H) -> (T, B, H), (B, H), (B, H).

    lengths: integers (B) from 0 to T; a sequence rests behind its length, and its outputs are zero there.
    """

    def step(t: int, state: State) -> State:
        h, c = state
        return lstm_cell(x[t, ...], h, c, w, u, b)

    _, after, (h_n, c_n) = walk(step, (h, c), x.shape[0], lengths, reverse=reverse)
    return without_padding(over_time([state[0] for state in after], h), lengths), h_n, c_n


def lstm_vjp(
    dy: Three, y: Any, x: Array, h: Array, c: Array, w: Array, u: Array, b: Array, *lengths: Array | None,
    reverse: bool = False,
) -> tuple[Array | None, ...]:  # fmt: skip
    """The recurrences for hbar and cbar backwards through time; then the products over time."""
    dys, dh_n, dc_n = dy
    xp, steps, ends = array_namespace(x), x.shape[0], lengths[0] if lengths else None
    x = without_padding(x, ends)
    a = xp.matmul(x, w) + b  # (T, B, 4H)

    gates: list[Any] = [None] * steps
    dzs: list[Any] = [None] * steps

    def again(t: int, state: State) -> State:
        i, f, g, o = gates[t] = activated(a[t, ...] + xp.matmul(state[0], u))
        c_new = f * state[1] + i * g
        return o * xp.tanh(c_new), c_new

    def back(t: int, dstate: State) -> State:
        dzs[t], dc = through_cell(dys[t, ...] + dstate[0], dstate[1], before[t][1], after[t][1], gates[t])
        return xp.matmul(dzs[t], swap(u)), dc

    before, after, _ = walk(again, (h, c), steps, ends, reverse=reverse)
    _, _, (dh, dc) = walk(back, (dh_n, dc_n), steps, ends, reverse=not reverse)
    dz = without_padding(over_time(dzs, h, 4), ends)  # (T, B, 4H)
    dw, du = product_over_time(x, dz), product_over_time(over_time([s[0] for s in before], h), dz)
    return xp.matmul(dz, swap(w)), dh, dc, dw, du, xp.sum(dz, axis=(0, 1)), *(None for _ in lengths)


def lstm_jvp(dinputs: tuple[Any, ...], y: Any, inputs: tuple[Any, ...], *, reverse: bool = False) -> Three:
    """The state and its direction walk together, each step by lstm_cell's own jvp. None stands still."""
    x, h, c, w, u, b, *lengths = inputs
    dx, dh, dc, dw, du, db = still(dinputs, inputs[:6])
    ends = lengths[0] if lengths else None

    def step(t: int, state: State) -> State:
        h, c, dh, dc = state
        here = (x[t, ...], h, c, w, u, b)
        new = lstm_cell(*here)
        return *new, *lstm_cell_jvp((dx[t, ...], dh, dc, dw, du, db), new, here)

    _, after, (_, _, dh_n, dc_n) = walk(step, (h, c, dh, dc), x.shape[0], ends, reverse=reverse)
    return without_padding(over_time([state[2] for state in after], h), ends), dh_n, dc_n


def lstm_definition(
    x: Array, h: Array, c: Array, w: Array, u: Array, b: Array, lengths: Array | None = None, *, reverse: bool = False
) -> tuple[Array, ...]:
    """lstm_cell's definition, step by step, for each sequence on its own."""

    def cell(x_t: Array, state: State) -> State:
        h, c = state
        return lstm_cell_definition(x_t, h, c, w, u, b)

    return each_on_its_own(cell, x, (h, c), lengths, reverse)


# ---- the row


def _tolerance(x: Array, h: Array, c: Array, *rest: Any, **params: Any) -> float:
    return tolerance(lstm(x, h, c, *rest, **params), x, h, c)


def _cost(x: Any, h: Any, c: Any, w: Any, u: Any, b: Any, lengths: Any = None, **params: Any) -> tuple[int, int]:
    steps, rows = x.shape[:2]
    return steps * (2 * rows * (w.size + u.size) + 30 * h.size), x.size + (
        steps + 4
    ) * h.size + w.size + u.size + b.size


def _wrong(kind: str) -> Any:
    """The right vjp of a sequence, each step of which forgets one of the two lines between steps."""

    def vjp(
        dy: Three,
        y: Any,
        x: Array,
        h: Array,
        c: Array,
        w: Array,
        u: Array,
        b: Array,
        *lengths: Any,
        reverse: bool = False,
    ) -> tuple[Any, ...]:
        ends = lengths[0] if lengths else np.full(x.shape[1], x.shape[0])
        zeros = np.zeros_like(h)
        total = [np.zeros_like(a) for a in (x, h, c, w, u, b)]
        carried_h, carried_c = dy[1], dy[2]
        states: list[tuple[int, Array, Array]] = []
        for t in range(x.shape[0])[:: -1 if reverse else 1]:
            states.append((t, h, c))
            _, h, c = lstm(x[t : t + 1], h, c, w, u, b, (ends > t).astype(int))
        for t, h, c in states[::-1]:
            cotangents = (dy[0][t : t + 1], carried_h, carried_c)
            inputs = (x[t : t + 1], h, c, w, u, b, (ends > t).astype(int))
            one_step: tuple[Any, ...] = lstm_vjp(cotangents, None, *inputs)
            dx, dh, dc, *dweights, _ = one_step
            total[0][t] = dx[0]
            for k, d in enumerate(dweights, start=3):
                total[k] += d
            carried_h = zeros if kind == "no gradient through U to the step before" else dh
            carried_c = zeros if kind == "no gradient through the cell to the step before" else dc
        return total[0], carried_h, carried_c, *total[3:], *(None for _ in lengths)

    return vjp


_LONG = (np.arange(8.0).reshape(4, 2, 1) / 8, np.array([[0.5], [-0.5]]), np.array([[1.0], [-2.0]]))
_WEIGHTS = (np.array([[1.0, -1.0, 0.5, 2.0]]), np.array([[0.5, 1.0, -1.0, 0.25]]), np.array([0.0, 1.0, 0.0, -0.5]))
_KEPT = (np.zeros((1, 4)), np.zeros((1, 4)), np.array([-50.0, 50.0, 1.0, 50.0]))
_SPOILT = np.where(np.arange(4)[:, None, None] < np.array([4, 2])[:, None], _LONG[0], np.nan)

LSTM = Op(
    "lstm",
    lstm,
    lstm_vjp,
    lstm_jvp,
    inputs=("x", "h", "c", "w", "u", "b", "lengths"),
    outputs=("ys", "h_n", "c_n"),
    reads=("x", "h", "c", "w", "u", "b", "lengths"),
    nondiff=("lengths",),
    definition=lstm_definition,
    signature="(t,b,i),(b,h),(b,h),(i,4h),(h,4h),(4h),(b):int?->(t,b,h),(b,h),(b,h)",
    draw=lambda rng: draw(rng, states=2, gates=4, biases=1),
    formula=r"(h_t, c_t) = \mathrm{lstm\_cell}(x_t, h_{t-1}, c_{t-1}), \quad y_t = h_t",
    gradient=r"\bar h_t = \bar y_t + \bar z_{t+1} U^T, \quad"
    r" e_t = \bar c_t + \bar h_t \odot o_t \odot (1 - \tanh^2 c_t), \quad \bar c_{t-1} = e_t \odot f_t, \quad"
    r" \bar W = X^T \bar Z, \quad \bar U = H_{t-1}^T \bar Z",
    samples=(
        Sample((*_LONG, *_WEIGHTS), {}, "two sequences, four steps"),
        Sample((*_LONG, *_WEIGHTS), {"reverse": True}, "from the last step to the first"),
        Sample((*_LONG, *_WEIGHTS, np.array([4, 2])), {}, "the second sequence is shorter: its state stops there"),
        Sample(
            (*_LONG, *_WEIGHTS, np.array([4, 2])), {"reverse": True}, "reversed, each begins at its own last element"
        ),
        Sample((_SPOILT, *_LONG[1:], *_WEIGHTS, np.array([4, 2])), {}, "NaN in the padding is never seen"),
        Sample((*_LONG, *_WEIGHTS, np.array([0, 0])), {}, "no sequence has an element: the state stays"),
        Sample((*_LONG, *_KEPT), {}, "closed input and open forget gates: the cell is kept for all steps"),
        Sample((np.zeros((0, 2, 1)), *_LONG[1:], *_WEIGHTS), {}, "no steps: the last state is the first"),
        Sample((np.zeros((3, 0, 1)), np.zeros((0, 1)), np.zeros((0, 1)), *_WEIGHTS), {}, "no sequences"),
    ),
    laws=("bounded_by_one", "padding_is_unseen", "reverse_reads_backwards", "goes_on_from_its_state"),
    wrong={
        **wrongs(lstm_vjp, 2),
        **{
            kind: _wrong(kind)
            for kind in (
                "no gradient through U to the step before",
                "no gradient through the cell to the step before",
            )
        },
    },
    tolerance=_tolerance,
    cost=_cost,
    source="Hochreiter and Schmidhuber 1997, Long Short-Term Memory; Gers, Schmidhuber and Cummins 2000; PyTorch's nn.LSTM",
)
