r"""Power: y = x1^x2, at every place of the common shape.

For x1 > 0, x1^x2 = exp(x2 log x1), so by the chain rule

    dy/dx1 = x2 x1^(x2-1)        dy/dx2 = x1^x2 log x1

The first holds for a negative x1 too, where the exponent is a whole number. The second has no real value there.

Corners. d/dx1 of x1^0 is 0, at x1 = 0 too, although 0 * 0^-1 is not a number; the slope in x2 is taken as 0 at x1 = 0,
where y = 0 for every positive x2. Both corners replace the *base* by 1 rather than the result by 0: elsewhere, x2 = 0
included, all higher derivatives stay those of the true slopes. (Zero in place of the whole slope wherever x2 = 0 would
lose the mixed derivative, which is 1 / x1 there.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arithmetic import BOTH, NUMBERS, averages, broadcast_size, moved, random_shapes, reach, sketch
from .elementwise import each
from .namespace import Array, array_namespace, unbroadcast
from .op import Op, Sample


def power(x1: Array, x2: Array) -> Array:
    """y = x1^x2. Shapes: (...), (...) -> (...), broadcast. A negative x1 wants whole exponents."""
    return x1**x2


def _slope_in_base(x1: Array, x2: Array) -> Array:
    """x2 x1^(x2-1), and 0 where x2 = 0."""
    xp = array_namespace(x1)
    if type(x2) in NUMBERS:
        return x2 * x1 ** (x2 - 1) if x2 != 0 else xp.zeros_like(x1)
    corner = xp.logical_and(x1 == 0, x2 == 0)
    return x2 * xp.where(corner, xp.ones_like(x1), x1) ** (x2 - 1.0)


def _slope_in_exponent(x1: Array, x2: Array) -> Array:
    """x1^x2 log x1, and 0 where x1 = 0."""
    xp = array_namespace(x2)
    if type(x1) in NUMBERS:
        x1 = xp.full_like(x2, x1)
    base = xp.where(x1 == 0, xp.ones_like(x1), x1)
    return base**x2 * xp.log(base)


def power_vjp(dy: Array, y: Any, x1: Array, x2: Array, *, wanted: tuple[bool, ...] = BOTH) -> tuple[Array | None, ...]:
    """dx1 = dy x2 x1^(x2-1) and dx2 = dy x1^x2 log x1."""
    return (
        unbroadcast(dy * _slope_in_base(x1, x2), x1.shape) if wanted[0] else None,
        unbroadcast(dy * _slope_in_exponent(x1, x2), x2.shape) if wanted[1] else None,
    )


def power_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...]) -> Array:
    """dy = x2 x1^(x2-1) dx1 + x1^x2 log x1 dx2. The logarithm is left alone where x2 does not move."""
    (dx1, dx2), (x1, x2) = dinputs, inputs
    if type(x2) in NUMBERS or dx2 is None:
        return dx1 * _slope_in_base(x1, x2)
    if type(x1) in NUMBERS or dx1 is None:
        return dx2 * _slope_in_exponent(x1, x2)
    return dx1 * _slope_in_base(x1, x2) + dx2 * _slope_in_exponent(x1, x2)


def power_definition(x1: Array, x2: Array) -> Array:
    """One number at a time."""
    return each(lambda a, b: a**b, x1, x2)


def _draw(rng: np.random.Generator) -> Sample:
    """Positive bases; half of the exponents are Python numbers, as in practice."""
    s1, s2 = random_shapes(rng, 2)
    x1, number = rng.uniform(0.5, 2.0, s1), int(rng.integers(12))
    if number == 11:
        return Sample((1.5, rng.uniform(-2.0, 3.0, s2)), {}, "random")
    x2 = (2, 3.0, 0.5, -1.0, 1)[number] if number < 5 else rng.uniform(-2.0, 3.0, s2)
    return Sample((x1, x2), {}, "random")


POWER = Op(
    "power",
    power,
    power_vjp,
    power_jvp,
    inputs=("x1", "x2"),
    reads=("x1", "x2"),
    takes_wanted=True,
    definition=power_definition,
    signature="(...):any,(...):any->(...)",
    draw=_draw,
    domain={"x1": "positive"},
    formula=r"y = x_1^{x_2}",
    gradient=r"\bar x_1 = \bar y \, x_2 x_1^{x_2 - 1}, \quad \bar x_2 = \bar y \, x_1^{x_2} \ln x_1",
    samples=(
        Sample((np.array([-2.0, 0.0, 3.0]), 2), {}, "a square: every sign is welcome"),
        Sample((np.array([0.0, -1.5, 2.0]), 0), {}, "to the power of zero everything is one, and flat"),
        Sample((np.array([0.0, 0.0]), np.array([0.0, 2.5])), {}, "a base of zero: 0^0 = 1, and both slopes are zero"),
        Sample((np.array([[4.0], [9.0]]), np.array([0.5, -0.5, 1.0])), {}, "roots and reciprocals, stretched"),
        Sample((2.0, np.array([-1.0, 0.0, 10.0])), {}, "a Python number as the base"),
    ),
    wrong={
        "forgets the exponent": sketch(
            lambda dy, y, x1, x2: dy * x1 ** (x2 - 1), lambda dy, y, x1, x2: dy * x1**x2 * np.log(x1)
        ),
        "forgets to lower the exponent": sketch(
            lambda dy, y, x1, x2: dy * x2 * x1**x2, lambda dy, y, x1, x2: dy * x1**x2 * np.log(x1)
        ),
        "forgets the logarithm": sketch(
            lambda dy, y, x1, x2: dy * x2 * x1 ** (x2 - 1.0), lambda dy, y, x1, x2: dy * x1**x2
        ),
        "averages over stretched axes": averages(power_vjp),
    },
    tolerance=lambda x1, x2: 8.0 + reach(x1, x2),
    cost=lambda x1, x2: (broadcast_size(x1, x2), moved(x1, x2)),
    source="Griewank, Walther: Evaluating Derivatives, 2nd ed., chapter 3",
)
