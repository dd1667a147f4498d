"""Sum of two arrays of one shape: y = x1 + x2; the cotangent goes to both as it is, copied only into a buffer that was lent.

Two numbers are read and one is written for one addition, so the sum runs at the speed of memory, and threads are worth having
where one core cannot ask for that much: on two, NumPy's sum takes twice as long from the second cache on. A residual stream is
made of such sums. Arrays that must be stretched, or do not lie in one line, are NumPy's.
"""

from typing import Any

import numpy as np
from numba import prange

from .jit import FLOATS, frozen, jit, lent
from .row_passes import mode_for, row_plus, row_shift
from .threads import CHUNK, PARALLEL_WORK, chunks


@jit()
def add_forward_01_pass(x1, x2, y, first, last):
    """Vector lanes, large results stored around the caches, which is a quarter of the traffic less (row_passes.py). Elements
    first to last, all flat.
    """
    row_plus(last - first, x1, first, x2, first, y, first, mode_for(y, False))


@jit(parallel=True)
def add_forward_02_threads(x1, x2, y, blocks):
    """Chunks on all threads."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        add_forward_01_pass(x1, x2, y, b * CHUNK, min(y.size, (b + 1) * CHUNK))


@jit()
def add_vjp_01_copy(dy, dx, add, first, last):
    """dx (+)= dy, large results stored around the caches. Elements first to last, all flat."""
    zero = dy.dtype.type(0)
    row_shift(last - first, dy, first, dx, first, zero, zero, mode_for(dx, add))  # minus zero keeps the sign of a zero


@jit(parallel=True)
def add_vjp_02_threads(dy, dx1, dx2, add1, add2, blocks):
    """Chunks on all threads, each copied to both while it is in the first cache. One that is not wanted is empty."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        first, last = b * CHUNK, min(dy.size, (b + 1) * CHUNK)
        if dx1.size:
            add_vjp_01_copy(dy, dx1, add1, first, last)
        if dx2.size:
            add_vjp_01_copy(dy, dx2, add2, first, last)


def alike(x1: Any, x2: Any) -> bool:
    """Whether both are arrays of one shape and one floating-point dtype that lie in one line."""
    return (
        isinstance(x1, np.ndarray)
        and isinstance(x2, np.ndarray)
        and x1.dtype in FLOATS
        and x1.dtype == x2.dtype
        and x1.shape == x2.shape
        and x1.flags.c_contiguous
        and x2.flags.c_contiguous
    )


accepts = alike
PARTIAL = True


def forward(x1: np.ndarray, x2: np.ndarray) -> tuple[np.ndarray, None]:
    """y of x1 and x2, of the same shape."""
    y, size = np.empty(x1.shape, x1.dtype), x1.size
    x1, x2, flat = frozen(x1).reshape(-1), frozen(x2).reshape(-1), y.reshape(-1)
    if size < PARALLEL_WORK:
        add_forward_01_pass(x1, x2, flat, 0, size)
    else:
        add_forward_02_threads(x1, x2, flat, chunks(size))
    return y, None


def vjp(
    dy: np.ndarray, y: Any, x1: Any, x2: Any, *, residuals: None, wanted: Any, into: Any
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """dy itself for each; where a buffer is lent for it and threads are worth it, dy in that or added to it."""
    offers = [lent(offer) if wanted[i] and dy.size >= PARALLEL_WORK else None for i, offer in enumerate(into)]
    if any(offers):
        nothing = np.empty(0, dy.dtype), False
        (dx1, add1), (dx2, add2) = (offer or nothing for offer in offers)
        add_vjp_02_threads(frozen(dy).reshape(-1), dx1.reshape(-1), dx2.reshape(-1), add1, add2, chunks(dy.size))
    dx1, dx2 = ((offer[0] if offer else dy) if wanted[i] else None for i, offer in enumerate(offers))
    return dx1, dx2
