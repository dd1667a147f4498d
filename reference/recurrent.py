r"""What recurrent networks share: a walk through time that stops where a sequence ends, forwards and backwards.

Letters: T steps, B sequences, I input features, H hidden units.

A cell makes the state s_t (one or more arrays (B, H), the first of them h_t) from x_t (B, I) and the state before it. A
batch holds sequences of different lengths, filled up to T with padding. In padding a sequence is at rest: with
m_t = (t < length), one truth value a sequence,

    s_t = cell(x_t, s_{t-1})  where m_t,  else s_{t-1}              y_t = h_t  where m_t,  else 0

so the last state of the walk is each sequence's own last state. In `reverse` the same walk goes from T - 1 down to 0: it
rests in the padding first, and reads every sequence from its own last element to its first.

Backpropagation through time is this walk in the other direction. h_t is read twice, as the output y_t and by the next
step, so its cotangent is a sum; a bar for the cotangent (`d` in the code), J_t for the cell's own Jacobian:

    sbar_{t-1} = J_t^T (sbar_t + [ybar_t, 0, ..])  where m_t,  else sbar_t

It begins with the cotangent of the last state and ends with that of the first. The weights are the same at every step, so
their cotangent is a sum over time, sum_t x_t^T zbar_t, which is one product: with T and B as one axis of rows, X^T Zbar.
In padding zbar is zero, and so is the x that it meets: 0 * NaN would be NaN, and padding may hold anything.

Source: Werbos 1990, Backpropagation Through Time: What It Does and How to Do It, Proceedings of the IEEE 78(10).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .namespace import Array, array_namespace, lines, swap
from .op import Sample

State = Any  # a tuple of arrays (B, H), the first of them h


# ---- the walk


def order(steps: int, reverse: bool) -> Sequence[int]:
    """0, 1, .. T - 1, or the other way round."""
    return range(steps - 1, -1, -1) if reverse else range(steps)


def walk(
    step: Callable[[int, State], State], state: State, steps: int, lengths: Array | None, *, reverse: bool
) -> tuple[list[State], list[State], State]:
    """(states before each step, states after it, the last one) of state = step(t, state) where t < lengths.

    Both lists are in the order of t, whichever way the walk goes.
    """
    before, after = [state] * steps, [state] * steps
    for t in order(steps, reverse):
        new = step(t, state)
        before[t] = state
        if lengths is not None:
            xp = array_namespace(lengths)
            runs = xp.expand_dims(lengths > t, axis=1)  # (B, 1)
            new = tuple(xp.where(runs, now, old) for now, old in zip(new, state, strict=True))
        state = after[t] = new
    return before, after, state


def over_time(parts: Sequence[Array], state: Array, parts_of_state: int = 1) -> Array:
    """T arrays as one, T times (B, k H) -> (T, B, k H), where `state` is (B, H). T may be zero."""
    xp, (rows, n) = array_namespace(state), state.shape
    return xp.stack(list(parts)) if parts else xp.zeros((0, rows, parts_of_state * n), dtype=state.dtype)


def without_padding(x: Array, lengths: Array | None) -> Array:
    """x (T, B, n), with zeros where t >= lengths."""
    if lengths is None:
        return x
    xp = array_namespace(x)
    t = xp.expand_dims(xp.arange(x.shape[0], dtype=lengths.dtype), axis=1)  # (T, 1)
    return xp.where(xp.expand_dims(t < lengths, axis=2), x, 0.0)


def product_over_time(x: Array, dz: Array) -> Array:
    """sum over t of x_t^T dz_t. Shapes: (T, B, n), (T, B, m) -> (n, m)."""
    return array_namespace(x).matmul(swap(lines(x)), lines(dz))


def still(dinputs: Sequence[Array | None], inputs: Sequence[Array]) -> list[Array]:
    """The directions, with zeros for inputs that stand still."""
    return [array_namespace(x).zeros_like(x) if dx is None else dx for dx, x in zip(dinputs, inputs, strict=False)]


# ---- the definition


def each_on_its_own(
    cell: Callable[[Array, State], State], x: Array, state: State, lengths: Array | None, reverse: bool
) -> tuple[Array, ...]:
    """(ys, the last state): every sequence is cut to its length and goes through the cell alone, one step at a time."""
    ys = np.zeros((*x.shape[:2], state[0].shape[1]))
    last = tuple(np.array(s) for s in state)
    for n in range(x.shape[1]):
        own = tuple(s[n : n + 1] for s in state)
        steps = range(x.shape[0] if lengths is None else min(int(lengths[n]), x.shape[0]))
        for t in reversed(steps) if reverse else steps:
            own = cell(x[t, n : n + 1], own)
            ys[t, n] = own[0][0]
        for s, end in zip(last, own, strict=True):
            s[n] = end[0]
    return ys, *last


# ---- draws, tolerances and wrong gradients


def draw(rng: np.random.Generator, *, states: int, gates: int, biases: int, **params: Any) -> Sample:
    """Random inputs (x, states, w, u, biases[, lengths]); mostly two to five steps, since one step has no past."""
    T = int(rng.integers(2, 6)) if rng.random() < 0.9 else 1
    B, I, H = (int(n) for n in rng.integers(1, 4, size=3))
    arrays: list[Any] = [rng.standard_normal((T, B, I)), *(rng.standard_normal((B, H)) for _ in range(states))]
    arrays += [0.7 * rng.standard_normal((n, gates * H)) for n in (I, H)]
    arrays += [0.5 * rng.standard_normal(gates * H) for _ in range(biases)]
    if rng.random() < 0.5:
        lengths = rng.integers(0, T + 1, B)
        lengths[int(rng.integers(B))] = T
        arrays.append(lengths)
    return Sample(tuple(arrays), {**params, "reverse": bool(rng.integers(2))}, "random")


def tolerance(ys: Sequence[Array], x: Array, h: Array, *states: Array) -> float:
    """Sums of I + H products, one after the other for T steps. A state is a sum of terms up to 1 (or the state before
    it) that may cancel, and its error stays that of the terms.
    """
    sizes = [float(np.max(np.abs(y), initial=0.0)) for y in ys]
    terms = max(1.0, *(float(np.max(np.abs(s), initial=0.0)) for s in (h, *states)))
    smallest = min((size for size in sizes if size > 0.0), default=terms)
    return (8.0 + x.shape[2] + h.shape[1]) * max(x.shape[0], 1) * max(1.0, terms / smallest)


def wrongs(vjp: Callable[..., tuple[Any, ...]], states: int) -> dict[str, Callable[..., tuple[Any, ...]]]:
    """Mistakes that every recurrent network invites, made of its right vjp. states: how many arrays a state is."""

    def forgets_last_state(dy: Any, y: Any, *inputs: Any, **params: Any) -> tuple[Any, ...]:
        return vjp((dy[0], *(0.0 * d for d in dy[1:])), y, *inputs, **params)

    def other_way(dy: Any, y: Any, *inputs: Any, reverse: bool, **params: Any) -> tuple[Any, ...]:
        return vjp(dy, y, *inputs, reverse=not reverse, **params)

    def constant_start(dy: Any, y: Any, *inputs: Any, **params: Any) -> tuple[Any, ...]:
        dx, *rest = vjp(dy, y, *inputs, **params)
        return dx, *(0.0 * d for d in rest[:states]), *rest[states:]

    def mean_over_time(dy: Any, y: Any, *inputs: Any, **params: Any) -> tuple[Any, ...]:
        head, tail = vjp(dy, y, *inputs, **params)[: 1 + states], vjp(dy, y, *inputs, **params)[1 + states :]
        return *head, *(d if d is None else d / (1 + inputs[0].shape[0]) for d in tail)

    return {
        "nothing comes back from the last state": forgets_last_state,
        "through time in the wrong direction": other_way,
        "the first state is taken for a constant": constant_start,
        "averages the weights' gradients over time": mean_over_time,
    }
