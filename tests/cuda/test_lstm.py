"""lstm's CUDA rungs against the formula in float64: lengths, both directions, every edge; and mistakes that must be caught."""

import numpy as np
import pytest

from handgrad.kernels.cuda import lstm_02_persistent
from handgrad.kernels.cuda.ladders import LADDERS, rung
from handgrad.kernels.cuda.on_cpu.kernel import running
from handgrad.reference.lstm import lstm, lstm_vjp

EPS = float(np.finfo(np.float32).eps)
SIZES = [(0, 2, 3, 4), (3, 0, 2, 4), (2, 3, 0, 1), (3, 1, 1, 1), (3, 5, 2, 7), (2, 9, 3, 33), (2, 4, 2, 70)]
"""(steps, sequences, inputs, units): nothing, and more of each than a block has threads, or rows."""


def trial(pair, size, *, ragged: bool, reverse: bool) -> None:
    T, B, I, H = size
    rng = np.random.default_rng(size)
    shapes = (T, B, I), (B, H), (B, H), (I, 4 * H), (H, 4 * H), (4 * H,)
    x, h, c, w, u, b = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    w, u = (m / np.float32(np.sqrt(max(len(m), 1))) for m in (w, u))
    lengths = (rng.integers(0, T + 1, B) if ragged else None,)
    if ragged:
        x[np.arange(T)[:, None] >= lengths[0]] = np.nan
    inputs = (x, h, c, w, u, b, *lengths)
    assert pair.accepts(*inputs, reverse=reverse)
    ys, residuals = pair.forward(*inputs, reverse=reverse)
    dys = tuple(rng.standard_normal(y.shape).astype(np.float32) for y in ys)
    calls = {"residuals": residuals, "wanted": (True,) * 6 + (False,), "into": (None,) * 7, "reverse": reverse}
    grads = pair.vjp(dys, ys, *inputs, **calls)
    exact = (*(a.astype(np.float64) for a in inputs[:6]), *lengths)
    want = lstm(*exact, reverse=reverse)
    want_grads = lstm_vjp(tuple(d.astype(np.float64) for d in dys), want, *exact, reverse=reverse)
    assert grads[6] is None
    # Sums of I + H or 4H terms, one after the other at each of T steps; those of the weights have T B terms more.
    operations = T * (I + 4 * H + B) + 16
    for k, (got, wide) in enumerate(zip((*ys, *grads[:6]), (*want, *want_grads[:6]), strict=True)):
        assert got.dtype == np.float32 and got.shape == wide.shape and np.isfinite(got).all(), k
        error, largest = (np.max(abs(a), initial=0.0) for a in (got - wide, wide))
        assert error <= operations * EPS * (1.0 + largest), f"result {k}: {error}"


def trials(name: str) -> None:
    pair = rung("lstm", name)
    for k, size in enumerate(SIZES):
        trial(pair, size, ragged=False, reverse=bool(k % 2))
    for reverse in (False, True):
        trial(pair, (4, 6, 2, 5), ragged=True, reverse=reverse)
    with running(("forward",), sanitize=True):
        trial(pair, (2, 5, 2, 3), ragged=True, reverse=False)


@pytest.mark.parametrize("name", LADDERS["lstm"])
def test_sequences_and_their_gradients(name):
    trials(name)


@pytest.mark.parametrize("name", LADDERS["lstm"])
def test_unused_outputs_and_unwanted_gradients(name):
    pair, rng = rung("lstm", name), np.random.default_rng(0)
    shapes = (3, 2, 2), (2, 5), (2, 5), (2, 20), (5, 20), (20,)
    inputs = tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    ys, residuals = pair.forward(*inputs)
    zeros = tuple(np.zeros_like(y) for y in ys)
    for k in range(3):
        dy = tuple(np.ones_like(y) if i == k else None for i, y in enumerate(ys))
        full = tuple(zeros[i] if d is None else d for i, d in enumerate(dy))
        calls = {"residuals": residuals, "wanted": (True,) * 6, "into": (None,) * 6}
        ours, theirs = (pair.vjp(d, ys, *inputs, **calls) for d in (dy, full))
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    nothing = pair.vjp(zeros, ys, *inputs, residuals=residuals, wanted=(False,) * 6, into=(None,) * 6)
    assert nothing == (None,) * 6


