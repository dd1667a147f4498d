"""More functions of one number or two: circles, hyperbolas, logarithms, pieces of straight lines.

Each is applied to every entry: the result has the shape of x, or that to which x1 and x2 broadcast. Formulas:
reference/trigonometric.py, hyperbolic.py, logarithms.py, polar.py and piecewise.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...reference import table as t
from ..door import SCALARS, operand
from ..tensor import Tensor, apply, plain
from .elementwise import Operand, divide, multiply, negative, where, with_axes
from .manipulation import common_shape

__all__ = [
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "clip",
    "copysign",
    "cos",
    "cosh",
    "expm1",
    "hypot",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "maximum",
    "minimum",
    "positive",
    "reciprocal",
    "remainder",
    "sin",
    "sinh",
    "square",
    "tan",
]  # fmt: skip


# ---- circles


def sin(x: Operand, /) -> Tensor:
    """The sine of an angle in radians."""
    return apply(t.SIN, x)


def cos(x: Operand, /) -> Tensor:
    """The cosine of an angle in radians."""
    return apply(t.COS, x)


def tan(x: Operand, /) -> Tensor:
    """The tangent of an angle in radians."""
    return apply(t.TAN, x)


def asin(x: Operand, /) -> Tensor:
    """The angle in [-pi/2, pi/2] whose sine is x; NaN where x is not in [-1, 1]."""
    return apply(t.ASIN, x)


def acos(x: Operand, /) -> Tensor:
    """The angle in [0, pi] whose cosine is x; NaN where x is not in [-1, 1]."""
    return apply(t.ACOS, x)


def atan(x: Operand, /) -> Tensor:
    """The angle in [-pi/2, pi/2] whose tangent is x."""
    return apply(t.ATAN, x)


def atan2(x1: Operand, x2: Operand, /) -> Tensor:
    """The angle in [-pi, pi] of the point with height x1 and width x2; at the origin its gradient is 0."""
    return apply(t.ATAN2, x1, x2)


def hypot(x1: Operand, x2: Operand, /) -> Tensor:
    """The square root of x1^2 + x2^2, without overflow; at the origin its gradient is 0."""
    return apply(t.HYPOT, x1, x2)


# ---- hyperbolas


def sinh(x: Operand, /) -> Tensor:
    """The hyperbolic sine."""
    return apply(t.SINH, x)


def cosh(x: Operand, /) -> Tensor:
    """The hyperbolic cosine."""
    return apply(t.COSH, x)


def asinh(x: Operand, /) -> Tensor:
    """The number whose hyperbolic sine is x."""
    return apply(t.ASINH, x)


def acosh(x: Operand, /) -> Tensor:
    """The number, 0 or above, whose hyperbolic cosine is x; NaN where x is below 1."""
    return apply(t.ACOSH, x)


def atanh(x: Operand, /) -> Tensor:
    """The number whose hyperbolic tangent is x; infinite at -1 and 1, NaN beyond."""
    return apply(t.ATANH, x)


# ---- logarithms


def expm1(x: Operand, /) -> Tensor:
    """e^x - 1, with all digits for a small x too."""
    return apply(t.EXPM1, x)


def log1p(x: Operand, /) -> Tensor:
    """The natural logarithm of 1 + x, with all digits for a small x too; -inf at -1, NaN below."""
    return apply(t.LOG1P, x)


def log2(x: Operand, /) -> Tensor:
    """The logarithm to the base 2; -inf at 0, NaN below."""
    return apply(t.LOG2, x)


def log10(x: Operand, /) -> Tensor:
    """The logarithm to the base 10; -inf at 0, NaN below."""
    return apply(t.LOG10, x)


def logaddexp(x1: Operand, x2: Operand, /) -> Tensor:
    """The logarithm of e^x1 + e^x2, without overflow; equal infinities share the gradient equally."""
    return apply(t.LOGADDEXP, x1, x2)


# ---- linear in pieces


def abs(x: Operand, /) -> Tensor:
    """x without its sign; at 0 its gradient is 0."""
    return apply(t.ABS, x)


def maximum(x1: Operand, x2: Operand, /) -> Tensor:
    """The larger of x1 and x2; where they are equal, they share the gradient equally."""
    return apply(t.MAXIMUM, x1, x2)


def minimum(x1: Operand, x2: Operand, /) -> Tensor:
    """The smaller of x1 and x2; where they are equal, they share the gradient equally."""
    return apply(t.MINIMUM, x1, x2)


def clip(x: Operand, /, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    """x, but min where x is below it and max where x is above it; x gets the gradient at the edges too.

    min, max: numbers, or arrays that broadcast against x, which have gradients where they were taken; None is no bound.
    """
    bounds = [b if isinstance(b, Tensor) else operand("clip", b) for b in (min, max)]
    low, high = bounds
    if all(type(b) in SCALARS for b in bounds):
        return apply(t.CLIP, x, min=low, max=high)
    common_shape("clip", [a for a in (x, low, high) if hasattr(a, "shape")])
    y = x
    if low is not None:
        y = where(_beyond(np.less, y, low), low, y)
    return y if high is None else where(_beyond(np.greater, y, high), high, y)


def _beyond(compare: Any, y: Operand, bound: Operand) -> Tensor:
    """Where y is beyond the bound, or the bound is NaN, which then shows."""
    missing = bound != bound if type(bound) in SCALARS else plain(np.not_equal, bound, bound)
    return plain(np.logical_or, plain(compare, y, bound), missing)


def remainder(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 - x2 floor(x1 / x2), with the sign of x2: x1 % x2."""
    return apply(t.REMAINDER, x1, x2)


# ---- composed of others


def square(x: Operand, /) -> Tensor:
    """x * x."""
    return multiply(x, x)


def reciprocal(x: Operand, /) -> Tensor:
    """1 / x."""
    return divide(1.0, x)


def positive(x: Operand, /) -> Tensor:
    """x."""
    return x if isinstance(x, Tensor) else Tensor(x)


def copysign(x1: Operand, x2: Operand, /) -> Tensor:
    """The size of x1 with the sign of x2, that of -0.0 and NaN included; x2 has no gradient."""
    x1, x2 = with_axes("copysign", x1, like=x2), with_axes("copysign", x2, like=x1)
    common_shape("copysign", [x1, x2])
    if x1.dtype.kind == "b":
        raise TypeError("copysign: x1 is bool, but only numbers have a sign")
    size = abs(x1)
    return where(plain(np.signbit, x2), negative(size), size)
