"""What a Transformer needs beside products and softmax: norms, positions. Formulas: reference/layer_norm.py ..."""

from __future__ import annotations

from ...reference import table as t
from ..tensor import Tensor, apply
from .elementwise import Operand
from .shape import integer, number

__all__ = ["add_layer_norm", "layer_norm", "rms_norm", "rotary_embedding"]


def layer_norm(x: Operand, weight: Operand, bias: Operand | None = None, *, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis. x (..., n), weight and bias (n)."""
    arguments = (x, weight) if bias is None else (x, weight, bias)
    return apply(t.LAYER_NORM, *arguments, eps=number("layer_norm", "eps", eps))


def add_layer_norm(
    x: Operand, residual: Operand, weight: Operand, bias: Operand | None = None, *, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """(y, s): s = x + residual, y = layer_norm(s, weight, bias). x and residual (..., n), weight and bias (n)."""
    arguments = (x, residual, weight) if bias is None else (x, residual, weight, bias)
    return apply(t.ADD_LAYER_NORM, *arguments, eps=number("add_layer_norm", "eps", eps))


def rms_norm(x: Operand, weight: Operand, *, eps: float = 1e-6) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis. x (..., n), weight (n)."""
    return apply(t.RMS_NORM, x, weight, eps=number("rms_norm", "eps", eps))


def rotary_embedding(x: Operand, *, base: float = 10000.0, offset: int = 0, interleaved: bool = False) -> Tensor:
    """Turns the d / 2 pairs of features of row p by the angles (p + offset) base^(-2 i / d). x (..., t, d), d even.

    The pairs are (i, i + d / 2), as in LLaMA; interleaved, they are the neighbours (2 i, 2 i + 1).
    """
    base = number("rotary_embedding", "base", base)
    if not base > 0:
        raise ValueError(f"rotary_embedding: base is {base}, but it must be positive")
    offset = integer("rotary_embedding", "offset", offset)
    return apply(t.ROTARY_EMBEDDING, x, base=base, offset=offset, interleaved=bool(interleaved))
