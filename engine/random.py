"""Every random number of the engine: Philox4x32-10 on (seed, stream, counter), derived in reference/philox.py.

The generator is a pure function of a counter, so its whole state is three integers, the numbers are the same on every
device and for any number of threads, and a resumed run draws exactly what an uninterrupted one would have drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from operator import index
from typing import Any

import numpy as np

from ..reference.philox import philox_uint32
from .device import device_of
from .kernel_table import announce_compilation

_FAST_FROM = 1 << 14  # words; below, the formula is quicker than waking Numba


class Generator:
    """A stream of random numbers. Two generators with different `seed` or `stream` are independent."""

    def __init__(self, seed: int = 0, stream: int = 0) -> None:
        self.manual_seed(seed, stream)

    def manual_seed(self, seed: int, stream: int = 0) -> Generator:
        """Starts the stream from its beginning."""
        self.seed, self.stream, self.counter = _word64("seed", seed), _word64("stream", stream), 0
        return self

    def state(self) -> dict[str, int]:
        """Seed, stream and counter: all that there is."""
        return {"seed": self.seed, "stream": self.stream, "counter": self.counter}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Goes on where `state()` was taken."""
        self.seed, self.stream, self.counter = int(state["seed"]), int(state["stream"]), int(state["counter"])

    def reserve(self, n: int) -> np.ndarray:
        """Seed, stream and counter from which the next n words come, uint64 (3,); the stream goes on behind them."""
        found = np.array([self.seed, self.stream, self.counter], np.uint64)
        self.counter += -(-n // 4)
        return found

    def words(self, n: int) -> np.ndarray:
        """n random 32-bit words, uint32 (n,)."""
        draw: Any = philox_uint32
        if n >= _FAST_FROM:
            from ..kernels.cpu.philox import philox_uint32 as draw

            announce_compilation()
        found = draw(self.seed, self.stream, self.counter, n)
        self.counter += -(-n // 4)
        return found

    def uniform(self, shape: tuple[int, ...] = (), dtype: Any = np.float32) -> np.ndarray:
        """Numbers in [0, 1): multiples of 2**-24 in float32, of 2**-32 in float64."""
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise TypeError(f"uniform: dtype is {dtype}, but it must be float32 or float64")
        words = self.words(math.prod(shape)).reshape(shape)
        if dtype == np.float32:
            return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
        return words.astype(np.float64) * 2.0**-32

    def normal(self, shape: tuple[int, ...] = (), dtype: Any = np.float32) -> np.ndarray:
        """Standard normal numbers, by Box and Muller (1958): two uniform ones give two."""
        n = math.prod(shape)
        half = -(-n // 2)
        words = self.words(2 * half).astype(np.float64)
        radius = np.sqrt(-2.0 * np.log((words[:half] + 1.0) * 2.0**-32))
        angle = 2.0 * math.pi * 2.0**-32 * words[half:]
        pairs = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        return pairs[:n].astype(dtype).reshape(shape)

    def integers(self, low: int, high: int, shape: tuple[int, ...] = ()) -> np.ndarray:
        """int64 numbers in [low, high), by multiplication (Lemire 2019); the bias is below (high - low) / 2**32."""
        span = high - low
        if not 0 < span <= 1 << 32:
            raise ValueError(f"integers: low is {low} and high {high}, but high - low must be from 1 to 2**32")
        words = self.words(math.prod(shape)).astype(np.uint64)
        return ((words * np.uint64(span)) >> np.uint64(32)).astype(np.int64).reshape(shape) + low

    def bernoulli(self, shape: tuple[int, ...], p: float, *, like: Any = None) -> Any:
        """Booleans that are True with probability p (to 2**-32), drawn on the machine of the array `like`, else on the CPU.

        The bits are the same on both, and nothing is copied.
        """
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"bernoulli: p is {p}, but a probability lies between 0 and 1")
        n = math.prod(shape)
        if device_of(like) == "cuda":
            from ..kernels.cuda.philox_01_block_per_thread import bernoulli_mask as draw_there

            found = draw_there(self.seed, self.stream, self.counter, n, p, like=like)
        elif n < _FAST_FROM:
            return (self.words(n) < np.uint64(math.floor(p * 2**32))).reshape(shape)
        else:
            from ..kernels.cpu.philox import bernoulli_mask

            announce_compilation()
            found = bernoulli_mask(self.seed, self.stream, self.counter, n, p)
        self.counter += -(-n // 4)
        return found.reshape(shape)


def _word64(name: str, value: Any) -> int:
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"Generator: {name} is {value!r}, but it must be an integer") from None
    if not 0 <= number < 1 << 64:
        raise ValueError(f"Generator: {name} is {number}, but it must be at least 0 and below 2**64")
    return number


default = Generator(0)
"""What layers draw from (initial weights, dropout) unless they are given another."""


def manual_seed(seed: int) -> Generator:
    """Starts the default generator from its beginning with another seed."""
    return default.manual_seed(seed)
