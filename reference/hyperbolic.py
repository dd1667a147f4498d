r"""Hyperbolic functions and their inverses, applied to every entry: y_i = f(x_i). (tanh stands in `elementwise.py`.)

cosh x and sinh x are the even and the odd part of e^x, and (cosh x, sinh x) runs along the hyperbola c^2 - s^2 = 1:

    cosh x = (e^x + e^-x) / 2,   sinh x = (e^x - e^-x) / 2,   so   sinh' = cosh   and   cosh' = sinh.

The inverses follow from f(y) = x, f'(y) y' = 1, as on the circle; only signs differ.

    f          f'                              from
    sinh x     cosh x
    cosh x     sinh x
    asinh x    1 / sqrt(x^2 + 1)               cosh y y' = 1, and cosh y = sqrt(x^2 + 1)
    acosh x    1 / (sqrt(x - 1) sqrt(x + 1))   sinh y y' = 1, and sinh y = sqrt(x^2 - 1) for y >= 0
    atanh x    1 / ((1 - x)(1 + x))            (1 - tanh^2 y) y' = 1

sqrt(x^2 + 1) is hypot(x, 1): x^2 would overflow long before its root does. For the same reason the root of x^2 - 1 is
taken of each factor, and 1 - x^2 in two factors keeps its digits near x = 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .elementwise import each, random_shape
from .namespace import Array, array_namespace
from .op import Op, Sample
from .trigonometric import inside

# ---- sinh


def sinh(x: Array) -> Array:
    """y = (e^x - e^-x) / 2. Shapes: (...) -> (...)."""
    return array_namespace(x).sinh(x)


def sinh_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = dy cosh x."""
    return (dy * array_namespace(x).cosh(x),)


def sinh_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = cosh x dx."""
    return sinh_vjp(dinputs[0], y, inputs[0])[0]


def sinh_definition(x: Array) -> Array:
    """One number at a time: with t = e^|x| - 1, 2 sinh |x| = t + t / (t + 1), which cancels nothing near zero."""

    def number(v: float) -> float:
        t = math.expm1(abs(v))
        return math.copysign(0.5 * (t + t / (t + 1.0)), v)

    return each(number, x)


# ---- cosh


def cosh(x: Array) -> Array:
    """y = (e^x + e^-x) / 2. Shapes: (...) -> (...)."""
    return array_namespace(x).cosh(x)


def cosh_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = dy sinh x."""
    return (dy * array_namespace(x).sinh(x),)


def cosh_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = sinh x dx."""
    return cosh_vjp(dinputs[0], y, inputs[0])[0]


def cosh_definition(x: Array) -> Array:
    """One number at a time."""
    return each(lambda v: 0.5 * math.exp(v) + 0.5 * math.exp(-v), x)


# ---- asinh


def asinh(x: Array) -> Array:
    """The y with sinh y = x. Shapes: (...) -> (...)."""
    return array_namespace(x).asinh(x)


def asinh_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = dy / hypot(x, 1)."""
    xp = array_namespace(x)
    return (dy / xp.hypot(x, xp.ones_like(x)),)


def asinh_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = dx / hypot(x, 1)."""
    return asinh_vjp(dinputs[0], y, inputs[0])[0]


def asinh_definition(x: Array) -> Array:
    """One number at a time."""
    return each(math.asinh, x)


# ---- acosh


def acosh(x: Array) -> Array:
    """The y >= 0 with cosh y = x, for x >= 1; NaN below. Shapes: (...) -> (...)."""
    return array_namespace(x).acosh(x)


def acosh_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = dy / (sqrt(x - 1) sqrt(x + 1))."""
    xp = array_namespace(x)
    return (dy / (xp.sqrt(x - 1.0) * xp.sqrt(x + 1.0)),)


def acosh_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = dx / (sqrt(x - 1) sqrt(x + 1))."""
    return acosh_vjp(dinputs[0], y, inputs[0])[0]


def acosh_definition(x: Array) -> Array:
    """One number at a time."""
    return each(math.acosh, x)


# ---- atanh


def atanh(x: Array) -> Array:
    """The y with tanh y = x, for x in [-1, 1]; infinite at the ends, NaN beyond. Shapes: (...) -> (...)."""
    return array_namespace(x).atanh(x)


def atanh_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = dy / ((1 - x)(1 + x))."""
    return (dy / ((1.0 - x) * (1.0 + x)),)


