r"""Packed attention: what GPT-2 computes between its two projections, all heads at once.

Letters: B batch, T time, H heads of D channels each, C = H D channels in all.

    X (B, T, 3C)  ->  Q, K, V (B, H, T, D)  ->  attention, head by head  ->  Y (B, T, C)

The last axis of X is [Q_1 ... Q_H, K_1 ... K_H, V_1 ... V_H]: the queries, keys and values of all heads lie side by
side, as one matrix product made them, and head h owns the channels h D to (h + 1) D of each part. The heads of Y lie
side by side in the same way, ready for the projection that mixes them.

Splitting and merging only move numbers, so each is a permutation of entries: its transpose is its inverse. Backwards,
the cotangents are split into heads, attention's own formulas (attention.py) give Qbar, Kbar and Vbar for every head,
and these are merged into Xbar (B, T, 3C).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .attention import (
    attention,
    attention_definition,
    attention_jvp,
    attention_tolerance,
    attention_vjp,
)
from .namespace import Array, array_namespace
from .op import Op, Sample


def split_heads(x: Array, n_head: int) -> Array:
    """(B, T, C) -> (B, H, T, D): head h owns the channels h D to (h + 1) D."""
    xp = array_namespace(x)
    b, t, c = x.shape
    return xp.permute_dims(xp.reshape(x, (b, t, n_head, c // n_head)), (0, 2, 1, 3))  # (B, H, T, D)


def merge_heads(x: Array) -> Array:
    """(B, H, T, D) -> (B, T, C): the transpose of split_heads, and its inverse."""
    xp = array_namespace(x)
    b, h, t, d = x.shape
    return xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (b, t, h * d))  # (B, T, C)


def _unpack(qkv: Array, n_head: int) -> tuple[Array, Array, Array]:
    """(B, T, 3C) -> q, k, v: (B, H, T, D) each. They lie side by side, as GPT-2's c_attn puts them."""
    c = qkv.shape[-1] // 3
    q, k, v = (split_heads(qkv[..., part * c : (part + 1) * c], n_head) for part in range(3))
    return q, k, v


def _pack(q: Array, k: Array, v: Array) -> Array:
    """q, k, v -> (B, T, 3C): the transpose of _unpack, and its inverse."""
    return array_namespace(q).concat([merge_heads(x) for x in (q, k, v)], axis=-1)


def packed_attention(qkv: Array, *, n_head: int, causal: bool = True) -> Array:
    """Multi-head self-attention between the projections. Shapes: (B, T, 3C) -> (B, T, C), C = n_head * D."""
    return merge_heads(attention(*_unpack(qkv, n_head), causal=causal))


def packed_attention_vjp(dy: Array, y: Array, qkv: Array, *, n_head: int, causal: bool = True) -> tuple[Array]:
    """Splitting and merging only move numbers: their transposes are their inverses, around attention's vjp."""
    dy, y = split_heads(dy, n_head), split_heads(y, n_head)  # (B, H, T, D)
    dq, dk, dv = attention_vjp(dy, y, *_unpack(qkv, n_head), causal=causal)
    return (_pack(dq, dk, dv),)


def packed_attention_jvp(
    dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, n_head: int, causal: bool = True
) -> Array:
    """Attention's jvp with the directions split in the same way."""
    directions, qkv = _unpack(dinputs[0], n_head), _unpack(inputs[0], n_head)
    return merge_heads(attention_jvp(directions, split_heads(y, n_head), qkv, causal=causal))


def packed_attention_definition(qkv: Array, *, n_head: int, causal: bool = True) -> Array:
    """Attention's definition, head by head, on the columns that belong to the head."""
    c = qkv.shape[-1] // 3
    d = c // n_head
    y = np.empty((*qkv.shape[:-1], c), dtype=qkv.dtype)
    for h in range(n_head):
        q, k, v = (qkv[..., part * c + h * d : part * c + (h + 1) * d] for part in range(3))
        y[..., h * d : (h + 1) * d] = attention_definition(q, k, v, causal=causal)
    return y


def _check(qkv: Any, *, n_head: int, causal: bool = True) -> None:
    if n_head < 1:
        raise ValueError(f"packed_attention: n_head is {n_head}, but it must be at least 1")
    if qkv.shape[-1] % (3 * n_head):
        raise ValueError(
            f"packed_attention: qkv has shape {tuple(qkv.shape)}, but its last axis must be a multiple of "
            f"3 * n_head = {3 * n_head}"
        )


def _draw(rng: np.random.Generator) -> Sample:
    """At least two tokens: one alone sees itself, whatever its query and key are."""
    b, t, h, d = (int(n) for n in rng.integers((1, 2, 1, 1), 5))
    params = {"n_head": h, "causal": bool(rng.random() < 0.7)}
    return Sample((rng.standard_normal((b, t, 3 * h * d)),), params, "random")


def _wrong(rearrange: Any, remembers_causal: bool = True) -> Any:
    """The right vjp with its parts (B, T, 3, H, D) rearranged."""

    def vjp(dy: Array, y: Array, qkv: Array, *, n_head: int, causal: bool = True) -> tuple[Array]:
        (dx,) = packed_attention_vjp(dy, y, qkv, n_head=n_head, causal=causal and remembers_causal)
        b, t, c3 = qkv.shape
        return (rearrange(dx.reshape(b, t, 3, n_head, c3 // 3 // n_head)).reshape(b, t, c3),)

    return vjp


_QKV = np.array([[[1.0, 0.0, 0.5, 1.0, 1.0, 2.0], [0.0, 2.0, -1.0, 0.0, 3.0, -4.0], [-1.0, 1.0, 2.0, 1.0, 0.0, 5.0]]])

PACKED_ATTENTION = Op(
    "packed_attention",
    packed_attention,
    packed_attention_vjp,
    packed_attention_jvp,
    inputs=("qkv",),
    reads=("qkv", "y"),
    definition=packed_attention_definition,
    signature="(b,t,3c)->(b,t,c)",
    check=_check,
    draw=_draw,
    formula=r"[Q_h, K_h, V_h]_h = X, \quad Y = [\mathrm{attention}(Q_h, K_h, V_h)]_h",
    gradient=r"\bar X = [\bar Q_h, \bar K_h, \bar V_h]_h",
    samples=(
        Sample((_QKV,), {"n_head": 1}, "one head is plain causal attention"),
        Sample((_QKV,), {"n_head": 2, "causal": False}, "two heads of one channel each"),
        Sample((np.ones((2, 1, 6)),), {"n_head": 2}, "one token sees itself: its value comes back"),
        Sample((np.zeros((0, 3, 6)),), {"n_head": 1}, "an empty batch"),
    ),
    laws=("causal",),
    wrong={
        "swaps query and key": _wrong(lambda dx: dx[:, :, [1, 0, 2]]),
        "lays q, k and v out head by head": _wrong(lambda dx: dx.swapaxes(2, 3)),
        "sees the future on the way back": _wrong(lambda dx: dx, remembers_causal=False),
    },
    tolerance=lambda qkv, *, n_head, causal=True: attention_tolerance(*_unpack(qkv, n_head), causal=causal),
    cost=lambda qkv, *, n_head, causal=True: (
        qkv.shape[0] * qkv.shape[1] ** 2 * (4 * qkv.shape[2] // 3 + 5 * n_head),
        4 * qkv.size // 3,
    ),
    source="Vaswani et al. 2017, Attention Is All You Need, section 3.2.2; Radford et al. 2019 (GPT-2)",
)
