"""From kernels to pairs for attention: which shapes are taken, and how kernels are told who sees what.

Letters: B batch entries, H query heads, G key heads (H is a multiple of G), T queries, S keys, D head_dim.

Query i stands at i + S - T and sees the keys from `before` places before it to `after` places after it whose mask is True.
A mask is never stretched: a kernel gets its bytes, and for each of (batch entry, head, query, key) how many bytes the next one
is away, 0 along an axis that the mask does not have. Without a mask it is one True and four zeros. A bias is left to the
formula, as on the CPU: its gradient is the T x S array that the upper rungs never make.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .launch import laid, namespace


@dataclass(frozen=True)
class Problem:
    """What every kernel of a ladder is told, in the types that it wants."""

    mask: tuple[Any, ...]
    """Bytes, and their strides."""
    B: int
    H: int
    G: int
    T: int
    S: int
    D: int
    reach: tuple[np.int32, np.int32]
    """(before, after)."""
    scale: np.float32

    def lengths(self, letters: str) -> tuple[np.int32, ...]:
        """Such as "TSD"."""
        return tuple(np.int32(getattr(self, letter)) for letter in letters)


def accepts(
    q: Any, k: Any, v: Any, mask: Any = None, bias: Any = None, *,
    causal: bool = False, scale: float | None = None, window: int | None = None, grouped: bool = False,
) -> bool:  # fmt: skip
    """q (..., H, T, D), k and v (..., G, S, D) of one type and with the same leading axes; G = H where not grouped."""
    if bias is not None or q.ndim < 2 or q.ndim != k.ndim or k.shape != v.shape or k.shape[-1] != q.shape[-1]:
        return False
    if not k.dtype == v.dtype == q.dtype or (window is not None and window < 1):
        return False
    if grouped:
        if q.ndim < 3 or k.shape[:-3] != q.shape[:-3] or not k.shape[-3] or q.shape[-3] % k.shape[-3]:
            return False
    elif k.shape[:-2] != q.shape[:-2]:
        return False
    return mask is None or _fits(mask, (*q.shape[:-1], k.shape[-2]))


def _fits(mask: Any, scores: tuple[int, ...]) -> bool:
    """Whether it broadcasts to the scores without making them larger."""
    own = zip(reversed(mask.shape), reversed(scores), strict=False)
    return mask.dtype == np.bool_ and mask.ndim <= len(scores) and all(n in (1, full) for n, full in own)


def problem(
    q: Any, k: Any, mask: Any = None, *, causal: bool = False, scale: float | None = None, window: int | None = None,
    grouped: bool = False,
) -> Problem:  # fmt: skip
    """Of arrays that `accepts` let through."""
    (T, D), S = q.shape[-2:], k.shape[-2]
    H, G = (q.shape[-3], k.shape[-3]) if q.ndim >= 3 else (1, 1)
    side = T + S if window is None else min(int(window) - 1, T + S)
    return Problem(
        _bytes(mask, q), math.prod(q.shape[:-3]), H, G, T, S, D, (np.int32(side), np.int32(0 if causal else side)),
        np.float32(1 / math.sqrt(max(D, 1)) if scale is None else scale),
    )  # fmt: skip


def _bytes(mask: Any, q: Any) -> tuple[Any, ...]:
    """The mask's bytes and its four strides. Batch axes become one, which is copied only where some of several are missing."""
    if mask is None:
        return (namespace(q).ones(1, np.uint8), *(np.int64(0) for _ in range(4)))
    shape = (1,) * (max(q.ndim, 3) - mask.ndim) + mask.shape
    batch, own = shape[:-3], shape[-3:]
    if any(n != 1 for n in batch) and batch != q.shape[:-3]:
        batch = q.shape[:-3]
        mask = namespace(q).broadcast_to(mask.reshape(shape), (*batch, *own))
    lengths, strides = (math.prod(batch), *own), []
    for axis, n in enumerate(lengths):
        strides.append(np.int64(0 if n == 1 else math.prod(lengths[axis + 1 :])))
    return (laid(mask).view(np.uint8).reshape(-1), *strides)
