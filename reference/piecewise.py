r"""Functions that are linear in pieces: absolute value, the larger and the smaller of two, clipping, the remainder.

Within a piece the slope is a constant, so all second derivatives are 0. Where two pieces meet there is a kink (or, for
the remainder, a jump), and one number out of the range between the two slopes is chosen:

    f                   inside a piece                     where pieces meet
    |x|                 sign x                             x = 0: 0, the middle of [-1, 1]
    max(x1, x2)         1 for the larger, 0 for the other  x1 = x2: 1/2 each, as `max` shares a tie
    min(x1, x2)         1 for the smaller, 0 for the other x1 = x2: 1/2 each
    clip(x, min, max)   1 between the bounds, 0 beyond     x = min or x = max: 1, an edge lets through
    x1 mod x2           1 in x1, -floor(x1 / x2) in x2     x1 / x2 whole: as where x1 / x2 is a little larger

The last line differentiates x1 mod x2 = x1 - x2 floor(x1 / x2), whose floor is constant between jumps; the result has
the sign of x2. Slopes that are comparisons are written so that NaN, for which every comparison is false, lets the
cotangent through: a gradient of 0 would hide it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arithmetic import BOTH, averages, broadcast_size, directions, moved, random_shapes, reach, sketch
from .elementwise import each, random_shape
from .namespace import Array, array_namespace, namespace_of, unbroadcast
from .op import Op, Sample

Number = float | int | None  # a bound; None is no bound

# ---- abs


def abs(x: Array) -> Array:
    """y = |x|. Shapes: (...) -> (...)."""
    return array_namespace(x).abs(x)


def abs_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = dy sign x."""
    return (dy * array_namespace(x).sign(x),)


