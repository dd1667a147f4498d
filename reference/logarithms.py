r"""Logarithms in the bases 2 and 10, logarithm and exponential without cancellation, and the sum of numbers given by logs.

    f                  f'                            why it has a name of its own
    expm1 x            e^x = y + 1                   e^x - 1 cancels near 0
    log1p x            1 / (1 + x)                   in 1 + x the digits of a small x are lost
    log2 x             1 / (x ln 2)                  log2 x = ln x / ln 2
    log10 x            1 / (x ln 10)                 log10 x = ln x / ln 10
    logaddexp(a, b)    s and 1 - s, see below        e^a and e^b alone may overflow, or both be 0

Probabilities multiply, so their logarithms are added; but to add two probabilities of which only the logarithms a and b
are left takes

    y = ln(e^a + e^b) = max(a, b) + ln(1 + e^-|a - b|),

whose slopes are the shares of the two terms in the sum, the softmax of a and b, here with d = a - b:

    dy/da = e^a / (e^a + e^b) = 1 / (1 + e^-d) = (1 + tanh(d/2)) / 2        dy/db = (1 - tanh(d/2)) / 2

tanh overflows nowhere, so that neither sign of d needs a case of its own. Two equal infinities have no difference (the limit
of d depends on the way there), and the shares are taken as equal.

The slope of expm1 is written in y, which frees x. Its price: far below zero the error of y + 1 is one eps of 1, not of e^x.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arithmetic import BOTH, NUMBERS, averages, broadcast_size, directions, moved, random_shapes, reach, sketch
from .constants import ONE_OVER_LN_2, ONE_OVER_LN_10, times
from .elementwise import each
from .namespace import Array, array_namespace, namespace_of, unbroadcast
from .op import Op, Sample

# ---- expm1


def expm1(x: Array) -> Array:
    """y = e^x - 1. Shapes: (...) -> (...)."""
    return array_namespace(x).expm1(x)


def expm1_vjp(dy: Array, y: Array, x: Any) -> tuple[Array]:
    """dx = dy (y + 1)."""
    return (dy * (y + 1.0),)


def expm1_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Any]) -> Array:
    """dy = (y + 1) dx."""
    return expm1_vjp(dinputs[0], y, inputs[0])[0]


def expm1_definition(x: Array) -> Array:
    """One number at a time."""
    return each(math.expm1, x)


# ---- log1p


def log1p(x: Array) -> Array:
    """y = ln(1 + x), for x > -1. Shapes: (...) -> (...)."""
    return array_namespace(x).log1p(x)


def log1p_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = dy / (1 + x)."""
    return (dy / (1.0 + x),)


def log1p_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = dx / (1 + x)."""
    return log1p_vjp(dinputs[0], y, inputs[0])[0]


def log1p_definition(x: Array) -> Array:
    """One number at a time."""
    return each(math.log1p, x)


# ---- log2


def log2(x: Array) -> Array:
    """y = ln x / ln 2, for x > 0. Shapes: (...) -> (...)."""
    return array_namespace(x).log2(x)


def log2_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = dy / (x ln 2)."""
    return (times(dy / x, ONE_OVER_LN_2),)


def log2_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = dx / (x ln 2)."""
    return log2_vjp(dinputs[0], y, inputs[0])[0]


def log2_definition(x: Array) -> Array:
    """One number at a time."""
    return each(math.log2, x)


# ---- log10


def log10(x: Array) -> Array:
    """y = ln x / ln 10, for x > 0. Shapes: (...) -> (...)."""
    return array_namespace(x).log10(x)


def log10_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = dy / (x ln 10)."""
    return (times(dy / x, ONE_OVER_LN_10),)


