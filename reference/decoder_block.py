r"""A layer of the Transformer's decoder: attend to what was said, look it up in the source, then think.

Letters: B batch, T positions of the target, S positions of the source, C channels, H heads. The memory (B, S, C) is what
the encoder left; x (B, T, C) is the target so far, and causal: a position must not see what it is to predict.

    post-norm (Vaswani et al. 2017)                      pre-norm
    r = norm1(x + self_attn(x))                          r = x + self_attn(norm1(x))                     (B, T, C)
    c = norm2(r + multihead_attn(r, memory))             c = r + multihead_attn(norm2(r), memory)        (B, T, C)
    y = norm3(c + feed_forward(c))                       y = c + feed_forward(norm3(c))                  (B, T, C)

Each line is a residual branch with a norm, forwards and backwards as in residual.py. Backwards in the other order:

    cbar = residual_vjp(ybar; feed_forward, norm3)
    rbar, memorybar = residual_vjp(cbar; multihead_attn, norm2)
    xbar = residual_vjp(rbar; self_attn, norm1)

memorybar comes from the keys and values of the cross-attention alone. Every layer of the decoder reads the same memory,
so that the encoder gets the sum over the layers: all that it learns comes this way.

Parameters are a dict under the names of torch.nn.TransformerDecoderLayer, weights (out, in): self_attn.in_proj_weight,
self_attn.in_proj_bias, self_attn.out_proj.*, the same below multihead_attn, linear1.*, linear2.*, norm1.*, norm2.*,
norm3.*; every bias may be missing.

Source: Vaswani et al. 2017, Attention Is All You Need, section 3.1; Xiong et al. 2020 for pre-norm.
"""

from __future__ import annotations

from typing import Any

from .multi_head_attention import (
    multi_head_attention,
    multi_head_attention_vjp,
    self_attention,
    self_attention_vjp,
)
from .namespace import Array
from .residual import Branch, Parameters, above, below, bind, feed_forward, feed_forward_vjp, residual, residual_vjp


def _branches(
    memory: Array,
    params: Parameters,
    mask: Array | None,
    memory_mask: Array | None,
    n_head: int,
    causal: bool,
    activation: str,
) -> tuple[Branch, Branch, Branch]:
    """self_attn, multihead_attn and feed_forward."""
    own, cross = below(params, "self_attn"), below(params, "multihead_attn")
    return (
        bind(self_attention, self_attention_vjp, params=own, mask=mask, n_head=n_head, causal=causal),
        bind(
            multi_head_attention, multi_head_attention_vjp, x_kv=memory, params=cross, mask=memory_mask, n_head=n_head
        ),
        bind(feed_forward, feed_forward_vjp, params=params, activation=activation),
    )


def decoder_block(
    x: Array,
    memory: Array,
    params: Parameters,
    mask: Array | None = None,
    memory_mask: Array | None = None,
    *,
    n_head: int,
    causal: bool = True,
    norm_first: bool = False,
    activation: str = "relu",
    eps: float = 1e-5,
) -> Array:
    """Shapes: (B, T, C), (B, S, C) -> (B, T, C). Masks are boolean, True takes part: (B, H, T, T) and (B, H, T, S)."""
    attend, look_up, think = _branches(memory, params, mask, memory_mask, n_head, causal, activation)
    r = residual(x, attend, params, "norm1", norm_first=norm_first, eps=eps)  # (B, T, C)
    c = residual(r, look_up, params, "norm2", norm_first=norm_first, eps=eps)  # (B, T, C)
    return residual(c, think, params, "norm3", norm_first=norm_first, eps=eps)


def decoder_block_vjp(
    dy: Array,
    y: Any,
    x: Array,
    memory: Array,
    params: Parameters,
    mask: Array | None = None,
    memory_mask: Array | None = None,
    *,
    n_head: int,
    causal: bool = True,
    norm_first: bool = False,
    activation: str = "relu",
    eps: float = 1e-5,
) -> tuple[Array, Array, dict[str, Array]]:
    """(dx, dmemory, dparams): dparams has the keys and shapes of params. y is not read."""
    attend, look_up, think = _branches(memory, params, mask, memory_mask, n_head, causal, activation)
    r = residual(x, attend, params, "norm1", norm_first=norm_first, eps=eps)  # (B, T, C)
    c = residual(r, look_up, params, "norm2", norm_first=norm_first, eps=eps)  # (B, T, C)
    dc, dnorm3, dthink = residual_vjp(dy, y, c, think, params, "norm3", norm_first=norm_first, eps=eps)
    dr, dnorm2, dmemory, dlook_up = residual_vjp(
        dc, c, r, look_up, params, "norm2", norm_first=norm_first, eps=eps
    )  # (B, T, C), {}, (B, S, C), {}
    dx, dnorm1, dattend = residual_vjp(dr, r, x, attend, params, "norm1", norm_first=norm_first, eps=eps)
    dparams = above(dattend, "self_attn") | above(dlook_up, "multihead_attn") | dthink | dnorm1 | dnorm2 | dnorm3
    return dx, dmemory, dparams
