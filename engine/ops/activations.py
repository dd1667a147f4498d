"""What stands between two linear layers: nonlinearities, and dropout. Each is applied to every entry: the shape of x stays.

Formulas: reference/activations.py, erf.py, gelu.py, gelu_erf.py and dropout.py.
"""

from __future__ import annotations

from numbers import Real

import numpy as np

from ...reference import table as t
from ..tensor import Tensor, apply
from .elementwise import Operand

__all__ = ["dropout", "erf", "gelu", "gelu_erf", "relu", "sigmoid", "silu", "softplus"]


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
    if not isinstance(p, Real) or not 0.0 <= p < 1.0:
        raise ValueError(f"dropout: p is {p!r}, but a probability of dropping must be at least 0 and below 1")
    return apply(t.DROPOUT, x, mask if isinstance(mask, Tensor) else Tensor(np.asarray(mask), copy=False), p=float(p))
