"""rotary_embedding's CUDA rungs against turns of complex numbers in float64; and mistakes that must be caught."""

import numpy as np
import pytest

from handgrad.kernels.cuda.ladders import LADDERS, rung
from handgrad.kernels.cuda.on_cpu.kernel import running

EPS = float(np.finfo(np.float32).eps)
SHAPES = [(0, 4), (2, 3, 0), (2, 0, 4), (1, 2), (3, 2, 5, 6), (127, 2), (2, 64, 4), (3, 43, 2), (2, 1, 17, 16)]
PARAMS = [{}, {"offset": 7, "base": 500.0, "interleaved": True}, {"offset": 1_000_003}, {"offset": -2}]


def turned(x, direction, *, base=10000.0, offset=0, interleaved=False) -> np.ndarray:
    T, D = x.shape[-2:]
    H, y = D // 2, np.empty(x.shape)
    first, second = (np.s_[0::2], np.s_[1::2]) if interleaved else (np.s_[:H], np.s_[H:])
    angles = (offset + np.arange(T))[:, None] / base ** (np.arange(H) / max(H, 1))
    pairs = (x[..., first] + 1j * x[..., second]) * np.exp(1j * direction * angles)
    y[..., first], y[..., second] = pairs.real, pairs.imag
    return y


def trial(pair, shape: tuple[int, ...], params: dict) -> None:
    rng = np.random.default_rng(shape)
    x, dy = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    assert pair.accepts(x, **params)
    y, kept = pair.forward(x, **params)
    (dx,) = pair.vjp(dy, None, x, residuals=kept, wanted=(True,), into=(None,), **params)
    for got, given, direction in ((y, x, 1), (dx, dy, -1)):
        want = turned(given.astype(np.float64), direction, **params)
        # cos, sin, two products and a sum: half an eps each, of at most the size of the pair
        assert got.dtype == np.float32 and got.shape == shape
        assert np.max(abs(got - want), initial=0.0) <= 3 * EPS * np.max(abs(given), initial=0.0) * np.sqrt(2)
    assert pair.vjp(dy, None, x, residuals=kept, wanted=(False,), into=(None,), **params) == (None,)


def trials(name: str) -> None:
    pair = rung("rotary_embedding", name)
    for shape in SHAPES:
        for params in PARAMS:
            trial(pair, shape, params)
    with running(("forward",), sanitize=True):
        for params in PARAMS[:2]:
            trial(pair, (2, 3, 6), params)


@pytest.mark.parametrize("name", LADDERS["rotary_embedding"])
def test_turns_and_turns_back(name):
    trials(name)


@pytest.mark.parametrize("name", LADDERS["rotary_embedding"])
def test_what_is_not_accepted(name):
    accepts = rung("rotary_embedding", name).accepts
    assert not accepts(np.zeros((2, 3), np.float32)) and not accepts(np.zeros(4, np.float32))
    assert not accepts(np.zeros((2, 4)))


MISTAKES = [
    ("01_thread_per_pair", "if (i >= (size_t)R * H) return;", ""),
    ("01_thread_per_pair", "row % T", "row"),
    ("01_thread_per_pair", "direction * (float)sin", "(float)sin"),
    ("01_thread_per_pair", "exp(j * rate)", "expf(j * rate)"),
    ("01_thread_per_pair", "interleaved ? 2 * j : j", "j"),
    ("01_thread_per_pair", "interleaved ? 1 : H", "H"),
    ("01_thread_per_pair", "a * c - b * s", "a * c + b * s"),
    ("02_tables", "if (i >= (size_t)T * H) return;", ""),
    ("02_tables", "if (i >= (size_t)R * H) return;", ""),
    ("02_tables", "offset + i / H", "offset + i"),
    ("02_tables", "(size_t)(row % T) * H", "(size_t)row * H"),
    ("02_tables", "direction * sines", "sines"),
    ("02_tables", "interleaved ? 1 : H", "1"),
]


@pytest.mark.parametrize(("name", "old", "new"), MISTAKES)
def test_a_planted_mistake_is_caught(name, old, new, caught):
    said = caught(f"rotary_embedding_{name}", old, new, lambda: trials(name))
    assert said is not None, "it survived"
