r"""Multi-head attention as a layer: projections, H attentions side by side, and a projection that mixes their answers.

Letters: B batch, T queries, S keys, C channels, H heads (C = H D). x_q (B, T, C) asks, x_kv (B, S, C) answers; in
self-attention they are one array, in cross-attention x_kv is the memory that an encoder left.

    q = heads(x_q Wq^T + bq)             (B, H, T, D)
    k = heads(x_kv Wk^T + bk)            (B, H, S, D)
    v = heads(x_kv Wv^T + bv)            (B, H, S, D)
    z = merge(attention(q, k, v))        (B, T, C)
    y = z Wo^T + bo                      (B, T, C)

heads gives head h the channels h D to (h + 1) D; merge puts them back. Both only move numbers, so each is the transpose
of the other. Why several heads: a softmax is good at one thing at a time, and H small ones cost as much as a large one.

Backwards, last step first, with a bar for the cotangent:

    zbar, Wobar, bobar = linear_vjp(ybar)
    qbar, kbar, vbar = attention_vjp(heads(zbar))
    xqbar, Wqbar, bqbar = linear_vjp(merge(qbar))
    xkbar, Wkbar, bkbar = linear_vjp(merge(kbar))
    xvbar, Wvbar, bvbar = linear_vjp(merge(vbar))
    xkvbar = xkbar + xvbar               x_kv is read by the keys and by the values

In self-attention x is read by all three, and xbar = xqbar + xkvbar.

Parameters are a dict under PyTorch's names, weights (out, in): in_proj_weight (3C, C) holds Wq, Wk and Wv one below the
other, in_proj_bias (3C) their biases; out_proj.weight (C, C), out_proj.bias (C). Both biases may be missing.

Masks are boolean and broadcast to (B, H, T, S); True takes part. A mask for padding is (B, 1, 1, S). (PyTorch's
key_padding_mask says True for what is ignored.) A query that may see nothing gets z = 0.

Sources: Vaswani et al. 2017, Attention Is All You Need, section 3.2.2; names and layout of torch.nn.MultiheadAttention.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .attention import attention, attention_vjp
from .linear import linear, linear_vjp
from .namespace import Array, array_namespace
from .packed_attention import merge_heads, split_heads

Parameters = Mapping[str, Array]

INTO: tuple[str, ...] = ("in_proj_weight", "in_proj_bias")
OUT: tuple[str, ...] = ("out_proj.weight", "out_proj.bias")


def _projections(params: Parameters) -> list[tuple[Array, ...]]:
    """[(Wq, bq), (Wk, bk), (Wv, bv), (Wo, bo)], each without its bias where there is none."""
    c = params["in_proj_weight"].shape[1]
    parts = [slice(i * c, (i + 1) * c) for i in range(3)]
    into = [tuple(params[name][part, ...] for name in INTO if name in params) for part in parts]
    return [*into, tuple(params[name] for name in OUT if name in params)]


def _intermediates(
    x_q: Array, x_kv: Array, params: Parameters, mask: Array | None, n_head: int, causal: bool
) -> tuple[Array, ...]:
    """q, k, v and z of the page, z still in heads."""
    into_q, into_k, into_v, _ = _projections(params)
    q = split_heads(linear(x_q, *into_q, transposed=True), n_head)  # (B, H, T, D)
    k = split_heads(linear(x_kv, *into_k, transposed=True), n_head)  # (B, H, S, D)
    v = split_heads(linear(x_kv, *into_v, transposed=True), n_head)  # (B, H, S, D)
    return q, k, v, attention(q, k, v, mask, causal=causal)  # z: (B, H, T, D)


def multi_head_attention(
    x_q: Array, x_kv: Array, params: Parameters, mask: Array | None = None, *, n_head: int, causal: bool = False
) -> Array:
    """y = merge_heads(attention(q, k, v)) Wo^T + bo. Shapes: (B, T, C), (B, S, C), bool (B, H, T, S) -> (B, T, C)."""
    *_, z = _intermediates(x_q, x_kv, params, mask, n_head, causal)
    return linear(merge_heads(z), *_projections(params)[3], transposed=True)


def multi_head_attention_vjp(
    dy: Array,
    y: Any,
    x_q: Array,
    x_kv: Array,
    params: Parameters,
    mask: Array | None = None,
    *,
    n_head: int,
    causal: bool = False,
) -> tuple[Array, Array, dict[str, Array]]:
    """(dx_q, dx_kv, dparams): dparams has the keys and shapes of params. y is not read."""
    q, k, v, z = _intermediates(x_q, x_kv, params, mask, n_head, causal)
    into_q, into_k, into_v, out = _projections(params)
    masks = () if mask is None else (mask,)
    dz, *dout = linear_vjp(dy, None, merge_heads(z), *out, transposed=True)  # (B, T, C)
    dq, dk, dv, *_ = attention_vjp(split_heads(dz, n_head), z, q, k, v, *masks, causal=causal)
    dx_q, *dinto_q = linear_vjp(merge_heads(dq), None, x_q, *into_q, transposed=True)  # (B, T, C)
    dx_k, *dinto_k = linear_vjp(merge_heads(dk), None, x_kv, *into_k, transposed=True)  # (B, S, C)
    dx_v, *dinto_v = linear_vjp(merge_heads(dv), None, x_kv, *into_v, transposed=True)  # (B, S, C)
    xp = array_namespace(dy)
    dinto = [xp.concat(parts, axis=0) for parts in zip(dinto_q, dinto_k, dinto_v, strict=True)]  # (3C, C), (3C)
    dparams = dict(zip(INTO, dinto, strict=False)) | dict(zip(OUT, dout, strict=False))  # or the weights alone
    return dx_q, dx_k + dx_v, dparams


def self_attention(
    x: Array, params: Parameters, mask: Array | None = None, *, n_head: int, causal: bool = False
) -> Array:
    """Every position asks, and every position answers. Shapes: (B, T, C) -> (B, T, C)."""
    return multi_head_attention(x, x, params, mask, n_head=n_head, causal=causal)


def self_attention_vjp(
    dy: Array, y: Any, x: Array, params: Parameters, mask: Array | None = None, *, n_head: int, causal: bool = False
) -> tuple[Array, dict[str, Array]]:
    """(dx, dparams): x stands in both places, so that its cotangents add."""
    dx_q, dx_kv, dparams = multi_head_attention_vjp(dy, y, x, x, params, mask, n_head=n_head, causal=causal)
    return dx_q + dx_kv, dparams
