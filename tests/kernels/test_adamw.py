import math

import numba
import numpy as np
import pytest

from handgrad.kernels.cpu.adamw import adamw_update, scale_in_place, squared_norm

RATES = {"lr": 1e-2, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1}


def textbook(p, g, m, v, *, lr, beta1, beta2, eps, weight_decay, step, grad_scale):
    g = g * grad_scale
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    p = p * (1 - lr * weight_decay)
    return p - lr * (m / (1 - beta1**step)) / (np.sqrt(v / (1 - beta2**step)) + eps), m, v


@pytest.mark.parametrize("n", [0, 1, 7, 20_011])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_textbook(kit, rng, n, dtype):
    p, g, m, v = (rng.standard_normal(n).astype(dtype) for _ in range(4))
    m, v, g0 = 0 * m, 0 * v, g.copy()
    exact = [a.astype(np.float64) for a in (p, m, v)]
    for step in (1, 2, 3):
        adamw_update(p, g, m, v, step=step, grad_scale=0.37, **RATES)
        exact = textbook(exact[0], g0.astype(np.float64), *exact[1:], step=step, grad_scale=0.37, **RATES)
    for got, want in zip((p, m, v), exact, strict=True):
        kit.close(got, want, dtype, 8)
    np.testing.assert_array_equal(g, g0)


def test_against_pytorch(kit, rng):
    torch = pytest.importorskip("torch")
    p, g = rng.standard_normal(1000), rng.standard_normal(1000)
    theirs = torch.nn.Parameter(torch.tensor(p))
    theirs.grad = torch.tensor(g)
    optimizer = torch.optim.AdamW([theirs], lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    m, v = np.zeros(1000), np.zeros(1000)
    for step in range(1, 6):
        optimizer.step()
        adamw_update(p, g, m, v, step=step, grad_scale=1.0, **RATES)
    kit.close(p, theirs.detach().numpy(), np.float64, 8)


def test_nan_propagates_and_zero_gradient_is_safe():
    p, m, v = np.ones(3, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32)
    adamw_update(p, np.array([0, np.nan, 1], np.float32), m, v, step=1, grad_scale=1.0, **RATES)
    assert np.isnan(p).tolist() == [False, True, False] and p[0] == np.float32(1 - 1e-3)


@pytest.mark.parametrize("n", [0, 5, 8192, 100_003])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squared_norm(rng, n, dtype):
    g = rng.standard_normal(n).astype(dtype)
    want = math.fsum(float(x) ** 2 for x in g)
    assert abs(squared_norm(g) - want) <= 16 * np.finfo(np.float64).eps * want


@pytest.mark.parametrize("n", [0, 5, 8192, 100_003])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scale_in_place(rng, n, dtype):
    g = rng.standard_normal(n).astype(dtype)
    want = g * dtype(0.37)
    scale_in_place(g, 0.37)
    np.testing.assert_array_equal(g, want)


def test_threads(rng):
    start = [np.abs(rng.standard_normal(50_001)).astype(np.float32) for _ in range(4)]
    threads, results = numba.get_num_threads(), []
    try:
        for n in (threads, 1):
            numba.set_num_threads(n)
            p, g, m, v = (a.copy() for a in start)
            adamw_update(p, g, m, v, step=3, grad_scale=0.5, **RATES)
            results.append((p, m, v, squared_norm(p)))
    finally:
        numba.set_num_threads(threads)
    for many, one in zip(*results, strict=True):
        np.testing.assert_array_equal(many, one)


def test_refuses(rng):
    a, b = np.zeros(4, np.float32), np.zeros(5, np.float32)
    with pytest.raises(ValueError, match="adamw_update: grad is float32\\[5\\]"):
        adamw_update(a, b, a, a, step=1, grad_scale=1.0, **RATES)
    with pytest.raises(ValueError, match="m has shape"):
        adamw_update(a, a, np.zeros((2, 2), np.float32), a, step=1, grad_scale=1.0, **RATES)
    with pytest.raises(ValueError, match="step is 0"):
        adamw_update(a, a, a, a, step=0, grad_scale=1.0, **RATES)
