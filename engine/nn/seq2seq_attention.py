"""A decoder's look at the encoder's states. Derived in reference/additive_attention.py.

B: batch, T: queries, S: source positions, Q: query_size, D: state_size, H: hidden_size.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import random
from ..ops import expand_dims, matmul, matrix_transpose, softmax, tanh, where
from ..ops import sum as total
from ..ops.shape import constant
from ..tensor import Tensor
from .layers import Linear, positive
from .module import Module, Parameter


class AdditiveAttention(Module):
    """Bahdanau's: score = v . tanh(Wq query + Wk state)."""

    def __init__(self, query_size: int, state_size: int, hidden_size: int) -> None:
        positive("AdditiveAttention", query_size=query_size, state_size=state_size, hidden_size=hidden_size)
        self.query = Linear(query_size, hidden_size, bias=False)
        self.key = Linear(state_size, hidden_size, bias=False)
        uniform = random.default.uniform((hidden_size,))
        self.v = Parameter((2.0 * uniform - 1.0) * np.float32(1.0 / math.sqrt(hidden_size)))

    def keys(self, states: Tensor) -> Tensor:
        """What the scores read of the states, computed once a source: (B, S, D) -> (B, S, H)."""
        return self.key(states)

    def forward(self, query: Tensor, keys: Tensor, states: Tensor, mask: Any = None) -> tuple[Tensor, Tensor]:
        """(context (B, T, D), weights (B, T, S)) of query (B, T, Q). mask: bool (B, S), True at real positions."""
        q = expand_dims(self.query(query), axis=2)  # (B, T, 1, H)
        u = tanh(q + expand_dims(keys, axis=1))  # (B, T, S, H)
        return _look(total(u * self.v, axis=-1), states, mask)


class MultiplicativeAttention(Module):
    """Luong's "general": score = query Wa . state."""

    def __init__(self, query_size: int, state_size: int) -> None:
        positive("MultiplicativeAttention", query_size=query_size, state_size=state_size)
        self.query = Linear(query_size, state_size, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        """The states themselves: (B, S, D)."""
        return states

    def forward(self, query: Tensor, keys: Tensor, states: Tensor, mask: Any = None) -> tuple[Tensor, Tensor]:
        """(context (B, T, D), weights (B, T, S)) of query (B, T, Q). mask: bool (B, S), True at real positions."""
        return _look(matmul(self.query(query), matrix_transpose(keys)), states, mask)


def _look(scores: Tensor, states: Tensor, mask: Any) -> tuple[Tensor, Tensor]:
    if mask is not None:
        scores = where(constant(mask, scores)[:, None, :], scores, -np.inf)
    weights = softmax(scores, axis=-1)  # (B, T, S)
    return matmul(weights, states), weights
