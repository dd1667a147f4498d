r"""The plane in polar coordinates: the point with the height x1 and the width x2 has a distance and an angle.

    r = hypot(x1, x2) = sqrt(x1^2 + x2^2)          t = atan2(x1, x2), so that x1 = r sin t and x2 = r cos t

From r^2 = x1^2 + x2^2 follows 2 r dr = 2 x1 dx1 + 2 x2 dx2. From tan t = x1 / x2, where x2 is not 0, follows
(1 + tan^2 t) dt = dx1 / x2 - x1 dx2 / x2^2, and 1 + tan^2 t = r^2 / x2^2; on the axis x2 = 0 the same by symmetry:

    dr = (x1 dx1 + x2 dx2) / r                     dt = (x2 dx1 - x1 dx2) / r^2

r is computed without overflow (the square of 1e200 is no double, but the root of a sum of two such squares is one), and
r^2 never: where the formula divides by it, the code divides by r twice. At the origin r has a kink, of which 0 is a
subgradient, and t has no limit; both slopes, and all derivatives of higher order, are taken as 0 there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arithmetic import BOTH, averages, broadcast_size, directions, moved, random_shapes, reach, sketch
from .elementwise import each
from .namespace import Array, namespace_of, unbroadcast
from .op import Op, Sample

# ---- hypot


def hypot(x1: Array, x2: Array) -> Array:
    """r = sqrt(x1^2 + x2^2). Shapes: (...), (...) -> (...), broadcast."""
    return namespace_of(x1, x2).hypot(x1, x2)


def _over(x: Array, r: Array, times: int = 1) -> Array:
    """x / r^times, and 0 where r = 0, with all of its derivatives. Shapes: (...), (...) -> (...), broadcast."""
    xp = namespace_of(r)
    origin = r == 0.0
    for _ in range(times):
        x = x / xp.where(origin, 1.0, r)
    return xp.where(origin, 0.0, x)


def hypot_vjp(
    dy: Array, y: Array, x1: Array, x2: Array, *, wanted: tuple[bool, ...] = BOTH
) -> tuple[Array | None, ...]:
    """dx1 = dy x1 / r and dx2 = dy x2 / r."""
    return (
        unbroadcast(dy * _over(x1, y), x1.shape) if wanted[0] else None,
        unbroadcast(dy * _over(x2, y), x2.shape) if wanted[1] else None,
    )


def hypot_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...]) -> Array:
    """dy = (x1 / r) dx1 + (x2 / r) dx2."""
    (dx1, dx2), (x1, x2) = directions(dinputs), inputs
    return _over(x1, y) * dx1 + _over(x2, y) * dx2


def hypot_definition(x1: Array, x2: Array) -> Array:
    """One number at a time: the larger side is taken out of the root."""

    def number(a: float, b: float) -> float:
        low, high = sorted((abs(a), abs(b)))
        return high if high in (0.0, math.inf) else high * math.sqrt(1.0 + (low / high) ** 2)

    return each(number, x1, x2)


# ---- atan2


def atan2(x1: Array, x2: Array) -> Array:
    """The angle in [-pi, pi] of the point with height x1 and width x2. Shapes: (...), (...) -> (...), broadcast."""
    return namespace_of(x1, x2).atan2(x1, x2)


def _angle_slopes(x1: Array, x2: Array) -> tuple[Array, Array]:
    """x2 / r^2 and -x1 / r^2. Shapes: (...), (...) -> (...), (...), both of the common shape."""
    r = hypot(x1, x2)
    return _over(x2, r, 2), -_over(x1, r, 2)


def atan2_vjp(dy: Array, y: Any, x1: Array, x2: Array, *, wanted: tuple[bool, ...] = BOTH) -> tuple[Array | None, ...]:
    """dx1 = dy x2 / r^2 and dx2 = -dy x1 / r^2."""
    s1, s2 = _angle_slopes(x1, x2)
    return (
        unbroadcast(dy * s1, x1.shape) if wanted[0] else None,
        unbroadcast(dy * s2, x2.shape) if wanted[1] else None,
    )


def atan2_jvp(dinputs: tuple[Array, ...], y: Any, inputs: tuple[Array, ...]) -> Array:
    """dy = (x2 dx1 - x1 dx2) / r^2."""
    (dx1, dx2), (s1, s2) = directions(dinputs), _angle_slopes(*inputs)
    return s1 * dx1 + s2 * dx2


def atan2_definition(x1: Array, x2: Array) -> Array:
    """One number at a time: the arctangent knows the angle up to half a turn, the signs know the rest."""

    def number(height: float, width: float) -> float:
        half_turn = math.copysign(math.pi, height)
        if width == 0.0 and height != 0.0:
            return half_turn / 2.0
        angle = math.atan(height / width) if width != 0.0 else math.copysign(0.0, height)
        return angle if math.copysign(1.0, width) > 0.0 else (angle + half_turn if height != 0.0 else half_turn)

    return each(number, x1, x2)


# ---- the rows


def _draw(rng: np.random.Generator) -> Sample:
    """All four quadrants, away from the axes: from the origin and from the ray where the angle jumps by a whole turn.

    x2 is stretched; every sixth x1 and every sixth x2 is a Python number.
    """
    s1, s2 = random_shapes(rng, 2)
    shapes = ((2, *np.broadcast_shapes(s1, s2)), s2)
    x1, x2 = (rng.uniform(0.4, 2.0, s) * rng.choice((-1.0, 1.0), s) for s in shapes)
    number = int(rng.integers(6))
    return Sample((1.5 if number == 0 else x1, -0.75 if number == 1 else x2), {}, "random")


HYPOT = Op(
    "hypot",
    hypot,
    hypot_vjp,
    hypot_jvp,
    inputs=("x1", "x2"),
    reads=("x1", "x2", "y"),
    takes_wanted=True,
    definition=hypot_definition,
    signature="(...),(...)->(...)",
    draw=_draw,
    domain={"x1": "nonzero", "x2": "nonzero"},
    analytic=False,  # the libraries' hypot takes no complex numbers
    formula=r"y = \sqrt{x_1^2 + x_2^2}",
    gradient=r"\bar x_1 = \bar y \, x_1 / y, \quad \bar x_2 = \bar y \, x_2 / y",
    samples=(
        Sample((np.array([3.0, -5.0]), np.array([4.0, 12.0])), {}, "whole sides with a whole distance: 5 and 13"),
        Sample((np.array([0.0, -2.0]), np.array([1.0, 0.0])), {}, "one side of length zero"),
        Sample((np.array([0.0, -0.0]), np.array([0.0, 0.0])), {}, "at the origin both slopes are zero, not 0 / 0"),
        Sample((np.array([1e200, 1e-200]), np.array([1e200, -1e-200])), {}, "the squares would be inf, or zero"),
        Sample((np.array([[3.0], [0.5]]), np.array([4.0, 1.0])), {}, "stretched: its cotangents are summed"),
        Sample((np.array([1.0, -1.0]), 1.0), {}, "a Python number"),
    ),
    laws=("commutative", "nonnegative", "homogeneous"),
    wrong={
        "forgets to divide by the distance": sketch(lambda dy, y, x1, x2: dy * x1, lambda dy, y, x1, x2: dy * x2),
        "exchanges the sides": sketch(lambda dy, y, x1, x2: dy * x2 / y, lambda dy, y, x1, x2: dy * x1 / y),
        "takes the slope of the squared distance": sketch(
            lambda dy, y, x1, x2: 2.0 * dy * x1, lambda dy, y, x1, x2: 2.0 * dy * x2
        ),
        "averages over stretched axes": averages(hypot_vjp),
    },
    tolerance=reach,
    cost=lambda x1, x2: (4 * broadcast_size(x1, x2), moved(x1, x2)),
    source="DLMF section 1.5(ii); array API standard 2024.12, hypot",
)

ATAN2 = Op(
    "atan2",
    atan2,
    atan2_vjp,
    atan2_jvp,
    inputs=("x1", "x2"),
    reads=("x1", "x2"),
    takes_wanted=True,
    definition=atan2_definition,
    signature="(...),(...)->(...)",
    draw=_draw,
    domain={"x1": "nonzero", "x2": "nonzero"},
    analytic=False,  # the libraries' atan2 takes no complex numbers
    formula=r"y = \operatorname{atan2}(x_1, x_2), \quad x_1 = r \sin y, \ x_2 = r \cos y",
    gradient=r"\bar x_1 = \bar y \, \frac{x_2}{x_1^2 + x_2^2}, \quad \bar x_2 = -\bar y \, \frac{x_1}{x_1^2 + x_2^2}",
    samples=(
        Sample((np.array([1.0, 1.0, -1.0, -1.0]), np.array([1.0, -1.0, -1.0, 1.0])), {}, "a point in each quadrant"),
        Sample((np.array([1.0, -1.0, 0.0]), np.array([0.0, 0.0, 2.0])), {}, "on the axes: x1 / x2 would be infinite"),
        Sample((np.array([0.0, -0.0, 0.0]), np.array([-1.0, -1.0, 0.0])), {}, "the jump, by the sign of zero"),
        Sample((np.array([[3.0], [0.5]]), np.array([4.0, -1.0])), {}, "stretched: its cotangents are summed"),
        Sample((1.0, np.array([1.0, -1.0])), {}, "a Python number"),
    ),
    laws=("blind_to_scale",),
    wrong={
        "exchanges height and width": sketch(
            lambda dy, y, x1, x2: -dy * x1 / (x1**2 + x2**2), lambda dy, y, x1, x2: dy * x2 / (x1**2 + x2**2)
        ),
        "forgets the minus sign": sketch(
            lambda dy, y, x1, x2: dy * x2 / (x1**2 + x2**2), lambda dy, y, x1, x2: dy * x1 / (x1**2 + x2**2)
        ),
        "divides by r, not by its square": sketch(
            lambda dy, y, x1, x2: dy * x2 / np.hypot(x1, x2), lambda dy, y, x1, x2: -dy * x1 / np.hypot(x1, x2)
        ),
        "averages over stretched axes": averages(atan2_vjp),
    },
    tolerance=reach,
    cost=lambda x1, x2: (6 * broadcast_size(x1, x2), moved(x1, x2)),
    source="DLMF section 1.5(ii); array API standard 2024.12, atan2",
)
