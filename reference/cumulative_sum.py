r"""Cumulative sum: the running total along an axis (a scan, or prefix sum).

    y_k = sum_(j <= k) x_j

As a matrix, y = L x with ones on and below the diagonal. Its transpose has them on and above: x_j is part of every
total from y_j on, so it gets all of their cotangents,

    dx_j = sum_(k >= j) dy_k,

which is the same scan, run from the other end. With `include_initial` the total of no numbers, 0, comes first; it is a
constant, so its cotangent goes nowhere. The operation is linear: its jvp is the operation itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .axes import along
from .elementwise import random_shape
from .namespace import Array, array_namespace
from .op import Op, Sample
from .reductions import check_axes, kept


def cumulative_sum(x: Array, *, axis: int, include_initial: bool = False) -> Array:
    """y_k = x_0 + ... + x_k along `axis`; a 0 in front where asked. Shapes: (.., n, ..) -> (.., n, ..) or n + 1."""
    return array_namespace(x).cumulative_sum(x, axis=axis, include_initial=include_initial)


def _of_totals(dy: Array, axis: int, include_initial: bool) -> Array:
    """dy without the cotangent of the initial 0. Shapes: (.., n + 1, ..) or (.., n, ..) -> (.., n, ..)."""
    return dy[along(axis, dy.ndim, slice(1, None))] if include_initial else dy


def cumulative_sum_vjp(dy: Array, y: Any, x: Any, *, axis: int, include_initial: bool = False) -> tuple[Array]:
    """dx_j = sum_(k >= j) dy_k: flip, scan, flip."""
    xp = array_namespace(dy)
    dy = _of_totals(dy, axis, include_initial)
    return (xp.flip(xp.cumulative_sum(xp.flip(dy, axis=axis), axis=axis), axis=axis),)


def cumulative_sum_jvp(
    dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, axis: int, include_initial: bool = False
) -> Array:
    """dy_k = sum_(j <= k) dx_j."""
    return cumulative_sum(dinputs[0], axis=axis, include_initial=include_initial)


def each_scan(f: Callable[[float, float], float], first: float) -> Callable[..., Array]:
    """A definition, one number at a time: the total so far and the next number give the next total."""

    def definition(x: Array, *, axis: int, include_initial: bool = False) -> Array:
        lines = np.moveaxis(x, axis, -1)
        y = np.empty((*lines.shape[:-1], lines.shape[-1] + include_initial))
        for index in np.ndindex(lines.shape[:-1]):
            totals = [first]
            for number in lines[index]:
                totals.append(f(totals[-1], float(number)))
            y[index] = totals if include_initial else totals[1:]
        return np.moveaxis(y, -1, axis)

    return definition


def draw_scan(rng: np.random.Generator) -> Sample:
    """At least one axis; half of them with the initial value."""
    shape = (int(rng.integers(1, 5)), *random_shape(rng)[:2])
    axis = int(rng.integers(-len(shape), len(shape)))
    params = {"axis": axis, "include_initial": bool(rng.integers(2))}
    return Sample((rng.standard_normal(shape),), params, "random")


def scan_cost(x: Any, *, axis: int, include_initial: bool = False) -> tuple[int, int]:
    """One operation an entry; x is read, y written, which has one entry more on each line with the initial value."""
    return x.size, 2 * x.size + include_initial * math.prod(kept(x.shape, axis))


CUMULATIVE_SUM = Op(
    "cumulative_sum",
    cumulative_sum,
    cumulative_sum_vjp,
    cumulative_sum_jvp,
    inputs=("x",),
    definition=each_scan(lambda total, number: total + number, 0.0),
    signature=None,  # the output may be longer by one; integers are welcome
    check=check_axes("cumulative_sum"),
    draw=draw_scan,
    formula=r"y_k = \sum_{j \le k} x_j",
    gradient=r"\bar x_j = \sum_{k \ge j} \bar y_k",
    samples=(
        Sample((np.array([1.0, 2.0, 3.0]),), {"axis": 0}, "each total holds the one before it"),
        Sample(
            (np.array([[1.0, 2.0], [3.0, 4.0]]),), {"axis": 1, "include_initial": True}, "the total of nothing is 0"
        ),
        Sample((np.zeros((2, 0)),), {"axis": 1, "include_initial": True}, "no numbers, and one total"),
        Sample((np.array([1.0, np.inf, -np.inf, 2.0]),), {"axis": 0}, "what no later total can undo"),
        Sample((np.arange(8.0).reshape(2, 2, 2),), {"axis": -2}, "an axis in the middle"),
    ),
    laws=("linear_in_x", "differences_give_x"),
    wrong={
        "scans the cotangent forwards": lambda dy, y, x, *, axis, include_initial=False: (
            np.cumsum(_of_totals(dy, axis, include_initial), axis=axis),
        ),
        "gives every entry its own cotangent alone": lambda dy, y, x, *, axis, include_initial=False: (
            _of_totals(dy, axis, include_initial),
        ),
        "gives every entry all cotangents": lambda dy, y, x, *, axis, include_initial=False: (
            np.broadcast_to(np.sum(_of_totals(dy, axis, include_initial), axis=axis, keepdims=True), x.shape),
        ),
        "leaves an entry out of its own total": lambda dy, y, x, *, axis, include_initial=False: (
            cumulative_sum_vjp(dy, y, x, axis=axis, include_initial=include_initial)[0]
            - _of_totals(dy, axis, include_initial),
        ),
    },
    tolerance=lambda x, *, axis, include_initial=False: 8.0 + x.shape[axis],
    cost=scan_cost,
    source="array API standard 2024.12, cumulative_sum; Blelloch 1990: Prefix sums and their applications",
)
