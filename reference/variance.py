r"""Variance: how far numbers spread around their mean.

    m = (1/n) sum_i x_i,   y = 1/(n - c) sum_i (x_i - m)^2

c is the correction: 0 for the variance of these n numbers, 1 for an unbiased estimate from a sample of n (Bessel). Each
x_i moves its own deviation and, through the mean, all of them; but the deviations sum to zero, so the second part drops
out:

    dy/dx_i = 2/(n - c) (x_i - m) - 2/(n - c) (dm/dx_i) sum_j (x_j - m) = 2/(n - c) (x_i - m).

The deviations are taken first and squared then. The other textbook formula, mean of squares less square of the mean,
subtracts two large numbers from each other and loses the digits of the answer.

With n <= c the sum is divided by zero, as NumPy does: NaN where it is 0 itself (one number with c = 1), else infinity.
The standard deviation is a composition, sqrt(var(x)).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .namespace import Array, array_namespace
from .op import Op, Sample
from .reductions import Axis, check_axes, costs, count, draw_distinct, each_group, kept, spread


def _freedom(shape: tuple[int, ...], axis: Axis, correction: float) -> float:
    """n - c, the degrees of freedom, not below 0."""
    return max(count(shape, axis) - correction, 0.0)


def _deviations(x: Array, axis: Axis) -> Array:
    """x_i - m. Shape of x."""
    n = count(x.shape, axis) or 1  # no numbers, no deviations
    return x - array_namespace(x).sum(x, axis=axis, keepdims=True) / n


def var(x: Array, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Array:
    """y = sum (x - m)^2 / (n - c) over `axis`. Shapes: (..., n, ...) -> (..., ...)."""
    d = _deviations(x, axis)
    return array_namespace(x).sum(d * d, axis=axis, keepdims=keepdims) / _freedom(x.shape, axis, correction)


def var_vjp(
    dy: Array, y: Any, x: Array, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False
) -> tuple[Array]:
    """dx_i = dy 2/(n - c) (x_i - m)."""
    dy = array_namespace(dy).reshape(dy, kept(x.shape, axis))
    return (dy * (2.0 * _deviations(x, axis) / _freedom(x.shape, axis, correction)),)


def var_jvp(
    dinputs: tuple[Array],
    y: Array,
    inputs: tuple[Array],
    *,
    axis: Axis = None,
    correction: float = 0.0,
    keepdims: bool = False,
) -> Array:
    """dy = 2/(n - c) sum_i (x_i - m) dx_i."""
    (x,), (dx,) = inputs, dinputs
    product = _deviations(x, axis) * dx
    total = array_namespace(x).sum(product, axis=axis, keepdims=keepdims)
    return 2.0 * total / _freedom(x.shape, axis, correction)


def var_definition(x: Array, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Array:
    """One number at a time."""

    def one(numbers: list[float]) -> float:
        n = len(numbers)
        if n == 0:
            return math.nan
        mean = math.fsum(numbers) / n
        total = math.fsum((number - mean) ** 2 for number in numbers)
        if n <= correction:
            return math.inf if total > 0.0 else math.nan
        return total / (n - correction)

    return each_group(one, x, axis, keepdims)


def _draw(rng: np.random.Generator) -> Sample:
    """At least two numbers more than the correction takes away."""
    while True:
        sample = draw_distinct(rng)
        correction = float(rng.choice((0.0, 1.0, 0.5)))
        if count(sample.inputs[0].shape, sample.params["axis"]) >= 2:
            return Sample(sample.inputs, {**sample.params, "correction": correction}, "random")


VAR = Op(
    "var",
    var,
    var_vjp,
    var_jvp,
    inputs=("x",),
    reads=("x",),
    definition=var_definition,
    signature=None,  # the output's shape depends on axis and keepdims
    check=check_axes("var"),
    draw=_draw,
    formula=r"y = \frac{1}{n - c} \sum_i (x_i - m)^2, \quad m = \frac{1}{n} \sum_i x_i",
    gradient=r"\bar x_i = \frac{2}{n - c} (x_i - m) \, \bar y",
    samples=(
        Sample((np.array([[1.0, 2.0, 4.0], [3.0, 3.0, 3.0]]),), {"axis": 1}, "equal numbers do not vary"),
        Sample((np.arange(24.0).reshape(2, 3, 4) ** 2,), {"axis": (0, 2), "correction": 1.0}, "several axes, unbiased"),
        Sample((np.array([1e8, 1e8 + 1.0, 1e8 + 2.0]),), {}, "squares of large numbers would swallow the spread"),
        Sample((np.array([[7.0], [8.0]]),), {"axis": 1, "keepdims": True}, "a single number has no deviation"),
        Sample((np.array([[7.0]]),), {"axis": 1, "correction": 1.0}, "no freedom left: zero divided by zero"),
        Sample((np.array([1.0, 3.0]),), {"correction": 2.0}, "no freedom left, although the numbers differ"),
        Sample((np.zeros((2, 0)),), {"axis": 1}, "no numbers: the variance is not a number"),
    ),
    laws=("shift_invariant", "nonnegative", "order_free"),
    wrong={
        "forgets the factor 2": lambda dy, y, x, axis=None, correction=0.0, keepdims=False: (
            var_vjp(dy, y, x, axis=axis, correction=correction, keepdims=keepdims)[0] / 2.0,
        ),
        "forgets to take off the mean": lambda dy, y, x, axis=None, correction=0.0, keepdims=False: (
            spread(dy, x, axis) * 2.0 * x / _freedom(x.shape, axis, correction),
        ),
        "divides by n + 1 - c": lambda dy, y, x, axis=None, correction=0.0, keepdims=False: (
            var_vjp(dy, y, x, axis=axis, correction=correction - 1.0, keepdims=keepdims)[0],
        ),
        "lets the mean move the deviations twice": lambda dy, y, x, axis=None, correction=0.0, keepdims=False: (
            spread(dy, x, axis) * (_deviations(x, axis) - np.mean(x)) * 2.0 / _freedom(x.shape, axis, correction),
        ),
    },
    tolerance=lambda x, *, axis=None, correction=0.0, keepdims=False: 8.0 + 2 * count(x.shape, axis),
    cost=costs(4),
    source="array API standard 2024.12, var; Chan, Golub, LeVeque 1983: The American Statistician 37(3)",
)
