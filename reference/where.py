r"""Where: y = x1 where a condition holds, else x2, at every place of the common shape.

With the condition c as 0 or 1, y = c x1 + (1 - c) x2, which is linear in x1 and x2: each place's cotangent goes to the
one that was taken, and zero to the other. It is selected, not multiplied, so that an infinite number that was not
taken does no harm (0 * inf is not a number). The condition itself has no derivative.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arithmetic import averages, directions, moved, random_shapes, reach, sketch
from .elementwise import each
from .namespace import Array, array_namespace, namespace_of, unbroadcast
from .op import Op, Sample


def where(condition: Array, x1: Array, x2: Array) -> Array:
    """y = x1 where `condition` holds, else x2. Shapes: (...):bool, (...), (...) -> (...), broadcast."""
    return namespace_of(x1, x2).where(condition, x1, x2)


def where_vjp(
    dy: Array, y: Any, condition: Array, x1: Any, x2: Any, *, wanted: tuple[bool, ...] = (False, True, True)
) -> tuple[Array | None, ...]:
    """dx1 = dy where the condition holds, dx2 = dy where it does not."""
    xp = array_namespace(dy)
    return (
        None,
        unbroadcast(xp.where(condition, dy, 0.0), x1.shape) if wanted[1] else None,
        unbroadcast(xp.where(condition, 0.0, dy), x2.shape) if wanted[2] else None,
    )


def where_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...]) -> Array:
    """dy = dx1 where the condition holds, else dx2."""
    _, dx1, dx2 = directions(dinputs)
    xp = namespace_of(dx1, dx2)
    return xp.broadcast_to(xp.where(inputs[0], dx1, dx2), y.shape)


def where_definition(condition: Array, x1: Array, x2: Array) -> Array:
    """One number at a time."""
    return each(lambda c, a, b: a if c else b, condition, x1, x2)


def _draw(rng: np.random.Generator) -> Sample:
    shapes = random_shapes(rng, 3)
    x1, x2 = (rng.standard_normal(s) for s in shapes[1:])
    number = int(rng.integers(6))
    return Sample((rng.random(shapes[0]) < 0.5, 1.5 if number == 0 else x1, -0.5 if number == 1 else x2), {}, "random")


WHERE = Op(
    "where",
    where,
    where_vjp,
    where_jvp,
    inputs=("condition", "x1", "x2"),
    reads=("condition",),
    nondiff=("condition",),
    takes_wanted=True,
    definition=where_definition,
    signature="(...):bool,(...):any,(...):any->(...)",
    draw=_draw,
    formula=r"y = c \, x_1 + (1 - c) \, x_2, \quad c \in \{0, 1\}",
    gradient=r"\bar x_1 = c \, \bar y, \quad \bar x_2 = (1 - c) \, \bar y",
    samples=(
        Sample((np.array([True, False]), np.array([1.0, 2.0]), np.array([3.0, 4.0])), {}, "one from each"),
        Sample((np.array([[True], [False]]), np.array([1.0, 2.0]), -1.0), {}, "stretched, and a Python number"),
        Sample((np.array([True]), np.array([1.0]), np.array([np.inf])), {}, "what was not taken may be infinite"),
        Sample((np.zeros((0, 2), bool), np.ones((0, 2)), np.ones(2)), {}, "no rows"),
    ),
    wrong={
        "exchanges the two": lambda dy, y, c, x1, x2, *, wanted=None: (
            None,
            *sketch(lambda d, y, a, b: np.where(c, 0.0, d), lambda d, y, a, b: np.where(c, d, 0.0))(dy, y, x1, x2),
        ),
        "ignores the condition": lambda dy, y, c, x1, x2, *, wanted=None: (
            None,
            *sketch(lambda d, y, a, b: d, lambda d, y, a, b: d)(dy, y, x1, x2),
        ),
        "averages over stretched axes": averages(where_vjp),
    },
    tolerance=reach,
    cost=lambda condition, x1, x2: (0, moved(condition, x1, x2)),
    source="array API standard 2024.12, where",
)
