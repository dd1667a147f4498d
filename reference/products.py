r"""Products: of all numbers along some axes (prod), and the running product along one (cumulative_prod).

prod. The slope for one factor is the product of all others:

    y = prod_i x_i,   dy/dx_i = prod_(j != i) x_j = l_i r_i,   l_i = prod_(j < i) x_j,   r_i = prod_(j > i) x_j.

y / x_i is the same number, except where it matters: of several factors with a single zero among them, only the zero's own
slope is not 0, and there y / x_i is 0 / 0. The running products from the left and from the right need no division, and being
products themselves they are right when differentiated again: the second derivative at two zeros, say, is not zero.

cumulative_prod. x_i is a factor of every product from y_i on. By the chain rule, from the last to the first, let g_k be
the cotangent that reaches y_k both directly and through y_(k+1) = y_k x_(k+1):

    y_k = y_(k-1) x_k,   g_k = dy_k + x_(k+1) g_(k+1),   dx_k = y_(k-1) g_k.

A linear recurrence, again without a division. Along a direction, by the product rule from the first to the last,
dy_k = dy_(k-1) x_k + y_(k-1) dx_k. y_(-1) = 1 is the product of no numbers: with `include_initial` it comes first.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .axes import along
from .cumulative_sum import draw_scan, each_scan, scan_cost
from .namespace import Array, array_namespace
from .op import Op, Sample
from .reductions import Axis, axes, check_axes, costs, count, draw_distinct, each_group, first, kept, only, spread
from .shape import inverse

# ---- prod


def prod(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """y = product of x over `axis`; the product of no numbers is 1. Shapes: (..., n, ...) -> (..., ...)."""
    return array_namespace(x).prod(x, axis=axis, keepdims=keepdims)


def _others(x: Array, axis: Axis) -> Array:
    """For every entry the product of all others along `axis`: l_i r_i. Shape of x."""
    xp = array_namespace(x)
    gone = axes(axis, x.ndim)
    order = (*(a for a in range(x.ndim) if a not in gone), *gone)
    last = xp.permute_dims(x, order)  # (..., n_1, n_2 ..): the reduced axes at the end
    row = xp.reshape(last, (*last.shape[: x.ndim - len(gone)], count(x.shape, axis)))  # (..., n)
    left = xp.cumulative_prod(row, axis=-1, include_initial=True)[..., :-1]  # (..., n)
    right = xp.cumulative_prod(xp.flip(row, axis=-1), axis=-1, include_initial=True)[..., :-1]
    others = left * xp.flip(right, axis=-1)
    return xp.permute_dims(xp.reshape(others, last.shape), inverse(order))


def prod_vjp(dy: Array, y: Any, x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array]:
    """dx_i = dy prod_(j != i) x_j."""
    return (array_namespace(dy).reshape(dy, kept(x.shape, axis)) * _others(x, axis),)


def prod_jvp(
    dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, axis: Axis = None, keepdims: bool = False
) -> Array:
    """dy = sum_i dx_i prod_(j != i) x_j."""
    product = dinputs[0] * _others(inputs[0], axis)
    return array_namespace(product).sum(product, axis=axis, keepdims=keepdims)


def prod_definition(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """One number at a time."""
    return each_group(math.prod, x, axis, keepdims)


# ---- cumulative_prod


def cumulative_prod(x: Array, *, axis: int, include_initial: bool = False) -> Array:
    """y_k = x_0 ... x_k along `axis`; a 1 in front where asked. Shapes: (.., n, ..) -> (.., n, ..) or n + 1."""
    return array_namespace(x).cumulative_prod(x, axis=axis, include_initial=include_initial)


def _steps(a: Array, axis: int) -> list[Array]:
    """The slices of a along `axis`, each with length 1 there: (.., n, ..) -> n times (.., 1, ..)."""
    return [a[along(axis, a.ndim, slice(k, k + 1))] for k in range(a.shape[axis])]


def _before(y: list[Array], include_initial: bool) -> list[Array]:
    """y_(k-1) for every k; the one before the first is 1."""
    return y[:-1] if include_initial else [array_namespace(y[0]).ones_like(y[0]), *y[:-1]]


def cumulative_prod_vjp(dy: Array, y: Array, x: Array, *, axis: int, include_initial: bool = False) -> tuple[Array]:
    """g_k = dy_k + x_(k+1) g_(k+1) and dx_k = y_(k-1) g_k, from the last k to the first."""
    xp = array_namespace(dy)
    n = x.shape[axis]
    if n == 0:
        return (xp.zeros_like(x),)
    x_at, dy_at, before = _steps(x, axis), _steps(dy, axis)[-n:], _before(_steps(y, axis), include_initial)
    g = dy_at[n - 1]
    dx_at = [before[n - 1] * g]
    for k in range(n - 2, -1, -1):
        g = dy_at[k] + x_at[k + 1] * g  # (.., 1, ..)
        dx_at.append(before[k] * g)
    return (xp.concat(dx_at[::-1], axis=axis % dy.ndim),)  # (.., n, ..)


def cumulative_prod_jvp(
    dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, axis: int, include_initial: bool = False
) -> Array:
    """dy_k = dy_(k-1) x_k + y_(k-1) dx_k, from the first k to the last; the initial 1 stands still."""
    (x,), (dx,), xp = inputs, dinputs, array_namespace(y)
    if y.shape[axis] == include_initial:  # no numbers
        return xp.zeros_like(y)
    y_at = _steps(y, axis)
    dy = xp.zeros_like(y_at[0])
    dy_at = [dy] if include_initial else []
    for x_k, dx_k, before in zip(_steps(x, axis), _steps(dx, axis), _before(y_at, include_initial), strict=True):
        dy = dy * x_k + before * dx_k  # (.., 1, ..)
        dy_at.append(dy)
    return xp.concat(dy_at, axis=axis % y.ndim)


# ---- the rows


def _quotient(dy: Array, y: Array, x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array]:
    """y / x_i, with 0 for the 0 / 0 beside a zero."""
    return (spread(dy * y, x, axis) / np.where(x == 0.0, 1.0, x),)


def _draw(rng: np.random.Generator) -> Sample:
    """Most of them with a zero, some with two: there a division would show."""
    sample = draw_distinct(rng)
    place = rng.permutation(sample.inputs[0].size).reshape(sample.inputs[0].shape)
    x = np.where(place < rng.choice((0, 1, 1, 1, 2)), 0.0, sample.inputs[0] + 0.5)
    return Sample((x,), sample.params, sample.why)


def _draw_scan(rng: np.random.Generator) -> Sample:
    """Half of them with zeros."""
    sample = draw_scan(rng)
    x = np.where(rng.random(sample.inputs[0].shape) < 0.2 * rng.integers(2), 0.0, sample.inputs[0])
    return Sample((x,), sample.params, sample.why)


PROD = Op(
    "prod",
    prod,
    prod_vjp,
    prod_jvp,
    inputs=("x",),
    reads=("x",),
    definition=prod_definition,
    signature=None,  # the output's shape depends on axis and keepdims; integers are welcome
    check=check_axes("prod"),
    draw=_draw,
    formula=r"y = \prod_i x_i",
    gradient=r"\bar x_i = \bar y \prod_{j \ne i} x_j",
    samples=(
        Sample((np.array([[1.0, 2.0, 4.0], [3.0, 5.0, 7.0]]),), {"axis": 1}, "one product a row"),
        Sample((np.array([[2.0, 0.0, 3.0], [0.0, 5.0, 0.0]]),), {"axis": 1}, "one zero, and two of them"),
        Sample((np.arange(1.0, 9.0).reshape(2, 2, 2),), {"axis": (0, -1), "keepdims": True}, "several axes, kept"),
        Sample((np.zeros((3, 0)),), {"axis": 1}, "the product of no numbers is one"),
        Sample((np.array([1e200, 1e-200, 1e-200]),), {}, "tiny factors after a huge one"),
        Sample((np.array(2.5),), {}, "an array without axes stays one"),
    ),
    laws=("order_free",),
    wrong={
        "divides by the own factor": _quotient,
        "forgets the other factors": lambda dy, y, x, axis=None, keepdims=False: (spread(dy, x, axis) * 1.0,),
        "gives everything to the first factor": only(first),
        "counts the own factor in": lambda dy, y, x, axis=None, keepdims=False: (spread(dy * y, x, axis) * 1.0,),
    },
    tolerance=lambda x, *, axis=None, keepdims=False: 8.0 + 2 * count(x.shape, axis),
    cost=costs(1),
    source="array API standard 2024.12, prod; Griewank, Walther: Evaluating Derivatives, 2nd ed., section 3.3 (Speelpenning)",
)

CUMULATIVE_PROD = Op(
    "cumulative_prod",
    cumulative_prod,
    cumulative_prod_vjp,
    cumulative_prod_jvp,
    inputs=("x",),
    reads=("x", "y"),
    definition=each_scan(lambda total, number: total * number, 1.0),
    signature=None,  # the output may be longer by one; integers are welcome
    check=check_axes("cumulative_prod"),
    draw=_draw_scan,
    formula=r"y_k = \prod_{j \le k} x_j",
    gradient=r"\bar x_k = y_{k-1} g_k, \quad g_k = \bar y_k + x_{k+1} g_{k+1}",
    samples=(
        Sample((np.array([2.0, 3.0, 4.0]),), {"axis": 0}, "each product holds the one before it"),
        Sample((np.array([2.0, 0.0, 3.0, 4.0]),), {"axis": 0}, "after a zero everything is zero"),
        Sample(
            (np.array([[1.0, 2.0], [3.0, 4.0]]),), {"axis": 1, "include_initial": True}, "the product of nothing is 1"
        ),
        Sample((np.zeros((2, 0)),), {"axis": 1, "include_initial": True}, "no numbers, and one product"),
        Sample((np.zeros((2, 0)),), {"axis": -1}, "no numbers at all"),
        Sample((np.arange(8.0).reshape(2, 2, 2),), {"axis": -2}, "an axis in the middle"),
    ),
    laws=("ends_in_the_product",),
    wrong={
        "forgets the earlier factors": lambda dy, y, x, *, axis, include_initial=False: (
            cumulative_prod_vjp(dy, np.ones_like(y), x, axis=axis, include_initial=include_initial)[0],
        ),
        "forgets the later products": lambda dy, y, x, *, axis, include_initial=False: (
            cumulative_prod_vjp(dy, y, np.zeros_like(x), axis=axis, include_initial=include_initial)[0],
        ),
        "takes the own product for the one before": lambda dy, y, x, *, axis, include_initial=False: (
            cumulative_prod_vjp(dy, y, x, axis=axis, include_initial=include_initial)[0] * x,
        ),
        "is that of a cumulative sum": lambda dy, y, x, *, axis, include_initial=False: (
            cumulative_prod_vjp(dy, np.ones_like(y), np.ones_like(x), axis=axis, include_initial=include_initial)[0],
        ),
    },
    tolerance=lambda x, *, axis, include_initial=False: 8.0 + 2 * x.shape[axis],
    cost=scan_cost,
    source="array API standard 2024.12, cumulative_prod; Blelloch 1990: Prefix sums and their applications",
)
