"""The counter-based generator: the formula's words, in order, whatever the sizes of the draws; and their distributions.

Tolerances are derived: a statistic of n draws with standard deviation s deviates by more than 5 s / sqrt(n) once in two
million runs; the seeds are fixed, so a test that passes once passes always.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad.engine import random
from handgrad.engine.random import Generator
from handgrad.kernels.cpu.philox import philox_uint32 as kernel
from handgrad.reference.philox import KNOWN_ANSWERS, philox_uint32

N = 200_000
BIG = 2**64 - 1


@pytest.mark.parametrize(("key", "block"), KNOWN_ANSWERS)
def test_known_answers(key: tuple[int, int, int], block: tuple[int, ...]) -> None:
    for draw in (philox_uint32, kernel):
        assert draw(*key, 4).tolist() == list(block)


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 1000, 70_001])
@pytest.mark.parametrize(("seed", "stream", "counter"), [(0, 0, 0), (7, 1, 5), (BIG, BIG, 2**63), (1, 2, 2**64 - 3)])
def test_the_kernel_draws_the_formulas_words(n: int, seed: int, stream: int, counter: int) -> None:
    got, want = kernel(seed, stream, counter, n), philox_uint32(seed, stream, counter, n)
    assert got.dtype == want.dtype == np.uint32
    assert np.array_equal(got, want)


@pytest.mark.parametrize("shape", [(), (3,), (100, 7), (200, 100)])
def test_small_and_large_draws_go_on_where_the_last_one_ended(shape: tuple[int, ...]) -> None:
    """Every draw starts at a fresh block, by formula and by kernel."""
    g, n = Generator(3, 9), math.prod(shape)
    blocks = -(-n // 4)
    assert np.array_equal(g.words(n), philox_uint32(3, 9, 0, n))
    assert g.counter == blocks
    u = g.uniform(shape)
    assert np.array_equal(u, (philox_uint32(3, 9, blocks, n).reshape(shape) >> np.uint32(8)) * np.float32(2.0**-24))
    mask = g.bernoulli(shape, 0.3)
    assert np.array_equal(mask, philox_uint32(3, 9, 2 * blocks, n).reshape(shape) < math.floor(0.3 * 2**32))
    assert g.counter == 3 * blocks


def test_the_same_seed_gives_the_same_numbers_and_another_does_not() -> None:
    draws = {key: Generator(*key).words(64).tobytes() for key in ((0, 0), (1, 0), (0, 1), (1, 1), (2**32, 0), (0, 2**32))}
    assert len(set(draws.values())) == len(draws)
    assert all(Generator(*key).words(64).tobytes() == words for key, words in draws.items())


@pytest.mark.parametrize("other", [(1, 0), (0, 1), (2**63, 0), (0, 2**63)])
def test_streams_are_independent(other: tuple[int, int]) -> None:
    a, b = Generator(0, 0).uniform((N,), np.float64) - 0.5, Generator(*other).uniform((N,), np.float64) - 0.5
    assert abs(np.mean(a * b)) < 5 * (1 / 12) / math.sqrt(N)
    assert abs(np.mean(a[1:] * a[:-1])) < 5 * (1 / 12) / math.sqrt(N)


def test_state_round_trip() -> None:
    g = Generator(5, 6)
    g.uniform((17,))
    state = g.state()
    assert state == {"seed": 5, "stream": 6, "counter": 5}
    rest = g.normal((33,)).tobytes(), g.bernoulli((20_000,), 0.5).tobytes(), g.integers(0, 9, (5,)).tobytes()
    h = Generator()
    h.set_state(state)
    assert (h.normal((33,)).tobytes(), h.bernoulli((20_000,), 0.5).tobytes(), h.integers(0, 9, (5,)).tobytes()) == rest
    assert h.state() == g.state()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform(dtype: Any) -> None:
    u = Generator(11).uniform((N,), dtype)
    assert u.dtype == dtype
    assert u.min() >= 0.0
    assert u.max() < 1.0
    grid = 2.0**24 if dtype is np.float32 else 2.0**32
    assert np.array_equal(u.astype(np.float64) * grid, np.round(u.astype(np.float64) * grid))
    assert abs(u.mean(dtype=np.float64) - 0.5) < 5 * math.sqrt(1 / 12 / N)
    assert abs(u.var(dtype=np.float64) - 1 / 12) < 5 * math.sqrt(1 / 180 / N)
    counts = np.histogram(u, 100, (0, 1))[0]
    assert np.sum((counts - N / 100) ** 2 / (N / 100)) < 99 + 5 * math.sqrt(2 * 99)  # chi squared, 99 degrees of freedom
    assert Generator(11).uniform((), dtype).shape == ()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal(dtype: Any) -> None:
    z = Generator(12).normal((N,), dtype).astype(np.float64)
    assert Generator(12).normal((3, 5), dtype).dtype == dtype
    assert Generator(12).normal((3, 5)).shape == (3, 5)
    assert np.isfinite(z).all()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(z**power) - moment) < 5 * math.sqrt(variance / N)
    cdf = np.array([0.5 * (1 + math.erf(x / math.sqrt(2))) for x in np.sort(z)])
    assert np.max(np.abs(cdf - (np.arange(N) + 0.5) / N)) < 2.0 / math.sqrt(N)  # Kolmogorov and Smirnov
    assert abs(np.mean(z[: N // 2] * z[N // 2 :])) < 5 / math.sqrt(N / 2)  # the two of a Box-Muller pair


def test_normal_is_finite_for_the_smallest_and_largest_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for word in (0, 2**32 - 1):
        monkeypatch.setattr(Generator, "words", lambda self, n, word=word: np.full(n, word, np.uint32))
        assert np.isfinite(Generator().normal((4,))).all()
        assert 0.0 <= Generator().uniform((1,))[0] < 1.0
        assert Generator().integers(-3, 4, (1,))[0] in (-3, 3)


@pytest.mark.parametrize(("low", "high"), [(0, 7), (-3, 4), (5, 6), (2**40, 2**40 + 10)])
def test_integers(low: int, high: int) -> None:
    x = Generator(13).integers(low, high, (N,))
    assert x.dtype == np.int64
    counts = np.bincount(x - low, minlength=high - low)
    assert len(counts) == high - low
    expected, k = N / (high - low), high - low - 1
    assert np.sum((counts - expected) ** 2 / expected) <= k + 5 * math.sqrt(2 * k)


def test_integers_of_the_whole_range_and_none() -> None:
    x = Generator(1).integers(0, 2**32, (1000,))
    assert x.max() > 2**31
    for low, high in ((3, 3), (4, 3), (0, 2**32 + 1)):
        with pytest.raises(ValueError, match=rf"^integers: low is {low} and high {high}"):
            Generator(1).integers(low, high)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("n", [10_000, N])
def test_bernoulli(p: float, n: int) -> None:
    mask = Generator(14).bernoulli((n,), p)
    assert mask.dtype == bool
    assert abs(mask.mean() - p) <= 5 * math.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
@pytest.mark.parametrize("n", [10, 20_000])
def test_a_probability_lies_between_0_and_1(p: float, n: int) -> None:
    with pytest.raises(ValueError, match=rf"p.* is {p}, but"):
        Generator(1).bernoulli((n,), p)


@pytest.mark.parametrize(
    ("seed", "stream", "name"), [(-1, 0, "seed"), (2**64, 0, "seed"), (0, -1, "stream"), (0, 2**64, "stream")]
)
def test_seeds_are_validated(seed: int, stream: int, name: str) -> None:
    for make in (Generator, Generator().manual_seed):
        with pytest.raises(ValueError, match=rf"^Generator: {name} is .*, but it must be at least 0 and below 2\*\*64"):
            make(seed, stream)


@pytest.mark.parametrize("seed", [1.5, "a", None, math.nan])
def test_a_seed_is_an_integer(seed: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^Generator: seed is"):
        Generator(seed)


def test_a_numpy_integer_is_a_seed() -> None:
    assert Generator(np.int64(3)).words(4).tobytes() == Generator(3).words(4).tobytes()


def test_manual_seed_starts_the_default_generator_again() -> None:
    before = random.default.state()
    try:
        hg.manual_seed(42)
        a = hg.nn.Linear(3, 3).state_dict()
        assert hg.manual_seed(42) is random.default
        b = hg.nn.Linear(3, 3).state_dict()
        assert all(np.array_equal(a[k], b[k]) for k in a)
    finally:
        random.default.set_state(before)
