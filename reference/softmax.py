r"""Softmax: a row of scores becomes a probability distribution.

    y_i = exp(x_i) / sum_k exp(x_k)

Subtracting the largest score changes nothing (numerator and denominator share the factor exp(-max)) and keeps exp from
overflowing. Since y is a ratio whose denominator holds every x_j,

    dy_i/dx_j = y_i (delta_ij - y_j),   so   dx_j = sum_i dy_i y_i (delta_ij - y_j) = y_j (dy_j - <dy, y>).

The Jacobian is symmetric, so the product with a direction from the right is the same formula. Read y alone: x is not
needed any more, and its memory is free.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .namespace import Array, array_namespace
from .op import Op, Sample
from .reductions import check_axes


def softmax(x: Array, *, axis: int = -1) -> Array:
    """y = exp(x - max x) / sum exp(x - max x) along `axis`. Shapes: (..., n) -> (..., n)."""
    xp = array_namespace(x)
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


def softmax_vjp(dy: Array, y: Array, x: Any, *, axis: int = -1) -> tuple[Array]:
    """dx_j = y_j (dy_j - <dy, y>)."""
    xp = array_namespace(dy)
    return (y * (dy - xp.sum(dy * y, axis=axis, keepdims=True)),)


def softmax_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, axis: int = -1) -> Array:
    """dy_i = y_i (dx_i - <dx, y>): the Jacobian is symmetric."""
    return softmax_vjp(dinputs[0], y, inputs[0], axis=axis)[0]


def softmax_definition(x: Array, *, axis: int = -1) -> Array:
    """One number at a time."""
    y = np.empty_like(x)
    rows, out = np.moveaxis(x, axis, -1), np.moveaxis(y, axis, -1)
    for index in np.ndindex(rows.shape[:-1]):
        row = [float(v) for v in rows[index]]
        largest = max(row, default=0.0)
        total = math.fsum(math.exp(v - largest) for v in row)
        for i, v in enumerate(row):
            out[*index, i] = math.exp(v - largest) / total
    return y


def draw_scores(rng: np.random.Generator) -> Sample:
    """Scores of up to three axes, and one of these to normalise."""
    shape = tuple(rng.integers(1, 6, size=rng.integers(1, 4)))
    axis = int(rng.integers(-len(shape), len(shape)))
    return Sample((rng.standard_normal(shape) * 3,), {"axis": axis}, "random")


SOFTMAX = Op(
    "softmax",
    softmax,
    softmax_vjp,
    softmax_jvp,
    inputs=("x",),
    reads=("y",),
    definition=softmax_definition,
    signature="(...,n)->(...,n)",
    check=check_axes("softmax", empty=False, default=-1),
    draw=draw_scores,
    formula=r"y_i = \frac{e^{x_i}}{\sum_k e^{x_k}}",
    gradient=r"\bar x_j = y_j \left(\bar y_j - \langle \bar y, y \rangle\right)",
    samples=(
        Sample((np.array([[0.0, 1.0, 2.0], [3.0, 3.0, 3.0]]),), {}, "equal scores give equal weights"),
        Sample((np.array([[1000.0, 999.0, -1000.0]]),), {}, "large scores overflow without the shift"),
        Sample((np.array([[0.5, -np.inf, 1.5]]),), {}, "a score of minus infinity gets weight zero"),
        Sample((np.arange(6.0).reshape(2, 3) ** 2,), {"axis": 0}, "an axis that is not the last"),
        Sample((np.array([[7.0], [-7.0]]),), {}, "a single entry is certain, its gradient zero"),
    ),
    laws=("rows_sum_to_one", "shift_invariant"),
    wrong={
        "forgets that the denominator holds every score": lambda dy, y, x, axis=-1: (dy * y,),
        "treats the Jacobian as diagonal": lambda dy, y, x, axis=-1: (dy * y * (1 - y),),
        "sums over the wrong axis": lambda dy, y, x, axis=-1: (
            y * (dy - np.sum(dy * y, axis=(axis + 1) % y.ndim if y.ndim > 1 else None, keepdims=True) * (y.ndim > 1)),
        ),
        "leaves y out of the inner product": lambda dy, y, x, axis=-1: (
            y * (dy - np.sum(dy, axis=axis, keepdims=True)),
        ),
    },
    tolerance=lambda x, *, axis=-1: 8.0 + x.shape[axis],
    cost=lambda x, *, axis=-1: (5 * x.size, 2 * x.size),
    source="Bridle 1990; Goodfellow, Bengio, Courville: Deep Learning, section 6.2.2.3",
)
