"""Rotary position embedding (Su et al., 2021): pair i of row p is turned by the angle (p + offset) base^(-2 i / d).

    a' = a cos - b sin,   b' = a sin + b cos          the pairs are (i, i + d/2), or (2 i, 2 i + 1) where interleaved

Turning back is the gradient: the same loop with -sin. Cosines and sines are computed in float64 and kept: a model asks
for the same ones in every layer and every step. Residuals: these tables.
"""

import math
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import prange

from .jit import CONTRACT, FLOATS, frozen, jit, lent
from .threads import PARALLEL_WORK, row_block

# Letters: R rows (all leading axes, then positions), T positions, D features, H = D / 2 pairs.


@lru_cache(maxsize=16)
def tables(positions: int, pairs: int, base: float, offset: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin (T, H) in `dtype` of the angles in float64."""
    frequency = np.exp(np.arange(pairs) * (-math.log(base) / max(pairs, 1)))  # (H,)
    angle = (offset + np.arange(positions, dtype=np.float64))[:, None] * frequency  # (T, H)
    return frozen(np.cos(angle).astype(dtype)), frozen(np.sin(angle).astype(dtype))


@jit()
def rotary_embedding_01_naive(x, y, positions, base, offset, interleaved, direction):
    """The textbook, one pair after the other, with its cosine and sine; x, y (R, D): 12288 x 32 float32 in 5700 us. The
    rung to measure from.
    """
    H = x.shape[1] // 2
    number = x.dtype.type
    for i in range(x.shape[0]):
        for j in range(H):
            angle = (i % positions + offset) * base ** (-j / H)
            c, s = number(math.cos(angle)), number(direction * math.sin(angle))
            first, second = (2 * j, 2 * j + 1) if interleaved else (j, j + H)
            a, b = x[i, first], x[i, second]
            y[i, first], y[i, second] = a * c - b * s, a * s + b * c


@jit(fastmath=CONTRACT)
def rotary_embedding_02_tables(x, y, cos, sin, direction, first, last, add):
    """Cosines and sines from tables that are kept, pairs (i, i + H) in vector lanes: 75 times rung 01 (5700 to 76 us).
    Rows first to last. y (R, D) is written or added to.
    """
    T, H = cos.shape
    sign = x.dtype.type(direction)
    position = first % T
    for i in range(first, last):
        c_row, s_row, row, y_row = cos[position], sin[position], x[i], y[i]
        if add:
            for j in range(H):
                a, b, c, s = row[j], row[j + H], c_row[j], sign * s_row[j]
                y_row[j] += a * c - b * s
                y_row[j + H] += a * s + b * c
        else:
            for j in range(H):
                a, b, c, s = row[j], row[j + H], c_row[j], sign * s_row[j]
                y_row[j] = a * c - b * s
                y_row[j + H] = a * s + b * c
        position += 1
        if position == T:
            position = 0


@jit(fastmath=CONTRACT)
def rotary_embedding_02_neighbours(x, y, cos, sin, direction, first, last, add):
    """The same for the pairs (2 i, 2 i + 1). In one function with the other, LLVM vectorises neither loop."""
    T, H = cos.shape
    sign = x.dtype.type(direction)
    position = first % T
    for i in range(first, last):
        c_row, s_row, row, y_row = cos[position], sin[position], x[i], y[i]
        if add:
            for j in range(H):
                a, b, c, s = row[2 * j], row[2 * j + 1], c_row[j], sign * s_row[j]
                y_row[2 * j] += a * c - b * s
                y_row[2 * j + 1] += a * s + b * c
        else:
            for j in range(H):
                a, b, c, s = row[2 * j], row[2 * j + 1], c_row[j], sign * s_row[j]
                y_row[2 * j] = a * c - b * s
                y_row[2 * j + 1] = a * s + b * c
        position += 1
        if position == T:
            position = 0


@jit(parallel=True)
def rotary_embedding_03_threads(x, y, cos, sin, interleaved, direction, block, add):
    """Blocks of rows on all threads: 1.2 times rung 02 on two cores (77 to 64 us, the speed of memory)."""
    R = x.shape[0]
    for index in prange((R + block - 1) // block):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        if interleaved:
            rotary_embedding_02_neighbours(x, y, cos, sin, direction, b * block, min(R, (b + 1) * block), add)
        else:
            rotary_embedding_02_tables(x, y, cos, sin, direction, b * block, min(R, (b + 1) * block), add)


def accepts(x: Any, *, base: float = 10000.0, offset: int = 0, interleaved: bool = False) -> bool:
    return x.dtype in FLOATS and x.ndim >= 2 and x.shape[-1] % 2 == 0


def _turn(
    x: np.ndarray, y: np.ndarray, add: bool, cos: np.ndarray, sin: np.ndarray, interleaved: bool, direction: float
) -> None:
    if x.size:
        D = x.shape[-1]
        R = x.size // D
        x, y = frozen(x).reshape(R, D), y.reshape(R, D)
        if x.size >= PARALLEL_WORK:
            rotary_embedding_03_threads(x, y, cos, sin, bool(interleaved), direction, row_block(R, D), add)
        elif interleaved:
            rotary_embedding_02_neighbours(x, y, cos, sin, direction, 0, R, add)
        else:
            rotary_embedding_02_tables(x, y, cos, sin, direction, 0, R, add)


def forward(
    x: np.ndarray, *, base: float = 10000.0, offset: int = 0, interleaved: bool = False
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """y (..., T, D) of x (..., T, D); residuals: the tables."""
    y = np.empty(x.shape, x.dtype)
    cos, sin = tables(x.shape[-2], x.shape[-1] // 2, float(base), int(offset), x.dtype)
    _turn(x, y, False, cos, sin, interleaved, 1.0)
    return y, (cos, sin)


def vjp(
    dy: np.ndarray, y: Any, x: Any, *, residuals: tuple[np.ndarray, np.ndarray], wanted: Any, into: Any,
    base: float = 10000.0, offset: int = 0, interleaved: bool = False,
) -> tuple:  # fmt: skip
    """dx (..., T, D) from dy alone; into[0] may be written or added to."""
    if not wanted[0]:
        return (None,)
    dx, add = lent(into[0]) or (np.empty(dy.shape, dy.dtype), False)
    _turn(dy, dx, add, *residuals, interleaved, -1.0)
    return (dx,)


def naive_forward(
    x: np.ndarray, *, base: float = 10000.0, offset: int = 0, interleaved: bool = False, direction: float = 1.0
) -> tuple[np.ndarray, None]:
    """Rung 01 as a pair: y (..., T, D) of x (..., T, D)."""
    y = np.empty(x.shape, x.dtype)
    if x.size:
        flat = frozen(x).reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1])
        rotary_embedding_01_naive(*flat, x.shape[-2], float(base), int(offset), bool(interleaved), direction)
    return y, None


def naive_vjp(dy: np.ndarray, y: Any, x: Any, *, residuals: None, wanted: Any, into: Any, **params: Any) -> tuple:
    """Rung 01 as a pair: dx from dy; it takes no offer of `into`."""
    return (naive_forward(dy, **params, direction=-1.0)[0] if wanted[0] else None,)


RUNGS = {"numba 01_naive": SimpleNamespace(forward=naive_forward, vjp=naive_vjp, accepts=accepts)}
"""The ladder's other rungs as pairs, so that they are checked and timed by name."""
