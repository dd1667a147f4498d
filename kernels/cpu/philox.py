"""Philox4x32-10: random numbers as a function of (seed, stream, counter) (Salmon, Moraes, Dror, Shaw, SC 2011).

Ten rounds of two 32 x 32 -> 64 bit products scramble a 128-bit counter under a 64-bit key. Any block can be computed
alone, so threads share the work freely and the same numbers come out on every device.

    block i: counter words (low(c), high(c), low(stream), high(stream)), c = counter + i mod 2^64; key (low(seed),
    high(seed))
"""

import numpy as np
from numba import prange

from .jit import jit
from .philox_lanes import BLOCKS, M0, M1, W0, W1, WORDS, philox_lanes
from .threads import CHUNK, PARALLEL_WORK, chunks


@jit()
def philox_block(counter, stream, seed):
    """The four words of one counter block, as uint64 below 2^32."""
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    x0, x1, x2, x3 = counter & low, counter >> shift, stream & low, stream >> shift
    k0, k1 = seed & low, seed >> shift
    for _ in range(10):
        p0, p1 = np.uint64(M0) * x0, np.uint64(M1) * x2
        x0, x1, x2, x3 = (p1 >> shift) ^ x1 ^ k0, p1 & low, (p0 >> shift) ^ x3 ^ k1, p0 & low
        k0, k1 = (k0 + np.uint64(W0)) & low, (k1 + np.uint64(W1)) & low
    return x0, x1, x2, x3


@jit()
def philox_words_01_blocks(seed, stream, counter, words):
    """Block after block into words (4 * blocks,) uint32: 2.1 ns a word. The rung to measure from."""
    for i in range(words.size // 4):
        x0, x1, x2, x3 = philox_block(counter + np.uint64(i), stream, seed)
        words[4 * i] = np.uint32(x0)
        words[4 * i + 1] = np.uint32(x1)
        words[4 * i + 2] = np.uint32(x2)
        words[4 * i + 3] = np.uint32(x3)


@jit()
def philox_words_02_lanes(seed, stream, counter, words, first, last):
    """Sixteen blocks at a time, one a vector lane: 7.8 times rung 01 (2.1 to 0.27 ns a word). Words first to last, both
    multiples of 64.
    """
    for i in range(first // WORDS, last // WORDS):
        philox_lanes(seed, stream, counter + np.uint64(BLOCKS * i), words, WORDS * i)


@jit(parallel=True)
def philox_words_03_threads(seed, stream, counter, words, blocks):
    """Chunks on all threads."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        philox_words_02_lanes(seed, stream, counter, words, b * CHUNK, min(words.size, (b + 1) * CHUNK))


@jit()
def bernoulli_01_lanes(seed, stream, counter, limit, mask, first, last):
    """mask[first:last] = word < limit, both ends multiples of 64; limit is a uint64."""
    words = np.empty(WORDS, np.uint32)
    for i in range(first // WORDS, last // WORDS):
        philox_lanes(seed, stream, counter + np.uint64(BLOCKS * i), words, 0)
        part = mask[WORDS * i : WORDS * (i + 1)]
        for j in range(WORDS):
            part[j] = words[j] < limit


@jit(parallel=True)
def bernoulli_02_threads(seed, stream, counter, limit, mask, blocks):
    """Chunks on all threads."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        bernoulli_01_lanes(seed, stream, counter, limit, mask, b * CHUNK, min(mask.size, (b + 1) * CHUNK))


def as_word(value: int) -> np.uint64:
    """An integer modulo 2^64."""
    return np.uint64(value & 0xFFFFFFFFFFFFFFFF)


def limit_of(p_keep: float) -> int:
    """A word below it says keep: floor(p_keep 2^32), from 0 to 2^32."""
    return int(p_keep * 4294967296.0)


def philox_uint32(seed: int, stream: int, counter: int, n: int) -> np.ndarray:
    """n random words (uint32) from the ceil(n / 4) counter blocks that start at `counter`."""
    words = np.empty(-(-n // WORDS) * WORDS, np.uint32)
    arguments = as_word(seed), as_word(stream), as_word(counter), words
    if words.size < PARALLEL_WORK:
        philox_words_02_lanes(*arguments, 0, words.size)
    else:
        philox_words_03_threads(*arguments, chunks(words.size))
    return words[:n]


def bernoulli_mask(seed: int, stream: int, counter: int, n: int, p_keep: float) -> np.ndarray:
    """n booleans, True with probability p_keep: word < floor(p_keep 2^32), one word each."""
    if not 0.0 <= p_keep <= 1.0:
        raise ValueError(f"bernoulli_mask: p_keep is {p_keep}, but a probability lies between 0 and 1")
    mask = np.empty(-(-n // WORDS) * WORDS, np.bool_)
    arguments = as_word(seed), as_word(stream), as_word(counter), np.uint64(limit_of(p_keep)), mask
    if mask.size < PARALLEL_WORK:
        bernoulli_01_lanes(*arguments, 0, mask.size)
    else:
        bernoulli_02_threads(*arguments, chunks(mask.size))
    return mask[:n]