@pytest.mark.parametrize("name", LADDERS["lstm"])
def test_what_is_not_accepted(name):
    shapes = (3, 2, 2), (2, 5), (2, 5), (2, 20), (5, 20), (20,)
    good, accepts = [np.zeros(shape, np.float32) for shape in shapes], rung("lstm", name).accepts
    assert accepts(*good) and accepts(*good, np.array([1, 2]))
    assert not accepts(*good, np.array([1])) and not accepts(*good, np.array([1.0, 2.0]))
    for k, array in enumerate(good):
        assert not accepts(*good[:k], array.astype(np.float64), *good[k + 1 :])
        assert not accepts(*good[:k], array[:1], *good[k + 1 :]) or k == 0


def test_units_that_do_not_fit_into_shared_memory_are_the_first_rungs(monkeypatch):
    monkeypatch.setattr(lstm_02_persistent, "MOST", lstm_02_persistent.room(5) - 1)
    monkeypatch.setattr(lstm_02_persistent, "_launch", None)
    trial(lstm_02_persistent, (2, 3, 2, 5), ragged=False, reverse=False)
    assert lstm_02_persistent.room(98) <= 163 * 1024 < lstm_02_persistent.room(100)


MISTAKES = [
    ("01_steps", "if (n >= B || j >= H) return;\n  const size_t unit = (size_t)n * H + j;\n  gates",
     "const size_t unit = (size_t)n * H + j;\n  gates"),
    ("01_steps", "if (n >= B || j >= H) return;\n  const size_t unit = (size_t)n * H + j;\n  float d",
     "const size_t unit = (size_t)n * H + j;\n  float d"),
    ("01_steps", "    y[unit] = 0.0f;\n", ""),
    ("01_steps", "    h_new[unit] = h[unit];\n", ""),
    ("01_steps", "    c_new[unit] = c[unit];\n", ""),
    ("01_steps", " + bias[gate * H + j]", ""),
    ("01_steps", "f * c[unit] + i * g", "c[unit] + i * g"),
    ("01_steps", "k < 4 * H;", "k < 3 * H;"),
    ("01_steps", "da[gate * H] = 0.0f", "da[gate * H] = 1.0f"),
    ("01_steps", "    dh[unit] = d;\n", ""),
    ("01_steps", "  dh[unit] = 0.0f;\n", ""),
    ("01_steps", "dc[unit] = e * f", "dc[unit] = e"),
    ("02_persistent", "__syncthreads();  // U and the first state are there", ""),
    ("02_persistent", "__syncthreads();  // all gates are there", "//"),
    ("02_persistent", "__syncthreads();  // the new h is there", ""),
    ("02_persistent", "__syncthreads();  // da of all", "//"),
    ("02_persistent", "__syncthreads();  // nobody reads this da", "//"),
    ("02_persistent", "rows = min(ROWS, B - first), width = 4 * H;", "rows = ROWS, width = 4 * H;"),
    ("02_persistent", "rows = min(ROWS, B - first), width = 4 * H, pitch", "rows = ROWS, width = 4 * H, pitch"),
    ("02_persistent", "if (t < ends[first + i / H]) {", "if (true) {"),
    ("02_persistent", "runs = t < ends[first + i / H]", "runs = true"),
    ("02_persistent", "(reverse ? T : 0)", "0"),
    ("02_persistent", "column / H == 2 ? tanhf(v) : sigma(v)", "sigma(v)"),
    ("02_persistent", "(reverse ? t : t + 1)", "(t + 1)"),
    ("02_persistent", "i / width * pitch + i % width", "i"),
    ("02_persistent", "pitch = width + 1", "pitch = width - 1"),
    ("02_persistent", "        of_h[i] = 0.0f;\n", ""),
    ("02_persistent", "(reverse ? here : after)", "after"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new"), MISTAKES)
def test_a_planted_mistake_is_caught(name, old, new, caught):
    assert caught(f"lstm_{name}", old, new, lambda: trials(name)) is not None, "it survived"
