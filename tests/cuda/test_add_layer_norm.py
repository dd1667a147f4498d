"""add_layer_norm's CUDA rung against float64, with outputs that nobody used; and mistakes that must be caught."""

import numpy as np
import pytest

from handgrad.kernels.cuda.ladders import LADDERS, rung
from handgrad.kernels.cuda.on_cpu.kernel import running
from handgrad.reference.add_layer_norm import add_layer_norm, add_layer_norm_vjp

EPS = float(np.finfo(np.float32).eps)
SIZES = [(0, 3), (2, 0), (1, 1), (3, 5), (130, 33), (7, 64), (5, 1031)]


def trial(pair, size: tuple[int, int], *, bias: bool = True, used: tuple[bool, bool] = (True, True)) -> None:
    rng = np.random.default_rng(size)
    x, residual, *dy = (rng.standard_normal(size).astype(np.float32) for _ in range(4))
    vectors = tuple(rng.standard_normal(size[1]).astype(np.float32) for _ in range(1 + bias))
    inputs = (x + 1, residual, *vectors)
    assert pair.accepts(*inputs)
    (y, s), residuals = pair.forward(*inputs)
    given = tuple(d if use else None for d, use in zip(dy, used, strict=True))
    k = len(inputs)
    grads = pair.vjp(given, (None, s), *inputs, residuals=residuals, wanted=(True,) * k, into=(None,) * k)
    exact = tuple(a.astype(np.float64) for a in inputs)
    exact_dy: tuple = tuple(d.astype(np.float64) * use for d, use in zip(dy, used, strict=True))
    if size[1]:
        want = add_layer_norm(*exact)
        want_grads = add_layer_norm_vjp(exact_dy, want, *exact)
    else:
        want, want_grads = (exact[0], exact[0]), exact
    for got, wide in zip((y, s, *grads), (*want, *want_grads), strict=True):
        assert got.dtype == np.float32 and got.shape == wide.shape and np.isfinite(got).all()
        error, largest = (np.max(abs(a), initial=0.0) for a in (got - wide, wide))
        assert error <= 8 * EPS * np.sqrt(max(size)) * (8.0 + largest)  # as conftest's hold, with terms of 8


def trials(name: str) -> None:
    pair = rung("add_layer_norm", name)
    for size in SIZES:
        trial(pair, size)
    for more in ({"bias": False}, {"used": (True, False)}, {"used": (False, True)}):
        trial(pair, (3, 5), **more)
    with running(("forward",), sanitize=True):
        trial(pair, (3, 5))


@pytest.mark.parametrize("name", LADDERS["add_layer_norm"])
def test_values_and_gradients(name):
    trials(name)
    x, weight, accepts = np.zeros((2, 3), np.float32), np.zeros(3, np.float32), rung("add_layer_norm", name).accepts
    assert accepts(x, x, weight) and not accepts(x, x[0], weight) and not accepts(x, x, weight[:2])
    assert not accepts(x.astype(np.float64), x, weight) and not accepts(x, x, weight, weight.astype(np.float64))


START = "  if (row >= R) return;"
MISTAKES = [
    (f"{START}  // the whole warp leaves", ""),
    (f"{START}\n", "\n"),
    ("away > 0", "away > 1"),
    ("x += (size_t)row * C;\n  residual", "x += (size_t)row * (C - 1);\n  residual"),
    ("residual += (size_t)row * C", "residual += (size_t)row * (C - 1)"),
    ("ds += (size_t)row * C", "ds += (size_t)row * (C - 1)"),
    ("x[j] + residual[j]", "x[j]"),
    ("(s[j] - mean) * (s[j] - mean)", "s[j] * s[j]"),
    ("(has_bias ? bias[j] : 0.0f)", "bias[j]"),
    (" - mean_g - ", " - "),
    ("(has_ds ? ds[j] : 0.0f)", "ds[j]"),
    (" + (has_ds ? ds[j] : 0.0f)", ""),
    ("mean_gh) + (has_ds", "mean_g) + (has_ds"),
]


@pytest.mark.parametrize(("old", "new"), MISTAKES)
def test_a_planted_mistake_is_caught(old, new, caught):
    said = caught("add_layer_norm_01_warp_per_row", old, new, lambda: trials("01_warp_per_row"))
    assert said is not None, "it survived"
