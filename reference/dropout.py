r"""Dropout: every number is kept with probability 1 - p, and what is kept is scaled up.

    y_i = m_i x_i / (1 - p),   m_i = 1 with probability 1 - p, else 0

The scale keeps the expectation: E[y_i] = E[m_i] x_i / (1 - p) = (1 - p) x_i / (1 - p) = x_i, so that nothing needs to
be rescaled when dropout is switched off for evaluation. The variance is Var[y_i] = x_i^2 p / (1 - p): noise in
proportion.

The mask is an input, drawn beforehand from the counter-based generator (`philox.py`), so y is linear in x with a
diagonal Jacobian, and forward, vjp and jvp are one and the same function: dx_i = m_i dy_i / (1 - p).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .elementwise import random_shape
from .namespace import Array, array_namespace
from .op import Op, Sample


def dropout(x: Array, mask: Array, *, p: float) -> Array:
    """y = x / (1 - p) where `mask` is True, else 0; 0 <= p < 1. Shapes: (...), (...):bool -> (...), both alike."""
    return array_namespace(x).where(mask, x / (1.0 - p), 0.0)


def dropout_vjp(dy: Array, y: Any, x: Any, mask: Array, *, p: float) -> tuple[Array, None]:
    """dx = dy / (1 - p) where `mask` is True, else 0."""
    return dropout(dy, mask, p=p), None


def dropout_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...], *, p: float) -> Array:
    """dy = dx / (1 - p) where `mask` is True, else 0."""
    return dropout(dinputs[0], inputs[1], p=p)


def dropout_definition(x: Array, mask: Array, *, p: float) -> Array:
    """One number at a time."""
    y = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        if mask[place]:
            y[place] = float(x[place]) / (1.0 - p)
    return y


def _check(x: Any, mask: Any, *, p: float) -> None:
    if not 0.0 <= p < 1.0:
        raise ValueError(f"dropout: p is {p}, but it must be at least 0 and less than 1")
    if tuple(mask.shape) != tuple(x.shape):
        raise ValueError(
            f"dropout: mask has shape {tuple(mask.shape)}, but x {tuple(x.shape)} needs one of its own shape"
        )


def _draw(rng: np.random.Generator) -> Sample:
    shape, p = random_shape(rng), float(rng.uniform(0.1, 0.9))
    return Sample((rng.standard_normal(shape), rng.random(shape) >= p), {"p": p}, "random")


DROPOUT = Op(
    "dropout",
    dropout,
    dropout_vjp,
    dropout_jvp,
    inputs=("x", "mask"),
    reads=("mask",),
    nondiff=("mask",),
    definition=dropout_definition,
    signature="(...),(...):bool->(...)",
    check=_check,
    draw=_draw,
    domain={"mask": "mask"},
    formula=r"y_i = \frac{m_i x_i}{1 - p}",
    gradient=r"\bar x_i = \frac{m_i \bar y_i}{1 - p}",
    samples=(
        Sample((np.array([1.0, -2.0, 3.0]), np.array([True, False, True])), {"p": 0.5}, "what is kept is doubled"),
        Sample((np.array([1.0, 2.0]), np.array([True, True])), {"p": 0.0}, "nothing is dropped, nothing scaled"),
        Sample((np.array([1.0, 2.0]), np.array([False, False])), {"p": 0.9}, "everything may be dropped"),
        Sample((np.array([np.inf, 1.0]), np.array([False, True])), {"p": 0.25}, "a dropped infinity is zero"),
        Sample((np.zeros((2, 0)), np.zeros((2, 0), bool)), {"p": 0.1}, "no entries at all"),
    ),
    laws=("linear_in_x", "expectation_is_x"),
    wrong={
        "forgets to scale": lambda dy, y, x, mask, *, p: (np.where(mask, dy, 0.0), None),
        "forgets the mask": lambda dy, y, x, mask, *, p: (dy / (1.0 - p), None),
        "keeps what was dropped": lambda dy, y, x, mask, *, p: (np.where(mask, 0.0, dy / (1.0 - p)), None),
        "scales down instead of up": lambda dy, y, x, mask, *, p: (np.where(mask, dy * (1.0 - p), 0.0), None),
    },
    cost=lambda x, mask, *, p: (x.size, 3 * x.size),
    source="Srivastava et al. 2014, Dropout, section 10 for the scale at training time",
)
