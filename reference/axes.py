r"""Axes of length 1 that come and go, and an axis that is turned around.

    expand_dims    a new axis of length 1        its transpose takes it away:  squeeze
    squeeze        axes of length 1 go           its transpose puts them back: expand_dims
    flip           y_i = x_(n-1-i)               its own inverse and its own transpose

Numbers only change places, so the Jacobian is a permutation matrix, whose transpose is its inverse. All three are linear,
so the jvp is the operation itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .elementwise import random_shape
from .namespace import Array, array_namespace
from .op import Op, Sample
from .reductions import Axis, axes, check_axes


def along(axis: int, ndim: int, part: int | slice) -> tuple[Any, ...]:
    """The index that takes `part` of one axis and all of the others."""
    return (*(slice(None),) * (axis % ndim), part, ...)


# ---- expand_dims


def expand_dims(x: Array, *, axis: int) -> Array:
    """A new axis of length 1 at position `axis` of the result. Shapes: (.., ..) -> (.., 1, ..)."""
    return array_namespace(x).expand_dims(x, axis=axis)


def expand_dims_vjp(dy: Array, y: Any, x: Any, *, axis: int) -> tuple[Array]:
    """dx = dy without that axis."""
    return (array_namespace(dy).squeeze(dy, axis=axis),)


def expand_dims_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, axis: int) -> Array:
    """dy = dx, with the axis."""
    return expand_dims(dinputs[0], axis=axis)


def expand_dims_definition(x: Array, *, axis: int) -> Array:
    """One number at a time."""
    at = axis % (x.ndim + 1)
    y = np.empty((*x.shape[:at], 1, *x.shape[at:]), x.dtype)
    for place in np.ndindex(x.shape):
        y[(*place[:at], 0, *place[at:])] = x[place]
    return y


# ---- squeeze


def squeeze(x: Array, *, axis: int | tuple[int, ...]) -> Array:
    """x without the axes `axis`, each of length 1. Shapes: (.., 1, ..) -> (.., ..)."""
    return array_namespace(x).squeeze(x, axis=axis)


def squeeze_vjp(dy: Array, y: Any, x: Any, *, axis: int | tuple[int, ...]) -> tuple[Array]:
    """dx = dy with the axes put back, the first one first: then each stands where it stood."""
    xp = array_namespace(dy)
    for a in sorted(axes(axis, x.ndim)):
        dy = xp.expand_dims(dy, axis=a)
    return (dy,)


def squeeze_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, axis: int | tuple[int, ...]) -> Array:
    """dy = dx, without the axes."""
    return squeeze(dinputs[0], axis=axis)


def squeeze_definition(x: Array, *, axis: int | tuple[int, ...]) -> Array:
    """One number at a time."""
    gone = axes(axis, x.ndim)
    y = np.empty(tuple(n for a, n in enumerate(x.shape) if a not in gone), x.dtype)
    for place in np.ndindex(x.shape):
        y[tuple(i for a, i in enumerate(place) if a not in gone)] = x[place]
    return y


# ---- flip


def flip(x: Array, *, axis: Axis) -> Array:
    """y_i = x_(n-1-i) along each of `axis`. Shapes: (..) -> (..)."""
    return array_namespace(x).flip(x, axis=axis)


def flip_vjp(dy: Array, y: Any, x: Any, *, axis: Axis) -> tuple[Array]:
    """dx_i = dy_(n-1-i)."""
    return (array_namespace(dy).flip(dy, axis=axis),)


def flip_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, axis: Axis) -> Array:
    """dy_i = dx_(n-1-i)."""
    return flip(dinputs[0], axis=axis)


def flip_definition(x: Array, *, axis: Axis) -> Array:
    """One number at a time."""
    turned = axes(axis, x.ndim)
    y = np.empty_like(x)
    for place in np.ndindex(x.shape):
        y[place] = x[tuple(x.shape[a] - 1 - i if a in turned else i for a, i in enumerate(place))]
    return y


# ---- checks and draws


def _check_expand_dims(x: Any, *, axis: int) -> None:
    ndim = len(x.shape) + 1
    if not -ndim <= axis < ndim:
        raise ValueError(f"expand_dims: axis is {axis}, but the result for x {tuple(x.shape)} has {ndim} axes")


def _check_squeeze(x: Any, *, axis: int | tuple[int, ...]) -> None:
    check_axes("squeeze")(x, axis=axis)
    if any(x.shape[a] != 1 for a in axes(axis, len(x.shape))):
        raise ValueError(f"squeeze: x has shape {tuple(x.shape)}, but axis {axis} must have length 1")


def _several_axes(rng: np.random.Generator) -> tuple[int, ...]:
    """Mostly two axes or three that are longer than 1, because one alone cannot be confused with another."""
    return (
        random_shape(rng)
        if rng.integers(6) == 0
        else tuple(int(n) for n in rng.integers(2, 5, size=rng.integers(2, 4)))
    )


def _draw_expand_dims(rng: np.random.Generator) -> Sample:
    shape = _several_axes(rng)
    return Sample((rng.standard_normal(shape),), {"axis": int(rng.integers(-len(shape) - 1, len(shape) + 1))}, "random")


def _draw_squeeze(rng: np.random.Generator) -> Sample:
    """One or two axes of length 1 among others."""
    shape = [*_several_axes(rng), 1]
    shape = [shape[i] for i in rng.permutation(len(shape))]
    ones = [a for a, n in enumerate(shape) if n == 1]
    axis = tuple(a - len(shape) if rng.integers(2) else a for a in ones[: int(rng.integers(1, 3))])
    return Sample((rng.standard_normal(shape),), {"axis": axis[0] if len(axis) == 1 else axis}, "random")


def _draw_flip(rng: np.random.Generator) -> Sample:
    shape = _several_axes(rng)
    n = int(rng.integers(0, len(shape) + 1))
    axis = tuple(int(a) for a in rng.permutation(len(shape))[:n])
    return Sample((rng.standard_normal(shape),), {"axis": axis[0] if n == 1 else axis}, "random")


def _moved(change: Callable[[Array], Array]) -> Callable[..., tuple[Array]]:
    """A wrong vjp: the cotangent of every entry, in x's shape, changed."""
    return lambda dy, y, x, **params: (np.reshape(change(dy), x.shape),)


