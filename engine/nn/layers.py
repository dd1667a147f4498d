"""The layers that a language model is made of. Names, shapes and initial values of the parameters are PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import random
from ..ops import dropout, dropout_add, embedding, gelu, layer_norm, linear, relu, silu
from ..ops.shape import optional_integer
from ..tensor import Tensor
from .module import Module, Parameter


def positive(layer: str, **sizes: int) -> None:
    """ValueError with one sentence unless every size is a positive integer."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise ValueError(f"{layer}: {name} is {size!r}, but it must be a positive integer")


class Linear(Module):
    """y = x W^T + b. x (..., in_features) -> (..., out_features); weight (out_features, in_features).

    Weight and bias start uniform in +-1/sqrt(in_features), as torch.nn.Linear's do.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        positive("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        bound = 1.0 / math.sqrt(in_features)
        self.weight = Parameter((2.0 * random.default.uniform((out_features, in_features)) - 1.0) * np.float32(bound))
        self.bias: Tensor | None = None
        if bias:
            self.bias = Parameter((2.0 * random.default.uniform((out_features,)) - 1.0) * np.float32(bound))

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias, transposed=True)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """Row ids[...] of a table. ids (...) integers -> (..., embedding_dim); weight (num_embeddings, embedding_dim), N(0, 1).

    padding_idx: a row that starts at zero and gets no gradient, so that it stays there; negative: counted from the end.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        positive("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        padding_idx = optional_integer("Embedding", "padding_idx", padding_idx)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else self._padding_row(padding_idx, num_embeddings)
        weight = random.default.normal((num_embeddings, embedding_dim))
        if self.padding_idx is not None:
            weight[self.padding_idx] = 0.0
        self.weight = Parameter(weight)

    @staticmethod
    def _padding_row(padding_idx: int, num_embeddings: int) -> int:
        """The row, counted from the beginning."""
        if not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"Embedding: padding_idx is {padding_idx}, but there are {num_embeddings} embeddings")
        return padding_idx % num_embeddings

    @classmethod
    def from_vectors(cls, vectors: Any, *, freeze: bool = True, padding_idx: int | None = None) -> Embedding:
        """A table that holds a copy of `vectors`: an array (num_embeddings, embedding_dim), or WordVectors (their array).

        freeze: the table does not learn. padding_idx: a row that becomes zero, and stays so.
        """
        array = np.array(getattr(vectors, "array", vectors))
        if array.ndim != 2 or array.dtype.kind != "f":
            raise ValueError(
                f"Embedding: vectors are {array.dtype} of shape {array.shape}, but floating point with two axes is needed"
            )
        layer = cls.__new__(cls)  # without initial numbers, which would be drawn for nothing
        layer.num_embeddings, layer.embedding_dim, layer.padding_idx = *array.shape, None
        if padding_idx is not None:
            layer.padding_idx = cls._padding_row(padding_idx, len(array))
            array[layer.padding_idx] = 0.0
        layer.weight = Parameter(array, requires_grad=not freeze)
        return layer

    def forward(self, ids: Any) -> Tensor:
        return embedding(self.weight, ids, padding_idx=self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class LayerNorm(Module):
    """Normalizes the last axis to mean 0 and variance 1, then scales by weight (ones) and shifts by bias (zeros)."""

    def __init__(self, normalized_shape: int, eps: float = 1e-5, bias: bool = True) -> None:
        positive("LayerNorm", normalized_shape=normalized_shape)
        self.eps = eps
        self.weight = Parameter(np.ones(normalized_shape, np.float32))
        self.bias = Parameter(np.zeros(normalized_shape, np.float32)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight, self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.size}, eps={self.eps}, bias={self.bias is not None}"


class Dropout(Module):
    """In training, sets each element to 0 with probability p and scales the rest by 1/(1-p); otherwise does nothing."""

    def __init__(self, p: float = 0.5, generator: random.Generator | None = None) -> None:
        if not 0.0 <= p < 1.0:
            raise ValueError(f"Dropout: p is {p}, but a probability of dropping must be at least 0 and below 1")
        self.p, self.generator = p, generator

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        mask = (self.generator or random.default).bernoulli(x.shape, 1.0 - self.p, like=x.data)
        return dropout(x, mask, p=self.p)

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """residual + self(x), the same numbers in one visit to memory."""
        if not self.training or self.p == 0.0:
            return residual + x
        return dropout_add(x, residual, p=self.p, generator=self.generator)

    def extra_repr(self) -> str:
        return f"{self.p}"


class GELU(Module):
    """x times the normal distribution function of x. approximate: "tanh", GPT-2's form, or "none", the exact one."""

    def __init__(self, approximate: str = "tanh") -> None:
        if approximate not in ("tanh", "none"):
            raise ValueError(f"GELU: approximate is {approximate!r}, but it must be 'tanh' or 'none'")
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class ReLU(Module):
    """x where it is positive, 0 elsewhere."""

    def forward(self, x: Tensor) -> Tensor:
        return relu(x)


class SiLU(Module):
    """x times the sigmoid of x."""

    def forward(self, x: Tensor) -> Tensor:
        return silu(x)
