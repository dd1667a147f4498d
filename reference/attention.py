r"""Scaled dot-product attention: every query takes the average of the values that its keys say it should look at.

Letters: t queries, s keys (and values), d entries in each of them; "..." stands for batch and heads.

    S = c Q K^T          (..., t, s)    scores: how well query i goes with key j; c = 1 / sqrt(d)
    P = softmax(S)       (..., t, s)    weights: every row is a distribution over keys
    Y = P V              (..., t, d)    output: the average of the values under that distribution

Why c: the product of two vectors of d independent entries of variance 1 has variance d; without c the softmax of long
vectors saturates, and its gradient vanishes.

Who may look where: a key that is ruled out gets weight 0, as if its score were minus infinity. `mask` says it key by
key (True: may attend); `causal` lets query i see the keys j <= i + s - t: the last query sees every key, and a query
after a cache of s - t keys needs no other rule. A query that may see nothing gives zeros (an empty sum), not 0/0.

Backwards, one step at a time, with a bar for the cotangent (`dy` in the code is Ybar):

1. Y = P V is a matrix product. Written out, Y_ie = sum_j P_ij V_je, so

       Vbar = P^T Ybar   (..., s, d)         Pbar = Ybar V^T   (..., t, s)

2. P = softmax(S), row by row (see softmax.py): Sbar_ij = P_ij (Pbar_ij - <Pbar_i, P_i>). Where P is 0, because a key
   was ruled out, Sbar is 0 too: the mask needs no further care. The inner product need not be summed over s:

       <Pbar_i, P_i> = sum_j sum_e Ybar_ie V_je P_ij = sum_e Ybar_ie Y_ie = <Ybar_i, Y_i>,

   a sum over d of two arrays that are at hand. (Flash attention rests on this line: a tile of P is enough.)

3. S_ij = c sum_e Q_ie K_je is a matrix product again:

       Qbar = c Sbar K   (..., t, d)         Kbar = c Sbar^T Q   (..., s, d)

Where leading axes were broadcast (one key head for several query heads, say), one array was read in several places, and
its cotangent is the sum over them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .namespace import Array, array_namespace, swap, unbroadcast
from .op import Op, Sample
from .signature import parse
from .softmax import softmax


def _factor(q: Array, scale: float | None) -> Any:
    """c: `scale`, or 1 / sqrt(d) in the precision of q."""
    if scale is not None:
        return scale
    xp = array_namespace(q)
    return 1.0 / xp.sqrt(xp.asarray(float(max(q.shape[-1], 1)), dtype=q.dtype))


def _may_attend(q: Array, k: Array, mask: Array | None, causal: bool) -> Array | None:
    """Booleans that broadcast to (..., t, s), or None where every query sees every key."""
    if not causal:
        return mask
    xp = array_namespace(q)
    t, s = q.shape[-2], k.shape[-2]
    i, j = xp.arange(t)[:, None], xp.arange(s)[None, :]  # (t, 1), (1, s)
    past = j <= i + (s - t)  # (t, s)
    return past if mask is None else xp.logical_and(mask, past)


def attention_weights(
    q: Array, k: Array, mask: Array | None = None, *, causal: bool = False, scale: float | None = None
) -> Array:
    """P = softmax(c Q K^T) over the keys that may be seen. Shapes: (..., t, d), (..., s, d) -> (..., t, s)."""
    xp = array_namespace(q)
    scores = xp.matmul(q, swap(k)) * _factor(q, scale)  # (..., t, s)
    if k.shape[-2] == 0:
        return scores
    allowed = _may_attend(q, k, mask, causal)
    if allowed is None:
        return softmax(scores)
    largest = xp.max(xp.where(allowed, scores, -math.inf), axis=-1, keepdims=True)  # (..., t, 1)
    # Zeros where a key is ruled out, before exp and after it: no infinity survives to meet a zero, in any derivative.
    shifted = xp.where(allowed, scores - largest, 0.0)
    e = xp.where(allowed, xp.exp(shifted), 0.0)
    total = xp.sum(e, axis=-1, keepdims=True)  # (..., t, 1)
    return e / xp.where(total == 0.0, 1.0, total)


def attention(
    q: Array, k: Array, v: Array, mask: Array | None = None, *, causal: bool = False, scale: float | None = None
) -> Array:
    """Y = softmax(c Q K^T) V. Shapes: (..., t, d), (..., s, d), (..., s, d), bool (..., t, s) -> (..., t, d)."""
    return array_namespace(q).matmul(attention_weights(q, k, mask, causal=causal, scale=scale), v)


def _score_cotangent(dy: Array, y: Array, p: Array, v: Array) -> Array:
    """Sbar = P (Pbar - <Ybar, Y>): (..., t, s)."""
    xp = array_namespace(dy)
    dp = xp.matmul(dy, swap(v))  # (..., t, s)
    return p * (dp - xp.sum(dy * y, axis=-1, keepdims=True))


def _from_scores(ds: Array, q: Array, k: Array, scale: float | None) -> tuple[Array, Array]:
    """Qbar = c Sbar K and Kbar = c Sbar^T Q, in the shapes of q and k."""
    xp, c = array_namespace(ds), _factor(q, scale)
    return unbroadcast(c * xp.matmul(ds, k), q.shape), unbroadcast(c * xp.matmul(swap(ds), q), k.shape)


def attention_vjp(
    dy: Array,
    y: Array,
    q: Array,
    k: Array,
    v: Array,
    *mask: Array | None,
    causal: bool = False,
    scale: float | None = None,
) -> tuple[Array | None, ...]:
    """Sbar = P (Ybar V^T - <Ybar, Y>);  dq = c Sbar K,  dk = c Sbar^T Q,  dv = P^T Ybar; a mask has no cotangent."""
    p = attention_weights(q, k, *mask, causal=causal, scale=scale)  # (..., t, s)
    ds = _score_cotangent(dy, y, p, v)  # (..., t, s)
    dq, dk = _from_scores(ds, q, k, scale)
    dv = unbroadcast(array_namespace(dy).matmul(swap(p), dy), v.shape)
    return dq, dk, dv, *(None for _ in mask)


def attention_jvp(
    dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...], *, causal: bool = False, scale: float | None = None
) -> Array:
    """dS = c (dQ K^T + Q dK^T);  dP = P (dS - <dS, P>);  dY = dP V + P dV. None stands still."""
    q, k, v, *mask = inputs
    xp = array_namespace(q)
    dq, dk, dv = (xp.zeros_like(x) if dx is None else dx for dx, x in zip(dinputs[:3], (q, k, v), strict=True))
    p = attention_weights(q, k, *mask, causal=causal, scale=scale)
    ds = (xp.matmul(dq, swap(k)) + xp.matmul(q, swap(dk))) * _factor(q, scale)  # (..., t, s)
    dp = p * (ds - xp.sum(ds * p, axis=-1, keepdims=True))
    return xp.matmul(dp, v) + xp.matmul(p, dv)


def attention_definition(
    q: Array, k: Array, v: Array, mask: Array | None = None, *, causal: bool = False, scale: float | None = None
) -> Array:
    """One query at a time: score the keys that it may see, normalise, average their values."""
    (t, d), s = q.shape[-2:], k.shape[-2]
    mask = np.ones((t, s), dtype=bool) if mask is None else np.broadcast_to(mask, (*mask.shape[:-2], t, s))
    batch = np.broadcast_shapes(*(a.shape[:-2] for a in (q, k, v, mask)))
    q, k, v, mask = (np.broadcast_to(a, (*batch, *a.shape[-2:])) for a in (q, k, v, mask))
    c = scale if scale is not None else 1 / math.sqrt(max(d, 1))
    y = np.zeros((*batch, t, d), dtype=q.dtype)
    for *lead, i in np.ndindex(*batch, t):
        b = tuple(lead)
        seen = [j for j in range(s) if mask[*b, i, j] and (not causal or j <= i + s - t)]
        scores = [c * math.fsum(float(q[*b, i, e]) * float(k[*b, j, e]) for e in range(d)) for j in seen]
        largest = max(scores, default=0.0)
        total = math.fsum(math.exp(score - largest) for score in scores)
        for e in range(d):
            values = [math.exp(score - largest) * float(v[*b, j, e]) for j, score in zip(seen, scores, strict=True)]
            y[*b, i, e] = math.fsum(values) / total if seen else 0.0
    return y


_SHAPES = parse("(...,t,d),(...,s,d),(...,s,d)->(...,t,d)")


def _check(*specs: Any, causal: bool = False, scale: float | None = None) -> None:
    lengths = _SHAPES.check("attention", ("q", "k", "v"), specs[:3])
    if len(specs) == 3 or specs[3] is None:
        return
    q, k, v, mask = specs
    if np.dtype(mask.dtype).kind != "b":
        raise TypeError(f"attention: mask is {np.dtype(mask.dtype).name}, but it must be a boolean array")
    batch = np.broadcast_shapes(*(a.shape[:-2] for a in (q, k, v)))
    scores, shape = (*batch, lengths["t"], lengths["s"]), tuple(mask.shape)
    try:
        fits = np.broadcast_shapes(scores, shape)[-2:] == scores[-2:]
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"attention: mask has shape {shape}, which does not broadcast to the scores' {scores}")


def _draw(rng: np.random.Generator) -> Sample:
    batch = tuple(int(n) for n in rng.integers(1, 4, size=rng.integers(0, 3)))
    t, s, d = (int(n) for n in rng.integers(1, 6, size=3))

    def lead() -> tuple[int, ...]:
        """`batch` with some axes of length 1, and some left out from the left."""
        return tuple(n if rng.random() < 0.7 else 1 for n in batch)[int(rng.random() < 0.15) :]

    q, k, v = (rng.standard_normal((*lead(), n, d)) for n in (t, s, s))
    masks = [None, None, (t, s), (1, s), (s,), (*lead(), t, s)]
    shape = masks[rng.integers(len(masks))]
    params = {"causal": bool(rng.random() < 0.5), "scale": None if rng.random() < 0.7 else 0.3}
    return Sample((q, k, v) if shape is None else (q, k, v, rng.random(shape) < 0.7), params, "random")


def _values_cotangent(p: Array, dy: Array) -> Array:
    return np.matmul(swap(p), dy)


def _wrong(ds_of: Any = _score_cotangent, dv_of: Any = _values_cotangent, scaled: bool = True) -> Any:
    """The right vjp with another Sbar or Vbar, or without c."""

    def vjp(
        dy: Array, y: Array, q: Array, k: Array, v: Array, *mask: Any, causal: bool = False, scale: Any = None
    ) -> tuple[Array | None, ...]:
        p = attention_weights(q, k, *mask, causal=causal, scale=scale)
        dq, dk = _from_scores(ds_of(dy, y, p, v), q, k, scale if scaled else 1.0)
        return dq, dk, unbroadcast(dv_of(p, dy), v.shape), *(None for _ in mask)

    return vjp


def _tolerance(
    q: Array, k: Array, v: Array, mask: Array | None = None, *, causal: bool = False, scale: float | None = None
) -> float:
    """A rounding error in a score is a relative error of its weight; and the values may cancel in their average."""
    score, value, average = (
        float(np.max(np.abs(a), initial=0.0))
        for a in (np.matmul(q, swap(k)) * _factor(q, scale), v, attention(q, k, v, mask, causal=causal, scale=scale))
    )
    cancelled = value / average if average > 0.0 else 1.0
    return float(8 + k.shape[-2] + (1 + q.shape[-1]) * score) * cancelled


def _cost(
    q: Any, k: Any, v: Any, mask: Any = None, *, causal: bool = False, scale: float | None = None
) -> tuple[int, int]:
    heads = math.prod(np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2]))
    (t, d), s = q.shape[-2:], k.shape[-2]
    return heads * t * s * (4 * d + 5), q.size + k.size + v.size + heads * t * d


_Q = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
_K = np.array([[0.5, 1.0], [-1.0, 0.0], [2.0, 1.0]])
_V = np.array([[1.0, 2.0], [3.0, -4.0], [0.0, 5.0]])

ATTENTION = Op(
    "attention",
    attention,
    attention_vjp,
    attention_jvp,
    inputs=("q", "k", "v", "mask"),
    reads=("q", "k", "v", "mask", "y"),
    nondiff=("mask",),
    definition=attention_definition,
    signature=None,  # the last two axes of a mask may be 1 or left out, which no signature can say
    check=_check,
    draw=_draw,
    domain={"mask": "mask"},
    formula=r"Y = \mathrm{softmax}\left(c\, Q K^\top\right) V, \quad c = 1 / \sqrt{d}",
    gradient=r"\bar S = P \odot \left(\bar Y V^\top - \langle \bar Y, Y \rangle\right), \quad "
    r"\bar Q = c\, \bar S K, \quad \bar K = c\, \bar S^\top Q, \quad \bar V = P^\top \bar Y",
    samples=(
        Sample((_Q, _K, _V), {}, "without leading axes, mask or order"),
        Sample((_Q, _K, _V), {"causal": True}, "the first query sees the first key alone"),
        Sample((_Q[:1], _K, _V), {"causal": True}, "fewer queries than keys: causal is aligned to the end"),
        Sample((_Q, _K[:1], _V[:1]), {"causal": True}, "more queries than keys: the first ones see nothing"),
        Sample((_Q, _K, _V, np.eye(3, dtype=bool)), {}, "a mask that leaves one key gives its value"),
        Sample((_Q, _K, _V, np.zeros((1, 3), dtype=bool)), {}, "nothing may be seen: zeros, not NaN"),
        Sample((_Q, _K, _V, _K[:, :1] < 0), {"causal": True}, "a mask over queries, together with order"),
        Sample((_Q * 1e3, _K * 1e3, _V), {}, "huge scores overflow without the shift"),
        Sample((_Q, _K, _V), {"scale": 0.0}, "equal scores: the plain mean of the values"),
        Sample((np.stack([_Q, -_Q])[None], _K, np.stack([_V, -_V])[:, None]), {}, "leading axes that broadcast"),
        Sample((_Q, _K[:0], _V[:0]), {}, "no keys: an empty average is zero"),
    ),
    laws=("causal", "linear_in_v", "key_order_free"),
    wrong={
        "forgets the scale": _wrong(scaled=False),
        "treats the softmax's Jacobian as diagonal": _wrong(lambda dy, y, p, v: p * (1 - p) * np.matmul(dy, swap(v))),
        "leaves out the inner product": _wrong(lambda dy, y, p, v: p * np.matmul(dy, swap(v))),
        "sums the inner product over all queries": _wrong(
            lambda dy, y, p, v: p * (np.matmul(dy, swap(v)) - np.sum(dy * y))
        ),
        "lets every query use every value fully": _wrong(dv_of=lambda p, dy: _values_cotangent(np.ones_like(p), dy)),
    },
    tolerance=_tolerance,
    cost=_cost,
    source="Vaswani et al. 2017, Attention Is All You Need, section 3.2.1; Dao et al. 2022, FlashAttention, appendix B",
)


# ---- packed: what GPT-2 computes between its two projections. B batch, T time, C = H D channels in H heads.


def _split_heads(x: Array, n_head: int) -> Array:
    """(B, T, C) -> (B, H, T, D): head h owns the channels h D to (h + 1) D."""
    xp = array_namespace(x)
    b, t, c = x.shape
    return xp.permute_dims(xp.reshape(x, (b, t, n_head, c // n_head)), (0, 2, 1, 3))  # (B, H, T, D)


def _merge_heads(x: Array) -> Array:
    """(B, H, T, D) -> (B, T, C): the transpose of _split_heads, and its inverse."""
    xp = array_namespace(x)
    b, h, t, d = x.shape
    return xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (b, t, h * d))  # (B, T, C)


def _unpack(qkv: Array, n_head: int) -> tuple[Array, Array, Array]:
    """(B, T, 3C) -> q, k, v: (B, H, T, D) each. They lie side by side, as GPT-2's c_attn puts them."""
    c = qkv.shape[-1] // 3
    q, k, v = (_split_heads(qkv[..., part * c : (part + 1) * c], n_head) for part in range(3))
    return q, k, v


