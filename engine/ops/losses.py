"""How wrong a model is, as one number. Formulas: reference/cross_entropy.py ..."""

from __future__ import annotations

from ...reference import table as t
from ..tensor import Tensor, apply
from .elementwise import Operand, with_axes
from .shape import checked

__all__ = ["cross_entropy"]


def cross_entropy(logits: Operand, targets: Operand) -> Tensor:
    """Mean over all rows of -log softmax(logits)[target]. logits (..., v), targets (...) integers -> one number."""
    logits = with_axes("cross_entropy", logits)
    ids = checked("cross_entropy", "targets", targets, "logits", logits.shape[-1], "classes")
    return apply(t.CROSS_ENTROPY, logits, ids)
