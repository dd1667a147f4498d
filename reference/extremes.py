r"""The largest and the smallest of many numbers: max and min along `axis`.

    y = max_i x_i,   y = min_i x_i        dy/dx_i = m_i        whoever is the extreme gets the cotangent

At a tie of k entries neither has a derivative; every m in the convex hull of the k unit vectors is a subgradient. The
symmetric choice is m_i = [x_i = y] / k: ties share equally. The mask is constant around almost every x, so its own
derivative is zero, and the formula is right when differentiated again.

The mask asks only who equals y, so max and min share both of their products with the Jacobian. A NaN makes y a NaN,
which equals nothing: m is then 0 / 0, and the gradient is a NaN too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .namespace import Array, array_namespace
from .op import Op, Sample
from .reductions import Axis, check_axes, costs, draw_distinct, each_group, first, kept, mean_vjp, only, spread, sum_vjp


def max(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """y = the largest of x over `axis`. Shapes: (..., n, ...) -> (..., ...)."""
    return array_namespace(x).max(x, axis=axis, keepdims=keepdims)


def min(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """y = the smallest of x over `axis`. Shapes: (..., n, ...) -> (..., ...)."""
    return array_namespace(x).min(x, axis=axis, keepdims=keepdims)


def _share(y: Array, x: Array, axis: Axis) -> Array:
    """m_i = [x_i = y] / k, where k entries share the extreme value. Shape of x."""
    xp = array_namespace(x)
    m = xp.astype(x == xp.reshape(y, kept(x.shape, axis)), x.dtype)
    return m / xp.sum(m, axis=axis, keepdims=True)


def extreme_vjp(dy: Array, y: Array, x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array]:
    """dx_i = m_i dy, for max and for min."""
    return (_share(y, x, axis) * array_namespace(dy).reshape(dy, kept(x.shape, axis)),)


def extreme_jvp(
    dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, axis: Axis = None, keepdims: bool = False
) -> Array:
    """dy = sum_i m_i dx_i, for max and for min."""
    product = _share(y, inputs[0], axis) * dinputs[0]
    return array_namespace(product).sum(product, axis=axis, keepdims=keepdims)


def _champion(beats: Callable[[float, float], bool]) -> Callable[..., Array]:
    """One number at a time: a later number wins if it beats the winner so far."""

    def winner(numbers: list[float]) -> float:
        best = numbers[0]
        for number in numbers[1:]:
            if beats(number, best) or math.isnan(number):
                best = number
        return best

    def definition(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
        return each_group(winner, x, axis, keepdims)

    return definition


# ---- the rows


def _opposite(reduce: Callable[..., Array]) -> Callable[..., tuple[Array]]:
    """A wrong vjp: the entry at the other end is rewarded."""

    def vjp(dy: Array, y: Array, x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array]:
        return (spread(dy, x, axis) * (x == reduce(x, axis=axis, keepdims=True)),)

    return vjp


MAX = Op(
    "max",
    max,
    extreme_vjp,
    extreme_jvp,
    inputs=("x",),
    reads=("x", "y"),
    definition=_champion(lambda number, best: number > best),
    signature=None,  # the output's shape depends on axis and keepdims
    check=check_axes("max", empty=False),
    draw=draw_distinct,
    domain={"x": "distinct"},
    formula=r"y = \max_i x_i",
    gradient=r"\bar x_i = \bar y \, \frac{[x_i = y]}{\sum_k [x_k = y]}",
    samples=(
        Sample((np.array([[1.0, 3.0, 2.0], [5.0, 4.0, 6.0]]),), {"axis": 1}, "the largest of each row"),
        Sample((np.array([[2.0, 2.0, 1.0], [0.0, 0.0, 0.0]]),), {"axis": 1, "keepdims": True}, "ties share equally"),
        Sample(
            (np.array([[-np.inf, -np.inf], [-1.0, -np.inf]]),), {"axis": 1}, "minus infinity is a number like any other"
        ),
        Sample((np.arange(8.0).reshape(2, 2, 2),), {"axis": (0, 2)}, "several axes at once, not side by side"),
    ),
    laws=("bounds_every_entry", "order_free", "shift_passes_through"),
    wrong={
        "gives every entry the cotangent": sum_vjp,
        "lets the first entry win": only(first),
        "rewards the smallest": _opposite(np.min),
        "shares the cotangent among all entries": mean_vjp,
    },
    tolerance=lambda x, *, axis=None, keepdims=False: 2.0,  # y is exact, only 1 / k is rounded
    cost=costs(1),
    source="array API standard 2024.12, max; Rockafellar: Convex Analysis, section 23, for the subgradients",
)

MIN = Op(
    "min",
    min,
    extreme_vjp,
    extreme_jvp,
    inputs=("x",),
    reads=("x", "y"),
    definition=_champion(lambda number, best: number < best),
    signature=None,  # the output's shape depends on axis and keepdims
    check=check_axes("min", empty=False),
    draw=draw_distinct,
    domain={"x": "distinct"},
    formula=r"y = \min_i x_i",
    gradient=r"\bar x_i = \bar y \, \frac{[x_i = y]}{\sum_k [x_k = y]}",
    samples=(
        Sample((np.array([[1.0, 3.0, 2.0], [5.0, 4.0, 6.0]]),), {"axis": 0}, "the smallest of each column"),
        Sample((np.array([[2.0, 1.0, 1.0], [0.0, 0.0, 0.0]]),), {"axis": 1, "keepdims": True}, "ties share equally"),
        Sample((np.array([[np.inf, np.inf], [1.0, np.inf]]),), {"axis": 1}, "infinity is a number like any other"),
        Sample((np.zeros((0, 3)),), {"axis": 1}, "no rows: nothing is asked for"),
    ),
    laws=("order_free", "shift_passes_through"),
    wrong={
        "gives every entry the cotangent": sum_vjp,
        "lets the first entry win": only(first),
        "rewards the largest": _opposite(np.max),
        "shares the cotangent among all entries": mean_vjp,
    },
    tolerance=lambda x, *, axis=None, keepdims=False: 2.0,  # y is exact, only 1 / k is rounded
    cost=costs(1),
    source="array API standard 2024.12, min; Rockafellar: Convex Analysis, section 23, for the subgradients",
)
