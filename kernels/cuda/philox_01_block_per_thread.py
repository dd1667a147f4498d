"""Launches philox_01_block_per_thread.cu: 1024 words a block. The calls are those of kernels/cpu/philox.py, but for `like`:
an array of the machine (NumPy's or CuPy's) where the result shall be.
"""

from typing import Any

import numpy as np

from .launch import Kernel, blocks, empty, namespace
from .pairs import MOST

_words = Kernel(__file__, "philox_words_01_block_per_thread")
_mask = Kernel(__file__, "bernoulli_mask_01_block_per_thread")


def philox_uint32(seed: int, stream: int, counter: int, n: int, *, like: Any) -> Any:
    """n random words (uint32) from the ceil(n / 4) counter blocks that start at `counter`."""
    _check_length("philox_uint32", n)
    words = namespace(like).empty(n, np.uint32)
    if n:
        _words((blocks(n, 1024),), (256,), (words, *map(_as_word, (seed, stream, counter)), np.int32(n)))
    return words


def bernoulli_mask(seed: int, stream: int, counter: int, n: int, p_keep: float, *, like: Any) -> Any:
    """n booleans, True with probability p_keep: word < floor(p_keep 2^32), one word each. Raises ValueError where p_keep
    is no probability, or n is larger than a kernel counts.
    """
    if not 0.0 <= p_keep <= 1.0:
        raise ValueError(f"bernoulli_mask: p_keep is {p_keep}, but a probability lies between 0 and 1")
    _check_length("bernoulli_mask", n)
    mask = empty((n,), like, np.bool_)
    if n:
        numbers = *map(_as_word, (seed, stream, counter)), np.uint64(int(p_keep * 2**32)), np.int32(n)
        _mask((blocks(n, 1024),), (256,), (mask, *numbers))
    return mask


def _check_length(name: str, n: int) -> None:
    if not 0 <= n <= MOST:
        raise ValueError(f"{name}: n is {n}, but at most {MOST} are drawn at once")


def _as_word(value: int) -> np.uint64:
    """An integer modulo 2^64."""
    return np.uint64(int(value) % 2**64)
