r"""Circular functions and their inverses, applied to every entry: y_i = f(x_i), angles in radians.

The point (cos x, sin x) runs round the unit circle with speed 1, and its velocity is itself turned by a right angle,
(-sin x, cos x). Everything else follows: tan by the quotient rule, the inverses by differentiating f(y) = x, which gives
f'(y) y' = 1. As in `elementwise.py` the Jacobian is diagonal: dx_i = f'(x_i) dy_i, and every jvp is its vjp.

    f         f'                     from
    sin x     cos x
    cos x     -sin x
    tan x     1 + y^2                (cos^2 + sin^2) / cos^2, written in y
    asin x    1 / sqrt(1 - x^2)      cos y y' = 1, and cos y = sqrt(1 - x^2) >= 0 for y in [-pi/2, pi/2]
    acos x    -1 / sqrt(1 - x^2)     asin x + acos x = pi/2
    atan x    1 / (1 + x^2)          (1 + tan^2 y) y' = 1

1 - x^2 is computed as (1 - x)(1 + x): near x = 1 little is left of 1 - x^2 but the rounding error of x^2, while 1 - x is
exact there (Sterbenz's lemma: so is every difference of two numbers of which neither is more than twice the other).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .elementwise import each, random_shape
from .namespace import Array, array_namespace
from .op import Op, Sample

# ---- sin


def sin(x: Array) -> Array:
    """y = sin x. Shapes: (...) -> (...)."""
    return array_namespace(x).sin(x)


def sin_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = dy cos x."""
    return (dy * array_namespace(x).cos(x),)


def sin_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = cos x dx."""
    return sin_vjp(dinputs[0], y, inputs[0])[0]


def sin_definition(x: Array) -> Array:
    """One number at a time."""
    return each(math.sin, x)


# ---- cos


def cos(x: Array) -> Array:
    """y = cos x. Shapes: (...) -> (...)."""
    return array_namespace(x).cos(x)


def cos_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = -dy sin x."""
    return (-dy * array_namespace(x).sin(x),)


def cos_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = -sin x dx."""
    return cos_vjp(dinputs[0], y, inputs[0])[0]


def cos_definition(x: Array) -> Array:
    """One number at a time."""
    return each(math.cos, x)


# ---- tan


def tan(x: Array) -> Array:
    """y = sin x / cos x. Shapes: (...) -> (...)."""
    return array_namespace(x).tan(x)


def tan_vjp(dy: Array, y: Array, x: Any) -> tuple[Array]:
    """dx = dy (1 + y^2)."""
    return (dy * (1.0 + y * y),)


def tan_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Any]) -> Array:
    """dy = (1 + y^2) dx."""
    return tan_vjp(dinputs[0], y, inputs[0])[0]


def tan_definition(x: Array) -> Array:
    """One number at a time."""
    return each(lambda v: math.sin(v) / math.cos(v), x)


# ---- asin


def asin(x: Array) -> Array:
    """The y in [-pi/2, pi/2] with sin y = x, for x in [-1, 1]; NaN elsewhere. Shapes: (...) -> (...)."""
    return array_namespace(x).asin(x)


def asin_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = dy / sqrt((1 - x)(1 + x))."""
    return (dy / array_namespace(x).sqrt((1.0 - x) * (1.0 + x)),)


def asin_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = dx / sqrt((1 - x)(1 + x))."""
    return asin_vjp(dinputs[0], y, inputs[0])[0]


def asin_definition(x: Array) -> Array:
    """One number at a time."""
    return each(math.asin, x)


# ---- acos


def acos(x: Array) -> Array:
    """The y in [0, pi] with cos y = x, for x in [-1, 1]; NaN elsewhere. Shapes: (...) -> (...)."""
    return array_namespace(x).acos(x)


def acos_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = -dy / sqrt((1 - x)(1 + x))."""
    return (-dy / array_namespace(x).sqrt((1.0 - x) * (1.0 + x)),)


