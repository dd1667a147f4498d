r"""Reductions: many numbers become one. `axis` says which axes go: None (all), an int, or a tuple.

    sum     y = sum_i x_i            dy/dx_i = 1           every x_i gets the whole cotangent
    mean    y = (1/n) sum_i x_i      dy/dx_i = 1/n         every x_i gets the n-th part

Going back, a reduced axis returns with length 1 (`kept`) and is broadcast: broadcast_to is the transpose of sum.

No numbers at all: their sum is 0, and their mean, 0 divided by 0, is not a number.

The other reductions (extremes, variance, products, logsumexp) stand on pages of their own and share the axes of this one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .elementwise import random_shape
from .namespace import Array, array_namespace
from .op import Op, Sample

Axis = int | tuple[int, ...] | None


def axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    """`axis` as a tuple of non-negative ints."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple) else (axis,)))


def kept(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """The shape of a reduction with keepdims=True: reduced axes have length 1."""
    gone = axes(axis, len(shape))
    return tuple(1 if a in gone else n for a, n in enumerate(shape))


def count(shape: tuple[int, ...], axis: Axis) -> int:
    """How many numbers become one."""
    return math.prod(shape[a] for a in axes(axis, len(shape)))


# ---- sum


def sum(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """y = sum of x over `axis`; the sum of no numbers is 0. Shapes: (..., n, ...) -> (..., ...)."""
    return array_namespace(x).sum(x, axis=axis, keepdims=keepdims)


def sum_vjp(dy: Array, y: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array]:
    """dx_i = dy."""
    xp = array_namespace(dy)
    return (xp.broadcast_to(xp.reshape(dy, kept(x.shape, axis)), x.shape),)


def sum_jvp(
    dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, axis: Axis = None, keepdims: bool = False
) -> Array:
    """dy = sum_i dx_i."""
    return sum(dinputs[0], axis=axis, keepdims=keepdims)


def sum_definition(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """One number at a time."""
    return each_group(math.fsum, x, axis, keepdims)


# ---- mean


def mean(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """y = (1/n) sum of x over `axis`; NaN for n = 0. Shapes: (..., n, ...) -> (..., ...)."""
    return array_namespace(x).mean(x, axis=axis, keepdims=keepdims)


def mean_vjp(dy: Array, y: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array]:
    """dx_i = dy / n."""
    n = count(x.shape, axis) or 1  # no numbers: nothing is divided, and there is nothing to give
    return sum_vjp(dy / n, y, x, axis=axis, keepdims=keepdims)


def mean_jvp(
    dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, axis: Axis = None, keepdims: bool = False
) -> Array:
    """dy = (1/n) sum_i dx_i."""
    return mean(dinputs[0], axis=axis, keepdims=keepdims)


def mean_definition(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """One number at a time."""
    return each_group(lambda numbers: math.fsum(numbers) / len(numbers) if numbers else math.nan, x, axis, keepdims)


# ---- what the rows of this page and of the other reductions share


def each_group(f: Callable[[list[float]], float], x: Array, axis: Axis, keepdims: bool) -> Array:
    """f of the list of numbers that fall on each place of y. For definitions."""
    gone = axes(axis, x.ndim)
    groups: dict[tuple[int, ...], list[float]] = {place: [] for place in np.ndindex(kept(x.shape, axis))}
    for place in np.ndindex(x.shape):
        groups[tuple(0 if a in gone else i for a, i in enumerate(place))].append(float(x[place]))
    y = np.empty(kept(x.shape, axis))
    for place, numbers in groups.items():
        y[place] = f(numbers)
    return y if keepdims else np.reshape(y, tuple(n for a, n in enumerate(x.shape) if a not in gone))


def check_axes(op: str, *, empty: bool = True, default: Axis = None) -> Callable[..., None]:
    """A check that the axes exist, none twice; and that they hold numbers, unless `empty` is allowed. default: what `axis`
    is where nobody says."""

    def check(x: Any, *, axis: Axis = default, **params: Any) -> None:
        shape = tuple(x.shape)
        asked = () if axis is None else axis if isinstance(axis, tuple) else (axis,)
        for a in asked:
            if not -len(shape) <= a < len(shape):
                raise ValueError(f"{op}: axis is {axis}, but x has shape {shape} and so no axis {a}")
        if len(set(axes(axis, len(shape)))) != len(axes(axis, len(shape))):
            raise ValueError(f"{op}: axis is {axis}, which names an axis of x {shape} twice")
        if not empty and count(shape, axis) == 0 and 0 not in kept(shape, axis):
            raise ValueError(f"{op}: x has shape {shape}, but axis {axis} must hold at least one number to reduce")

    return check


def costs(flops: int) -> Callable[..., tuple[int, int]]:
    """A cost: so many operations for every entry of x; x is read, y written."""
    return lambda x, *, axis=None, **params: (flops * x.size, x.size + math.prod(kept(x.shape, axis)))


def draw_params(rng: np.random.Generator, ndim: int) -> dict[str, Any]:
    """No axis, one from either end, or several."""
    keepdims = bool(rng.integers(2))
    kind = int(rng.integers(3)) if ndim else 0
    if kind == 0:
        return {"axis": None, "keepdims": keepdims}
    if kind == 1:
        return {"axis": int(rng.integers(-ndim, ndim)), "keepdims": keepdims}
    chosen = rng.permutation(ndim)[: rng.integers(1, ndim + 1)]
    return {"axis": tuple(int(a) for a in chosen), "keepdims": keepdims}


def draw_distinct(rng: np.random.Generator) -> Sample:
    """No two numbers nearer than 0.1: away from ties. Mostly several become one: otherwise a wrong gradient is hard to see."""
    while True:
        shape = random_shape(rng)
        params = draw_params(rng, len(shape))
        if count(shape, params["axis"]) > 1 or rng.integers(8) == 0:
            break
    n = math.prod(shape)
    x = 0.2 * (rng.permutation(n) - n / 2) + rng.uniform(-0.05, 0.05, n)
    return Sample((x.reshape(shape),), params, "random")


def spread(dy: Array, x: Any, axis: Axis) -> Array:
    """The cotangent at every place that was reduced; for wrong gradients."""
    return np.broadcast_to(np.reshape(dy, kept(x.shape, axis)), x.shape)


def only(pick: Callable[[Array, Axis], Array]) -> Callable[..., tuple[Array]]:
    """A wrong vjp: the whole cotangent goes to the entries that `pick` marks among the row-major positions of x."""

    def vjp(dy: Array, y: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array]:
        return (spread(dy, x, axis) * pick(np.arange(x.size).reshape(x.shape), axis),)

    return vjp


def first(positions: Array, axis: Axis) -> Array:
    """For `only`: the first entry of each group."""
    return positions == np.min(positions, axis=axis, keepdims=True)


SUM = Op(
    "sum",
    sum,
    sum_vjp,
    sum_jvp,
    inputs=("x",),
    definition=sum_definition,
    signature=None,  # the output's shape depends on axis and keepdims; integers are welcome
    check=check_axes("sum"),
    draw=draw_distinct,
    formula=r"y = \sum_i x_i",
    gradient=r"\bar x_i = \bar y",
    samples=(
        Sample((np.arange(6.0).reshape(2, 3),), {}, "everything becomes one number"),
        Sample((np.arange(24.0).reshape(2, 3, 4),), {"axis": (0, -1), "keepdims": True}, "several axes, kept"),
        Sample((np.array([1e8, 1.0, 1e8]),), {"keepdims": True}, "a small number between large ones is not lost"),
        Sample((np.zeros((3, 0)),), {"axis": 1}, "the sum of no numbers is zero"),
        Sample((np.array(2.5),), {}, "an array without axes stays one"),
    ),
    laws=("linear_in_x", "order_free"),
    wrong={
        "divides as if it were a mean": mean_vjp,
        "lets the first entry take it all": only(first),
        "divides by the root of n": lambda dy, y, x, axis=None, keepdims=False: (
            spread(dy, x, axis) / math.sqrt(count(x.shape, axis)),
        ),
    },
    tolerance=lambda x, *, axis=None, keepdims=False: 8.0 + count(x.shape, axis),
    cost=costs(1),
    source="array API standard 2024.12, sum; Griewank, Walther: Evaluating Derivatives, 2nd ed., chapter 3",
)

MEAN = Op(
    "mean",
    mean,
    mean_vjp,
    mean_jvp,
    inputs=("x",),
    definition=mean_definition,
    signature=None,  # the output's shape depends on axis and keepdims
    check=check_axes("mean"),
    draw=draw_distinct,
    formula=r"y = \frac{1}{n} \sum_{i=1}^{n} x_i",
    gradient=r"\bar x_i = \frac{1}{n} \bar y",
    samples=(
        Sample((np.arange(6.0).reshape(2, 3) ** 2,), {"axis": 1}, "one mean a row"),
        Sample((np.arange(24.0).reshape(2, 3, 4),), {"axis": (1, 2), "keepdims": True}, "n is the product of the axes"),
        Sample((np.array([[7.0]]),), {"axis": 0}, "the mean of one number is that number"),
        Sample((np.zeros((0, 3)),), {"axis": 1}, "no rows have no means, although n is 3"),
        Sample((np.zeros((2, 0)),), {"axis": 1}, "the mean of no numbers is not a number"),
    ),
    laws=("linear_in_x", "order_free", "shift_passes_through"),
    wrong={
        "forgets to divide": sum_vjp,
        "divides by n twice": lambda dy, y, x, axis=None, keepdims=False: (
            spread(dy, x, axis) / count(x.shape, axis) ** 2,
        ),
        "divides by n - 1": lambda dy, y, x, axis=None, keepdims=False: (
            spread(dy, x, axis) / np.maximum(count(x.shape, axis) - 1, 0.5),
        ),
    },
    tolerance=lambda x, *, axis=None, keepdims=False: 8.0 + count(x.shape, axis),
    cost=costs(1),
    source="array API standard 2024.12, mean",
)