_WRONG = {
    "turns everything around": _moved(np.flip),
    "moves every cotangent on by one": _moved(lambda dy: np.roll(dy, 1)),
    "fills x with the first axis fastest": _moved(np.transpose),
}

EXPAND_DIMS = Op(
    "expand_dims",
    expand_dims,
    expand_dims_vjp,
    expand_dims_jvp,
    inputs=("x",),
    definition=expand_dims_definition,
    signature=None,
    check=_check_expand_dims,
    draw=_draw_expand_dims,
    formula=r"y_{\dots 0 \dots} = x_{\dots}",
    gradient=r"\bar x = \mathrm{squeeze}(\bar y)",
    samples=(
        Sample((np.arange(6.0).reshape(2, 3),), {"axis": 1}, "between two axes"),
        Sample((np.arange(6.0).reshape(2, 3),), {"axis": -1}, "-1 counts in the result: the last axis is the new one"),
        Sample((np.array(2.0),), {"axis": 0}, "a number becomes a vector of one"),
        Sample((np.zeros((0, 2)),), {"axis": 0}, "no entries at all"),
    ),
    laws=("linear_in_x", "keeps_every_value"),
    wrong=_WRONG,
    tolerance=lambda x, *, axis: 1.0,
    cost=lambda x, *, axis: (0, 2 * x.size),
    source="array API standard 2024.12, expand_dims",
)

SQUEEZE = Op(
    "squeeze",
    squeeze,
    squeeze_vjp,
    squeeze_jvp,
    inputs=("x",),
    definition=squeeze_definition,
    signature=None,
    check=_check_squeeze,
    draw=_draw_squeeze,
    formula=r"y_{\dots} = x_{\dots 0 \dots}",
    gradient=r"\bar x = \mathrm{expand\_dims}(\bar y)",
    samples=(
        Sample((np.arange(6.0).reshape(2, 1, 3),), {"axis": 1}, "between two axes"),
        Sample((np.arange(3.0).reshape(1, 3, 1),), {"axis": (-1, 0)}, "two axes, in any order"),
        Sample((np.array([[2.0]]),), {"axis": (0, 1)}, "nothing is left but the number"),
        Sample((np.zeros((0, 1)),), {"axis": 1}, "no entries at all"),
    ),
    laws=("linear_in_x", "keeps_every_value"),
    wrong=_WRONG,
    tolerance=lambda x, *, axis: 1.0,
    cost=lambda x, *, axis: (0, 2 * x.size),
    source="array API standard 2024.12, squeeze",
)

FLIP = Op(
    "flip",
    flip,
    flip_vjp,
    flip_jvp,
    inputs=("x",),
    definition=flip_definition,
    signature=None,
    check=check_axes("flip"),
    draw=_draw_flip,
    formula=r"y_i = x_{n - 1 - i}",
    gradient=r"\bar x_i = \bar y_{n - 1 - i}",
    samples=(
        Sample((np.arange(6.0).reshape(2, 3),), {"axis": 1}, "each row backwards"),
        Sample((np.arange(6.0).reshape(2, 3),), {"axis": None}, "all axes: the last entry comes first"),
        Sample((np.arange(6.0).reshape(2, 3),), {"axis": ()}, "no axis: nothing happens"),
        Sample((np.zeros((0, 2)),), {"axis": 0}, "no entries at all"),
    ),
    laws=("linear_in_x", "keeps_every_value", "undoes_itself"),
    wrong={
        "does not turn back": lambda dy, y, x, *, axis: (dy,),
        "turns every axis": lambda dy, y, x, *, axis: (np.flip(dy),),
        "moves every cotangent on by one": _moved(lambda dy: np.roll(dy, 1)),
    },
    tolerance=lambda x, *, axis: 1.0,
    cost=lambda x, *, axis: (0, 2 * x.size),
    source="array API standard 2024.12, flip",
)
