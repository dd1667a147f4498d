r"""The weights of attention, and who may look where.

    S = c Q K^T + B      (..., t, s)    scores of t queries (..., t, d) against s keys (..., s, d), c = 1 / sqrt(d)
    P = softmax(S)       (..., t, s)    over the keys that the query may see

A key that is ruled out gets weight 0, as if its score were minus infinity. `mask` says it key by key (True: may
attend), and so does a bias of minus infinity. `causal` and `window` say it by position. The last query stands where the
last key does, so query i stands at i + s - t (and after a cache of s - t keys no other rule is needed):

    causal         j <= i + s - t              the present and the past
    window w       |i + s - t - j| < w         the key in the same place, and w - 1 neighbours on either side
    both           0 <= i + s - t - j < w      the last w keys (the sliding window of Longformer and Mistral)

A query that may see nothing has weights of zero throughout (an empty sum), not 0/0.

Source: Beltagy et al. 2020, Longformer, section 3.1; Jiang et al. 2023, Mistral 7B, section 2; Raffel et al. 2020 (T5),
section 2.1, and Press et al. 2022 (ALiBi), section 3, for biases.
"""

from __future__ import annotations

import math
from typing import Any

from .namespace import Array, array_namespace, swap
from .softmax import softmax


def factor(q: Array, scale: float | None) -> Any:
    """c: `scale`, or 1 / sqrt(d) in the precision of q."""
    if scale is not None:
        return scale
    xp = array_namespace(q)
    return 1.0 / xp.sqrt(xp.asarray(float(max(q.shape[-1], 1)), dtype=q.dtype))


def may_attend(
    q: Array, k: Array, mask: Array | None, bias: Array | None, causal: bool, window: int | None
) -> Array | None:
    """Booleans that broadcast to (..., t, s), or None where every query sees every key."""
    xp = array_namespace(q)
    rules = [] if mask is None else [mask]
    if bias is not None:
        rules.append(bias != -math.inf)
    if causal or window is not None:
        t, s = q.shape[-2], k.shape[-2]
        ahead = xp.arange(s)[None, :] - (xp.arange(t)[:, None] + (s - t))  # (t, s): how far key j is ahead of query i
        if causal:
            rules.append(ahead <= 0)
        if window is not None:
            rules.append(xp.logical_and(ahead > -window, ahead < window))
    allowed = None
    for rule in rules:
        allowed = rule if allowed is None else xp.logical_and(allowed, rule)
    return allowed


def attention_weights(
    q: Array, k: Array, mask: Array | None = None, bias: Array | None = None, *,
    causal: bool = False, scale: float | None = None, window: int | None = None,
) -> Array:  # fmt: skip
    """P = softmax(c Q K^T + B) over the keys that may be seen. Shapes: (..., t, d), (..., s, d) -> (..., t, s)."""
    xp = array_namespace(q)
    scores = xp.matmul(q, swap(k)) * factor(q, scale)  # (..., t, s)
    if bias is not None:
        scores = scores + bias
    allowed = may_attend(q, k, mask, bias, causal, window)
    if allowed is not None:
        scores = xp.where(allowed, scores, -math.inf)
    if k.shape[-2] == 0:
        return scores  # no keys, no weights
    if allowed is None:
        return softmax(scores)
    largest = xp.max(scores, axis=-1, keepdims=True)  # (..., t, 1)
    largest = xp.where(largest == -math.inf, 0.0, largest)  # where nothing may be seen
    # Zeros where a key is ruled out, before exp and after it: no infinity survives to meet a zero, in any derivative.
    shifted = xp.where(allowed, scores - largest, 0.0)
    e = xp.where(allowed, xp.exp(shifted), 0.0)
    total = xp.sum(e, axis=-1, keepdims=True)  # (..., t, 1)
    return e / xp.where(total == 0.0, 1.0, total)
