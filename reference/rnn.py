r"""The plain recurrent network (Elman's): the state is squashed into itself, step by step.

Letters: T steps, B sequences, I input features, H hidden units.

    a_t = x_t W + h_{t-1} U + bias,    h_t = phi(a_t),    y_t = h_t          phi = tanh, or relu

Backwards, a bar for the cotangent (`d` in the code). phi' is a function of h_t alone: 1 - h_t^2 for tanh, and 1 where
h_t > 0, else 0, for relu:

    hbar_t = ybar_t + abar_{t+1} U^T,    abar_t = hbar_t phi'(a_t)

from t = T down to 1; then, as for every recurrent network, one product for what is the same at every step:

    xbar = Abar W^T,   Wbar = X^T Abar,   Ubar = Hbefore^T Abar,   biasbar = sum of Abar over time and sequences

The way from h_T back to h_s is a product of T - s matrices diag(phi') U^T: it shrinks or grows like a power of U's
eigenvalues. That is why an LSTM has a line of its own for what is to be kept. Lengths, padding and `reverse` are those of
recurrent.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .activations import relu, relu_vjp
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


def _squash(a: Array, nonlinearity: str) -> Array:
    """phi(a)."""
    return relu(a) if nonlinearity == "relu" else array_namespace(a).tanh(a)


def _times_slope(dh: Array, h: Array, nonlinearity: str) -> Array:
    """dh phi'(a), from h = phi(a)."""
    return relu_vjp(dh, h, None)[0] if nonlinearity == "relu" else dh * (1.0 - h * h)


def rnn(
    x: Array, h: Array, w: Array, u: Array, b: Array, lengths: Array | None = None, *,
    nonlinearity: str = "tanh", reverse: bool = False,
) -> Two:  # fmt: skip
    """(ys, the last h). Shapes: (T, B, I), (B, H), (I, H), (H, H), (H) -> (T, B, H), (B, H).

    lengths: integers (B) from 0 to T; a sequence rests behind its length, and its outputs are zero there.
    """
    xp = array_namespace(x)

    def step(t: int, state: State) -> State:
        return (_squash(xp.matmul(x[t, ...], w) + xp.matmul(state[0], u) + b, nonlinearity),)

    _, after, (h_n,) = walk(step, (h,), x.shape[0], lengths, reverse=reverse)
    return without_padding(over_time([state[0] for state in after], h), lengths), h_n


def rnn_vjp(
    dy: Two, y: Any, x: Array, h: Array, w: Array, u: Array, b: Array, *lengths: Array | None,
    nonlinearity: str = "tanh", reverse: bool = False,
) -> tuple[Array | None, ...]:  # fmt: skip
    """hbar_t = ybar_t + abar_{t+1} U^T backwards through time; then the products over time."""
    dys, dh_n = dy
    xp, steps, ends = array_namespace(x), x.shape[0], lengths[0] if lengths else None
    x = without_padding(x, ends)
    a = xp.matmul(x, w) + b  # (T, B, H)
    das: list[Any] = [None] * steps

    def again(t: int, state: State) -> State:
        return (_squash(a[t, ...] + xp.matmul(state[0], u), nonlinearity),)

    def back(t: int, dstate: State) -> State:
        das[t] = _times_slope(dys[t, ...] + dstate[0], after[t][0], nonlinearity)
        return (xp.matmul(das[t], swap(u)),)

    before, after, _ = walk(again, (h,), steps, ends, reverse=reverse)
    _, _, (dh,) = walk(back, (dh_n,), steps, ends, reverse=not reverse)
    da = without_padding(over_time(das, h), ends)  # (T, B, H)
    dw, du = product_over_time(x, da), product_over_time(over_time([s[0] for s in before], h), da)
    return xp.matmul(da, swap(w)), dh, dw, du, xp.sum(da, axis=(0, 1)), *(None for _ in lengths)


def rnn_jvp(
    dinputs: tuple[Any, ...], y: Any, inputs: tuple[Any, ...], *, nonlinearity: str = "tanh", reverse: bool = False
) -> Two:
    """dh_t = phi'(a_t) (dx_t W + x_t dW + dh_{t-1} U + h_{t-1} dU + dbias). None stands still."""
    x, h, w, u, b, *lengths = inputs
    dx, dh, dw, du, db = still(dinputs, inputs[:5])
    xp, ends = array_namespace(x), lengths[0] if lengths else None

    def step(t: int, state: State) -> State:
        h, dh = state
        h_new = _squash(xp.matmul(x[t, ...], w) + xp.matmul(h, u) + b, nonlinearity)
        da = xp.matmul(dx[t, ...], w) + xp.matmul(x[t, ...], dw) + xp.matmul(dh, u) + xp.matmul(h, du) + db
        return h_new, _times_slope(da, h_new, nonlinearity)

    _, after, (_, dh_n) = walk(step, (h, dh), x.shape[0], ends, reverse=reverse)
    return without_padding(over_time([state[1] for state in after], h), ends), dh_n


