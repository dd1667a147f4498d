"""Logistic sigmoid: y = 1 / (1 + e^(-x)); dy/dx = y (1 - y), so that y alone is read."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import prange

from .exp import exp
from .jit import CONTRACT, FLOATS, frozen, jit, lent
from .threads import CHUNK, PARALLEL_WORK, chunks


@jit()
def sigmoid_forward_01_naive(x, y):
    """The textbook, one number after the other: 393216 float32 in 1050 us. The rung to measure from."""
    one = x.dtype.type(1)
    for i in range(x.size):
        y[i] = one / (one + math.exp(-x[i]))


@jit(fastmath=CONTRACT)
def sigmoid_forward_02_vector(x, y, first, last):
    """The polynomial exponential in vector lanes: 10 times rung 01 (104 us). Elements first to last."""
    one = x.dtype.type(1)
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = one / (one + exp(-x[i]))


@jit(parallel=True)
def sigmoid_forward_03_threads(x, y, blocks):
    """Chunks on all threads: 1.3 times rung 02 on two cores (104 to 82 us)."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        sigmoid_forward_02_vector(x, y, b * CHUNK, (b + 1) * CHUNK)


@jit()
def sigmoid_vjp_01_naive(dy, y, dx):
    """The textbook, one number after the other: 393216 float32 in 50 us. The rung to measure from."""
    one = y.dtype.type(1)
    for i in range(y.size):
        dx[i] = dy[i] * y[i] * (one - y[i])


@jit(fastmath=CONTRACT)
def sigmoid_vjp_02_vector(dy, y, dx, first, last, add):
    """In vector lanes: as fast as rung 01, which the compiler had vectorised. Elements first to last."""
    number = y.dtype.type
    dy, y, dx = dy[first:last], y[first:last], dx[first:last]
    for i in range(y.size):
        dx[i] = dy[i] * y[i] * (number(1) - y[i]) + (dx[i] if add else number(0))


@jit(parallel=True)
def sigmoid_vjp_03_threads(dy, y, dx, blocks, add):
    """Chunks on all threads: 1.6 times rung 02 on two cores at 4096 x 768 (790 to 490 us)."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        sigmoid_vjp_02_vector(dy, y, dx, b * CHUNK, (b + 1) * CHUNK, add)


def accepts(x: Any) -> bool:
    return x.dtype in FLOATS


def forward(x: np.ndarray) -> tuple[np.ndarray, None]:
    """y of x, any shape."""
    x, y = frozen(x), np.empty(x.shape, x.dtype)
    if x.size < PARALLEL_WORK:
        sigmoid_forward_02_vector(x.reshape(-1), y.reshape(-1), 0, x.size)
    else:
        sigmoid_forward_03_threads(x.reshape(-1), y.reshape(-1), chunks(x.size))
    return y, None


def vjp(dy: np.ndarray, y: np.ndarray, x: Any, *, residuals: None, wanted: Any, into: Any) -> tuple:
    """dx from dy and y; into[0] may be written or added to."""
    if not wanted[0]:
        return (None,)
    dx, add = lent(into[0]) or (np.empty(y.shape, y.dtype), False)
    flat = frozen(dy).reshape(-1), frozen(y).reshape(-1), dx.reshape(-1)
    if y.size < PARALLEL_WORK:
        sigmoid_vjp_02_vector(*flat, 0, y.size, add)
    else:
        sigmoid_vjp_03_threads(*flat, chunks(y.size), add)
    return (dx,)


def naive_forward(x: np.ndarray) -> tuple[np.ndarray, None]:
    """Rung 01 as a pair: y of x."""
    y = np.empty(x.shape, x.dtype)
    sigmoid_forward_01_naive(frozen(x).reshape(-1), y.reshape(-1))
    return y, None


def naive_vjp(dy: np.ndarray, y: np.ndarray, x: Any, *, residuals: None, wanted: Any, into: Any) -> tuple:
    """Rung 01 as a pair: dx from dy and y; it takes no offer of `into`."""
    if not wanted[0]:
        return (None,)
    dx = np.empty(y.shape, y.dtype)
    sigmoid_vjp_01_naive(frozen(dy).reshape(-1), frozen(y).reshape(-1), dx.reshape(-1))
    return (dx,)


RUNGS = {"numba 01_naive": SimpleNamespace(forward=naive_forward, vjp=naive_vjp, accepts=accepts)}
"""The ladder's other rungs as pairs, so that they are checked and timed by name."""
