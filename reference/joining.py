r"""Several arrays as one, and one as several.

    stack    y_i.. = (x_i)..                          side by side along a new axis
    split    (y_0, y_1, ..) with  x = concat(y)       cut into consecutive pieces along an axis

Both only move numbers, each to exactly one place, so the transpose moves the cotangents back: that of stack takes the
slices apart again, that of split joins the pieces. A piece that nobody used arrives with a cotangent of zeros. Both are
linear: the jvp is the operation itself, applied to the directions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .axes import along
from .elementwise import random_shape
from .namespace import Array, array_namespace
from .op import Op, Sample

# ---- stack


def stack(*xs: Array, axis: int) -> Array:
    """Arrays of one shape along a new axis. Shapes: m times (.., ..) -> (.., m, ..), with m at `axis` of the result."""
    return array_namespace(xs[0]).stack(list(xs), axis=axis)


def stack_vjp(dy: Array, y: Any, *xs: Any, axis: int) -> tuple[Array, ...]:
    """dx_i = dy at i along `axis`."""
    return tuple(dy[along(axis, dy.ndim, i)] for i in range(len(xs)))


def stack_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...], *, axis: int) -> Array:
    """dy = the directions, stacked; an input that stands still has the direction None: zeros."""
    xp = array_namespace(y)
    return stack(*(xp.zeros_like(x) if dx is None else dx for dx, x in zip(dinputs, inputs, strict=True)), axis=axis)


def stack_definition(*xs: Array, axis: int) -> Array:
    """One number at a time."""
    at = axis % (xs[0].ndim + 1)
    y = np.empty((*xs[0].shape[:at], len(xs), *xs[0].shape[at:]), xs[0].dtype)
    for i, x in enumerate(xs):
        for place in np.ndindex(x.shape):
            y[(*place[:at], i, *place[at:])] = x[place]
    return y


# ---- split


def split(x: Array, *, sections: tuple[int, ...], axis: int) -> tuple[Array, ...]:
    """Consecutive pieces of x, of the lengths `sections`. Shapes: (.., n_0 + n_1 + .., ..) -> (.., n_0, ..), .."""
    pieces, start = [], 0
    for n in sections:
        pieces.append(x[along(axis, x.ndim, slice(start, start + n))])
        start += n
    return tuple(pieces)


def split_vjp(dys: tuple[Array, ...], ys: Any, x: Any, *, sections: tuple[int, ...], axis: int) -> tuple[Array]:
    """dx = the cotangents of the pieces, one after the other."""
    return (array_namespace(dys[0]).concat(list(dys), axis=axis),)


def split_jvp(
    dinputs: tuple[Array], ys: Any, inputs: tuple[Array], *, sections: tuple[int, ...], axis: int
) -> tuple[Array, ...]:
    """dy_i = dx, cut in the same places."""
    return split(dinputs[0], sections=sections, axis=axis)


def split_definition(x: Array, *, sections: tuple[int, ...], axis: int) -> tuple[Array, ...]:
    """One number at a time."""
    at = axis % x.ndim
    ys, start = [], 0
    for n in sections:
        y = np.empty((*x.shape[:at], n, *x.shape[at + 1 :]), x.dtype)
        for place in np.ndindex(y.shape):
            y[place] = x[(*place[:at], start + place[at], *place[at + 1 :])]
        ys.append(y)
        start += n
    return tuple(ys)


# ---- checks and draws


def _check_stack(*xs: Any, axis: int) -> None:
    if not xs:
        raise TypeError("stack: got no arrays, but it takes at least one")
    first = tuple(xs[0].shape)
    if not -len(first) - 1 <= axis <= len(first):
        raise ValueError(f"stack: axis is {axis}, but the result of stacking {first} has {len(first) + 1} axes")
    for i, x in enumerate(xs):
        if tuple(x.shape) != first:
            raise ValueError(
                f"stack: xs[{i}] has shape {tuple(x.shape)}, but xs[0] has {first}, and they must be alike"
            )


def _check_split(x: Any, *, sections: tuple[int, ...], axis: int) -> None:
    shape = tuple(x.shape)
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"split: axis is {axis}, but x has shape {shape} and so no such axis")
    if not sections or min(sections) < 0 or sum(sections) != shape[axis]:
        wanted = f"it must hold lengths that add up to the {shape[axis]} of axis {axis} of x {shape}"
        raise ValueError(f"split: sections is {sections}, but {wanted}")


def _draw_stack(rng: np.random.Generator) -> Sample:
    """A third of them square, where stacking along another axis has the same shape."""
    shape, m = random_shape(rng), int(rng.choice((1, 2, 2, 3, 3)))
    if rng.integers(3) == 0:
        shape, m = (2, 2), 2
    axis = int(rng.integers(-len(shape) - 1, len(shape) + 1))
    return Sample(tuple(rng.standard_normal(shape) for _ in range(m)), {"axis": axis}, "random")


def _draw_split(rng: np.random.Generator) -> Sample:
    """One to four pieces; a piece may be empty."""
    sections = tuple(int(n) for n in rng.integers(0, 5, size=rng.integers(1, 5)))
    shape = list(random_shape(rng)[:2])
    at = int(rng.integers(0, len(shape) + 1))
    shape.insert(at, sum(sections))
    axis = at - len(shape) if rng.integers(2) else at
    return Sample((rng.standard_normal(shape),), {"sections": sections, "axis": axis}, "random")


def _joined(change: Callable[[list[Array], int], list[Array]]) -> Callable[..., tuple[Array]]:
    """A wrong vjp of split: the pieces joined after `change`."""

    def vjp(dys: Any, ys: Any, x: Any, *, sections: tuple[int, ...], axis: int) -> tuple[Array]:
        return (np.concat(change(list(dys), axis), axis=axis),)

    return vjp


STACK = Op(
    "stack",
    stack,
    stack_vjp,
    stack_jvp,
    inputs=("*xs",),
    definition=stack_definition,
    signature=None,
    check=_check_stack,
    draw=_draw_stack,
    formula=r"y_{i \dots} = (x_i)_{\dots}",
    gradient=r"\bar x_i = \bar y_{i \dots}",
    samples=(
        Sample((np.ones((2, 3)), np.zeros((2, 3))), {"axis": 0}, "a new axis in front"),
        Sample(
            (np.arange(4.0).reshape(2, 2), np.arange(4.0, 8.0).reshape(2, 2)), {"axis": -1}, "a new axis at the end"
        ),
        Sample((np.array(1.0), np.array(2.0), np.array(3.0)), {"axis": 0}, "numbers become a vector"),
        Sample((np.zeros((0, 2)), np.zeros((0, 2))), {"axis": 1}, "no entries at all"),
    ),
    laws=("keeps_every_value",),
    wrong={
        "gives every input the first slice": lambda dy, y, *xs, axis: tuple(
            stack_vjp(dy, y, xs[0], axis=axis) * len(xs)
        ),
        "hands the slices out backwards": lambda dy, y, *xs, axis: stack_vjp(np.flip(dy, axis=axis), y, *xs, axis=axis),
        "divides by the number of inputs, as a mean would": lambda dy, y, *xs, axis: tuple(
            dx / len(xs) for dx in stack_vjp(dy, y, *xs, axis=axis)
        ),
    },
    tolerance=lambda *xs, axis: 1.0,
    cost=lambda *xs, axis: (0, 2 * sum(x.size for x in xs)),
    source="array API standard 2024.12, stack",
)

SPLIT = Op(
    "split",
    split,
    split_vjp,
    split_jvp,
    inputs=("x",),
    outputs=("*ys",),
    definition=split_definition,
    signature=None,
    check=_check_split,
    draw=_draw_split,
    formula=r"(y_0, y_1, \dots) = x",
    gradient=r"\bar x = (\bar y_0, \bar y_1, \dots)",
    samples=(
        Sample((np.arange(12.0).reshape(2, 6),), {"sections": (2, 2, 2), "axis": 1}, "queries, keys and values"),
        Sample((np.arange(10.0).reshape(5, 2),), {"sections": (1, 4), "axis": 0}, "pieces of different lengths"),
        Sample((np.arange(3.0),), {"sections": (0, 3, 0), "axis": -1}, "pieces without entries"),
        Sample((np.arange(3.0),), {"sections": (3,), "axis": 0}, "a single piece is a tuple of one"),
    ),
    wrong={
        "joins the pieces from the last to the first": _joined(lambda dys, axis: dys[::-1]),
        "joins the pieces, each turned around": _joined(lambda dys, axis: [np.flip(dy, axis=axis) for dy in dys]),
        "divides by the number of pieces, as a mean would": _joined(lambda dys, axis: [dy / len(dys) for dy in dys]),
    },
    tolerance=lambda x, *, sections, axis: 1.0,
    cost=lambda x, *, sections, axis: (0, 2 * x.size),
    source="PyTorch, torch.split; numpy.split with lengths in place of positions",
)