def atanh_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = dx / ((1 - x)(1 + x))."""
    return atanh_vjp(dinputs[0], y, inputs[0])[0]


def atanh_definition(x: Array) -> Array:
    """One number at a time; math.atanh raises at the ends."""
    return each(lambda v: math.copysign(math.inf, v) if abs(v) == 1.0 else math.atanh(v), x)


# ---- the rows


def _above_one(rng: np.random.Generator) -> Sample:
    """Away from 1, where the slope of acosh is infinite."""
    return Sample((rng.uniform(1.3, 4.0, random_shape(rng)),), {}, "random")


SINH = Op(
    "sinh",
    sinh,
    sinh_vjp,
    sinh_jvp,
    inputs=("x",),
    reads=("x",),
    definition=sinh_definition,
    signature="(...)->(...)",
    formula=r"y = \sinh x",
    gradient=r"\bar x = \bar y \cosh x",
    samples=(
        Sample((np.array([0.0, 1.0, -1.0]),), {}, "both signs and zero"),
        Sample((np.array([1e-9, -1e-9]),), {}, "close to zero sinh is the identity: e^x - e^-x would cancel"),
        Sample((np.array([700.0, -700.0]),), {}, "nearly infinite"),
    ),
    laws=("odd",),
    wrong={
        "forgets the slope": lambda dy, y, x: (dy,),
        "takes sinh for its own derivative": lambda dy, y, x: (dy * np.sinh(x),),
        "takes the slope of sin": lambda dy, y, x: (dy * np.cos(x),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="DLMF section 4.34; array API standard 2024.12, sinh",
)

COSH = Op(
    "cosh",
    cosh,
    cosh_vjp,
    cosh_jvp,
    inputs=("x",),
    reads=("x",),
    definition=cosh_definition,
    signature="(...)->(...)",
    formula=r"y = \cosh x",
    gradient=r"\bar x = \bar y \sinh x",
    samples=(
        Sample((np.array([0.0, 1.0, -1.0]),), {}, "both signs and zero"),
        Sample((np.array([700.0, -700.0]),), {}, "nearly infinite"),
        Sample((np.array(0.5),), {}, "an array without axes stays one"),
    ),
    laws=("even", "nonnegative"),
    wrong={
        "forgets the slope": lambda dy, y, x: (dy,),
        "takes the minus sign of the circle": lambda dy, y, x: (-dy * np.sinh(x),),
        "takes cosh for its own derivative": lambda dy, y, x: (dy * np.cosh(x),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="DLMF section 4.34; array API standard 2024.12, cosh",
)

ASINH = Op(
    "asinh",
    asinh,
    asinh_vjp,
    asinh_jvp,
    inputs=("x",),
    reads=("x",),
    definition=asinh_definition,
    signature="(...)->(...)",
    formula=r"y = \operatorname{arsinh} x",
    gradient=r"\bar x = \frac{\bar y}{\sqrt{x^2 + 1}}",
    samples=(
        Sample((np.array([0.0, 1.0, -1.0]),), {}, "both signs and zero"),
        Sample((np.array([1e-9, -1e-9]),), {}, "close to zero asinh is the identity"),
        Sample((np.array([1e200, -1e200]),), {}, "far out: the square of x overflows"),
    ),
    laws=("odd",),
    wrong={
        "forgets the root": lambda dy, y, x: (dy / (x * x + 1.0),),
        "forgets the one": lambda dy, y, x: (dy / np.abs(x),),
        "multiplies where it should divide": lambda dy, y, x: (dy * np.sqrt(x * x + 1.0),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="DLMF section 4.38; array API standard 2024.12, asinh",
)

ACOSH = Op(
    "acosh",
    acosh,
    acosh_vjp,
    acosh_jvp,
    inputs=("x",),
    reads=("x",),
    definition=acosh_definition,
    signature="(...)->(...)",
    draw=_above_one,
    formula=r"y = \operatorname{arcosh} x",
    gradient=r"\bar x = \frac{\bar y}{\sqrt{x^2 - 1}}",
    samples=(
        Sample((np.array([1.5, 2.0, 10.0]),), {}, "beside the end, and farther out"),
        Sample((np.array([1.0]),), {}, "at the end the slope is infinite"),
        Sample((np.array([1e200]),), {}, "far out: the square of x overflows"),
    ),
    laws=("nonnegative",),
    wrong={
        "takes the slope of asinh": lambda dy, y, x: (dy / np.sqrt(x * x + 1.0),),
        "forgets the root": lambda dy, y, x: (dy / (x * x - 1.0),),
        "takes the minus sign of the circle": lambda dy, y, x: (-dy / np.sqrt(x * x - 1.0),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="DLMF section 4.38; array API standard 2024.12, acosh",
)

ATANH = Op(
    "atanh",
    atanh,
    atanh_vjp,
    atanh_jvp,
    inputs=("x",),
    reads=("x",),
    definition=atanh_definition,
    signature="(...)->(...)",
    draw=inside,
    formula=r"y = \operatorname{artanh} x",
    gradient=r"\bar x = \frac{\bar y}{1 - x^2}",
    samples=(
        Sample((np.array([0.0, 0.5, -0.5]),), {}, "both signs and zero"),
        Sample((np.array([1e-9, -1e-18]),), {}, "close to zero atanh is the identity"),
        Sample((np.array([1.0, -1.0]),), {}, "at the poles the value and the slope are infinite"),
    ),
    laws=("odd",),
    wrong={
        "takes the slope of atan": lambda dy, y, x: (dy / (1.0 + x * x),),
        "takes the slope of asin": lambda dy, y, x: (dy / np.sqrt(1.0 - x * x),),
        "differentiates tanh instead of its inverse": lambda dy, y, x: (dy * (1.0 - x * x),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="DLMF section 4.38; array API standard 2024.12, atanh",
)
