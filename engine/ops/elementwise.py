"""One number in, one number out, with NumPy's broadcasting. Formulas: reference/elementwise.py and arithmetic.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...reference import table as t
from ..device import is_array
from ..door import operand
from ..moving import beside
from ..tensor import Tensor, apply

__all__ = [
    "add",
    "astype",
    "divide",
    "exp",
    "log",
    "multiply",
    "negative",
    "pow",
    "power",
    "sqrt",
    "subtract",
    "tanh",
    "where",
]

Operand = Any  # Tensor, NumPy array or Python number


def with_axes(op: str, x: Operand, *, like: Operand = None) -> Any:
    """x as what has a shape: a number as a Tensor without axes, beside `like`; one sentence where x is no operand."""
    if type(x) is Tensor:
        return x
    if x is None:
        raise TypeError(f"{op}: got None, but it takes Tensors, NumPy arrays and Python numbers")
    operand(op, x)
    return x if is_array(x) else beside(Tensor(x), like)


def add(x1: Operand, x2: Operand) -> Tensor:
    """x1 + x2."""
    return apply(t.ADD, x1, x2)


def subtract(x1: Operand, x2: Operand) -> Tensor:
    """x1 - x2."""
    return apply(t.SUBTRACT, x1, x2)


def multiply(x1: Operand, x2: Operand) -> Tensor:
    """x1 * x2."""
    return apply(t.MULTIPLY, x1, x2)


def divide(x1: Operand, x2: Operand) -> Tensor:
    """x1 / x2."""
    return apply(t.DIVIDE, x1, x2)


def power(x1: Operand, x2: Operand) -> Tensor:
    """x1 ** x2."""
    return apply(t.POWER, x1, x2)


def pow(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 ** x2: `power` under the standard's name."""
    return power(x1, x2)


def negative(x: Operand) -> Tensor:
    """-x."""
    return apply(t.NEGATIVE, x)


def exp(x: Operand) -> Tensor:
    """e ** x."""
    return apply(t.EXP, x)


def log(x: Operand) -> Tensor:
    """The natural logarithm; -inf at 0, NaN below."""
    return apply(t.LOG, x)


def sqrt(x: Operand) -> Tensor:
    """The square root; NaN below 0."""
    return apply(t.SQRT, x)


def tanh(x: Operand) -> Tensor:
    """The hyperbolic tangent."""
    return apply(t.TANH, x)


def where(condition: Operand, x1: Operand, x2: Operand) -> Tensor:
    """x1 where the boolean `condition` is True, x2 elsewhere."""
    return apply(t.WHERE, condition, x1, x2)


def astype(x: Operand, /, dtype: Any, *, copy: bool = True, device: Any = None) -> Tensor:
    """The same numbers in another dtype; differentiable between floating point dtypes."""
    return apply(t.ASTYPE, x, dtype=np.dtype(dtype))