def abs_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = sign x dx."""
    return abs_vjp(dinputs[0], y, inputs[0])[0]


def abs_definition(x: Array) -> Array:
    """One number at a time."""
    return each(lambda v: 0.0 - v if v < 0.0 else v, x)


# ---- maximum and minimum


def maximum(x1: Array, x2: Array) -> Array:
    """y = the larger of x1 and x2. Shapes: (...), (...) -> (...), broadcast."""
    return namespace_of(x1, x2).maximum(x1, x2)


def minimum(x1: Array, x2: Array) -> Array:
    """y = the smaller of x1 and x2. Shapes: (...), (...) -> (...), broadcast."""
    return namespace_of(x1, x2).minimum(x1, x2)


def _share(dy: Array, tie: Array, lost: Array) -> Array:
    """dy / 2 at a tie, 0 where it lost, else dy. Shapes: three times (...) -> (...)."""
    xp = array_namespace(dy)
    return xp.where(tie, 0.5 * dy, xp.where(lost, 0.0, dy))


def maximum_vjp(
    dy: Array, y: Any, x1: Array, x2: Array, *, wanted: tuple[bool, ...] = BOTH
) -> tuple[Array | None, ...]:
    """dx1 = dy where x1 > x2, dx2 = dy where x2 > x1, dy / 2 for both where x1 = x2."""
    return (
        unbroadcast(_share(dy, x1 == x2, x1 < x2), x1.shape) if wanted[0] else None,
        unbroadcast(_share(dy, x1 == x2, x1 > x2), x2.shape) if wanted[1] else None,
    )


def minimum_vjp(
    dy: Array, y: Any, x1: Array, x2: Array, *, wanted: tuple[bool, ...] = BOTH
) -> tuple[Array | None, ...]:
    """dx1 = dy where x1 < x2, dx2 = dy where x2 < x1, dy / 2 for both where x1 = x2."""
    return (
        unbroadcast(_share(dy, x1 == x2, x1 > x2), x1.shape) if wanted[0] else None,
        unbroadcast(_share(dy, x1 == x2, x1 < x2), x2.shape) if wanted[1] else None,
    )


def _chosen(dinputs: tuple[Array, ...], tie: Array, first_lost: Array, shape: tuple[int, ...]) -> Array:
    """The direction of the one that was taken, the mean of both at a tie. Shapes: broadcast to `shape`."""
    dx1, dx2 = directions(dinputs)
    xp = namespace_of(dx1, dx2)
    return xp.broadcast_to(xp.where(tie, 0.5 * (dx1 + dx2), xp.where(first_lost, dx2, dx1)), shape)


def maximum_jvp(dinputs: tuple[Array, ...], y: Any, inputs: tuple[Array, ...]) -> Array:
    """dy = the direction of the larger."""
    x1, x2 = inputs
    return _chosen(dinputs, x1 == x2, x1 < x2, y.shape)


def minimum_jvp(dinputs: tuple[Array, ...], y: Any, inputs: tuple[Array, ...]) -> Array:
    """dy = the direction of the smaller."""
    x1, x2 = inputs
    return _chosen(dinputs, x1 == x2, x1 > x2, y.shape)


def maximum_definition(x1: Array, x2: Array) -> Array:
    """One number at a time."""
    return each(lambda a, b: a if a > b else b, x1, x2)


def minimum_definition(x1: Array, x2: Array) -> Array:
    """One number at a time."""
    return each(lambda a, b: a if a < b else b, x1, x2)


# ---- clip


def clip(x: Array, *, min: Number = None, max: Number = None) -> Array:
    """y = x, but min where x is below it, and max where x is above it. Shapes: (...) -> (...)."""
    return array_namespace(x).clip(x, min, max)


def clip_vjp(dy: Array, y: Any, x: Array, *, min: Number = None, max: Number = None) -> tuple[Array]:
    """dx = dy where min <= x <= max, else 0."""
    xp = array_namespace(dy)
    dx = dy if min is None else xp.where(x < min, 0.0, dy)
    return (dx if max is None else xp.where(x > max, 0.0, dx),)


def clip_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array], *, min: Number = None, max: Number = None) -> Array:
    """dy = dx where min <= x <= max, else 0."""
    return clip_vjp(dinputs[0], y, inputs[0], min=min, max=max)[0]


def clip_definition(x: Array, *, min: Number = None, max: Number = None) -> Array:
    """One number at a time."""

    def number(v: float) -> float:
        if min is not None and v < min:
            return min
        return max if max is not None and v > max else v

    return each(number, x)


def _check_bounds(x: Any, *, min: Number = None, max: Number = None) -> None:
    for name, bound in (("min", min), ("max", max)):
        if isinstance(bound, float) and np.dtype(x.dtype).kind != "f":
            raise TypeError(f"clip: {name} is {bound}, but x is {np.dtype(x.dtype).name} and needs an integer")
    if min is not None and max is not None and min > max:
        raise ValueError(f"clip: min is {min} and max is {max}, but min must not be above max")


# ---- remainder


def remainder(x1: Array, x2: Array) -> Array:
    """y = x1 - x2 floor(x1 / x2), which has the sign of x2. Shapes: (...), (...) -> (...), broadcast."""
    return x1 % x2


def remainder_vjp(
    dy: Array, y: Any, x1: Array, x2: Array, *, wanted: tuple[bool, ...] = BOTH
) -> tuple[Array | None, ...]:
    """dx1 = dy and dx2 = -dy floor(x1 / x2)."""
    return (
        unbroadcast(dy, x1.shape) if wanted[0] else None,
        unbroadcast(-dy * (x1 // x2), x2.shape) if wanted[1] else None,
    )


def remainder_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...]) -> Array:
    """dy = dx1 - floor(x1 / x2) dx2."""
    dx1, dx2 = directions(dinputs)
    x1, x2 = inputs
    return dx1 - (x1 // x2) * dx2


def remainder_definition(x1: Array, x2: Array) -> Array:
    """One number at a time: C's fmod has the sign of the dividend; where that is wrong, one divisor on."""

    def number(a: float, b: float) -> float:
        r = math.fmod(a, b)
        return r + b if r != 0.0 and (r < 0.0) != (b < 0.0) else r

    return each(number, x1, x2)


# ---- the rows


def _no_ties(rng: np.random.Generator) -> Sample:
    """x1 near whole numbers, x2, stretched, near the halves between them; every sixth of each is a Python number."""
    s1, s2 = random_shapes(rng, 2)
    s1 = (2, *np.broadcast_shapes(s1, s2))
    x1 = rng.integers(-2, 3, s1) + rng.uniform(-0.1, 0.1, s1)
    x2 = rng.integers(-2, 3, s2) + 0.5 + rng.uniform(-0.1, 0.1, s2)
    number = int(rng.integers(6))
    return Sample((1.0 if number == 0 else x1, -0.5 if number == 1 else x2), {}, "random")


def _off_the_bounds(rng: np.random.Generator) -> Sample:
    """Numbers below, between and above two bounds, none nearer to either than 0.1; sometimes a bound is missing."""
    shape = (int(rng.integers(3, 6)), *random_shape(rng)[:1])
    tenths = int(rng.integers(-15, 1))
    low, high = tenths / 10, (tenths + 10) / 10
    piece = rng.permutation(math.prod(shape)).reshape(shape) % 3 - 1
    x = low + rng.uniform(0.1, 0.9, shape) + piece
    params = ({"min": low, "max": high}, {"min": low}, {"max": high}, {"min": low, "max": high})
    return Sample((x,), params[rng.integers(4)], "random")


