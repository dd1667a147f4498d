"""Scaled dot-product attention: y = softmax(scale q k^T) v for any T, S and D <= 256; causal, in a window, with a mask
over keys, with grouped heads.

    p = softmax(scale q k^T);  dv = p^T dy;  ds = p (dy v^T - <dy, y>);  dq = scale ds k;  dk = scale ds^T q
The rungs 01 to 04 are in `attention_ladder.py`, 05 and 06 in `attention_core.py` and `attention_core_vjp.py`, and few queries
against many keys have a way of their own, `attention_few_queries.py`. Residual: lse = log sum_j e^(s_ij), one number a
query. A bias is left to the formula: its gradient is the T x S array that this kernel never makes, and is summed over heads
and batch as a rule.
"""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from .attention_core import attention_forward_05_registers, attention_forward_06_threads
from .attention_core_vjp import attention_vjp_05_registers, attention_vjp_06_threads
from .attention_few_queries import FEW, attention_forward_few_queries, attention_forward_few_queries_threads
from .attention_ladder import ladder
from .jit import FLOATS, frozen, lent
from .threads import PARALLEL_WORK
from .tile import ROWS, VECTOR_BYTES

# Letters: B batch, H query heads, G key heads, T queries, S keys, D head_dim, N = B * H.
MAX_HEAD_DIM = 256
NO_MASK = frozen(np.ones((1, 0), np.bool_))


def located(array: np.ndarray) -> tuple[int, int, int, int]:
    """(address, batch, head, row stride) of a (B, H, T, D) array that `strided` let through, strides in elements."""
    size = array.itemsize
    b, h, t, _ = array.strides
    return array.__array_interface__["data"][0], b // size, h // size, t // size


def dense(array: np.ndarray) -> tuple[int, int, int, int]:
    """The same for a C-contiguous array that is written: by its shape, as strides on axes of length 1 mean nothing."""
    T, D = array.shape[-2:]
    H = array.shape[-3] if array.ndim >= 4 else 1
    return array.__array_interface__["data"][0], H * T * D, T * D, D


def strided(array: np.ndarray) -> np.ndarray:
    """The array as (B, H, T, D), its last axis contiguous, its strides whole and not negative; a copy only if need be."""
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 2:
        array = array[None, None]
    elif array.ndim > 4:
        array = array.reshape(math.prod(array.shape[:-3]), *array.shape[-3:])  # -1 cannot guess beside a zero
    size = array.itemsize
    b, h, t, d = array.strides
    if d != size or min(b, h, t) < 0 or b % size or h % size or t % size or not array.flags.aligned:
        array = np.array(array, order="C")
    return array


def reach(T: int, S: int, causal: bool, window: int | None = None) -> tuple[int, int]:
    """(before, after): how many keys a query sees before and after the one in its own place; T + S for all."""
    side = T + S if window is None else min(window - 1, T + S)
    return side, 0 if causal else side


UNITS = 16
"""Units of work wanted at least, so that every thread has some: where heads are fewer, each is cut into blocks."""

BLOCK = 128
"""Fewest queries, or keys, of a block: rows that all units read are packed for each of them."""


NEAR = 32
"""Bytes of keys, and as many of values, that a thread reads in a nanosecond where they lie in a cache."""