def _pack(q: Array, k: Array, v: Array) -> Array:
    """q, k, v -> (B, T, 3C): the transpose of _unpack, and its inverse."""
    return array_namespace(q).concat([_merge_heads(x) for x in (q, k, v)], axis=-1)


def packed_attention(qkv: Array, *, n_head: int, causal: bool = True) -> Array:
    """Multi-head self-attention between the projections. Shapes: (B, T, 3C) -> (B, T, C), C = n_head * D."""
    return _merge_heads(attention(*_unpack(qkv, n_head), causal=causal))


def packed_attention_vjp(dy: Array, y: Array, qkv: Array, *, n_head: int, causal: bool = True) -> tuple[Array]:
    """Splitting and merging only move numbers: their transposes are their inverses, around attention's vjp."""
    dy, y = _split_heads(dy, n_head), _split_heads(y, n_head)  # (B, H, T, D)
    dq, dk, dv = attention_vjp(dy, y, *_unpack(qkv, n_head), causal=causal)
    return (_pack(dq, dk, dv),)


def packed_attention_jvp(
    dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, n_head: int, causal: bool = True
) -> Array:
    """Attention's jvp with the directions split in the same way."""
    directions, qkv = _unpack(dinputs[0], n_head), _unpack(inputs[0], n_head)
    return _merge_heads(attention_jvp(directions, _split_heads(y, n_head), qkv, causal=causal))