def _between_jumps(rng: np.random.Generator) -> Sample:
    """x1 / x2 is no nearer than 0.15 to a whole number; one of the two is stretched, every sixth time a Python number."""
    (shape,) = random_shapes(rng, 1)
    wide = (int(rng.integers(1, 4)), *(int(rng.integers(2, 4)) if n == 1 else n for n in shape))
    quotient = rng.integers(-3, 4, wide) + rng.uniform(0.15, 0.85, wide)
    small = rng.uniform(0.5, 2.0, shape) * rng.choice((-1.0, 1.0), shape) if rng.integers(6) else 0.75
    return Sample((quotient * small, small) if rng.integers(2) else (small, small / quotient), {}, "random")


ABS = Op(
    "abs",
    abs,
    abs_vjp,
    abs_jvp,
    inputs=("x",),
    reads=("x",),
    definition=abs_definition,
    signature="(...):any->(...)",
    domain={"x": "nonzero"},
    analytic=False,  # the absolute value of a complex number is real
    formula=r"y = |x|",
    gradient=r"\bar x = \bar y \operatorname{sign} x",
    samples=(
        Sample((np.array([1.5, -2.0]),), {}, "both signs"),
        Sample((np.array([0.0, -0.0]),), {}, "at the kink the gradient is zero"),
        Sample((np.array([-np.inf, 1e-300]),), {}, "the far ends"),
    ),
    laws=("even", "nonnegative", "idempotent"),
    wrong={
        "forgets the sign": lambda dy, y, x: (dy,),
        "turns the sign round": lambda dy, y, x: (-dy * np.sign(x),),
        "lets only positive numbers through": lambda dy, y, x: (dy * (x > 0),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="array API standard 2024.12, abs; Rockafellar: Convex Analysis, section 23, for the subgradients",
)

MAXIMUM = Op(
    "maximum",
    maximum,
    maximum_vjp,
    maximum_jvp,
    inputs=("x1", "x2"),
    reads=("x1", "x2"),
    takes_wanted=True,
    definition=maximum_definition,
    signature="(...):any,(...):any->(...)",
    draw=_no_ties,
    formula=r"y = \max(x_1, x_2)",
    gradient=r"\bar x_1 = \bar y \left([x_1 > x_2] + \tfrac12 [x_1 = x_2]\right), \quad"
    r" \bar x_2 = \bar y \left([x_2 > x_1] + \tfrac12 [x_1 = x_2]\right)",
    samples=(
        Sample((np.array([1.0, 2.0]), np.array([3.0, -4.0])), {}, "one from each"),
        Sample((np.array([2.0, 0.0, np.inf]), np.array([2.0, -0.0, np.inf])), {}, "ties share equally"),
        Sample((np.array([-np.inf, np.inf]), np.array([1.0, 1.0])), {}, "infinities are numbers like any other"),
        Sample((np.array([[1.0], [3.0]]), np.array([0.0, 2.0, 4.0])), {}, "stretched: its cotangents are summed"),
        Sample((np.array([1.0, -1.0]), 0.0), {}, "a Python number: relu"),
    ),
    laws=("commutative", "homogeneous", "moves_along_with_both"),
    wrong={
        "gives it to the smaller": sketch(lambda dy, y, x1, x2: dy * (x1 < x2), lambda dy, y, x1, x2: dy * (x1 > x2)),
        "gives it to both": sketch(lambda dy, y, x1, x2: dy, lambda dy, y, x1, x2: dy),
        "shares it always": sketch(lambda dy, y, x1, x2: 0.5 * dy, lambda dy, y, x1, x2: 0.5 * dy),
        "averages over stretched axes": averages(maximum_vjp),
    },
    tolerance=reach,
    cost=lambda x1, x2: (broadcast_size(x1, x2), moved(x1, x2)),
    source="array API standard 2024.12, maximum; Rockafellar: Convex Analysis, section 23, for the subgradients",
)

MINIMUM = Op(
    "minimum",
    minimum,
    minimum_vjp,
    minimum_jvp,
    inputs=("x1", "x2"),
    reads=("x1", "x2"),
    takes_wanted=True,
    definition=minimum_definition,
    signature="(...):any,(...):any->(...)",
    draw=_no_ties,
    formula=r"y = \min(x_1, x_2)",
    gradient=r"\bar x_1 = \bar y \left([x_1 < x_2] + \tfrac12 [x_1 = x_2]\right), \quad"
    r" \bar x_2 = \bar y \left([x_2 < x_1] + \tfrac12 [x_1 = x_2]\right)",
    samples=(
        Sample((np.array([1.0, 2.0]), np.array([3.0, -4.0])), {}, "one from each"),
        Sample((np.array([2.0, 0.0, np.inf]), np.array([2.0, -0.0, np.inf])), {}, "ties share equally"),
        Sample((np.array([-np.inf, np.inf]), np.array([1.0, 1.0])), {}, "infinities are numbers like any other"),
        Sample((np.array([[1.0], [3.0]]), np.array([0.0, 2.0, 4.0])), {}, "stretched: its cotangents are summed"),
        Sample((1.0, np.array([0.5, 1.5])), {}, "a Python number on the left"),
    ),
    laws=("commutative", "homogeneous", "moves_along_with_both"),
    wrong={
        "gives it to the larger": sketch(lambda dy, y, x1, x2: dy * (x1 > x2), lambda dy, y, x1, x2: dy * (x1 < x2)),
        "gives it to both": sketch(lambda dy, y, x1, x2: dy, lambda dy, y, x1, x2: dy),
        "shares it always": sketch(lambda dy, y, x1, x2: 0.5 * dy, lambda dy, y, x1, x2: 0.5 * dy),
        "averages over stretched axes": averages(minimum_vjp),
    },
    tolerance=reach,
    cost=lambda x1, x2: (broadcast_size(x1, x2), moved(x1, x2)),
    source="array API standard 2024.12, minimum; Rockafellar: Convex Analysis, section 23, for the subgradients",
)

CLIP = Op(
    "clip",
    clip,
    clip_vjp,
    clip_jvp,
    inputs=("x",),
    reads=("x",),
    definition=clip_definition,
    signature="(...):any->(...)",
    check=_check_bounds,
    draw=_off_the_bounds,
    formula=r"y = \min(\max(x, a), b)",
    gradient=r"\bar x = \bar y \, [a \le x \le b]",
    samples=(
        Sample((np.array([-2.0, 0.25, 2.0]),), {"min": -1.0, "max": 1.0}, "below, between and above"),
        Sample((np.array([-1.0, 1.0]),), {"min": -1.0, "max": 1.0}, "the edges let the gradient through"),
        Sample((np.array([-np.inf, np.inf]),), {"min": 0, "max": 6}, "infinities are cut off"),
        Sample((np.array([-3.0, 3.0]),), {"min": 0.0}, "no upper bound: relu"),
        Sample((np.array([-3.0, 3.0]),), {}, "no bound at all"),
    ),
    laws=("idempotent",),
    wrong={
        "lets everything through": lambda dy, y, x, *, min=None, max=None: (dy,),
        "lets through what lies beyond": lambda dy, y, x, *, min=None, max=None: (
            dy - clip_vjp(dy, y, x, min=min, max=max)[0],
        ),
        "knows only one bound": lambda dy, y, x, *, min=None, max=None: (
            clip_vjp(dy, y, x, max=max)[0] if max is not None else dy,
        ),
        "shuts at zero as relu does": lambda dy, y, x, *, min=None, max=None: (dy * (y > 0.0),),
    },
    cost=lambda x, *, min=None, max=None: (2 * x.size, 2 * x.size),
    source="array API standard 2024.12, clip",
)

REMAINDER = Op(
    "remainder",
    remainder,
    remainder_vjp,
    remainder_jvp,
    inputs=("x1", "x2"),
    reads=("x1", "x2"),
    takes_wanted=True,
    definition=remainder_definition,
    signature="(...):any,(...):any->(...)",
    draw=_between_jumps,
    domain={"x2": "nonzero"},
    analytic=False,  # complex numbers have no floor
    formula=r"y = x_1 - x_2 \lfloor x_1 / x_2 \rfloor",
    gradient=r"\bar x_1 = \bar y, \quad \bar x_2 = -\bar y \lfloor x_1 / x_2 \rfloor",
    samples=(
        Sample(
            (np.array([7.0, -7.0, 7.0, -7.0]), np.array([3.0, 3.0, -3.0, -3.0])), {}, "the sign is that of the divisor"
        ),
        Sample((np.array([1.0]), np.array([0.1])), {}, "x1 / x2 rounds up to 10, but nine times 0.1 go into one"),
        Sample((np.array([6.0, 0.0]), 3.0), {}, "nothing remains of a multiple"),
        Sample((7.5, np.array([2.0, -2.0])), {}, "a Python number on the left"),
        Sample((np.array([[7.0], [8.0]]), np.array([3.0, 5.0])), {}, "stretched: its cotangents are summed"),
    ),
    laws=("homogeneous", "periodic_in_x2"),
    wrong={
        "takes the divisor for a constant": sketch(lambda dy, y, x1, x2: dy, lambda dy, y, x1, x2: 0.0 * dy),
        "forgets the minus sign": sketch(lambda dy, y, x1, x2: dy, lambda dy, y, x1, x2: dy * np.floor(x1 / x2)),
        "forgets the floor": sketch(lambda dy, y, x1, x2: dy, lambda dy, y, x1, x2: -dy * x1 / x2),
        "averages over stretched axes": averages(remainder_vjp),
    },
    tolerance=reach,
    cost=lambda x1, x2: (3 * broadcast_size(x1, x2), moved(x1, x2)),
    source="Knuth: The Art of Computer Programming, vol. 1, section 1.2.4; array API standard 2024.12, remainder",
)
