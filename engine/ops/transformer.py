"""What a Transformer needs beside products and softmax: norms, positions. Formulas: reference/layer_norm.py ..."""

from __future__ import annotations

from ...reference import table as t
from ..tensor import Tensor, apply
from .elementwise import Operand

__all__ = ["layer_norm"]


def layer_norm(x: Operand, weight: Operand, bias: Operand | None = None, *, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis. x (..., n), weight and bias (n)."""
    arguments = (x, weight) if bias is None else (x, weight, bias)
    return apply(t.LAYER_NORM, *arguments, eps=float(eps))
