r"""Masked softmax: softmax over the entries that a mask allows, and zero elsewhere.

    y_i = m_i exp(x_i) / sum_k m_k exp(x_k),      m_i = 1 where the mask is True, else 0

It is softmax of scores that are minus infinity wherever the mask is False: their exponential is 0. So a score of minus
infinity counts as masked, too. Where nothing is left, the sum is empty and y is zero throughout: 0 / 0 would be the
answer of softmax, but a query that may look nowhere should see nothing, and spoil nothing.

What is masked does not even lend its value: it is selected away, not multiplied by zero, because 0 * inf and 0 * NaN
are not numbers.

The Jacobian is that of softmax,

    dy_i/dx_j = y_i (delta_ij - y_j),   so   dx_j = y_j (dy_j - <dy, y>),

and because y_j = 0 wherever j is masked, and in every row where all are, the gradients there are zero by themselves. Read
y alone: neither x nor the mask is needed any more.

The mask may be smaller than x: it is stretched to the shape of x by NumPy's broadcasting, x never to the mask's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .namespace import Array, array_namespace
from .op import Op, Sample
from .reductions import check_axes
from .softmax import draw_scores, softmax_vjp


def masked_softmax(x: Array, mask: Array, *, axis: int = -1) -> Array:
    """y = softmax of x along `axis` over the entries where `mask` is True, 0 elsewhere; zeros where none is.

    Shapes: x (...), mask (...):bool that broadcasts to x -> the shape of x.
    """
    xp = array_namespace(x)
    largest = xp.max(xp.where(mask, x, -math.inf), axis=axis, keepdims=True)
    largest = xp.where(largest == -math.inf, 0.0, largest)  # nothing to shift by
    # Zeros where masked, before exp and after it: no infinity survives to meet a zero, in any derivative.
    e = xp.where(mask, xp.exp(xp.where(mask, x - largest, 0.0)), 0.0)
    total = xp.sum(e, axis=axis, keepdims=True)
    return xp.where(mask, e / xp.where(total == 0.0, 1.0, total), 0.0)


def masked_softmax_vjp(dy: Array, y: Array, x: Any, mask: Any, *, axis: int = -1) -> tuple[Array, None]:
    """dx_j = y_j (dy_j - <dy, y>), the vjp of softmax: y knows what was masked."""
    return softmax_vjp(dy, y, x, axis=axis)[0], None


def masked_softmax_jvp(dinputs: tuple[Array, Any], y: Array, inputs: tuple[Array, Array], *, axis: int = -1) -> Array:
    """dy_i = y_i (dx_i - <dx, y>): the Jacobian is symmetric."""
    return softmax_vjp(dinputs[0], y, inputs[0], axis=axis)[0]


def masked_softmax_definition(x: Array, mask: Array, *, axis: int = -1) -> Array:
    """One number at a time, over the places that may be seen."""
    y = np.zeros_like(x)
    allowed = np.moveaxis(np.broadcast_to(mask, x.shape), axis, -1)
    rows, out = np.moveaxis(x, axis, -1), np.moveaxis(y, axis, -1)
    for index in np.ndindex(rows.shape[:-1]):
        seen = {i: float(v) for i, v in enumerate(rows[index]) if allowed[*index, i] and float(v) != -math.inf}
        largest = max(seen.values(), default=0.0)
        total = math.fsum(math.exp(v - largest) for v in seen.values())
        for i, v in seen.items():
            out[*index, i] = math.exp(v - largest) / total
    return y


def _check(x: Any, mask: Any, *, axis: int = -1) -> None:
    check_axes("masked_softmax", empty=False, default=-1)(x, axis=axis)
    shape, wanted = tuple(mask.shape), tuple(x.shape)
    fits = len(shape) <= len(wanted) and all(
        a in (1, b) for a, b in zip(reversed(shape), reversed(wanted), strict=False)
    )
    if not fits:
        raise ValueError(f"masked_softmax: mask has shape {shape}, which does not broadcast to x {wanted}")


def _draw(rng: np.random.Generator) -> Sample:
    """Masks of every shape that x can be asked with; some rows of nothing."""
    scores = draw_scores(rng)
    (x,) = scores.inputs
    shape = tuple(n if rng.integers(4) else 1 for n in x.shape)[int(rng.integers(x.ndim)) :]
    return Sample((x, rng.random(shape) < 0.7), scores.params, "random")


_X = np.array([[0.0, 1.0, 2.0], [3.0, 3.0, 3.0]])

MASKED_SOFTMAX = Op(
    "masked_softmax",
    masked_softmax,
    masked_softmax_vjp,
    masked_softmax_jvp,
    inputs=("x", "mask"),
    reads=("y",),
    nondiff=("mask",),
    definition=masked_softmax_definition,
    signature="(...),(...):bool->(...)",
    check=_check,
    draw=_draw,
    domain={"mask": "mask"},
    formula=r"y_i = \frac{m_i e^{x_i}}{\sum_k m_k e^{x_k}}, \quad m_i \in \{0, 1\}",
    gradient=r"\bar x_j = y_j \left(\bar y_j - \langle \bar y, y \rangle\right)",
    samples=(
        Sample((_X, np.array([[True, False, True], [True, True, False]])), {}, "a mask of its own for each row"),
        Sample((_X, np.array([True, True, False])), {}, "one mask for all rows"),
        Sample((_X, np.array([[True], [False]])), {}, "a row of which nothing is left is zero, and so is its gradient"),
        Sample((_X, np.array([[True, False, True], [False, True, False]])), {"axis": 0}, "an axis that is not the last"),
        Sample((np.array([[np.inf, 1.0, 2.0]]), np.array([False, True, True])), {}, "a masked infinity does no harm"),
        Sample((np.array([[-np.inf, 1.0], [-np.inf, 1.0]]), np.array([[True, True], [True, False]])), {},
               "minus infinity is as good as masked"),
        Sample((1000.0 * _X, np.array([True, True, True])), {}, "large scores overflow without the shift"),
    ),
    laws=("shift_invariant", "bounded_by_one", "nonnegative"),
    wrong={
        "forgets that the denominator holds every score": lambda dy, y, x, mask, axis=-1: (dy * y, None),
        "treats the Jacobian as diagonal": lambda dy, y, x, mask, axis=-1: (dy * y * (1 - y), None),
        "averages over what is masked, too": lambda dy, y, x, mask, axis=-1: (
            y * (dy - np.mean(dy, axis=axis, keepdims=True)), None,
        ),
        "hands the masked scores their share": lambda dy, y, x, mask, axis=-1: (
            softmax_vjp(dy, y, x, axis=axis)[0] + np.where(y == 0, dy, 0.0), None,
        ),
    },
    tolerance=lambda x, mask, *, axis=-1: 8.0 + x.shape[axis],
    cost=lambda x, mask, *, axis=-1: (5 * x.size, 2 * x.size + mask.size // 4),
    source="Vaswani et al. 2017, Attention is all you need, section 3.2.3",
)  # fmt: skip
