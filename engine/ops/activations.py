"""What stands between two linear layers: nonlinearities, and dropout. Each is applied to every entry: the shape of x stays.

Formulas: reference/activations.py, bias_activations.py, dropout.py, dropout_add.py, erf.py, gelu.py, gelu_erf.py, swiglu.py.
"""

from __future__ import annotations

import math
from numbers import Real

import numpy as np

from ...reference import table as t
from .. import random
from ..tensor import Tensor, apply
from .elementwise import Operand
from .shape import constant

__all__ = [
    "bias_gelu", "bias_silu", "dropout", "dropout_add", "erf", "gelu", "gelu_erf", "relu", "sigmoid", "silu", "softplus",
    "swiglu",
]  # fmt: skip


def sigmoid(x: Operand) -> Tensor:
    """1 / (1 + e^-x), between 0 and 1: the probability whose log odds are x."""
    return apply(t.SIGMOID, x)


def softplus(x: Operand) -> Tensor:
    """The logarithm of 1 + e^x: a smooth relu."""
    return apply(t.SOFTPLUS, x)


def silu(x: Operand) -> Tensor:
    """x times its sigmoid, also called swish."""
    return apply(t.SILU, x)


def relu(x: Operand) -> Tensor:
    """x where it is above 0, else 0; at 0 its gradient is 0."""
    return apply(t.RELU, x)


def erf(x: Operand) -> Tensor:
    """The error function: 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x."""
    return apply(t.ERF, x)


def gelu(x: Operand, *, approximate: str = "tanh") -> Tensor:
    """x times the probability that a normal variable is below x.

    approximate: "tanh" for the form of GPT-2, off by less than 0.0005; "none" for the exact one of BERT.
    """
    if approximate not in ("tanh", "none"):
        raise ValueError(f"gelu: approximate is {approximate!r}, but it must be 'tanh' or 'none'")
    return apply(t.GELU if approximate == "tanh" else t.GELU_ERF, x)


def gelu_erf(x: Operand) -> Tensor:
    """gelu in its exact form, with the error function."""
    return apply(t.GELU_ERF, x)


def dropout(x: Operand, mask: Operand, *, p: float) -> Tensor:
    """x / (1 - p) where the boolean `mask` is True, 0 elsewhere; nn.Dropout draws the mask.

    p: the probability with which an element was dropped, 0 <= p < 1.
    """
    p = _share("dropout", p)
    return apply(t.DROPOUT, x, constant(mask, x), p=p)


def dropout_add(x: Operand, residual: Operand, *, p: float, generator: random.Generator | None = None) -> Tensor:
    """residual + x / (1 - p) where an element is kept, the residual alone where it is dropped; both alike in shape.

    p: the probability of dropping, 0 <= p < 1. The mask is bernoulli(x.shape, 1 - p) of `generator` (the default one unless
    given), which moves on as far; at most one bit of it is stored for each number.
    """
    p, shape = _share("dropout_add", p), x.shape if isinstance(x, Tensor) else np.shape(x)
    if shape != (other := residual.shape if isinstance(residual, Tensor) else np.shape(residual)):
        raise ValueError(f"dropout_add: residual has shape {other}, but x {shape} needs one of its own shape")
    draw = (generator or random.default).reserve(math.prod(shape))
    return apply(t.DROPOUT_ADD, x, residual, constant(draw, x), p=p)


def bias_gelu(x: Operand, bias: Operand) -> Tensor:
    """gelu(x + bias), in the form with tanh. x (..., n), bias (n)."""
    return apply(t.BIAS_GELU, x, bias)


def bias_silu(x: Operand, bias: Operand) -> Tensor:
    """silu(x + bias). x (..., n), bias (n)."""
    return apply(t.BIAS_SILU, x, bias)


def swiglu(gate: Operand, up: Operand) -> Tensor:
    """silu(gate) up: a gated layer of LLaMA between its products. Both alike in shape."""
    return apply(t.SWIGLU, gate, up)


def _share(op: str, p: float) -> float:
    if not isinstance(p, Real) or not 0.0 <= p < 1.0:
        raise ValueError(f"{op}: p is {p!r}, but a probability of dropping must be at least 0 and below 1")
    return float(p)
