"""Multi-head attention with PyTorch's names, for one sequence or two. Derived in reference/multi_head_attention.py.

B: batch, T: queries, S: keys, C: embed_dim, H: num_heads, D = C / H.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...reference.attention_weights import attention_weights
from .. import random
from ..ops import attention, linear, matmul, packed_attention, permute_dims, reshape
from ..ops.shape import constant
from ..tensor import Tensor
from .layers import Dropout, Linear, positive
from .module import Module, Parameter


class MultiheadAttention(Module):
    """torch.nn.MultiheadAttention: (B, T, C) asks (B, S, C) -> (B, T, C). The batch is always the first axis.

    in_proj_weight (3C, C) makes queries, keys and values, out_proj mixes what the heads gave; `dropout` acts on the
    attention's weights. The result is y alone, without PyTorch's second one, the weights. (nn.SelfAttention is
    GPT-2's, with GPT-2's names.)
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True) -> None:
        positive("MultiheadAttention", embed_dim=embed_dim, num_heads=num_heads)
        if embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: embed_dim is {embed_dim}, which num_heads {num_heads} does not divide"
            )
        self.embed_dim, self.num_heads = embed_dim, num_heads
        bound = math.sqrt(6.0 / (embed_dim + 3 * embed_dim))  # Glorot and Bengio 2010, as in PyTorch
        uniform = random.default.uniform((3 * embed_dim, embed_dim))
        self.in_proj_weight = Parameter((2.0 * uniform - 1.0) * np.float32(bound))
        self.in_proj_bias = Parameter(np.zeros(3 * embed_dim, np.float32)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias)
        if bias:
            self.out_proj.bias = Parameter(np.zeros(embed_dim, np.float32))
        self.dropout = Dropout(dropout)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        *,
        mask: Any = None,
        causal: bool = False,
    ) -> Tensor:
        """query (B, T, C), key and value (B, S, C) -> (B, T, C). The key is the query, the value the key where left out.

        A batch of one key and value is read by every entry of the batch of queries.

        mask: boolean, broadcasts to (B, num_heads, T, S), True takes part: a padding mask is (B, 1, 1, S). (PyTorch's
        masks say True for what is ignored.) causal: query i sees keys up to i + S - T.
        """
        key = query if key is None else key
        value = key if value is None else value
        batch: Any = "batch"
        for name, x in (("query", query), ("key", key), ("value", value)):
            shape = tuple(getattr(x, "shape", ()))
            if len(shape) != 3 or shape[-1] != self.embed_dim or (x is not query and shape[0] not in (1, batch)):
                raise ValueError(
                    f"MultiheadAttention: {name} has shape {shape}, but it must be ({batch}, length, {self.embed_dim})"
                )
            batch = query.shape[0]
        dropping = self.training and self.dropout.p > 0.0
        if key is query and value is key:
            if mask is None and not dropping:
                qkv = linear(query, self.in_proj_weight, self.in_proj_bias, transposed=True)  # (B, T, 3C)
                return self.out_proj(packed_attention(qkv, n_head=self.num_heads, causal=causal))
            q, k, v = self._project(query, 0, 3)
        elif value is key:
            (q,), (k, v) = self._project(query, 0, 1), self._project(key, 1, 3)
        else:
            (q,), (k,), (v,) = self._project(query, 0, 1), self._project(key, 1, 2), self._project(value, 2, 3)
        if dropping:
            # The operation never shows its weights; its formula, run on Tensors, does.
            allowed = None if mask is None else constant(mask, q)
            y = matmul(self.dropout(attention_weights(q, k, allowed, causal=causal)), v)  # (B, H, T, D)
        else:
            y = attention(q, k, v, mask, causal=causal)  # (B, H, T, D)
        return self.out_proj(reshape(permute_dims(y, (0, 2, 1, 3)), query.shape))

    def _project(self, x: Tensor, first: int, last: int) -> list[Tensor]:
        """The heads of parts first to last of (queries, keys, values): (B, H, T, D) each, made in one product."""
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if last - first < 3:
            rows = slice(first * self.embed_dim, last * self.embed_dim)
            weight, bias = weight[rows, :], None if bias is None else bias[rows]
        (B, T, C), H = x.shape, self.num_heads
        parts = reshape(linear(x, weight, bias, transposed=True), (B, T, last - first, H, C // H))
        heads = permute_dims(parts, (2, 0, 3, 1, 4))  # (parts, B, H, T, D)
        return [heads[i] for i in range(last - first)]

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}, bias={self.in_proj_bias is not None}"
