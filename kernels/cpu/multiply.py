"""Product of two arrays of one shape, number by number: y = x1 x2, dx1 = dy x2, dx2 = dy x1.

As for add.py memory is the limit; the way back makes both gradients in one visit to dy. Arrays that must be stretched, or do
not lie in one line, are NumPy's.
"""

from typing import Any

import numpy as np
from numba import prange

from .add import alike
from .jit import frozen, jit, lent
from .row_passes import mode_for, row_times
from .threads import CHUNK, PARALLEL_WORK, chunks


@jit()
def multiply_forward_01_pass(x1, x2, y, add, first, last):
    """Vector lanes, large results stored around the caches (row_passes.py). Elements first to last, flat; add: y += x1 x2."""
    row_times(last - first, x1, first, x2, first, y, first, mode_for(y, add))


@jit(parallel=True)
def multiply_forward_02_threads(x1, x2, y, add, blocks):
    """Chunks on all threads."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        multiply_forward_01_pass(x1, x2, y, add, b * CHUNK, min(y.size, (b + 1) * CHUNK))


@jit()
def multiply_vjp_01_both(dy, x1, x2, dx1, dx2, first, last):
    """Both gradients while dy is in a cache. Elements first to last, all flat."""
    row_times(last - first, dy, first, x2, first, dx1, first, mode_for(dx1, False))
    row_times(last - first, dy, first, x1, first, dx2, first, mode_for(dx2, False))


@jit(parallel=True)
def multiply_vjp_02_threads(dy, x1, x2, dx1, dx2, blocks):
    """Chunks on all threads."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        multiply_vjp_01_both(dy, x1, x2, dx1, dx2, b * CHUNK, min(dy.size, (b + 1) * CHUNK))


accepts = alike
PARTIAL = True


def _product(x1: np.ndarray, x2: np.ndarray, offer: Any) -> np.ndarray:
    """x1 x2, in the buffer offered where there is one."""
    y, add = lent(offer) or (np.empty(x1.shape, x1.dtype), False)
    x1, x2, flat, size = frozen(x1).reshape(-1), frozen(x2).reshape(-1), y.reshape(-1), y.size
    if size < PARALLEL_WORK:
        multiply_forward_01_pass(x1, x2, flat, add, 0, size)
    else:
        multiply_forward_02_threads(x1, x2, flat, add, chunks(size))
    return y


def forward(x1: np.ndarray, x2: np.ndarray) -> tuple[np.ndarray, None]:
    """y of x1 and x2, of the same shape."""
    return _product(x1, x2, None), None


def vjp(
    dy: np.ndarray, y: Any, x1: np.ndarray, x2: np.ndarray, *, residuals: None, wanted: Any, into: Any
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(dx1, dx2); both may be written to, or added to, the buffers lent for them."""
    offers = [lent(offer) for offer in into]
    if not (wanted[0] and wanted[1]) or any(offer and offer[1] for offer in offers):
        return _product(dy, x2, into[0]) if wanted[0] else None, _product(dy, x1, into[1]) if wanted[1] else None
    dx1, dx2 = (offer[0] if offer else np.empty(dy.shape, dy.dtype) for offer in offers)
    given = frozen(dy).reshape(-1), frozen(x1).reshape(-1), frozen(x2).reshape(-1), dx1.reshape(-1), dx2.reshape(-1)
    if dy.size < PARALLEL_WORK:
        multiply_vjp_01_both(*given, 0, dy.size)
    else:
        multiply_vjp_02_threads(*given, chunks(dy.size))
    return dx1, dx2