def acos_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = -dx / sqrt((1 - x)(1 + x))."""
    return acos_vjp(dinputs[0], y, inputs[0])[0]


def acos_definition(x: Array) -> Array:
    """One number at a time."""
    return each(math.acos, x)


# ---- atan


def atan(x: Array) -> Array:
    """The y in [-pi/2, pi/2] with tan y = x. Shapes: (...) -> (...)."""
    return array_namespace(x).atan(x)


def atan_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = dy / (1 + x^2)."""
    return (dy / (1.0 + x * x),)


def atan_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = dx / (1 + x^2)."""
    return atan_vjp(dinputs[0], y, inputs[0])[0]


def atan_definition(x: Array) -> Array:
    """One number at a time."""
    return each(math.atan, x)


# ---- the rows


def _between_poles(rng: np.random.Generator) -> Sample:
    """Angles on both sides of the circle, at least 0.3 from the poles of tan at odd multiples of pi/2."""
    shape = random_shape(rng)
    return Sample((rng.uniform(-1.25, 1.25, shape) + math.pi * rng.integers(-1, 2, shape),), {}, "random")


def inside(rng: np.random.Generator) -> Sample:
    """Away from -1 and 1, where the slopes of asin and acos (and of atanh) are infinite."""
    return Sample((rng.uniform(-0.9, 0.9, random_shape(rng)),), {}, "random")


SIN = Op(
    "sin",
    sin,
    sin_vjp,
    sin_jvp,
    inputs=("x",),
    reads=("x",),
    definition=sin_definition,
    signature="(...)->(...)",
    formula=r"y = \sin x",
    gradient=r"\bar x = \bar y \cos x",
    samples=(
        Sample((np.array([0.0, math.pi / 6, -math.pi / 2, math.pi]),), {}, "the angles that everybody knows"),
        Sample((np.array([1e-9, -1e-9]),), {}, "close to zero sin is the identity"),
        Sample((np.array([1e5, -1e15]),), {}, "many turns: the angle must be reduced with all digits of pi"),
    ),
    laws=("odd", "periodic", "bounded_by_one"),
    wrong={
        "forgets the slope": lambda dy, y, x: (dy,),
        "takes the sign of the cosine's slope": lambda dy, y, x: (-dy * np.cos(x),),
        "takes sin for its own derivative": lambda dy, y, x: (dy * np.sin(x),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="DLMF section 4.20; array API standard 2024.12, sin",
)

COS = Op(
    "cos",
    cos,
    cos_vjp,
    cos_jvp,
    inputs=("x",),
    reads=("x",),
    definition=cos_definition,
    signature="(...)->(...)",
    formula=r"y = \cos x",
    gradient=r"\bar x = -\bar y \sin x",
    samples=(
        Sample((np.array([0.0, math.pi / 3, -math.pi / 2, math.pi]),), {}, "the angles that everybody knows"),
        Sample((np.array([1e-9, -1e-9]),), {}, "close to zero cos is one, and nearly flat"),
        Sample((np.array([1e5, -1e15]),), {}, "many turns: the angle must be reduced with all digits of pi"),
    ),
    laws=("even", "periodic", "bounded_by_one"),
    wrong={
        "forgets the slope": lambda dy, y, x: (dy,),
        "forgets the minus sign": lambda dy, y, x: (dy * np.sin(x),),
        "takes cos for its own derivative": lambda dy, y, x: (dy * np.cos(x),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="DLMF section 4.20; array API standard 2024.12, cos",
)

TAN = Op(
    "tan",
    tan,
    tan_vjp,
    tan_jvp,
    inputs=("x",),
    reads=("y",),
    definition=tan_definition,
    signature="(...)->(...)",
    draw=_between_poles,
    formula=r"y = \tan x",
    gradient=r"\bar x = \bar y \, (1 + y^2)",
    samples=(
        Sample((np.array([0.0, math.pi / 4, -math.pi / 3, math.pi]),), {}, "the angles that everybody knows"),
        Sample((np.array([1.57, -1.57]),), {}, "beside the poles"),
        Sample((np.array(0.5),), {}, "an array without axes stays one"),
    ),
    laws=("odd",),
    wrong={
        "takes the slope of tanh": lambda dy, y, x: (dy * (1.0 - y * y),),
        "forgets to square": lambda dy, y, x: (dy * (1.0 + y),),
        "divides where it should multiply": lambda dy, y, x: (dy / (1.0 + y * y),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="DLMF section 4.20; array API standard 2024.12, tan",
)

ASIN = Op(
    "asin",
    asin,
    asin_vjp,
    asin_jvp,
    inputs=("x",),
    reads=("x",),
    definition=asin_definition,
    signature="(...)->(...)",
    draw=inside,
    formula=r"y = \arcsin x",
    gradient=r"\bar x = \frac{\bar y}{\sqrt{1 - x^2}}",
    samples=(
        Sample((np.array([0.0, 0.5, -0.5]),), {}, "the angles that everybody knows"),
        Sample((np.array([1e-9, -1e-18]),), {}, "close to zero asin is the identity"),
        Sample((np.array([1.0, -1.0]),), {}, "at the ends the slope is infinite"),
    ),
    laws=("odd",),
    wrong={
        "forgets the root": lambda dy, y, x: (dy / (1.0 - x * x),),
        "takes the slope of asinh": lambda dy, y, x: (dy / np.sqrt(1.0 + x * x),),
        "takes the slope of acos": lambda dy, y, x: (-dy / np.sqrt(1.0 - x * x),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="DLMF section 4.24; array API standard 2024.12, asin",
)

ACOS = Op(
    "acos",
    acos,
    acos_vjp,
    acos_jvp,
    inputs=("x",),
    reads=("x",),
    definition=acos_definition,
    signature="(...)->(...)",
    draw=inside,
    formula=r"y = \arccos x",
    gradient=r"\bar x = -\frac{\bar y}{\sqrt{1 - x^2}}",
    samples=(
        Sample((np.array([0.0, 0.5, -0.5]),), {}, "the angles that everybody knows"),
        Sample((np.array([1e-9, -1e-18]),), {}, "close to zero it is nearly a right angle"),
        Sample((np.array([1.0, -1.0]),), {}, "at the ends the slope is infinite"),
    ),
    laws=("nonnegative",),
    wrong={
        "forgets the root": lambda dy, y, x: (-dy / (1.0 - x * x),),
        "forgets the minus sign": lambda dy, y, x: (dy / np.sqrt(1.0 - x * x),),
        "takes the plus sign of the hyperbola": lambda dy, y, x: (-dy / np.sqrt(1.0 + x * x),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="DLMF section 4.24; array API standard 2024.12, acos",
)

ATAN = Op(
    "atan",
    atan,
    atan_vjp,
    atan_jvp,
    inputs=("x",),
    reads=("x",),
    definition=atan_definition,
    signature="(...)->(...)",
    formula=r"y = \arctan x",
    gradient=r"\bar x = \frac{\bar y}{1 + x^2}",
    samples=(
        Sample((np.array([0.0, 1.0, -math.sqrt(3.0)]),), {}, "the angles that everybody knows"),
        Sample((np.array([1e-9, -1e-9]),), {}, "close to zero atan is the identity"),
        Sample((np.array([1e100, -np.inf]),), {}, "far out it is a right angle, and flat"),
    ),
    laws=("odd",),
    wrong={
        "takes the slope of atanh": lambda dy, y, x: (dy / (1.0 - x * x),),
        "takes the root as asinh does": lambda dy, y, x: (dy / np.sqrt(1.0 + x * x),),
        "differentiates tan instead of its inverse": lambda dy, y, x: (dy * (1.0 + x * x),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="DLMF section 4.24; array API standard 2024.12, atan",
)
