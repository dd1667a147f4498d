"""The loops of limits.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from handgrad.kernels.cpu.jit import REDUCE, jit
from handgrad.kernels.cpu.row_passes import mode_for, row_shift
from handgrad.kernels.cpu.tile import ROWS, VECTOR_BYTES, lanes_of, make_tile

_tile = make_tile(ROWS, 2)
_K, _REPEAT = 256, 2000


@jit(parallel=True)
def _tiles(a: Any, b: Any, c: Any, K: int, repeat: int) -> None:
    """C (ROWS, W) += A B, again and again: A (K, ROWS), B (K, W) lie in the first cache."""
    lanes = lanes_of(c)
    W = 2 * lanes
    for index in prange(c.shape[0]):
        n = np.int64(index)
        for _ in range(repeat):
            _tile(K, a[n], 0, 1, ROWS, b[n], 0, W, c[n], 0, W, 1)


@jit(parallel=True)
def _copies(a: Any, b: Any, repeat: int) -> None:
    """b[n] = a[n], repeat times, a line for each thread; large ones by stores around the caches, as kernels do it."""
    zero, mode = a.dtype.type(0), mode_for(b, False)
    for index in prange(a.shape[0]):
        n = np.int64(index)
        for _ in range(repeat):
            row_shift(a.shape[1], a[n], 0, b[n], 0, zero, zero, mode)


@jit(parallel=True, fastmath=REDUCE)
def _sums(a: Any, totals: Any, repeat: int) -> None:
    """totals[n] = sum of a[n], repeat times, a line for each thread."""
    for index in prange(a.shape[0]):
        n = np.int64(index)
        source = a[n]
        for _ in range(repeat):
            total = np.float32(0)
            for i in range(source.size):
                total += source[i]
            totals[n, _ % 16] += total


def peak(threads: int) -> float:
    """Runs the tiles; how many floating point operations that was."""
    W = 2 * VECTOR_BYTES // 4
    a, b = np.zeros((threads, _K * ROWS), np.float32), np.zeros((threads, _K * W), np.float32)
    _tiles(a, b, np.zeros((threads, ROWS * W), np.float32), _K, _REPEAT)
    return 2.0 * threads * _REPEAT * _K * ROWS * W


def copies(a: np.ndarray, b: np.ndarray, repeat: int) -> float:
    """Copies; how many bytes were read and written."""
    _copies(a, b, repeat)
    return 2.0 * repeat * a.nbytes


def reads(a: np.ndarray, repeat: int) -> float:
    """Sums; how many bytes were read."""
    _sums(a, np.zeros((a.shape[0], 16), np.float32), repeat)
    return float(repeat * a.nbytes)