def packed_attention_definition(qkv: Array, *, n_head: int, causal: bool = True) -> Array:
    """Attention's definition, head by head, on the columns that belong to the head."""
    c = qkv.shape[-1] // 3
    d = c // n_head
    y = np.empty((*qkv.shape[:-1], c), dtype=qkv.dtype)
    for h in range(n_head):
        q, k, v = (qkv[..., part * c + h * d : part * c + (h + 1) * d] for part in range(3))
        y[..., h * d : (h + 1) * d] = attention_definition(q, k, v, causal=causal)
    return y


def _check_packed(qkv: Any, *, n_head: int, causal: bool = True) -> None:
    if n_head < 1:
        raise ValueError(f"packed_attention: n_head is {n_head}, but it must be at least 1")
    if qkv.shape[-1] % (3 * n_head):
        raise ValueError(
            f"packed_attention: qkv has shape {tuple(qkv.shape)}, but its last axis must be a multiple of "
            f"3 * n_head = {3 * n_head}"
        )


def _draw_packed(rng: np.random.Generator) -> Sample:
    b, t, h, d = (int(n) for n in rng.integers(1, 5, size=4))
    params = {"n_head": h, "causal": bool(rng.random() < 0.7)}
    return Sample((rng.standard_normal((b, t, 3 * h * d)),), params, "random")


