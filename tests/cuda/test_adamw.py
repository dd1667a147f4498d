"""AdamW's CUDA rungs: steps against the page in float64, sums of squares in two stages, slices; and mistakes to be caught."""

import math

import numpy as np
import pytest

from handgrad.kernels.cuda.ladders import NO_ROWS, rung
from handgrad.kernels.cuda.on_cpu.kernel import running
from handgrad.reference.adamw import adamw_update as page

EPS = float(np.finfo(np.float32).eps)
RATES = {"lr": 1e-2, "beta1": 0.9, "beta2": 0.95, "eps": 1e-3, "weight_decay": 0.1}
SIZES = [0, 1, 4, 5, 255, 1025, 4097]


def close(got: np.ndarray, want: np.ndarray, operations: int, terms: float) -> None:
    """Every operation rounds by half an eps of what is added, of which nothing is larger than `terms`."""
    assert got.dtype == np.float32 and np.isfinite(got).all()
    assert np.max(abs(got - want), initial=0.0) <= operations * EPS * terms


def trial(module, n: int, start: int = 0) -> None:
    rng = np.random.default_rng(n)
    p, g, m, v = (rng.standard_normal(n + start).astype(np.float32)[start:] for _ in range(4))
    v[...] = v * v
    wide = [a.astype(np.float64) for a in (p, m, v)]
    kept = g.copy()
    for step in (1, 2):
        module.adamw_update(p, g, m, v, step=step, grad_scale=0.37, **RATES)
        wide = page(wide[0], kept.astype(np.float64) * 0.37, *wide[1:], step=step, **RATES)
    for got, want in zip((p, m, v), wide, strict=True):
        close(got, want, 2 * 8, 1.0 + float(np.max(abs(want), initial=0.0)))
    assert np.array_equal(g, kept)
    squares = math.fsum(float(x) ** 2 for x in g)
    assert abs(module.squared_norm(g) - squares) <= n * np.finfo(np.float64).eps * squares
    module.scale_in_place(g, 0.25)
    assert np.array_equal(g, kept * np.float32(0.25))


def trials(name: str) -> None:
    module = rung("adamw", name)
    for n in SIZES:
        trial(module, n)
    with running(("forward",)):
        assert module.squared_norm(np.ones(4096 * 257, np.float32)) == 4096 * 257  # more slabs than a block has threads
    with running(("forward",), sanitize=True):
        trial(module, 5)


@pytest.mark.parametrize("name", NO_ROWS["adamw"])
def test_steps_norms_and_scales(name):
    trials(name)


@pytest.mark.parametrize("name", NO_ROWS["adamw"])
def test_a_slice_of_larger_arrays(name):
    for start in (1, 2, 4):
        trial(rung("adamw", name), 70, start)


@pytest.mark.parametrize("name", NO_ROWS["adamw"])
def test_nan_goes_through(name):
    module = rung("adamw", name)
    p, m, v = np.ones(6, np.float32), np.zeros(6, np.float32), np.zeros(6, np.float32)
    g = np.array([0, np.nan, 1, 0, 0, np.nan], np.float32)
    module.adamw_update(p, g, m, v, step=1, **{**RATES, "eps": 1e-8})
    assert np.isnan(p).tolist() == np.isnan(g).tolist() and p[0] == np.float32(1 - 1e-3)
    assert math.isnan(module.squared_norm(g))


@pytest.mark.parametrize("name", NO_ROWS["adamw"])
def test_what_it_refuses(name):
    module, a = rung("adamw", name), np.zeros(4, np.float32)
    with pytest.raises(ValueError, match=r"^adamw_update: grad is float32\[5\], but wants float32\[4\]$"):
        module.adamw_update(a, np.zeros(5, np.float32), a.copy(), a.copy(), step=1, **RATES)
    with pytest.raises(ValueError, match=r"^adamw_update: m has shape \(2, 2\), but wants a flat contiguous array$"):
        module.adamw_update(a, a, a.reshape(2, 2), a, step=1, **RATES)
    with pytest.raises(ValueError, match=r"^adamw_update: step is 0, but counts from 1$"):
        module.adamw_update(a, a, a, a, step=0, **RATES)
    with pytest.raises(ValueError, match=r"^squared_norm: grad is float64\[4\], but wants float32\[4\]$"):
        module.squared_norm(a.astype(np.float64))
    with pytest.raises(ValueError, match=r"^scale_in_place: grad has shape \(2,\), but wants a flat contiguous array$"):
        module.scale_in_place(a[::2], 0.5)


MISTAKES = [
    ("01_fused", "if (i >= n) return;", ""),
    ("01_fused", "grad[i] * grad_scale", "grad[i]"),
    ("01_fused", "param[i] * decay", "param[i]"),
    ("01_fused", "rest2 * g * g", "rest2 * g"),
    ("01_fused", "sqrtf(v[i]) * root", "sqrtf(v[i])"),
    ("01_fused", "root + eps", "root"),
    ("01_fused", "if (i < n) grad", "grad"),
    ("01_fused", "away > 0", "away > 1"),
    ("01_fused", "__syncthreads();", ""),
    ("01_fused", "w < THREADS / 32", "w < 1"),
    ("01_fused", "n - first > SLAB ? first + SLAB : n", "first + SLAB"),
    ("01_fused", "n - first > SLAB ? first + SLAB : n", "n"),
    ("01_fused", "i < slabs;", "i < THREADS;"),
    ("01_fused", "i < slabs;", "i < min(slabs, THREADS);"),
    ("02_vector_loads", "  if (i + 4 <= n) {\n    const float4 g = *reinterpret_cast<const float4*>(grad + i);\n    float4 p",
     "  if (i < n) {\n    const float4 g = *reinterpret_cast<const float4*>(grad + i);\n    float4 p"),
    ("02_vector_loads", "j < n; j++) update", "j < n - 1; j++) update"),
    ("02_vector_loads", "update(p.w, g.w, m4.w, v4.w, rates)", "update(p.w, g.w, m4.w, v4.z, rates)"),
    ("02_vector_loads", "if (i + 4 <= n) {\n      const", "if (i < n) {\n      const"),
    ("02_vector_loads", "j < n; j++) sum", "j < n - 1; j++) sum"),
    ("02_vector_loads", "away > 0", "away > 1"),
    ("02_vector_loads", "__syncthreads();", ""),
    ("02_vector_loads", "n - first > SLAB ? first + SLAB : n", "n"),
    ("02_vector_loads", "i < slabs;", "i < min(slabs, THREADS);"),
    ("02_vector_loads", "  if (i + 4 <= n) {\n    const float4 g = *reinterpret_cast<const float4*>(grad + i);\n    *rein",
     "  if (i < n) {\n    const float4 g = *reinterpret_cast<const float4*>(grad + i);\n    *rein"),
    ("02_vector_loads", "j < n; j++) grad", "j < n - 1; j++) grad"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new"), MISTAKES)
def test_a_planted_mistake_is_caught(name, old, new, caught):
    assert caught(f"adamw_{name}", old, new, lambda: trials(name)) is not None, "it survived"
