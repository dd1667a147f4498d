"""Many numbers in, one number out, along some axes. Formulas: reference/reductions.py and softmax.py."""

from __future__ import annotations

from typing import Any

from ...reference import table as t
from ..tensor import Tensor, apply
from .elementwise import Operand, with_axes

__all__ = ["max", "mean", "softmax", "sum"]

Axis = Any  # None for all axes, an int, or a tuple of ints


def normal_axis(op: str, axis: Axis, ndim: int) -> Axis:
    """The same axes counted from the front; one sentence where there is no such axis."""
    if axis is None:
        return None
    if isinstance(axis, tuple):
        found = tuple(normal_axis(op, a, ndim) for a in axis)
        if len(set(found)) < len(found):
            raise ValueError(f"{op}: axis is {axis}, which names an axis twice")
        return found
    if not isinstance(axis, int) or not -ndim <= axis < ndim:
        raise ValueError(f"{op}: axis is {axis!r}, but x has {ndim} axes")
    return axis % ndim


def sum(x: Operand, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum along `axis`."""
    x = with_axes("sum", x)
    return apply(t.SUM, x, axis=normal_axis("sum", axis, x.ndim), keepdims=keepdims)


def mean(x: Operand, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The arithmetic mean along `axis`."""
    x = with_axes("mean", x)
    return apply(t.MEAN, x, axis=normal_axis("mean", axis, x.ndim), keepdims=keepdims)


def max(x: Operand, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest value along `axis`; ties share the gradient equally."""
    x = with_axes("max", x)
    return apply(t.MAX, x, axis=normal_axis("max", axis, x.ndim), keepdims=keepdims)


def softmax(x: Operand, *, axis: int = -1) -> Tensor:
    """exp(x) / sum exp(x) along `axis`, whose entries sum to one."""
    x = with_axes("softmax", x)
    return apply(t.SOFTMAX, x, axis=normal_axis("softmax", axis, x.ndim))
