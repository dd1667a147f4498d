"""Attention as PyTorch has it: row name -> function of torch tensors and the row's own parameters.

PyTorch's is_causal counts from the first key, ours from the last, and it has no windows: so who may look where is spelled
out, and goes in as one boolean mask, or, with a bias, as one float mask that is minus infinity where nobody may look.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F


def allowed(t: int, s: int, causal: bool, window: int | None) -> Any:
    """(t, s) booleans: query i stands at the position i + s - t."""
    ones = torch.ones((t, s), dtype=torch.bool)
    if causal:
        ones = ones.tril(s - t)
    if window is not None:
        ones = ones.tril(s - t + window - 1).triu(s - t - window + 1)
    return ones


def t_attention(
    q: Any, k: Any, v: Any, mask: Any = None, bias: Any = None, *,
    causal: bool = False, scale: float | None = None, window: int | None = None, grouped: bool = False,
) -> Any:  # fmt: skip
    seen = allowed(q.shape[-2], k.shape[-2], causal, window)
    seen = seen if mask is None else seen & mask
    own = 3 if grouped else 2  # axes that are no batch
    scores = seen if bias is None else torch.where(seen, bias, -torch.inf)
    lead = torch.broadcast_shapes(*(x.shape[:-own] for x in (q, k, v, scores)))
    q, k, v = (x.expand(*lead, *x.shape[-own:]) for x in (q, k, v))
    if grouped:  # any number of batch axes as one: enable_gqa finds the heads in the second axis of four
        heads = scores.expand(*lead, *q.shape[-3:-1], k.shape[-2])
        four = [x.reshape(-1, *x.shape[-3:]) for x in (q, k, v, heads)]
        y = F.scaled_dot_product_attention(*four, scale=scale, enable_gqa=True)
        return y.reshape(*lead, *y.shape[1:])
    return F.scaled_dot_product_attention(q, k, v, scores, scale=scale)


def t_packed_attention(qkv: Any, *, n_head: int, causal: bool = True) -> Any:
    B, T, C3 = qkv.shape
    q, k, v = (t.reshape(B, T, n_head, C3 // 3 // n_head).transpose(1, 2) for t in qkv.split(C3 // 3, dim=2))
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).reshape(B, T, C3 // 3)


PEERS: dict[str, Callable[..., Any]] = {"attention": t_attention, "packed_attention": t_packed_attention}
