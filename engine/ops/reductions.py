"""Many numbers in, one number out along some axes; and what is made of such sums. Formulas: reference/reductions.py,
extremes.py, variance.py, products.py, cumulative_sum.py, logsumexp.py, softmax.py, log_softmax.py,
masked_softmax.py.

`axis` is an int, a tuple of ints, or None for all axes; the reduced ones are gone from the result, or have length 1 where
`keepdims`. ValueError where x has no such axis.
"""

from __future__ import annotations

from numbers import Real
from operator import index
from typing import Any

import numpy as np

from ...reference import table as t
from ...reference.op import Op
from ..device import is_array
from ..moving import beside
from ..tensor import Tensor, apply, plain
from .elementwise import Operand, astype, sqrt, where, with_axes

__all__ = [
    "cumulative_prod", "cumulative_sum", "log_softmax", "logsumexp", "masked_softmax", "max", "mean", "min", "prod", "softmax",
    "std", "sum", "var",
]  # fmt: skip

Axis = Any  # None for all axes, an int, or a tuple of ints


def normal_axis(op: str, axis: Axis, ndim: int, whose: str = "x") -> Axis:
    """The same axes counted from the front; one sentence where there is no such axis."""
    if axis is None:
        return None
    if isinstance(axis, tuple):
        found = tuple(one_axis(op, a, ndim, whose) for a in axis)
        if len(set(found)) < len(found):
            raise ValueError(f"{op}: axis is {axis}, which names an axis twice")
        return found
    return one_axis(op, axis, ndim, whose, wanted="an integer, a tuple of integers or None")


def one_axis(op: str, axis: Any, ndim: int, whose: str = "x", wanted: str = "an integer") -> int:
    """A single axis of what has `ndim` of them, counted from the front; one sentence where it is none."""
    try:
        if isinstance(axis, bool):
            raise TypeError
        found = index(axis)
    except TypeError:
        raise TypeError(f"{op}: axis is {axis!r}, but it must be {wanted}") from None
    if not -ndim <= found < ndim:
        raise ValueError(f"{op}: axis is {found}, but {whose} has {ndim} axes")
    return found % ndim


def _in_dtype(op: Op, x: Any, dtype: Any, **params: Any) -> Tensor:
    """The operation on x cast to `dtype`, and so its result: small integers, which sums widen, are made small again."""
    if dtype is None:
        return apply(op, x, **params)
    y = apply(op, x if x.dtype == dtype else astype(x, dtype), **params)
    return y if y.dtype == dtype else astype(y, dtype)


