"""Philox4x32-10: random numbers as a function of (seed, stream, counter) (Salmon, Moraes, Dror, Shaw, SC 2011).

Ten rounds of two 32 x 32 -> 64 bit products scramble a 128-bit counter under a 64-bit key. Any block can be computed
alone, so threads share the work freely and the same numbers come out on every device.

    block i: counter words (low(c), high(c), low(stream), high(stream)), c = counter + i mod 2^64; key (low(seed),
    high(seed))
"""

import numpy as np
from numba import prange

from .jit import jit
from .threads import PARALLEL_WORK

_M0, _M1 = 0xD2511F53, 0xCD9E8D57  # multipliers, section 3.3 of the paper
_W0, _W1 = 0x9E3779B9, 0xBB67AE85  # key increments: golden ratio, sqrt(3) - 1
_BLOCKS = 2048  # counter blocks in one piece of work


@jit()
def philox_block(counter, stream, seed):
    """The four words of one counter block, as uint64 below 2^32."""
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    x0, x1, x2, x3 = counter & low, counter >> shift, stream & low, stream >> shift
    k0, k1 = seed & low, seed >> shift
    for _ in range(10):
        p0, p1 = np.uint64(_M0) * x0, np.uint64(_M1) * x2
        x0, x1, x2, x3 = (p1 >> shift) ^ x1 ^ k0, p1 & low, (p0 >> shift) ^ x3 ^ k1, p0 & low
        k0, k1 = (k0 + np.uint64(_W0)) & low, (k1 + np.uint64(_W1)) & low
    return x0, x1, x2, x3


@jit()
def philox_words_01_blocks(seed, stream, counter, words, first, last):
    """Counter blocks first to last into words (4 * blocks,) uint32."""
    out = words[4 * first : 4 * last]
    start = counter + np.uint64(first)
    for i in range(last - first):
        x0, x1, x2, x3 = philox_block(start + np.uint64(i), stream, seed)
        out[4 * i] = np.uint32(x0)
        out[4 * i + 1] = np.uint32(x1)
        out[4 * i + 2] = np.uint32(x2)
        out[4 * i + 3] = np.uint32(x3)


@jit(parallel=True)
def philox_words_02_threads(seed, stream, counter, words):
    """Pieces of counter blocks on all threads."""
    blocks = words.size // 4
    for index in prange((blocks + _BLOCKS - 1) // _BLOCKS):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        philox_words_01_blocks(seed, stream, counter, words, b * _BLOCKS, min(blocks, (b + 1) * _BLOCKS))


@jit()
def bernoulli_01_blocks(seed, stream, counter, limit, mask, first, last):
    """Counter blocks first to last into mask (4 * blocks,) bool: word < limit."""
    out = mask[4 * first : 4 * last]
    start = counter + np.uint64(first)
    for i in range(last - first):
        x0, x1, x2, x3 = philox_block(start + np.uint64(i), stream, seed)
        out[4 * i] = x0 < limit
        out[4 * i + 1] = x1 < limit
        out[4 * i + 2] = x2 < limit
        out[4 * i + 3] = x3 < limit


@jit(parallel=True)
def bernoulli_02_threads(seed, stream, counter, limit, mask):
    """Pieces of counter blocks on all threads."""
    blocks = mask.size // 4
    for index in prange((blocks + _BLOCKS - 1) // _BLOCKS):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        bernoulli_01_blocks(seed, stream, counter, limit, mask, b * _BLOCKS, min(blocks, (b + 1) * _BLOCKS))


def _word(value: int) -> np.uint64:
    return np.uint64(value & 0xFFFFFFFFFFFFFFFF)


def philox_uint32(seed: int, stream: int, counter: int, n: int) -> np.ndarray:
    """n random words (uint32) from the ceil(n / 4) counter blocks that start at `counter`."""
    words = np.empty(-(-n // 4) * 4, np.uint32)
    if words.size < PARALLEL_WORK:
        philox_words_01_blocks(_word(seed), _word(stream), _word(counter), words, 0, words.size // 4)
    else:
        philox_words_02_threads(_word(seed), _word(stream), _word(counter), words)
    return words[:n]


def bernoulli_mask(seed: int, stream: int, counter: int, n: int, p_keep: float) -> np.ndarray:
    """n booleans, True with probability p_keep: word < floor(p_keep 2^32), one word each."""
    if not 0.0 <= p_keep <= 1.0:
        raise ValueError(f"bernoulli_mask: p_keep is {p_keep}, but a probability lies between 0 and 1")
    mask = np.empty(-(-n // 4) * 4, np.bool_)
    arguments = _word(seed), _word(stream), _word(counter), np.uint64(int(p_keep * 4294967296.0)), mask
    if mask.size < PARALLEL_WORK:
        bernoulli_01_blocks(*arguments, 0, mask.size // 4)
    else:
        bernoulli_02_threads(*arguments)
    return mask[:n]
