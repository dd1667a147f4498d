"""From kernels to pairs for attention: which shapes are taken, and how kernels are told who sees what.

Letters: B batch entries, H query heads, G key heads (H is a multiple of G), T queries, S keys, D head_dim.

Query i stands at i + S - T and sees the keys from `before` places before it to `after` places after it whose mask is True.
A mask is never stretched: a kernel gets its bytes, and for each of (batch entry, head, query, key) how many bytes the next one
is away, 0 along an axis that the mask does not have. Without a mask it is one True and four zeros. A bias is left to the
formula, as on the CPU: its gradient is the T x S array that the upper rungs never make.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .launch import empty, laid, namespace


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
    masked: np.int32
    """0 without a mask, whose bytes then need not be read."""

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
        np.float32(1 / math.sqrt(max(D, 1)) if scale is None else scale), np.int32(mask is not None),
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


Launch = Callable[[tuple[Any, ...], Problem], None]


@dataclass(frozen=True)
class Online:
    """The pair of rungs with an online softmax, whose kernels take a mask: forward(y, lse, q, k, v), inner(inner, dy, y),
    queries(dq, dy, q, k, v, lse, inner) and keys(dk, dv, dy, q, k, v, lse, inner), each with the problem. lse and inner are
    float32, a number for each row.
    """

    forward_launch: Launch
    inner_launch: Launch
    queries_launch: Launch
    keys_launch: Launch

    def forward(self, q: Any, k: Any, v: Any, mask: Any = None, bias: None = None, **params: Any) -> tuple[Any, Any]:
        """y (..., H, T, D) of q (..., H, T, D), k and v (..., G, S, D); residual: the logsumexp of each row (B H, T)."""
        of = problem(q, k, mask, **params)
        y, lse = empty(q.shape, q), empty((of.B * of.H, of.T), q, np.float32)
        if y.size:
            self.forward_launch((y, lse, laid(q), laid(k), laid(v)), of)
        return y, lse

    def vjp(
        self, dy: Any, y: Any, q: Any, k: Any, v: Any, *mask_and_bias: Any,
        residuals: Any, wanted: Any, into: Any, **params: Any,
    ) -> tuple:  # fmt: skip
        """(dq, dk, dv), and None for mask and bias where given. dk and dv are made by one kernel, whichever is wanted."""
        of = problem(q, k, *mask_and_bias[:1], **params)
        dy, q, k, v = map(laid, (dy, q, k, v))
        inner = empty(residuals.shape, residuals)
        if inner.size:
            self.inner_launch((inner, dy, laid(y)), of)
        given, dq, dk, dv = (dy, q, k, v, residuals, inner), None, None, None
        if wanted[0]:
            dq = empty(q.shape, q)
            if dq.size:
                self.queries_launch((dq, *given), of)
        if wanted[1] or wanted[2]:
            dk, dv = empty(k.shape, k), empty(v.shape, v)
            if dk.size:
                self.keys_launch((dk, dv, *given), of)
        return dq, dk if wanted[1] else None, dv if wanted[2] else None, *(None for _ in mask_and_bias)
