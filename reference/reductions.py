r"""Reductions: many numbers become one. `axis` says which axes go: None (all), an int, or a tuple.

    sum     y = sum_i x_i            dy/dx_i = 1           every x_i gets the whole cotangent
    mean    y = (1/n) sum_i x_i      dy/dx_i = 1/n         every x_i gets the n-th part
    max     y = max_i x_i            dy/dx_i = m_i         whoever is the largest gets it; ties share it equally

Going back, a reduced axis returns with length 1 (`kept`) and is broadcast: broadcast_to is the transpose of sum.

At a tie of k entries, max has no derivative; every m in the convex hull of the k unit vectors is a subgradient. The
symmetric choice is m_i = [x_i = y] / k. The mask is constant around almost every x, so its own derivative is zero, and
the formula is right when differentiated again.
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
    return _reduce(math.fsum, x, axis, keepdims)


# ---- mean


def mean(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """y = (1/n) sum of x over `axis`; n must not be 0. Shapes: (..., n, ...) -> (..., ...)."""
    return array_namespace(x).mean(x, axis=axis, keepdims=keepdims)


def mean_vjp(dy: Array, y: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array]:
    """dx_i = dy / n."""
    return sum_vjp(dy / count(x.shape, axis), y, x, axis=axis, keepdims=keepdims)


def mean_jvp(
    dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, axis: Axis = None, keepdims: bool = False
) -> Array:
    """dy = (1/n) sum_i dx_i."""
    return mean(dinputs[0], axis=axis, keepdims=keepdims)


def mean_definition(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """One number at a time."""
    return _reduce(lambda numbers: math.fsum(numbers) / len(numbers), x, axis, keepdims)


# ---- max


def max(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """y = the largest of x over `axis`. Shapes: (..., n, ...) -> (..., ...)."""
    return array_namespace(x).max(x, axis=axis, keepdims=keepdims)


def _share(y: Array, x: Array, axis: Axis) -> Array:
    """m_i = [x_i = y] / k, where k entries share the largest value. Shape of x."""
    xp = array_namespace(x)
    m = xp.astype(x == xp.reshape(y, kept(x.shape, axis)), x.dtype)
    return m / xp.sum(m, axis=axis, keepdims=True)


def max_vjp(dy: Array, y: Array, x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array]:
    """dx_i = m_i dy."""
    return (_share(y, x, axis) * array_namespace(dy).reshape(dy, kept(x.shape, axis)),)


def max_jvp(
    dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, axis: Axis = None, keepdims: bool = False
) -> Array:
    """dy = sum_i m_i dx_i."""
    return sum(_share(y, inputs[0], axis) * dinputs[0], axis=axis, keepdims=keepdims)


def max_definition(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """One number at a time: a later number wins if it is larger."""

    def largest(numbers: list[float]) -> float:
        winner = numbers[0]
        for number in numbers[1:]:
            if number > winner:
                winner = number
        return winner

    return _reduce(largest, x, axis, keepdims)


# ---- the rows


def _reduce(f: Callable[[list[float]], float], x: Array, axis: Axis, keepdims: bool) -> Array:
    """f of the list of numbers that fall on each place of y."""
    gone = axes(axis, x.ndim)
    groups: dict[tuple[int, ...], list[float]] = {place: [] for place in np.ndindex(kept(x.shape, axis))}
    for place in np.ndindex(x.shape):
        groups[tuple(0 if a in gone else i for a, i in enumerate(place))].append(float(x[place]))
    y = np.empty(kept(x.shape, axis))
    for place, numbers in groups.items():
        y[place] = f(numbers)
    return y if keepdims else np.reshape(y, tuple(n for a, n in enumerate(x.shape) if a not in gone))


def _check(op: str, *, empty: bool) -> Callable[..., None]:
    """A check that the axes exist, none twice; and that they hold numbers, unless `empty` is allowed."""

    def check(x: Any, *, axis: Axis = None, keepdims: bool = False) -> None:
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


def _draw_params(rng: np.random.Generator, ndim: int) -> dict[str, Any]:
    """No axis, one from either end, or several."""
    keepdims = bool(rng.integers(2))
    kind = int(rng.integers(3)) if ndim else 0
    if kind == 0:
        return {"axis": None, "keepdims": keepdims}
    if kind == 1:
        return {"axis": int(rng.integers(-ndim, ndim)), "keepdims": keepdims}
    chosen = rng.permutation(ndim)[: rng.integers(1, ndim + 1)]
    return {"axis": tuple(int(a) for a in chosen), "keepdims": keepdims}


def _draw(rng: np.random.Generator) -> Sample:
    """No two numbers nearer than 0.1: away from ties."""
    shape = random_shape(rng)
    n = math.prod(shape)
    x = 0.2 * (rng.permutation(n) - n / 2) + rng.uniform(-0.05, 0.05, n)
    return Sample((x.reshape(shape),), _draw_params(rng, len(shape)), "random")


def _spread(dy: Array, x: Any, axis: Axis) -> Array:
    return np.broadcast_to(np.reshape(dy, kept(x.shape, axis)), x.shape)


def _only(pick: Callable[[Array, Axis], Array]) -> Callable[..., tuple[Array]]:
    """A wrong vjp: the whole cotangent goes to the entries that `pick` marks among the row-major positions of x."""

    def vjp(dy: Array, y: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array]:
        return (_spread(dy, x, axis) * pick(np.arange(x.size).reshape(x.shape), axis),)

    return vjp


def _first(positions: Array, axis: Axis) -> Array:
    return positions == np.min(positions, axis=axis, keepdims=True)


SUM = Op(
    "sum",
    sum,
    sum_vjp,
    sum_jvp,
    inputs=("x",),
    definition=sum_definition,
    signature=None,  # the output's shape depends on axis and keepdims; integers are welcome
    check=_check("sum", empty=True),
    draw=_draw,
    formula=r"y = \sum_i x_i",
    gradient=r"\bar x_i = \bar y",
    samples=(
        Sample((np.arange(6.0).reshape(2, 3),), {}, "everything becomes one number"),
        Sample((np.arange(24.0).reshape(2, 3, 4),), {"axis": (0, -1), "keepdims": True}, "several axes, kept"),
        Sample((np.array([1e8, 1.0, 1e8]),), {"keepdims": True}, "large numbers, and a small one"),
        Sample((np.zeros((3, 0)),), {"axis": 1}, "the sum of no numbers is zero"),
        Sample((np.array(2.5),), {}, "an array without axes"),
    ),
    laws=("linear_in_x",),
    wrong={
        "divides as if it were a mean": mean_vjp,
        "lets the first entry take it all": _only(_first),
        "divides by the root of n": lambda dy, y, x, axis=None, keepdims=False: (
            _spread(dy, x, axis) / math.sqrt(count(x.shape, axis)),
        ),
    },
    tolerance=lambda x, *, axis=None, keepdims=False: 8.0 + count(x.shape, axis),
    cost=lambda x, *, axis=None, keepdims=False: (x.size, x.size + math.prod(kept(x.shape, axis))),
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
    check=_check("mean", empty=False),
    draw=_draw,
    formula=r"y = \frac{1}{n} \sum_{i=1}^{n} x_i",
    gradient=r"\bar x_i = \frac{1}{n} \bar y",
    samples=(
        Sample((np.arange(6.0).reshape(2, 3) ** 2,), {"axis": 1}, "one mean a row"),
        Sample((np.arange(24.0).reshape(2, 3, 4),), {"axis": (1, 2), "keepdims": True}, "n is the product of the axes"),
        Sample((np.array([[7.0]]),), {"axis": 0}, "the mean of one number is that number"),
        Sample((np.zeros((0, 3)),), {"axis": 1}, "no rows, no means"),
    ),
    laws=("linear_in_x",),
    wrong={
        "forgets to divide": sum_vjp,
        "divides by the number of all entries, and twice": lambda dy, y, x, axis=None, keepdims=False: (
            _spread(dy, x, axis) / x.size / x.size,
        ),
        "divides by n - 1": lambda dy, y, x, axis=None, keepdims=False: (
            _spread(dy, x, axis) / np.maximum(count(x.shape, axis) - 1, 0.5),
        ),
    },
    tolerance=lambda x, *, axis=None, keepdims=False: 8.0 + count(x.shape, axis),
    cost=lambda x, *, axis=None, keepdims=False: (x.size, x.size + math.prod(kept(x.shape, axis))),
    source="array API standard 2024.12, mean",
)

MAX = Op(
    "max",
    max,
    max_vjp,
    max_jvp,
    inputs=("x",),
    reads=("x", "y"),
    definition=max_definition,
    signature=None,  # the output's shape depends on axis and keepdims
    check=_check("max", empty=False),
    draw=_draw,
    domain={"x": "distinct"},
    formula=r"y = \max_i x_i",
    gradient=r"\bar x_i = \bar y \, \frac{[x_i = y]}{\sum_k [x_k = y]}",
    samples=(
        Sample((np.array([[1.0, 3.0, 2.0], [5.0, 4.0, 6.0]]),), {"axis": 1}, "the largest of each row"),
        Sample((np.array([[2.0, 2.0, 1.0], [0.0, 0.0, 0.0]]),), {"axis": 1, "keepdims": True}, "ties share equally"),
        Sample(
            (np.array([[-np.inf, -np.inf], [-1.0, -np.inf]]),), {"axis": 1}, "minus infinity is a number like any other"
        ),
        Sample((np.arange(8.0).reshape(2, 2, 2),), {"axis": (0, 2)}, "several axes"),
    ),
    laws=("bounds_every_entry",),
    wrong={
        "gives every entry the cotangent": sum_vjp,
        "lets the first entry win": _only(_first),
        "rewards the smallest": lambda dy, y, x, axis=None, keepdims=False: (
            _spread(dy, x, axis) * (x == np.min(x, axis=axis, keepdims=True)),
        ),
        "shares the cotangent among all entries": mean_vjp,
    },
    tolerance=lambda x, *, axis=None, keepdims=False: 2.0,
    cost=lambda x, *, axis=None, keepdims=False: (x.size, x.size + math.prod(kept(x.shape, axis))),
    source="array API standard 2024.12, max; Rockafellar: Convex Analysis, section 23, for the subgradients",
)
