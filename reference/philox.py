r"""Philox4x32-10: random numbers without a state.

Source: Salmon, Moraes, Dror, Shaw 2011, Parallel random numbers: as easy as 1, 2, 3.

An ordinary generator walks: number i needs numbers 0 to i - 1 first. A counter-based one is a keyed function: number i
is philox(key, i), so that any thread, on any device, computes any part of the stream on its own, and "the state" that
a checkpoint has to save is one integer. The function is a weakened block cipher: ten rounds, of which seven already
pass every test of TestU01's BigCrush; ten leave a margin.

A block is four 32-bit words c, the key two words k. A round multiplies c0 and c2 by odd constants; the high half of
each 64-bit product is mixed with a word and a key by exclusive or, the low half moves on:

    hi_0 lo_0 = M_0 c0              c <- (hi_1 ^ c1 ^ k0,  lo_1,  hi_0 ^ c3 ^ k1,  lo_0)
    hi_1 lo_1 = M_1 c2              k <- (k0 + W_0, k1 + W_1)   mod 2^32, between rounds

An odd M makes c -> lo invertible, so a round is a permutation of the 2^128 blocks: two counters never give the same
block. M_0 and M_1 were searched for by their avalanche; W_0 and W_1 are the golden ratio and sqrt(3) - 1, as fractions
of 2^32.

Here the four counter words hold a position and a stream, each of 64 bits, and the key holds the seed:

    c = (low32(position), high32(position), low32(stream), high32(stream)),   k = (low32(seed), high32(seed))

This page is the oracle for the kernels; NumPy's own Philox is the 64-bit sibling (4x64) and gives other numbers.
"""

from __future__ import annotations

import numpy as np

M = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
W = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
ROUNDS = 10
LOW = np.uint64(0xFFFFFFFF)  # the mask of the lower 32 bits
HALF = np.uint64(32)

KNOWN_ANSWERS = (  # (seed, stream, counter) -> the block; from kat_vectors of Random123, the authors' library
    ((0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**64 - 1, 2**64 - 1, 2**64 - 1), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x299F31D0A4093822, 0x0370734413198A2E, 0x85A308D3243F6A88),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


def philox_uint32(seed: int, stream: int, counter: int, n: int) -> np.ndarray:
    """n words, uniform in [0, 2^32): those of block `counter`, then of `counter` + 1, ...; four a block. -> uint32 (n,)

    seed, stream and counter are in [0, 2^64); positions wrap around at 2^64 and never reach into another stream. The
    call that goes on where this one ended has counter + ceil(n / 4): the rest of a last block is thrown away.
    """
    for name, value in (("seed", seed), ("stream", stream), ("counter", counter)):
        if not 0 <= value < 2**64:
            raise ValueError(f"philox_uint32: {name} is {value}, but it must be at least 0 and less than 2**64")
    if n < 0:
        raise ValueError(f"philox_uint32: n is {n}, but it must not be negative")
    blocks = -(-n // 4)
    position = np.arange(blocks, dtype=np.uint64) + np.uint64(counter)  # (blocks,), modulo 2^64
    other = np.full(blocks, stream, dtype=np.uint64)
    c = (position & LOW, position >> HALF, other & LOW, other >> HALF)
    k = (seed & 0xFFFFFFFF, seed >> 32)
    for i in range(ROUNDS):
        c = _round(c, _key(k, i))
    return np.stack(c, axis=1).reshape(4 * blocks)[:n].astype(np.uint32)  # words in order, block after block


def _key(k: tuple[int, int], i: int) -> tuple[np.uint64, np.uint64]:
    """The key of round i: k + i W, modulo 2^32."""
    return np.uint64((k[0] + i * int(W[0])) % 2**32), np.uint64((k[1] + i * int(W[1])) % 2**32)


def _round(c: tuple[np.ndarray, ...], k: tuple[np.uint64, np.uint64]) -> tuple[np.ndarray, ...]:
    """One round. Words are 32 bits wide, each in a uint64, so that a product of two is exact."""
    product_0, product_1 = M[0] * c[0], M[1] * c[2]
    return (
        (product_1 >> HALF) ^ c[1] ^ k[0],
        product_1 & LOW,
        (product_0 >> HALF) ^ c[3] ^ k[1],
        product_0 & LOW,
    )
