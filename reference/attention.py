r"""Scaled dot-product attention: every query takes the average of the values that its keys say it should look at.

Letters: t queries, s keys (and values), d entries in a query and a key, e in a value; "..." stands for batch and heads.

    S = c Q K^T + B      (..., t, s)    scores: how well query i goes with key j; c = 1 / sqrt(d), B a bias or nothing
    P = softmax(S)       (..., t, s)    weights: every row is a distribution over keys
    Y = P V              (..., t, e)    output: the average of the values under that distribution

Why c: the product of two vectors of d independent entries of variance 1 has variance d; without c the softmax of long
vectors saturates, and its gradient vanishes. Why B: a score that does not depend on the contents, such as one for the
distance between two positions (T5's relative positions, ALiBi's slopes).

Who may look where (mask, causal order, windows) is the subject of attention_weights.py; here it is enough that P_ij = 0
where query i may not see key j, and that a query which may see nothing gives zeros. (Zero times infinity: in these
formulas a hidden value that is not finite spoils y all the same; the definition and the kernels leave it out.)

Backwards, one step at a time, with a bar for the cotangent (`dy` in the code is Ybar):

1. Y = P V is a matrix product. Written out, Y_ie = sum_j P_ij V_je, so

       Vbar = P^T Ybar   (..., s, e)         Pbar = Ybar V^T   (..., t, s)

2. P = softmax(S), row by row (see softmax.py): Sbar_ij = P_ij (Pbar_ij - <Pbar_i, P_i>). Where P is 0, because a key
   was ruled out, Sbar is 0 too: mask and window need no further care. The inner product need not be summed over s:

       <Pbar_i, P_i> = sum_j sum_e Ybar_ie V_je P_ij = sum_e Ybar_ie Y_ie = <Ybar_i, Y_i>,

   a sum over e of two arrays that are at hand. (Flash attention rests on this line: a tile of P is enough.)

3. S_ij = c sum_e Q_ie K_je + B_ij is a matrix product again, and a sum:

       Qbar = c Sbar K   (..., t, d)         Kbar = c Sbar^T Q   (..., s, d)         Bbar = Sbar   (..., t, s)

Where leading axes were broadcast (one bias for a whole batch, say), one array was read in several places, and its
cotangent is the sum over them. `grouped` is a case of it: G key heads serve H query heads, head h reading key head
h // (H / G). With the axis of heads written as two, (G, H / G) for queries and (G, 1) for keys and values, this is
ordinary broadcasting, and Kbar and Vbar are sums over the H / G query heads of their group.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .attention_weights import attention_weights, factor
from .namespace import Array, array_namespace, swap, unbroadcast
from .op import Op, Sample
from .signature import parse


def _split(x: Any, groups: int) -> Any:
    """The axis of heads as two, group and place in it: (..., H, m, n) -> (..., G, H / G, m, n).

    The G heads of keys and values become (G, 1), one head for all becomes (1, 1), and what has no heads stays as it is.
    """
    if x is None or x.ndim < 3:
        return x
    heads = x.shape[-3]
    own = min(heads, groups)
    return array_namespace(x).reshape(x, (*x.shape[:-3], own, heads // own, *x.shape[-2:]))


def attention(
    q: Array, k: Array, v: Array, mask: Array | None = None, bias: Array | None = None, *,
    causal: bool = False, scale: float | None = None, window: int | None = None, grouped: bool = False,
) -> Array:  # fmt: skip
    """Y = softmax(c Q K^T + B) V.

    Shapes: q (..., t, d), k (..., s, d), v (..., s, e), mask (bool) and bias (float) (..., t, s) -> y (..., t, e).
    grouped: q is (..., H, t, d), k and v are (..., G, s, d) and (..., G, s, e), y is (..., H, t, e).
    """
    xp = array_namespace(q)
    if grouped:
        split = [_split(x, k.shape[-3]) for x in (q, k, v, mask, bias)]
        y = attention(*split, causal=causal, scale=scale, window=window)  # (..., G, H / G, t, e)
        return xp.reshape(y, (*y.shape[:-4], q.shape[-3], *y.shape[-2:]))  # (..., H, t, e)
    return xp.matmul(attention_weights(q, k, mask, bias, causal=causal, scale=scale, window=window), v)


def _score_cotangent(dy: Array, y: Array, p: Array, v: Array) -> Array:
    """Sbar = P (Pbar - <Ybar, Y>): (..., t, s)."""
    xp = array_namespace(dy)
    dp = xp.matmul(dy, swap(v))  # (..., t, s)
    return p * (dp - xp.sum(dy * y, axis=-1, keepdims=True))


def _from_scores(ds: Array, q: Array, k: Array, scale: float | None) -> tuple[Array, Array]:
    """Qbar = c Sbar K and Kbar = c Sbar^T Q, in the shapes of q and k."""
    xp, c = array_namespace(ds), factor(q, scale)
    return unbroadcast(c * xp.matmul(ds, k), q.shape), unbroadcast(c * xp.matmul(swap(ds), q), k.shape)


def _group_by_group(vjp: Any, dy: Array, y: Array, inputs: tuple[Any, ...], rules: dict[str, Any]) -> tuple[Any, ...]:
    """`vjp` on heads that are split into groups; its cotangents, already summed over each group, as the inputs were."""
    groups = inputs[1].shape[-3]
    dxs = vjp(*(_split(x, groups) for x in (dy, y, *inputs)), **rules)
    xp = array_namespace(dy)
    return tuple(None if dx is None else xp.reshape(dx, x.shape) for dx, x in zip(dxs, inputs, strict=True))


def attention_vjp(
    dy: Array, y: Array, q: Array, k: Array, v: Array, *mask_and_bias: Array | None,
    causal: bool = False, scale: float | None = None, window: int | None = None, grouped: bool = False,
) -> tuple[Array | None, ...]:  # fmt: skip
    """Sbar = P (Ybar V^T - <Ybar, Y>);  dq = c Sbar K,  dk = c Sbar^T Q,  dv = P^T Ybar,  dbias = Sbar."""
    rules = {"causal": causal, "scale": scale, "window": window}
    if grouped:
        return _group_by_group(attention_vjp, dy, y, (q, k, v, *mask_and_bias), rules)
    p = attention_weights(q, k, *mask_and_bias, **rules)  # (..., t, s)
    ds = _score_cotangent(dy, y, p, v)  # (..., t, s)
    dq, dk = _from_scores(ds, q, k, scale)
    dv = unbroadcast(array_namespace(dy).matmul(swap(p), dy), v.shape)
    return dq, dk, dv, *_of_mask_and_bias(ds, mask_and_bias)


def _of_mask_and_bias(ds: Array, mask_and_bias: tuple[Array | None, ...]) -> list[Array | None]:
    """None for the mask and Bbar = Sbar for the bias, as far as they were given."""
    bias = mask_and_bias[1] if len(mask_and_bias) == 2 else None
    return [None, None if bias is None else unbroadcast(ds, bias.shape)][: len(mask_and_bias)]


def attention_jvp(
    dinputs: tuple[Any, ...], y: Array, inputs: tuple[Any, ...], *,
    causal: bool = False, scale: float | None = None, window: int | None = None, grouped: bool = False,
) -> Array:  # fmt: skip
    """dS = c (dQ K^T + Q dK^T) + dB;  dP = P (dS - <dS, P>);  dY = dP V + P dV. None stands still."""
    if grouped:
        groups = inputs[1].shape[-3]
        split = [tuple(_split(x, groups) for x in xs) for xs in (dinputs, inputs)]
        dy = attention_jvp(split[0], None, split[1], causal=causal, scale=scale, window=window)
        return array_namespace(dy).reshape(dy, y.shape)  # (..., G, H / G, t, e) -> (..., H, t, e)
    q, k, v, *mask_and_bias = inputs
    xp = array_namespace(q)
    dq, dk, dv = (xp.zeros_like(x) if dx is None else dx for dx, x in zip(dinputs[:3], (q, k, v), strict=True))
    p = attention_weights(q, k, *mask_and_bias, causal=causal, scale=scale, window=window)
    ds = (xp.matmul(dq, swap(k)) + xp.matmul(q, swap(dk))) * factor(q, scale)  # (..., t, s)
    if len(dinputs) == 5 and dinputs[4] is not None:
        ds = ds + dinputs[4]
    dp = p * (ds - xp.sum(ds * p, axis=-1, keepdims=True))
    return xp.matmul(dp, v) + xp.matmul(p, dv)


def attention_definition(
    q: Array, k: Array, v: Array, mask: Array | None = None, bias: Array | None = None, *,
    causal: bool = False, scale: float | None = None, window: int | None = None, grouped: bool = False,
) -> Array:  # fmt: skip
    """One query at a time: score the keys that it may see, normalise, average their values."""
    (t, d), s = q.shape[-2:], k.shape[-2]
    if grouped:
        heads, share = q.shape[-3], q.shape[-3] // k.shape[-3]
        k, v = (np.stack([x[..., h // share, :, :] for h in range(heads)], axis=-3) for x in (k, v))
    taking_part: Any = np.ones((t, s), bool) if mask is None else mask
    added: Any = np.zeros((t, s)) if bias is None else bias
    taking_part, added = (np.broadcast_to(a, (*a.shape[:-2], t, s)) for a in (taking_part, added))
    batch = np.broadcast_shapes(*(a.shape[:-2] for a in (q, k, v, taking_part, added)))
    q, k, v, taking_part, added = (np.broadcast_to(a, (*batch, *a.shape[-2:])) for a in (q, k, v, taking_part, added))
    c = scale if scale is not None else 1 / math.sqrt(max(d, 1))
    y = np.zeros((*batch, t, v.shape[-1]), dtype=q.dtype)
    for *lead, i in np.ndindex(*batch, t):
        b, here = tuple(lead), i + s - t
        seen = [j for j in range(s) if taking_part[*b, i, j] and added[*b, i, j] != -math.inf]
        seen = [j for j in seen if not (causal and j > here) and not (window is not None and abs(here - j) >= window)]
        products = [math.fsum(float(q[*b, i, n]) * float(k[*b, j, n]) for n in range(d)) for j in seen]
        scores = [c * product + float(added[*b, i, j]) for j, product in zip(seen, products, strict=True)]
        largest = max(scores, default=0.0)
        weights = [math.exp(score - largest) for score in scores]
        for n in range(v.shape[-1]):
            values = [weight * float(v[*b, j, n]) for j, weight in zip(seen, weights, strict=True)]
            y[*b, i, n] = math.fsum(values) / math.fsum(weights) if seen else 0.0
    return y


_SHAPES = parse("(...,t,d),(...,s,d),(...,s,e)->(...,t,e)")
_GROUPED = parse("(...,h,t,d),(...,g,s,d),(...,g,s,e)->(...,h,t,e)")


def _check(
    *specs: Any, causal: bool = False, scale: float | None = None, window: int | None = None, grouped: bool = False
) -> None:
    if window is not None and (not isinstance(window, (int, np.integer)) or window < 1):
        raise ValueError(f"attention: window is {window!r}, but it must be None or an integer of at least 1")
    lengths = (_GROUPED if grouped else _SHAPES).check("attention", ("q", "k", "v"), specs[:3])
    q, k, v, *rest = specs
    if grouped:
        h, g = lengths["h"], lengths["g"]
        if g < 1 or h < g or h % g:
            raise ValueError(
                f"attention: q has shape {tuple(q.shape)} and k {tuple(k.shape)}, but with grouped=True the {h} heads "
                f"of q must be a multiple of the {g} heads of k"
            )
        batch = (*np.broadcast_shapes(*(a.shape[:-3] for a in (q, k, v))), h)
    else:
        batch = np.broadcast_shapes(*(a.shape[:-2] for a in (q, k, v)))
    scores = (*batch, lengths["t"], lengths["s"])
    own, names = 3 if grouped else 2, [f"{name} {tuple(x.shape)}" for name, x in zip("qkv", (q, k, v), strict=True)]
    for name, kind, wanted, x in zip(("mask", "bias"), "bf", ("boolean", "floating point"), rest, strict=False):
        if x is None:
            continue
        if not hasattr(x, "shape") or np.dtype(x.dtype).kind != kind:
            got = np.dtype(x.dtype).name if hasattr(x, "shape") else repr(x)
            raise TypeError(f"attention: {name} is {got}, but it must be a {wanted} array")
        shape = tuple(x.shape)
        try:
            together = np.broadcast_shapes(scores, shape)
        except ValueError:
            together = ()
        if together[-own:] != scores[-own:]:
            raise ValueError(
                f"attention: {name} has shape {shape}, which does not broadcast to the scores' {scores} of "
                f"{', '.join(names)}"
            )
        scores, names = together, [*names, f"{name} {shape}"]


def _draw(rng: np.random.Generator) -> Sample:
    batch = tuple(int(n) for n in rng.integers(1, 4, size=rng.integers(0, 3)))
    t, s, d = (int(n) for n in rng.integers(1, 6, size=3))
    e = d if rng.random() < 0.8 else int(rng.integers(1, 6))
    grouped = bool(rng.random() < 0.3)
    groups, share = (int(n) for n in rng.integers(1, 4, size=2))
    heads, key_heads = ((groups * share,), (groups,)) if grouped else ((), ())

    def lead() -> tuple[int, ...]:
        """`batch` with some axes of length 1, and some left out from the left."""
        return tuple(n if rng.random() < 0.7 else 1 for n in batch)[int(rng.random() < 0.15) :]

    def scores(likely: float) -> tuple[int, ...] | None:
        """A shape that broadcasts to that of the scores, or None."""
        shapes = [(t, s), (1, s), (t, 1), (s,), (*lead(), *heads, t, s), (*lead(), *(1 for _ in heads), t, s)]
        return shapes[rng.integers(len(shapes))] if rng.random() < likely else None

    shapes = ((*heads, t, d), (*key_heads, s, d), (*key_heads, s, e))
    inputs: list[Any] = [rng.standard_normal((*lead(), *shape)) for shape in shapes]
    mask, bias = scores(0.4), scores(0.6)
    inputs += [None if mask is None else rng.random(mask) < 0.7, None if bias is None else rng.standard_normal(bias)]
    params = {
        "causal": bool(rng.random() < 0.5),
        "scale": None if rng.random() < 0.7 else 0.3,
        "window": None if rng.random() < 0.6 else int(rng.integers(1, max(t, s) + 1)),
        "grouped": grouped,
    }
    given = 5 if bias is not None else 4 if mask is not None else 3
    return Sample(tuple(inputs[:given]), params, "random")


def _values_cotangent(p: Array, dy: Array) -> Array:
    """Vbar = P^T Ybar."""
    return np.matmul(swap(p), dy)


def _wrong(
    ds_of: Any = _score_cotangent, dv_of: Any = _values_cotangent, p_of: Any = attention_weights, scaled: bool = True
) -> Any:
    """The right vjp with another Sbar, Vbar or P, or without c."""

    def vjp(dy: Array, y: Array, *inputs: Any, grouped: bool = False, **rules: Any) -> tuple[Array | None, ...]:
        if grouped:
            return _group_by_group(vjp, dy, y, inputs, rules)
        q, k, v, *rest = inputs
        p = p_of(q, k, *rest, **rules)
        ds = ds_of(dy, y, p, v)
        dq, dk = _from_scores(ds, q, k, rules.get("scale") if scaled else 1.0)
        return dq, dk, unbroadcast(dv_of(p, dy), v.shape), *_of_mask_and_bias(ds, tuple(rest))

    return vjp


def _scales_the_bias(dy: Array, y: Array, *inputs: Any, **params: Any) -> tuple[Array | None, ...]:
    """Bbar = c Sbar, as if the bias were added before the scores are scaled."""
    dxs = attention_vjp(dy, y, *inputs, **params)
    return (*dxs[:3], *(None if dx is None else dx * factor(inputs[0], params.get("scale")) for dx in dxs[3:]))


def attention_tolerance(
    q: Array, k: Array, v: Array, *mask_and_bias: Any, grouped: bool = False, **rules: Any
) -> float:
    """A rounding error in a score is a relative error of its weight; and the values may cancel in their average."""
    if grouped:
        groups = k.shape[-3]
        q, k, v = (_split(x, groups) for x in (q, k, v))
        mask_and_bias = tuple(_split(x, groups) for x in mask_and_bias)
    bias = mask_and_bias[1] if len(mask_and_bias) == 2 and mask_and_bias[1] is not None else np.zeros(1)
    products, y = np.matmul(q, swap(k)) * factor(q, rules.get("scale")), attention(q, k, v, *mask_and_bias, **rules)
    product, added, value, average = (
        float(np.max(np.abs(a), initial=0.0, where=np.isfinite(a))) for a in (products, bias, v, y)
    )
    cancelled = value / average if average > 0.0 else 1.0
    return float(8 + k.shape[-2] + (1 + q.shape[-1]) * product + added) * cancelled


def _cost(
    q: Any, k: Any, v: Any, *mask_and_bias: Any, causal: bool = False, window: int | None = None, grouped: bool = False,
    scale: float | None = None,
) -> tuple[int, int]:  # fmt: skip
    """Of all t s pairs, or of those inside the window; a causal kernel saves half, and is not credited for it."""
    heads = math.prod(q.shape[:-2] if grouped else np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2]))
    (t, d), (s, e) = q.shape[-2:], v.shape[-2:]
    seen = s if window is None else min(s, window if causal else 2 * window - 1)
    moved = sum(x.size for x in (q, k, v, *mask_and_bias) if x is not None)
    return heads * t * seen * (2 * d + 2 * e + 5), moved + heads * t * e


_Q = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
_K = np.array([[0.5, 1.0], [-1.0, 0.0], [2.0, 1.0]])
_V = np.array([[1.0, 2.0], [3.0, -4.0], [0.0, 5.0]])
_B = np.array([[0.5, -np.inf, 1.0], [-np.inf, -np.inf, -np.inf], [-2.0, 3.0, 0.0]])
_FOUR, _TWO = np.stack([_Q, -_Q, 2 * _Q, _Q + 1]), np.stack([_K, 1 - _K])  # heads

ATTENTION = Op(
    "attention",
    attention,
    attention_vjp,
    attention_jvp,
    inputs=("q", "k", "v", "mask", "bias"),
    reads=("q", "k", "v", "mask", "bias", "y"),
    nondiff=("mask",),
    definition=attention_definition,
    signature=None,  # the last two axes of mask and bias may be 1 or left out, which no signature can say
    check=_check,
    draw=_draw,
    domain={"mask": "mask"},
    formula=r"Y = \mathrm{softmax}\left(c\, Q K^\top + B\right) V, \quad c = 1 / \sqrt{d}",
    gradient=r"\bar S = P \odot \left(\bar Y V^\top - \langle \bar Y, Y \rangle\right), \quad \bar Q = c\, \bar S K, "
    r"\quad \bar K = c\, \bar S^\top Q, \quad \bar V = P^\top \bar Y, \quad \bar B = \bar S",
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
        Sample((_Q, _K, _V[:, :1]), {}, "values narrower than keys"),
        Sample((_Q, _K, _V, None, _B), {}, "a bias of minus infinity rules a key, or a whole row, out"),
        Sample((_Q, _K, _V, _B < 0, _B), {"causal": True}, "a key is seen where mask, bias and order all allow it"),
        Sample((_Q, _K, _V, None, _B[2]), {}, "one bias for all queries is broadcast"),
        Sample((_Q, _K, _V), {"window": 1}, "the narrowest window: every query sees its own key"),
        Sample((_Q[:2], _K, _V), {"window": 2}, "without order a window reaches both ways, aligned to the end"),
        Sample((_Q, _K[:1], _V[:1]), {"window": 2}, "a query whose window lies before the first key sees nothing"),
        Sample((_Q, _K, _V), {"window": 2, "causal": True}, "a sliding window: the query's own key and the one before"),
        Sample((_FOUR, _TWO, _TWO - 1), {"grouped": True}, "neighbouring query heads share a key head"),
        Sample((_FOUR, _TWO, _TWO, None, _FOUR @ _V.T), {"grouped": True, "window": 2}, "a bias for each query head"),
    ),
    laws=(
        "causal",
        "linear_in_v",
        "key_order_free",
        "full_window_is_none",
        "grouped_is_repeated",
        "bias_row_shift_free",
    ),
    wrong={
        "forgets the scale": _wrong(scaled=False),
        "treats the softmax's Jacobian as diagonal": _wrong(lambda dy, y, p, v: p * (1 - p) * np.matmul(dy, swap(v))),
        "leaves out the inner product": _wrong(lambda dy, y, p, v: p * np.matmul(dy, swap(v))),
        "sums the inner product over all queries": _wrong(
            lambda dy, y, p, v: p * (np.matmul(dy, swap(v)) - np.sum(dy * y))
        ),
        "lets every query use every value fully": _wrong(dv_of=lambda p, dy: _values_cotangent(np.ones_like(p), dy)),
        "sees hidden keys on the way back": _wrong(
            p_of=lambda q, k, mask=None, bias=None, **rules: attention_weights(
                q, k, None, bias, scale=rules.get("scale")
            )
        ),
        "forgets the bias on the way back": _wrong(
            p_of=lambda q, k, mask=None, bias=None, **rules: attention_weights(q, k, mask, **rules)
        ),
        "scales the bias's cotangent": _scales_the_bias,
    },
    tolerance=attention_tolerance,
    cost=_cost,
    source="Vaswani et al. 2017, Attention Is All You Need, section 3.2.1; Dao et al. 2022, FlashAttention, appendix B; "
    "Ainslie et al. 2023, GQA, section 2.2",
)