def _wrong_packed(rearrange: Any, remembers_causal: bool = True) -> Any:
    """The right vjp with its parts (B, T, 3, H, D) rearranged."""

    def vjp(dy: Array, y: Array, qkv: Array, *, n_head: int, causal: bool = True) -> tuple[Array]:
        (dx,) = packed_attention_vjp(dy, y, qkv, n_head=n_head, causal=causal and remembers_causal)
        b, t, c3 = qkv.shape
        return (rearrange(dx.reshape(b, t, 3, n_head, c3 // 3 // n_head)).reshape(b, t, c3),)

    return vjp


PACKED_ATTENTION = Op(
    "packed_attention",
    packed_attention,
    packed_attention_vjp,
    packed_attention_jvp,
    inputs=("qkv",),
    reads=("qkv", "y"),
    definition=packed_attention_definition,
    signature="(b,t,3c)->(b,t,c)",
    check=_check_packed,
    draw=_draw_packed,
    formula=r"[Q_h, K_h, V_h]_h = X, \quad Y = [\mathrm{attention}(Q_h, K_h, V_h)]_h",
    gradient=r"\bar X = [\bar Q_h, \bar K_h, \bar V_h]_h",
    samples=(
        Sample((np.hstack([_Q, _K, _V])[None],), {"n_head": 1}, "one head is plain causal attention"),
        Sample((np.hstack([_Q, _K, _V])[None],), {"n_head": 2, "causal": False}, "two heads of one channel each"),
        Sample((np.ones((2, 1, 6)),), {"n_head": 2}, "one token sees itself: its value comes back"),
        Sample((np.zeros((0, 3, 6)),), {"n_head": 1}, "an empty batch"),
    ),
    laws=("causal",),
    wrong={
        "swaps query and key": _wrong_packed(lambda dx: dx[:, :, [1, 0, 2]]),
        "lays q, k and v out head by head": _wrong_packed(lambda dx: dx.swapaxes(2, 3)),
        "sees the future on the way back": _wrong_packed(lambda dx: dx, remembers_causal=False),
    },
    tolerance=lambda qkv, *, n_head, causal=True: _tolerance(*_unpack(qkv, n_head), causal=causal),
    cost=lambda qkv, *, n_head, causal=True: (
        qkv.shape[0] * qkv.shape[1] ** 2 * (4 * qkv.shape[2] // 3 + 5 * n_head),
        4 * qkv.size // 3,
    ),
    source="Vaswani et al. 2017, Attention Is All You Need, section 3.2.2; Radford et al. 2019 (GPT-2)",
)