def log10_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = dx / (x ln 10)."""
    return log10_vjp(dinputs[0], y, inputs[0])[0]


def log10_definition(x: Array) -> Array:
    """One number at a time."""
    return each(math.log10, x)


# ---- logaddexp


def logaddexp(x1: Array, x2: Array) -> Array:
    """y = ln(e^x1 + e^x2). Shapes: (...), (...) -> (...), broadcast."""
    return namespace_of(x1, x2).logaddexp(x1, x2)


def _shares(x1: Array, x2: Array) -> tuple[Array, Array]:
    """e^x1 and e^x2 divided by their sum. Shapes: (...), (...) -> (...), (...), both of the common shape."""
    xp = namespace_of(x1, x2)
    x1 = xp.full_like(x2, x1) if type(x1) in NUMBERS else x1
    x2 = xp.full_like(x1, x2) if type(x2) in NUMBERS else x2
    same = xp.logical_and(x1 == x2, xp.isinf(x1))
    t = xp.tanh(0.5 * (xp.where(same, 0.0, x1) - xp.where(same, 0.0, x2)))
    return 0.5 * (1.0 + t), 0.5 * (1.0 - t)


def logaddexp_vjp(
    dy: Array, y: Any, x1: Array, x2: Array, *, wanted: tuple[bool, ...] = BOTH
) -> tuple[Array | None, ...]:
    """dx1 = dy (1 + tanh(d/2)) / 2 and dx2 = dy (1 - tanh(d/2)) / 2, with d = x1 - x2."""
    s1, s2 = _shares(x1, x2)
    return (
        unbroadcast(dy * s1, x1.shape) if wanted[0] else None,
        unbroadcast(dy * s2, x2.shape) if wanted[1] else None,
    )


def logaddexp_jvp(dinputs: tuple[Array, ...], y: Any, inputs: tuple[Array, ...]) -> Array:
    """dy = s1 dx1 + s2 dx2."""
    (dx1, dx2), (s1, s2) = directions(dinputs), _shares(*inputs)
    return s1 * dx1 + s2 * dx2


def logaddexp_definition(x1: Array, x2: Array) -> Array:
    """One number at a time: the larger exponential is taken out of the sum."""

    def number(a: float, b: float) -> float:
        low, high = sorted((a, b))
        return high if math.isinf(high) else high + math.log1p(math.exp(low - high))

    return each(number, x1, x2)


# ---- the rows


def _draw(rng: np.random.Generator) -> Sample:
    """Both are near enough to count; x2 is stretched; every sixth x1 and every sixth x2 is a Python number."""
    s1, s2 = random_shapes(rng, 2)
    x1, x2 = 2.0 * rng.standard_normal((2, *np.broadcast_shapes(s1, s2))), 2.0 * rng.standard_normal(s2)
    number = int(rng.integers(6))
    return Sample((1.5 if number == 0 else x1, -0.75 if number == 1 else x2), {}, "random")


def _above_minus_one(rng: np.random.Generator) -> Sample:
    return Sample((rng.uniform(-0.7, 2.0, random_shapes(rng, 1)[0]),), {}, "random")


EXPM1 = Op(
    "expm1",
    expm1,
    expm1_vjp,
    expm1_jvp,
    inputs=("x",),
    reads=("y",),
    definition=expm1_definition,
    signature="(...)->(...)",
    formula=r"y = e^x - 1",
    gradient=r"\bar x = \bar y \, (y + 1)",
    samples=(
        Sample((np.array([0.0, 1.0, -1.0]),), {}, "both signs and zero"),
        Sample((np.array([1e-9, -1e-18]),), {}, "close to zero expm1 is the identity: e^x - 1 would cancel"),
        Sample((np.array([700.0, -800.0, -np.inf]),), {}, "nearly infinite, and minus one"),
    ),
    wrong={
        "forgets the slope": lambda dy, y, x: (dy,),
        "takes y for the exponential": lambda dy, y, x: (dy * y,),
        "subtracts the one again": lambda dy, y, x: (dy * (y - 1.0),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="Higham: Accuracy and Stability of Numerical Algorithms, 2nd ed., section 1.14.1; array API standard, expm1",
)

LOG1P = Op(
    "log1p",
    log1p,
    log1p_vjp,
    log1p_jvp,
    inputs=("x",),
    reads=("x",),
    definition=log1p_definition,
    signature="(...)->(...)",
    draw=_above_minus_one,
    formula=r"y = \ln(1 + x)",
    gradient=r"\bar x = \frac{\bar y}{1 + x}",
    samples=(
        Sample((np.array([0.0, math.e - 1.0, -0.5]),), {}, "zero, one and a negative result"),
        Sample((np.array([1e-9, -1e-18]),), {}, "close to zero log1p is the identity: 1 + x would lose x"),
        Sample((np.array([-1.0 + 1e-12, 1e300, np.inf]),), {}, "the far ends"),
    ),
    wrong={
        "takes the slope of the logarithm": lambda dy, y, x: (dy / x,),
        "forgets the slope": lambda dy, y, x: (dy,),
        "multiplies where it should divide": lambda dy, y, x: (dy * (1.0 + x),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="Goldberg 1991, What every computer scientist should know about floating-point arithmetic, theorem 4",
)

LOG2 = Op(
    "log2",
    log2,
    log2_vjp,
    log2_jvp,
    inputs=("x",),
    reads=("x",),
    definition=log2_definition,
    signature="(...)->(...)",
    domain={"x": "positive"},
    formula=r"y = \log_2 x",
    gradient=r"\bar x = \frac{\bar y}{x \ln 2}",
    samples=(
        Sample((np.array([1.0, 2.0, 0.5, 1024.0]),), {}, "powers of two give whole numbers"),
        Sample((np.array([1e-300, 1e300]),), {}, "the far ends of the positive numbers"),
        Sample((np.array([1.0 - 1e-12, 1.0 + 1e-12]),), {}, "close to one the result is small"),
    ),
    laws=("turns_products_into_sums",),
    wrong={
        "forgets the base": lambda dy, y, x: (dy / x,),
        "multiplies by ln 2": lambda dy, y, x: (dy / x * math.log(2.0),),
        "takes the base 10": lambda dy, y, x: (dy / x / math.log(10.0),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="array API standard 2024.12, log2",
)

LOG10 = Op(
    "log10",
    log10,
    log10_vjp,
    log10_jvp,
    inputs=("x",),
    reads=("x",),
    definition=log10_definition,
    signature="(...)->(...)",
    domain={"x": "positive"},
    formula=r"y = \log_{10} x",
    gradient=r"\bar x = \frac{\bar y}{x \ln 10}",
    samples=(
        Sample((np.array([1.0, 10.0, 0.1, 1000.0]),), {}, "powers of ten give whole numbers"),
        Sample((np.array([1e-300, 1e300]),), {}, "the far ends of the positive numbers"),
        Sample((np.array([1.0 - 1e-12, 1.0 + 1e-12]),), {}, "close to one the result is small"),
    ),
    laws=("turns_products_into_sums",),
    wrong={
        "forgets the base": lambda dy, y, x: (dy / x,),
        "multiplies by ln 10": lambda dy, y, x: (dy / x * math.log(10.0),),
        "takes the base 2": lambda dy, y, x: (dy / x / math.log(2.0),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="array API standard 2024.12, log10",
)

LOGADDEXP = Op(
    "logaddexp",
    logaddexp,
    logaddexp_vjp,
    logaddexp_jvp,
    inputs=("x1", "x2"),
    reads=("x1", "x2"),
    takes_wanted=True,
    definition=logaddexp_definition,
    signature="(...),(...)->(...)",
    draw=_draw,
    analytic=False,  # the libraries' logaddexp takes no complex numbers
    formula=r"y = \ln\left(e^{x_1} + e^{x_2}\right)",
    gradient=r"\bar x_1 = \frac{\bar y}{1 + e^{x_2 - x_1}}, \quad \bar x_2 = \frac{\bar y}{1 + e^{x_1 - x_2}}",
    samples=(
        Sample((np.array([0.0, 1.0]), np.array([0.0, -1.0])), {}, "equal terms share equally"),
        Sample((np.array([1000.0, -1000.0]), np.array([999.0, -1001.0])), {}, "the exponentials would be inf, or zero"),
        Sample((np.array([-np.inf, 2.0]), np.array([2.0, np.inf])), {}, "a term of zero, and an infinite one"),
        Sample((np.array([[0.0], [100.0]]), np.array([1.0, 2.0])), {}, "stretched: its cotangents are summed"),
        Sample((0.0, np.array([-50.0, 50.0])), {}, "a Python number: softplus"),
    ),
    laws=("commutative", "moves_along_with_both"),
    wrong={
        "exchanges the shares": sketch(
            lambda dy, y, x1, x2: dy * np.exp(x2 - y), lambda dy, y, x1, x2: dy * np.exp(x1 - y)
        ),
        "forgets the sum below": sketch(lambda dy, y, x1, x2: dy * np.exp(x1), lambda dy, y, x1, x2: dy * np.exp(x2)),
        "gives everything to the larger": sketch(
            lambda dy, y, x1, x2: dy * (x1 > x2), lambda dy, y, x1, x2: dy * (x1 < x2)
        ),
        "averages over stretched axes": averages(logaddexp_vjp),
    },
    tolerance=reach,
    cost=lambda x1, x2: (5 * broadcast_size(x1, x2), moved(x1, x2)),
    source="Blanchard, Higham, Higham 2021: IMA JNA 41(4), on log-sum-exp; array API standard 2024.12, logaddexp",
)