def sum(x: Operand, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The sum along `axis`, 0 for no numbers; computed in `dtype` where one is given."""
    x = with_axes("sum", x)
    return _in_dtype(t.SUM, x, dtype, axis=normal_axis("sum", axis, x.ndim), keepdims=keepdims)


def prod(x: Operand, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The product along `axis`, 1 for no numbers; computed in `dtype` where one is given. Zeros have right gradients."""
    x = with_axes("prod", x)
    return _in_dtype(t.PROD, x, dtype, axis=normal_axis("prod", axis, x.ndim), keepdims=keepdims)


def mean(x: Operand, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The arithmetic mean along `axis`; NaN for no numbers."""
    x = with_axes("mean", x)
    return apply(t.MEAN, x, axis=normal_axis("mean", axis, x.ndim), keepdims=keepdims)


def var(x: Operand, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The variance along `axis`: squared deviations from the mean, summed and divided by n - correction."""
    return _variance("var", x, axis, correction, keepdims)


def _variance(op: str, x: Operand, axis: Axis, correction: Any, keepdims: bool) -> Tensor:
    x = with_axes(op, x)
    axis = normal_axis(op, axis, x.ndim)
    if not isinstance(correction, Real):
        raise TypeError(f"{op}: correction is {correction!r}, but it must be a number")
    return apply(t.VAR, x, axis=axis, correction=float(correction), keepdims=keepdims)


def std(x: Operand, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The standard deviation along `axis`, the square root of `var`.

    Where all numbers are equal it has a kink, like |x| at 0: of its subgradients there, 0 is taken.
    """
    x = with_axes("std", x)
    y = _variance("std", x, axis, correction, keepdims)
    kink = y == 0.0
    if x.size:  # the mean of 0.1, 0.1, 0.1 is not 0.1: rounding gives equal numbers a variance just above 0
        width = plain(np.ptp, x, axis=normal_axis("std", axis, x.ndim), keepdims=keepdims)
        kink = kink | ((width == 0.0) & plain(np.isfinite, y))
    return where(kink, 0.0, sqrt(where(kink, 1.0, y)))  # the 1.0 keeps the root's infinite slope at 0 out of it


def max(x: Operand, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest value along `axis`; ties share the gradient equally."""
    x = with_axes("max", x)
    return apply(t.MAX, x, axis=normal_axis("max", axis, x.ndim), keepdims=keepdims)


def min(x: Operand, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest value along `axis`; ties share the gradient equally."""
    x = with_axes("min", x)
    return apply(t.MIN, x, axis=normal_axis("min", axis, x.ndim), keepdims=keepdims)


def cumulative_sum(x: Operand, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """Running totals along `axis`, after a 0 where `include_initial`; the axis may be left out where x has only one."""
    x = with_axes("cumulative_sum", x)
    axis = _scan_axis("cumulative_sum", axis, x.ndim)
    return _in_dtype(t.CUMULATIVE_SUM, x, dtype, axis=axis, include_initial=include_initial)


def cumulative_prod(x: Operand, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """Running products along `axis`, after a 1 where `include_initial`; the axis may be left out where x has only one."""
    x = with_axes("cumulative_prod", x)
    axis = _scan_axis("cumulative_prod", axis, x.ndim)
    return _in_dtype(t.CUMULATIVE_PROD, x, dtype, axis=axis, include_initial=include_initial)


def _scan_axis(op: str, axis: int | None, ndim: int) -> int:
    if axis is None:
        if ndim != 1:
            raise ValueError(f"{op}: x has {ndim} axes, so say along which: {op}(x, axis=...)")
        return 0
    if isinstance(axis, tuple):
        raise ValueError(f"{op}: axis is {axis}, but it runs along a single axis")
    return one_axis(op, axis, ndim)


def logsumexp(x: Operand, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log sum exp(x) along `axis`, without overflow; -inf, with zero gradients, for no numbers or only -inf."""
    x = with_axes("logsumexp", x)
    return apply(t.LOGSUMEXP, x, axis=normal_axis("logsumexp", axis, x.ndim), keepdims=keepdims)


def softmax(x: Operand, *, axis: int = -1) -> Tensor:
    """exp(x) / sum exp(x) along a single `axis`: numbers between 0 and 1 that sum to one. The shape of x."""
    x = with_axes("softmax", x)
    return apply(t.SOFTMAX, x, axis=one_axis("softmax", axis, x.ndim))


def log_softmax(x: Operand, *, axis: int = -1) -> Tensor:
    """log softmax(x) along a single `axis`; also where a probability would underflow to zero. The shape of x."""
    x = with_axes("log_softmax", x)
    return apply(t.LOG_SOFTMAX, x, axis=one_axis("log_softmax", axis, x.ndim))


def masked_softmax(x: Operand, mask: Operand, *, axis: int = -1) -> Tensor:
    """softmax(x) along a single `axis` over the entries where `mask` is True, 0 elsewhere. The shape of x.

    mask: boolean, broadcasts to x. Where it is False throughout, the result is zero, and so is the gradient.
    """
    x = with_axes("masked_softmax", x)
    if not isinstance(mask, Tensor):
        mask = beside(Tensor(mask if is_array(mask) else np.asarray(mask), copy=False), x)
    return apply(t.MASKED_SOFTMAX, x, mask, axis=one_axis("masked_softmax", axis, x.ndim))
