r"""Padding: constant numbers before and after the entries of each axis.

    y_(i + b) = x_i,   y_j = value where no x_i falls        b entries before, a after: an axis of length b + n + a

The constants do not depend on x: dy/dx is the matrix that puts each x_i in its place, and its transpose reads the
cotangent at that place, dx_i = dy_(i + b). The direction of a constant is 0, so the jvp pads with zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .elementwise import random_shape
from .namespace import Array, array_namespace
from .op import Op, Sample

Widths = tuple[tuple[int, int], ...]
"""(before, after) for every axis."""


def pad(x: Array, *, widths: Widths, value: float = 0.0) -> Array:
    """x with `value` around it. Shapes: (n, ...) -> (b + n + a, ...), (b, a) = widths[0]."""
    xp = array_namespace(x)
    y = x
    for axis, (before, after) in enumerate(widths):
        front, back = (
            xp.full((*y.shape[:axis], n, *y.shape[axis + 1 :]), value, dtype=x.dtype) for n in (before, after)
        )
        y = xp.concat([front, y, back], axis=axis)  # (.., b + n + a, ..)
    return y


def pad_vjp(dy: Array, y: Any, x: Any, *, widths: Widths, value: float = 0.0) -> tuple[Array]:
    """dx_i = dy_(i + b)."""
    return (dy[tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, widths, strict=True))],)


def pad_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, widths: Widths, value: float = 0.0) -> Array:
    """dy = dx, padded with zeros."""
    return pad(dinputs[0], widths=widths)


def pad_definition(x: Array, *, widths: Widths, value: float = 0.0) -> Array:
    """One number at a time."""
    y = np.empty(tuple(before + n + after for n, (before, after) in zip(x.shape, widths, strict=True)), x.dtype)
    for place in np.ndindex(y.shape):
        origin = tuple(i - before for i, (before, _) in zip(place, widths, strict=True))
        y[place] = x[origin] if all(0 <= i < n for i, n in zip(origin, x.shape, strict=True)) else value
    return y


def _check(x: Any, *, widths: Widths, value: float = 0.0) -> None:
    shape = tuple(x.shape)
    if len(widths) != len(shape):
        raise ValueError(f"pad: widths has {len(widths)} pairs, but x {shape} needs one an axis")
    if any(min(pair) < 0 for pair in widths):
        raise ValueError(f"pad: widths is {widths}, but no axis can be padded by less than 0")


def _draw(rng: np.random.Generator) -> Sample:
    shape = random_shape(rng)[:2]
    widths = tuple((int(before), int(after)) for before, after in rng.integers(0, 3, size=(len(shape), 2)))
    return Sample((rng.standard_normal(shape),), {"widths": widths, "value": float(rng.integers(-1, 2))}, "random")


def _window(shift: int) -> Callable[..., tuple[Array]]:
    """A wrong vjp: the window is read `shift` places further on, as far as the cotangent goes round."""
    return lambda dy, y, x, *, widths, value=0.0: (
        pad_vjp(np.roll(dy, -shift, axis=tuple(range(dy.ndim))), y, x, widths=widths)[0],
    )


PAD = Op(
    "pad",
    pad,
    pad_vjp,
    pad_jvp,
    inputs=("x",),
    definition=pad_definition,
    signature=None,
    check=_check,
    draw=_draw,
    formula=r"y_{i + b} = x_i, \quad y_j = \mathrm{value} \text{ elsewhere}",
    gradient=r"\bar x_i = \bar y_{i + b}",
    samples=(
        Sample((np.arange(6.0).reshape(2, 3),), {"widths": ((1, 1), (0, 2))}, "each side of each axis by itself"),
        Sample((np.array([1.0, 2.0]),), {"widths": ((2, 0),), "value": -np.inf}, "minus infinity, for a maximum"),
        Sample((np.array([1.0, 2.0]),), {"widths": ((0, 0),), "value": 5.0}, "nothing to add"),
        Sample((np.zeros((0,)),), {"widths": ((1, 2),), "value": 5.0}, "nothing but padding"),
        Sample((np.array(2.0),), {"widths": ()}, "an array without axes has no sides"),
    ),
    wrong={
        "reads from the start": lambda dy, y, x, *, widths, value=0.0: (dy[tuple(slice(0, n) for n in x.shape)] * 1.0,),
        "reads one place too far": _window(1),
        "reads one place too early": _window(-1),
    },
    tolerance=lambda x, *, widths, value=0.0: 1.0,
    cost=lambda x, *, widths, value=0.0: (
        0,
        x.size + math.prod(before + n + after for n, (before, after) in zip(x.shape, widths, strict=True)),
    ),
    source="numpy.pad, mode constant",
)
