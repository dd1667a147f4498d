"""Multi-head self-attention on packed projections: qkv (B, T, 3C) as GPT-2's c_attn makes them, y (B, T, C).

q, k, v are the three C-wide parts of the last axis and head h is the columns h D to (h + 1) D of each, C = n_head D.
The core of `attention` reads and writes them in place by strides: nothing is split, transposed or joined.
"""

import math
from typing import Any

import numpy as np

from .attention import MAX_HEAD_DIM, NO_MASK, reach, run_forward, run_vjp
from .jit import FLOATS, frozen, lent


def accepts(qkv: Any, *, n_head: int, causal: bool = True) -> bool:
    if qkv.dtype not in FLOATS or qkv.ndim != 3 or n_head < 1:
        return False
    D, rest = divmod(qkv.shape[-1], 3 * n_head)
    return rest == 0 and 1 <= D <= MAX_HEAD_DIM


def _places(qkv: np.ndarray, C: int, D: int) -> tuple:
    """Where q, k and v lie inside contiguous qkv."""
    address, T = qkv.__array_interface__["data"][0], qkv.shape[1]
    return tuple((address + part * C * qkv.itemsize, T * 3 * C, D, 3 * C) for part in range(3))


def _heads(y: np.ndarray, C: int, D: int) -> tuple[int, int, int, int]:
    """Where the heads lie inside contiguous y (B, T, C)."""
    return y.__array_interface__["data"][0], y.shape[1] * C, D, C


def forward(qkv: np.ndarray, *, n_head: int, causal: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """y (B, T, C) of qkv (B, T, 3C); scale 1/sqrt(D). residual: lse (B * n_head, T)."""
    B, T, C3 = qkv.shape
    C, D = C3 // 3, C3 // 3 // n_head
    qkv = frozen(qkv)
    y, lse = np.empty((B, T, C), qkv.dtype), np.empty((B * n_head, T), qkv.dtype)
    if y.size:
        places = (*_places(qkv, C, D), _heads(y, C, D))
        sizes, scale = (n_head, n_head, T, T, D), qkv.dtype.type(1 / math.sqrt(D))
        run_forward(places, sizes, reach(T, T, causal), NO_MASK, scale, lse)
    return y, lse


def vjp(
    dy: np.ndarray, y: np.ndarray, qkv: np.ndarray, *,
    residuals: np.ndarray, wanted: Any, into: Any, n_head: int, causal: bool = True,
) -> tuple:  # fmt: skip
    """dqkv (B, T, 3C); into[0] may be written or added to."""
    if not wanted[0]:
        return (None,)
    _, T, C3 = qkv.shape
    C, D = C3 // 3, C3 // 3 // n_head
    dqkv, add = lent(into[0]) or (np.empty(qkv.shape, qkv.dtype), False)
    if qkv.size:
        dy, y, qkv = frozen(dy), frozen(y), frozen(qkv)
        places = (_heads(dy, C, D), _heads(y, C, D), *_places(qkv, C, D), *_places(dqkv, C, D))
        sizes, scale = (n_head, n_head, T, T, D), qkv.dtype.type(1 / math.sqrt(D))
        run_vjp(places, sizes, reach(T, T, causal), NO_MASK, scale, residuals, (True,) * 3, (add,) * 3)
    return (dqkv,)
