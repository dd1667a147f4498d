r"""A layer of the Transformer's encoder: every position attends to every other, then each thinks for itself.

Letters: B batch, T positions, C channels, H heads, F the width of the feed-forward net.

    post-norm (Vaswani et al. 2017)              pre-norm
    r = norm1(x + self_attn(x))                  r = x + self_attn(norm1(x))              (B, T, C)
    y = norm2(r + feed_forward(r))               y = r + feed_forward(norm2(r))           (B, T, C)

Both lines are a residual branch with a norm, forwards and backwards as in residual.py; the branches are
multi_head_attention.py and residual.py's feed-forward net. So backwards there is nothing left but to go in the other
order:

    rbar = residual_vjp(ybar; feed_forward, norm2)
    xbar = residual_vjp(rbar; self_attn, norm1)

Parameters are a dict under the names of torch.nn.TransformerEncoderLayer, weights (out, in): self_attn.in_proj_weight,
self_attn.in_proj_bias, self_attn.out_proj.*, linear1.*, linear2.*, norm1.*, norm2.*; every bias may be missing.

Source: Vaswani et al. 2017, Attention Is All You Need, section 3.1; Xiong et al. 2020 for pre-norm.
"""

from __future__ import annotations

from typing import Any

from .multi_head_attention import self_attention, self_attention_vjp
from .namespace import Array
from .residual import Branch, Parameters, above, below, bind, feed_forward, feed_forward_vjp, residual, residual_vjp


def _branches(
    params: Parameters, mask: Array | None, n_head: int, causal: bool, activation: str
) -> tuple[Branch, Branch]:
    """self_attn and feed_forward."""
    own = below(params, "self_attn")
    attend = bind(self_attention, self_attention_vjp, params=own, mask=mask, n_head=n_head, causal=causal)
    return attend, bind(feed_forward, feed_forward_vjp, params=params, activation=activation)


def encoder_block(
    x: Array,
    params: Parameters,
    mask: Array | None = None,
    *,
    n_head: int,
    causal: bool = False,
    norm_first: bool = False,
    activation: str = "relu",
    eps: float = 1e-5,
) -> Array:
    """Shapes: (B, T, C) -> (B, T, C). mask: boolean, broadcasts to (B, H, T, T), True takes part."""
    attend, think = _branches(params, mask, n_head, causal, activation)
    r = residual(x, attend, params, "norm1", norm_first=norm_first, eps=eps)  # (B, T, C)
    return residual(r, think, params, "norm2", norm_first=norm_first, eps=eps)


def encoder_block_vjp(
    dy: Array,
    y: Any,
    x: Array,
    params: Parameters,
    mask: Array | None = None,
    *,
    n_head: int,
    causal: bool = False,
    norm_first: bool = False,
    activation: str = "relu",
    eps: float = 1e-5,
) -> tuple[Array, dict[str, Array]]:
    """(dx, dparams): dx has the shape of x, dparams the keys and shapes of params. y is not read."""
    attend, think = _branches(params, mask, n_head, causal, activation)
    r = residual(x, attend, params, "norm1", norm_first=norm_first, eps=eps)  # (B, T, C)
    dr, dnorm2, dthink = residual_vjp(dy, y, r, think, params, "norm2", norm_first=norm_first, eps=eps)
    dx, dnorm1, dattend = residual_vjp(dr, r, x, attend, params, "norm1", norm_first=norm_first, eps=eps)
    return dx, above(dattend, "self_attn") | dthink | dnorm1 | dnorm2