def rnn_definition(
    x: Array, h: Array, w: Array, u: Array, b: Array, lengths: Array | None = None, *,
    nonlinearity: str = "tanh", reverse: bool = False,
) -> tuple[Array, ...]:  # fmt: skip
    """One unit of one sequence at a time."""

    def cell(x_t: Array, state: State) -> State:
        h_new = np.empty_like(state[0])
        for unit in range(h_new.shape[1]):
            terms = [float(v) * float(k) for v, k in zip(x_t[0], w[:, unit], strict=True)]
            terms += [float(v) * float(k) for v, k in zip(state[0][0], u[:, unit], strict=True)]
            a = math.fsum([*terms, float(b[unit])])
            h_new[0, unit] = math.tanh(a) if nonlinearity == "tanh" else 0.0 if a < 0.0 else a
        return (h_new,)

    return each_on_its_own(cell, x, (h,), lengths, reverse)


# ---- the row


def _check(*specs: Any, nonlinearity: str = "tanh", reverse: bool = False) -> None:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"rnn: nonlinearity is {nonlinearity!r}, but it must be 'tanh' or 'relu'")


def _draw(rng: np.random.Generator) -> Sample:
    return draw(rng, states=1, gates=1, biases=1, nonlinearity=str(rng.choice(("tanh", "relu"))))


def _tolerance(x: Array, h: Array, *rest: Any, **params: Any) -> float:
    ys, h_n = rnn(x, h, *rest, **params)
    return tolerance((ys, h_n), x, h, ys)  # with relu the states are as large as the terms that they are sums of


def _cost(x: Any, h: Any, w: Any, u: Any, b: Any, lengths: Any = None, **params: Any) -> tuple[int, int]:
    steps, rows = x.shape[:2]
    return steps * (2 * rows * (w.size + u.size) + 2 * h.size), x.size + (steps + 2) * h.size + w.size + u.size + b.size


def _slope_of_the_output(dy: Two, y: Any, x: Array, h: Array, w: Array, u: Array, b: Array, *lengths: Any,
                         nonlinearity: str = "tanh", reverse: bool = False) -> tuple[Any, ...]:  # fmt: skip
    """phi' twice: once before ybar and hbar are added, once after."""
    ys, h_n = rnn(x, h, w, u, b, *lengths, nonlinearity=nonlinearity, reverse=reverse)
    steeper = (_times_slope(dy[0], ys, nonlinearity), 1.5 * _times_slope(dy[1], h_n, nonlinearity))
    return rnn_vjp(steeper, y, x, h, w, u, b, *lengths, nonlinearity=nonlinearity, reverse=reverse)


_LONG = (np.arange(8.0).reshape(4, 2, 1) / 8, np.array([[0.5], [-0.5]]))
_WEIGHTS = (np.array([[1.0]]), np.array([[0.5]]), np.array([0.25]))

RNN = Op(
    "rnn",
    rnn,
    rnn_vjp,
    rnn_jvp,
    inputs=("x", "h", "w", "u", "b", "lengths"),
    outputs=("ys", "h_n"),
    reads=("x", "h", "w", "u", "b", "lengths"),
    nondiff=("lengths",),
    definition=rnn_definition,
    signature="(t,b,i),(b,h),(i,h),(h,h),(h),(b):int?->(t,b,h),(b,h)",
    check=_check,
    draw=_draw,
    analytic=False,
    formula=r"h_t = \phi(x_t W + h_{t-1} U + b), \quad y_t = h_t, \quad \phi = \tanh \text{ or relu}",
    gradient=r"\bar a_t = (\bar y_t + \bar a_{t+1} U^T) \odot \phi'(a_t), \quad"
    r" \bar W = X^T \bar A, \quad \bar U = H_{t-1}^T \bar A",
    samples=(
        Sample((*_LONG, *_WEIGHTS), {}, "two sequences, four steps"),
        Sample((*_LONG, *_WEIGHTS), {"nonlinearity": "relu", "reverse": True}, "relu, from the last step to the first"),
        Sample(
            (*_LONG, *_WEIGHTS, np.array([4, 2])), {"reverse": True}, "reversed, each begins at its own last element"
        ),
        Sample((*_LONG, *_WEIGHTS, np.array([0, 3])), {}, "a sequence without an element: its state stays"),
        Sample(
            (np.ones((3, 1, 1)), np.zeros((1, 1)), np.zeros((1, 1)), np.ones((1, 1)), np.zeros(1)),
            {"nonlinearity": "relu"},
            "at the kink of relu its slope is 0",
        ),
        Sample((np.zeros((0, 2, 1)), _LONG[1], *_WEIGHTS), {}, "no steps: the last state is the first"),
    ),
    laws=("padding_is_unseen", "reverse_reads_backwards", "goes_on_from_its_state"),
    wrong={**wrongs(rnn_vjp, 1), "multiplies with phi' twice where a cotangent enters": _slope_of_the_output},
    tolerance=_tolerance,
    cost=_cost,
    source="Elman 1990, Finding Structure in Time; Werbos 1990, Backpropagation Through Time; PyTorch's nn.RNN",
)
