r"""Log-sum-exp: the logarithm of a sum, of numbers that are given by their logarithms.

    y = log sum_i exp(x_i) = m + log sum_i exp(x_i - m)        for every m

A softened maximum: max x <= y <= max x + log n. With m = max x no exponential overflows, and the largest of them is 1, so
that the sum does not vanish either. Its slope is the softmax, written with y itself:

    dy/dx_i = exp(x_i) / sum_k exp(x_k) = exp(x_i - y),   so   dx_i = dy exp(x_i - y).

The sum of no numbers is 0 = exp(-inf). So y is -inf where there are none, or where every x_i is -inf, as a masked score
is: there x_i - y would be -inf - (-inf), not a number. A finite change of such a score changes nothing (its exponential
stays 0), so its gradient is 0: y is replaced by 0, and exp(x_i - 0) = 0. An x_i of +inf outweighs all others, but its
share inf / inf is not a number, and neither is its gradient.
"""

from __future__ import annotations

import math

import numpy as np

from .namespace import Array, array_namespace
from .op import Op, Sample
from .reductions import Axis, axes, check_axes, costs, count, draw_distinct, each_group, kept, mean_vjp, spread, sum_vjp


def logsumexp(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """y = log sum exp(x) over `axis`; -inf for no numbers. Shapes: (..., n, ...) -> (..., ...)."""
    xp = array_namespace(x)
    if count(x.shape, axis) == 0:
        return xp.log(xp.sum(x, axis=axis, keepdims=keepdims))  # log 0
    m = xp.max(x, axis=axis, keepdims=True)
    m = xp.where(xp.isfinite(m), m, 0.0)  # nothing to shift by
    y = m + xp.log(xp.sum(xp.exp(x - m), axis=axis, keepdims=True))
    return y if keepdims else xp.squeeze(y, axis=axes(axis, x.ndim))


def _weights(y: Array, x: Array, axis: Axis) -> Array:
    """exp(x_i - y), the softmax of x; zeros where y is -inf. Shape of x."""
    xp = array_namespace(x)
    y = xp.reshape(y, kept(x.shape, axis))
    return xp.exp(x - xp.where(y == -math.inf, 0.0, y))


def logsumexp_vjp(dy: Array, y: Array, x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array]:
    """dx_i = dy exp(x_i - y)."""
    return (_weights(y, x, axis) * array_namespace(dy).reshape(dy, kept(x.shape, axis)),)


def logsumexp_jvp(
    dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, axis: Axis = None, keepdims: bool = False
) -> Array:
    """dy = sum_i exp(x_i - y) dx_i."""
    product = _weights(y, inputs[0], axis) * dinputs[0]
    return array_namespace(product).sum(product, axis=axis, keepdims=keepdims)


def logsumexp_definition(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """One number at a time: adding the number with the logarithm b to that with a < b gives b + log(1 + exp(a - b))."""

    def one(numbers: list[float]) -> float:
        total = -math.inf
        for number in numbers:
            if math.isnan(number) or math.isnan(total):
                return math.nan
            small, large = sorted((total, number))
            if small > -math.inf and large < math.inf:
                total = large + math.log1p(math.exp(small - large))
            else:
                total = large
        return total

    return each_group(one, x, axis, keepdims)


def _hard(dy: Array, y: Array, x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array]:
    """The gradient of max."""
    return (spread(dy, x, axis) * (x == np.max(x, axis=axis, keepdims=True)),)


def _tolerance(x: Array, *, axis: Axis = None, keepdims: bool = False) -> float:
    """One unit for each number of the sum, and as many as the largest score: x - y inherits the rounding of y, which is as
    large, and so exp(x - y) is off by |y| eps, relatively.
    """
    return 8.0 + count(x.shape, axis) + float(np.max(np.abs(x[np.isfinite(x)]), initial=0.0))


LOGSUMEXP = Op(
    "logsumexp",
    logsumexp,
    logsumexp_vjp,
    logsumexp_jvp,
    inputs=("x",),
    reads=("x", "y"),
    definition=logsumexp_definition,
    signature=None,  # the output's shape depends on axis and keepdims
    check=check_axes("logsumexp"),
    draw=draw_distinct,
    formula=r"y = \log \sum_i e^{x_i}",
    gradient=r"\bar x_i = e^{x_i - y} \, \bar y",
    samples=(
        Sample((np.array([[0.0, 1.0, 2.0], [3.0, 3.0, 3.0]]),), {"axis": 1}, "n equal scores give log n more"),
        Sample((np.array([1000.0, 999.0, -1000.0]),), {"keepdims": True}, "large scores overflow without the shift"),
        Sample((np.array([-1000.0, -1001.0]),), {}, "the sum of tiny exponentials would be zero"),
        Sample(
            (np.array([[0.5, -np.inf], [-np.inf, -np.inf]]),), {"axis": 1}, "masked scores, and a row of nothing else"
        ),
        Sample((np.array([[np.inf, 1.0], [np.inf, -np.inf]]),), {"axis": 1}, "plus infinity outweighs everything"),
        Sample((np.zeros((2, 0)),), {"axis": 1}, "no numbers sum to zero, whose logarithm is -inf"),
        Sample((np.arange(8.0).reshape(2, 2, 2),), {"axis": (0, 2)}, "several axes at once, not side by side"),
    ),
    laws=("order_free", "shift_passes_through"),
    wrong={
        "gives every entry the cotangent": sum_vjp,
        "shares the cotangent equally": mean_vjp,
        "forgets to normalise": lambda dy, y, x, axis=None, keepdims=False: (spread(dy, x, axis) * np.exp(x),),
        "gives everything to the largest": _hard,
    },
    tolerance=_tolerance,
    cost=costs(4),
    source="Blanchard, Higham, Higham 2021: Accurately computing the log-sum-exp and softmax functions, IMA JNA 41(4)",
)
