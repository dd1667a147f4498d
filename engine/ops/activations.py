"""What stands between two linear layers: nonlinearities, and dropout. Formulas: reference/gelu.py, dropout.py ..."""

from __future__ import annotations

import numpy as np

from ...reference import table as t
from ..tensor import Tensor, apply
from .elementwise import Operand

__all__ = ["dropout", "gelu"]


def gelu(x: Operand) -> Tensor:
    """x times (nearly) the normal distribution function of x, in its tanh form."""
    return apply(t.GELU, x)


def dropout(x: Operand, mask: Operand, *, p: float) -> Tensor:
    """x / (1 - p) where the boolean `mask` is True, 0 elsewhere; nn.Dropout draws the mask.

    p: the probability with which an element was dropped, 0 <= p < 1.
    """
    if not 0.0 <= p < 1.0:
        raise ValueError(f"dropout: p is {p}, but a probability of dropping must be at least 0 and below 1")
    return apply(t.DROPOUT, x, mask if isinstance(mask, Tensor) else Tensor(np.asarray(mask), copy=False), p=float(p))
