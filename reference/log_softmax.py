r"""Log-softmax: a row of scores becomes the logarithms of a probability distribution.

    y_i = log(exp(x_i) / sum_k exp(x_k)) = x_i - log sum_k exp(x_k)

Taking the logarithm of a softmax would lose every probability that underflowed to 0; here a very unlikely entry keeps
its logarithm. The slope of the second term is the softmax, which is exp(y):

    dy_i/dx_j = delta_ij - exp(y_j),   so   dx_j = sum_i dy_i (delta_ij - exp(y_j)) = dy_j - exp(y_j) sum_i dy_i,

and along a direction dy_i = dx_i - sum_j exp(y_j) dx_j. Both read y alone, which frees x.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .namespace import Array, array_namespace
from .op import Op, Sample
from .reductions import check_axes
from .softmax import draw_scores


def log_softmax(x: Array, *, axis: int = -1) -> Array:
    """y = x - max x - log sum exp(x - max x) along `axis`. Shapes: (..., n) -> (..., n)."""
    xp = array_namespace(x)
    shifted = x - xp.max(x, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


def log_softmax_vjp(dy: Array, y: Array, x: Any, *, axis: int = -1) -> tuple[Array]:
    """dx_j = dy_j - exp(y_j) sum_i dy_i."""
    xp = array_namespace(dy)
    return (dy - xp.exp(y) * xp.sum(dy, axis=axis, keepdims=True),)


def log_softmax_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, axis: int = -1) -> Array:
    """dy_i = dx_i - sum_j exp(y_j) dx_j."""
    xp, (dx,) = array_namespace(y), dinputs
    return dx - xp.sum(xp.exp(y) * dx, axis=axis, keepdims=True)


def log_softmax_definition(x: Array, *, axis: int = -1) -> Array:
    """One number at a time."""
    y = np.empty_like(x)
    rows, out = np.moveaxis(x, axis, -1), np.moveaxis(y, axis, -1)
    for index in np.ndindex(rows.shape[:-1]):
        row = [float(v) for v in rows[index]]
        largest = max(row)
        log_total = math.log(math.fsum(math.exp(v - largest) for v in row))
        for i, v in enumerate(row):
            out[*index, i] = (v - largest) - log_total
    return y


LOG_SOFTMAX = Op(
    "log_softmax",
    log_softmax,
    log_softmax_vjp,
    log_softmax_jvp,
    inputs=("x",),
    reads=("y",),
    definition=log_softmax_definition,
    signature="(...,n)->(...,n)",
    check=check_axes("log_softmax", empty=False, default=-1),
    draw=draw_scores,
    formula=r"y_i = x_i - \log \sum_k e^{x_k}",
    gradient=r"\bar x_j = \bar y_j - e^{y_j} \sum_i \bar y_i",
    samples=(
        Sample((np.array([[0.0, 1.0, 2.0], [3.0, 3.0, 3.0]]),), {}, "equal scores give -log n"),
        Sample(
            (np.array([[1000.0, 999.0, -1000.0]]),),
            {},
            "the softmax of the last one underflows, its logarithm does not",
        ),
        Sample((np.array([[0.5, -np.inf, 1.5]]),), {}, "a masked score has the logarithm of zero"),
        Sample((np.arange(6.0).reshape(2, 3) ** 2,), {"axis": 0}, "an axis that is not the last"),
        Sample((np.array([[7.0], [-7.0]]),), {}, "a single entry is certain, its gradient zero"),
    ),
    laws=("exponentials_sum_to_one", "shift_invariant"),
    wrong={
        "forgets the normalising term": lambda dy, y, x, axis=-1: (dy,),
        "treats the Jacobian as diagonal": lambda dy, y, x, axis=-1: (dy * (1 - np.exp(y)),),
        "is that of softmax": lambda dy, y, x, axis=-1: (
            np.exp(y) * (dy - np.sum(dy * np.exp(y), axis=axis, keepdims=True)),
        ),
        "multiplies by y instead of its exponential": lambda dy, y, x, axis=-1: (
            dy - y * np.sum(dy, axis=axis, keepdims=True),
        ),
    },
    tolerance=lambda x, *, axis=-1: 8.0 + x.shape[axis],
    cost=lambda x, *, axis=-1: (5 * x.size, 2 * x.size),
    source="Goodfellow, Bengio, Courville: Deep Learning, section 4.1; Blanchard, Higham, Higham 2021, IMA JNA 41(4)",
)
