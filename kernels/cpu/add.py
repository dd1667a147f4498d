"""Sum of two arrays of one shape: y = x1 + x2; the cotangent goes to both as it is.

Two numbers are read and one is written for one addition, so the sum runs at the speed of memory, and threads are worth having
where one core cannot ask for that much: on two, NumPy's sum takes twice as long from the second cache on. A residual stream is
made of such sums. Arrays that must be stretched, or do not lie in one line, are NumPy's.
"""

from typing import Any

import numpy as np
from numba import prange

from .jit import FLOATS, frozen, jit
from .threads import CHUNK, PARALLEL_WORK, chunks


@jit()
def add_forward_01_loop(x1, x2, y, first, last):
    """One number after the other; the compiler finds the vector lanes. Elements first to last, all flat."""
    x1, x2, y = x1[first:last], x2[first:last], y[first:last]
    for i in range(y.size):
        y[i] = x1[i] + x2[i]


@jit(parallel=True)
def add_forward_02_threads(x1, x2, y, blocks):
    """Chunks on all threads."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        add_forward_01_loop(x1, x2, y, b * CHUNK, (b + 1) * CHUNK)


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
        add_forward_01_loop(x1, x2, flat, 0, size)
    else:
        add_forward_02_threads(x1, x2, flat, chunks(size))
    return y, None


def vjp(
    dy: np.ndarray, y: Any, x1: Any, x2: Any, *, residuals: None, wanted: Any, into: Any
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """dy itself for each."""
    return dy if wanted[0] else None, dy if wanted[1] else None