def blocks(heads: int, length: int) -> int:
    """How many blocks of queries, or keys, a head is cut into. It depends on the problem alone."""
    return max(1, min(length // BLOCK, -(-UNITS // heads)))


def run_forward(places: tuple, sizes: tuple, reach: tuple, masks: np.ndarray, scale: Any, lse: np.ndarray) -> None:
    """By what is fastest for these sizes. places: q, k, v, y; sizes: H, G, T, S, D."""
    run = few_queries if sizes[2] <= FEW else tiles
    run(places, sizes, reach, masks, scale, lse)


def tiles(places: tuple, sizes: tuple, reach: tuple, masks: np.ndarray, scale: Any, lse: np.ndarray) -> None:
    """Rung 06, or 05 where there is one unit only."""
    parts = blocks(lse.shape[0], sizes[2])
    if lse.shape[0] * parts == 1:
        attention_forward_05_registers(*places, sizes, reach, masks, scale, lse, 0, 1)
    else:
        attention_forward_06_threads(*places, sizes, reach, masks, scale, lse, parts)


def forward_on_one_thread(places: tuple, sizes: tuple, reach: tuple, masks: Any, scale: Any, lse: np.ndarray) -> None:
    """Rung 05, a head after the other."""
    for head in range(lse.shape[0]):
        attention_forward_05_registers(*places, sizes, reach, masks, scale, lse, head, 1)


def few_queries(places: tuple, sizes: tuple, reach: tuple, masks: np.ndarray, scale: Any, lse: np.ndarray) -> None:
    """The same for any number of queries by the kernel for few of them."""
    H, G, T, S, D = sizes
    heads = lse.shape[0] // H * G
    cut = blocks(heads, S)
    parts = np.empty((heads * cut, H // G * T, D + 2), lse.dtype)
    small = heads * S * D * lse.itemsize < NEAR * PARALLEL_WORK  # bytes of k
    run = attention_forward_few_queries if small else attention_forward_few_queries_threads
    run(*places, sizes, reach, masks, scale, lse, parts, cut)


def run_vjp(
    places: tuple, sizes: tuple, reach: tuple, masks: np.ndarray, scale: Any, lse: np.ndarray, want: tuple, add: tuple
) -> None:
    """Rung 06, or 05 where there is one unit only. places: dy, y, q, k, v, dq, dk, dv; sizes: H, G, T, S, D."""
    H, G, T, S, D = sizes
    if T <= FEW:
        # The kernel for few queries adds products in another order. Of scores as large as 1 / eps, e^(s - lse) would show it.
        y, lse = np.empty((lse.shape[0] // H, H, T, D), lse.dtype), np.empty_like(lse)
        tiles((*places[2:5], dense(y)), sizes, reach, masks, scale, lse)
    heads = lse.shape[0] // H * G
    cut, lanes = blocks(heads, S), VECTOR_BYTES // lse.itemsize
    several = want[0] and cut > 1
    parts = np.empty(
        (heads * cut, H // G, -(-T // ROWS) * ROWS * -(-D // lanes) * lanes) if several else (0, 0, 0), lse.dtype
    )
    if heads * cut == 1:
        attention_vjp_05_registers(*places, sizes, reach, masks, scale, lse, want, add, parts, 0, 1)
    else:
        attention_vjp_06_threads(*places, sizes, reach, masks, scale, lse, want, add, parts, cut)


def vjp_on_one_thread(
    places: tuple, sizes: tuple, reach: tuple, masks: np.ndarray, scale: Any, lse: np.ndarray, want: tuple, add: tuple
) -> None:
    """Rung 05, a key head after the other."""
    parts = np.empty((0, 0, 0), lse.dtype)
    for head in range(lse.shape[0] // sizes[0] * sizes[1]):
        attention_vjp_05_registers(*places, sizes, reach, masks, scale, lse, want, add, parts, head, 1)


def _key_mask(mask: np.ndarray | None, batch: int) -> np.ndarray:
    """(B or 1, S) of a mask that `accepts` let through."""
    if mask is None:
        return NO_MASK
    mask = np.ascontiguousarray(mask)
    rows = mask.reshape(-1, mask.shape[-1])
    return frozen(rows if rows.shape[0] in (1, batch) else rows[:1])


def _is_key_mask(mask: Any, q: Any, S: int) -> bool:
    """True if the mask depends on the batch entry and the key only: (S), (1, S); (B, 1, S) for 3 axes, (B, 1, 1, S) for 4."""
    return (
        mask.dtype == np.bool_
        and 1 <= mask.ndim <= min(q.ndim, 4)
        and mask.shape[-1] == S
        and all(
            n == 1 or (i == 0 and mask.ndim == q.ndim >= 3 and n == q.shape[0]) for i, n in enumerate(mask.shape[:-1])
        )
    )


def accepts(
    q: Any, k: Any, v: Any, mask: Any = None, bias: Any = None, *,
    causal: bool = False, scale: float | None = None, window: int | None = None, grouped: bool = False,
) -> bool:  # fmt: skip
    return (
        bias is None
        and q.dtype in FLOATS
        and k.dtype == q.dtype
        and v.dtype == q.dtype
        and q.ndim >= 2
        and k.shape == v.shape
        and (_in_groups(q, k) if grouped else k.shape[:-2] == q.shape[:-2])
        and k.shape[-1] == q.shape[-1]
        and 1 <= q.shape[-1] <= MAX_HEAD_DIM
        and (mask is None or _is_key_mask(mask, q, k.shape[-2]))
        and (window is None or window >= 1)
    )


def _in_groups(q: Any, k: Any) -> bool:
    """True for q (..., B, H, T, D) and k (..., B, G, S, D) with H a multiple of G."""
    return q.ndim == k.ndim >= 4 and k.shape[:-3] == q.shape[:-3] and k.shape[-3] > 0 and q.shape[-3] % k.shape[-3] == 0


def _arranged(q: Any, k: Any, mask: Any, scale: float | None) -> tuple[int, tuple[int, ...], np.ndarray, Any]:
    """(B, (H, G, T, S, D), masks, scale as a number of the arrays' dtype)"""
    T, D = q.shape[-2:]
    H, G = (q.shape[-3], k.shape[-3]) if q.ndim >= 4 else (1, 1)
    B = math.prod(q.shape[:-2]) // max(H, 1)
    return B, (H, G, T, k.shape[-2], D), _key_mask(mask, B), q.dtype.type(1 / math.sqrt(D) if scale is None else scale)


def pair(run_forward: Callable[..., None], run_vjp: Callable[..., None]) -> SimpleNamespace:
    """forward, vjp and accepts on these two runs of the core."""

    def forward(
        q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None, bias: None = None, *,
        causal: bool = False, scale: float | None = None, window: int | None = None, grouped: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """y (..., T, D) of q (..., T, D), k and v (..., S, D), or (..., G, S, D) where grouped. residual: lse (B * H, T)."""
        B, sizes, masks, factor = _arranged(q, k, mask, scale)
        H, _, T, S, _ = sizes
        y, lse = np.empty(q.shape, q.dtype), np.empty((B * H, T), q.dtype)
        if y.size:
            arrays = [strided(a) for a in (q, k, v)]  # kept alive until the kernel is done
            run_forward((*map(located, arrays), dense(y)), sizes, reach(T, S, causal, window), masks, factor, lse)
        return y, lse

    def vjp(
        dy: np.ndarray, y: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, *mask_and_bias: Any,
        residuals: np.ndarray, wanted: Any, into: Any, causal: bool = False, scale: float | None = None,
        window: int | None = None, grouped: bool = False,
    ) -> tuple:  # fmt: skip
        """(dq, dk, dv), and None for mask and bias where given; each may be written or added to the buffer lent for it."""
        _, sizes, masks, factor = _arranged(q, k, mask_and_bias[0] if mask_and_bias else None, scale)
        want = tuple(bool(w) for w in wanted[:3])
        gradients, add = [], []
        for x, wants, offer in zip((q, k, v), want, into, strict=False):
            target = lent(offer) if wants else None
            gradients.append(target[0] if target else np.empty(x.shape if wants else (0,), x.dtype))
            add.append(target[1] if target else False)
        if residuals.size:
            arrays = [strided(a) for a in (dy, y, q, k, v)]
            targets = [dense(g) if w else (0, 0, 0, 0) for g, w in zip(gradients, want, strict=True)]
            places = (*map(located, arrays), *targets)
            seen = reach(q.shape[-2], k.shape[-2], causal, window)
            run_vjp(places, sizes, seen, masks, factor, residuals, want, tuple(add))
        else:
            for g, a in zip(gradients, add, strict=True):
                if not a:
                    g.fill(0)
        return (*(g if w else None for g, w in zip(gradients, want, strict=True)), *(None for _ in mask_and_bias))

    return SimpleNamespace(forward=forward, vjp=vjp, accepts=accepts)


_production = pair(run_forward, run_vjp)
forward, vjp = _production.forward, _production.vjp

RUNGS = {**ladder(accepts), "numba 05_registers": pair(forward_on_one_thread, vjp_on_one_thread)}
"""The ladder's other rungs as pairs, so that they are checked and timed by name."""
