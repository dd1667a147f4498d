"""Self-attention and the pre-norm Transformer block, as in GPT-2. Derived by hand in reference/transformer_block.py.

B: batch, T: positions, C: n_embd (the width of the model), H: n_head, D = C / H.
"""

from __future__ import annotations

from typing import Any

from ..ops import attention, packed_attention, permute_dims, reshape, swiglu
from ..tensor import Tensor
from .cache import KeyValueCache
from .layers import GELU, Dropout, LayerNorm, Linear, positive
from .module import Module


class SelfAttention(Module):
    """Self-attention of n_head heads, (B, T, C) -> (B, T, C).

    c_attn makes queries, keys and values in one product, c_proj mixes what the heads gave. mask: boolean, broadcasts to
    (B, n_head, T, T), True takes part (a padding mask is (B, 1, 1, T)). cache: x goes on from what is in it, and is taken in
    (causal self-attention alone, without a mask and without gradients).
    """

    def __init__(self, n_embd: int, n_head: int, bias: bool = True, causal: bool = False) -> None:
        positive("SelfAttention", n_embd=n_embd, n_head=n_head)
        if n_embd % n_head:
            raise ValueError(f"SelfAttention: n_embd is {n_embd}, which n_head {n_head} does not divide")
        self.n_head, self.causal = n_head, causal
        self.c_attn = Linear(n_embd, 3 * n_embd, bias)
        self.c_proj = Linear(n_embd, n_embd, bias)

    def forward(self, x: Tensor, mask: Any = None, cache: KeyValueCache | None = None) -> Tensor:
        qkv = self.c_attn(x)  # (B, T, 3C)
        if mask is None and cache is None:
            return self.c_proj(packed_attention(qkv, n_head=self.n_head, causal=self.causal))
        B, T, C = x.shape
        heads = permute_dims(reshape(qkv, (B, T, 3, self.n_head, C // self.n_head)), (2, 0, 3, 1, 4))  # (3, B, H, T, D)
        q, k, v = heads[0], heads[1], heads[2]
        if cache is not None:
            if mask is not None or not self.causal:
                raise ValueError("SelfAttention: a cache is for causal attention without a mask")
            k, v = cache.extend(k, v)  # (B, H, all positions so far, D)
        y = attention(q, k, v, mask, causal=self.causal)  # (B, H, T, D)
        return self.c_proj(reshape(permute_dims(y, (0, 2, 1, 3)), (B, T, C)))

    def extra_repr(self) -> str:
        return f"n_head={self.n_head}, causal={self.causal}"


class MLP(Module):
    """Two linear layers with a GELU between them, C -> d_ff -> C.

    The first layer adds its bias, not bias_gelu: the product starts from the bias at no cost, and the sum for the
    gradient of the bias is short beside the products. Forward and backward, linear without bias and bias_gelu take
    0.30 + 0.70 ms where these take 0.30 + 0.685 (768 x 128 to 512), and 2.95 + 6.13 where these take 2.96 + 6.11
    (256 x 768 to 3072, float32, two cores).
    """

    def __init__(self, n_embd: int, d_ff: int, bias: bool = True) -> None:
        self.c_fc = Linear(n_embd, d_ff, bias)
        self.gelu = GELU()
        self.c_proj = Linear(d_ff, n_embd, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.gelu(self.c_fc(x)))


class SwiGLU(Module):
    """The gated feed-forward net of LLaMA (Shazeer 2020), C -> d_ff -> C: down_proj(silu(gate_proj(x)) up_proj(x)).

    The names of its parts are those of Hugging Face's LlamaMLP. d_ff about 8 C / 3 makes it as large as an MLP of 4 C.
    """

    def __init__(self, n_embd: int, d_ff: int, bias: bool = False) -> None:
        self.gate_proj = Linear(n_embd, d_ff, bias)
        self.up_proj = Linear(n_embd, d_ff, bias)
        self.down_proj = Linear(d_ff, n_embd, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x)))


class TransformerBlock(Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): (B, T, C) -> (B, T, C).

    d_ff: the width of the MLP's hidden layer, 4 C unless given. dropout: of both branches. mask, cache: as in SelfAttention.
    """

    def __init__(
        self,
        n_embd: int,
        n_head: int,
        *,
        d_ff: int | None = None,
        bias: bool = True,
        causal: bool = True,
        dropout: float = 0.0,
        eps: float = 1e-5,
    ) -> None:
        self.ln_1 = LayerNorm(n_embd, eps, bias)
        self.attn = SelfAttention(n_embd, n_head, bias, causal)
        self.ln_2 = LayerNorm(n_embd, eps, bias)
        self.mlp = MLP(n_embd, 4 * n_embd if d_ff is None else d_ff, bias)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Any = None, cache: KeyValueCache | None = None) -> Tensor:
        x = self.dropout.add(self.attn(self.ln_1(x), mask, cache), x)
        return self.dropout.add(self.mlp(self.ln_2(x)), x)
