"""Dropout and the residual's addition in one visit to memory: y = residual + m x / (1 - p)   (Srivastava et al., 2014).

    m_i = word_i < floor((1 - p) 2^32),   words of Philox4x32-10 from the block `counter` on
    dresidual = dy,   dx = m dy / (1 - p)

The words are those of philox.bernoulli_mask, and the arithmetic is that of dropout and an addition: the same bits as both.
No mask is read or written, but one bit for each number is kept for the way back, a thirty-second of x in float32. Words
drawn again in its place cost more: 105 us backward (768 x 512 float32, two cores) where reading bits takes 72. A mask of
bytes is quicker to read yet (60 to 77 us with the kernel of dropout, rung 01), but eight times as large.
A dropped NaN or infinity of x is 0.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import prange

from . import dropout
from .jit import FLOATS, frozen, jit, lent
from .philox import as_word, bernoulli_mask, limit_of
from .philox_lanes import BLOCKS, WORDS, philox_bits
from .row_passes import mode_for, row_kept, row_kept_add
from .threads import CHUNK, PARALLEL_WORK, chunks


@jit()
def dropout_add_forward_02_bits(key, last_kept, x, residual, y, bits, scale, first, last):
    """No mask in memory, only bits, and one visit. 64 words are drawn and compared in vector lanes; a vector of numbers is
    kept or dropped by a mask register. Elements first to last of x, residual, y, all flat; first is a multiple of 64.

    key: (seed, stream, counter). A word up to last_kept keeps; then bit i % 32 of bits[i // 32] is 1.
    """
    seed, stream, counter = key
    for i in range(first // WORDS, (last + WORDS - 1) // WORDS):
        philox_bits(seed, stream, counter + np.uint64(BLOCKS * i), last_kept, bits, 2 * i)
    number, mode = x.dtype.type(scale), mode_for(y, False)
    row_kept_add(last - first, x, first, residual, first, bits, first // 32, y, first, number, mode)


@jit(parallel=True)
def dropout_add_forward_03_threads(key, last_kept, x, residual, y, bits, scale, blocks):
    """Chunks on all threads."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        first, last = b * CHUNK, min(x.size, (b + 1) * CHUNK)
        dropout_add_forward_02_bits(key, last_kept, x, residual, y, bits, scale, first, last)


@jit()
def dropout_add_vjp_02_bits(dy, bits, dx, scale, add, first, last):
    """The bits of the way forward. Elements first to last, first a multiple of 32; dx is written or added to."""
    row_kept(last - first, dy, first, bits, first // 32, dx, first, dy.dtype.type(scale), mode_for(dx, add))


@jit(parallel=True)
def dropout_add_vjp_03_threads(dy, bits, dx, scale, add, blocks):
    """Chunks on all threads."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        dropout_add_vjp_02_bits(dy, bits, dx, scale, add, b * CHUNK, min(dy.size, (b + 1) * CHUNK))


def accepts(x: Any, residual: Any, draw: Any, *, p: float) -> bool:
    return (
        x.dtype in FLOATS
        and residual.dtype == x.dtype
        and residual.shape == x.shape
        and draw.dtype.kind in "iu"
        and draw.shape == (3,)
        and 0 <= p < 1
        and limit_of(1.0 - p) > 0  # at p beyond 1 - 2^-32 no word keeps
    )


def forward(x: np.ndarray, residual: np.ndarray, draw: np.ndarray, *, p: float) -> tuple[np.ndarray, np.ndarray]:
    """y of x, residual of its shape and draw (3,): seed, stream and counter; p is the share that is dropped, 0 <= p < 1.

    Residuals: the mask as bits, uint32, 32 numbers each, and one more, because four bytes are read from any byte on.
    """
    y, bits = np.empty(x.shape, x.dtype), np.empty(2 * -(-x.size // WORDS) + 1, np.uint32)
    key, last_kept = tuple(as_word(int(word)) for word in draw), np.uint32(limit_of(1.0 - p) - 1)
    flat = frozen(x).reshape(-1), frozen(residual).reshape(-1), y.reshape(-1)
    if y.size < PARALLEL_WORK:
        dropout_add_forward_02_bits(key, last_kept, *flat, bits, 1.0 / (1.0 - p), 0, y.size)
    else:
        dropout_add_forward_03_threads(key, last_kept, *flat, bits, 1.0 / (1.0 - p), chunks(y.size))
    return y, bits


def vjp(
    dy: np.ndarray, y: Any, x: Any, residual: Any, draw: Any, *,
    residuals: np.ndarray, wanted: Any, into: Any, p: float,
) -> tuple:  # fmt: skip
    """(dx, dresidual, None); dresidual is dy itself."""
    if not wanted[0]:
        return None, dy if wanted[1] else None, None
    dx, add = lent(into[0]) or (np.empty(dy.shape, dy.dtype), False)
    arguments = frozen(dy).reshape(-1), frozen(residuals), dx.reshape(-1), 1.0 / (1.0 - p), add
    if dy.size < PARALLEL_WORK:
        dropout_add_vjp_02_bits(*arguments, 0, dy.size)
    else:
        dropout_add_vjp_03_threads(*arguments, chunks(dy.size))
    return dx, dy if wanted[1] else None, None


def composed_forward(
    x: np.ndarray, residual: np.ndarray, draw: np.ndarray, *, p: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rung 01 as a pair: the mask, dropout's kernel and NumPy's addition; the mask is kept."""
    mask = bernoulli_mask(int(draw[0]), int(draw[1]), int(draw[2]), x.size, 1.0 - p).reshape(x.shape)
    return np.asarray(residual + dropout.forward(x, mask, p=p)[0]), mask


def composed_vjp(
    dy: np.ndarray, y: Any, x: Any, residual: Any, draw: Any, *,
    residuals: np.ndarray, wanted: Any, into: Any, p: float,
) -> tuple:  # fmt: skip
    """Rung 01 as a pair: dropout's kernel with the mask that was kept."""
    dx, _ = dropout.vjp(dy, None, x, residuals, residuals=None, wanted=wanted[:1], into=into[:1], p=p)
    return dx, dy if wanted[1] else None, None


RUNGS = {"numba 01_composition": SimpleNamespace(forward=composed_forward, vjp=composed_vjp, accepts=accepts)}
"""The ladder's other rungs as pairs, so that they are checked and timed by name."""
