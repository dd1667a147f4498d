import numba
import numpy as np
import pytest

from handgrad.kernels.cpu import exp as module


@numba.njit(fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
def exps(x, y):
    for i in range(x.size):
        y[i] = module_exp(x[i])


@numba.njit(fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
def tanhs(x, y):
    for i in range(x.size):
        y[i] = module_tanh(x[i])


@numba.njit(fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
def logs(x, y):
    for i in range(x.size):
        y[i] = module_log(x[i])


module_exp, module_log, module_tanh = module.exp, module.log, module.tanh


def ulps(got, exact):
    """Errors in units of the last place of the result's type; exact in extended precision."""
    spacing = np.spacing(np.abs(exact).astype(got.dtype)).astype(np.longdouble)
    return float((np.abs(got.astype(np.longdouble) - exact) / spacing).max())


@pytest.mark.parametrize(("dtype", "low", "high"), [(np.float32, -87.3, 88.7), (np.float64, -708.3, 709.7)])
def test_exp(kit, rng, dtype, low, high):
    x = np.concatenate([rng.uniform(low, high, 50001), rng.uniform(-1, 1, 50001), [0.0]]).astype(dtype)
    y = np.empty_like(x)
    exps(kit.freeze(x), y)
    assert ulps(y, np.exp(x.astype(np.longdouble))) <= 1.5
    assert y[-1] == 1
    special = kit.freeze(np.array([np.nan, -np.inf, np.inf, 1e30, -1e30, low - 1, high + 1, -0.0], dtype))
    y = np.empty_like(special)
    exps(special, y)
    np.testing.assert_array_equal(y, np.array([np.nan, 0, np.inf, np.inf, 0, 0, np.inf, 1], dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tanh(kit, rng, dtype):
    x = np.concatenate([rng.uniform(-20, 20, 50001), rng.uniform(-1, 1, 50001), 10.0 ** rng.uniform(-30, 0, 999)])
    x = x.astype(dtype)
    y = np.empty_like(x)
    tanhs(kit.freeze(x), y)
    assert ulps(y, np.tanh(x.astype(np.longdouble))) <= 3.5
    special = kit.freeze(np.array([np.nan, -np.inf, np.inf, 1e30, -1e30, 0.0], dtype))
    y = np.empty_like(special)
    tanhs(special, y)
    np.testing.assert_array_equal(y, np.array([np.nan, -1, 1, 1, -1, 0], dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log(kit, rng, dtype):
    """Over all normal numbers, and near 1, where the result is small."""
    low, high = np.log(np.finfo(dtype).tiny), np.log(np.finfo(dtype).max)
    x = np.concatenate([np.exp(rng.uniform(low + 1, high - 1, 50001)), rng.uniform(0.5, 2, 50001), [1.0]]).astype(dtype)
    y = np.empty_like(x)
    logs(kit.freeze(x), y)
    assert ulps(y[x != 1], np.log(x[x != 1].astype(np.longdouble))) <= 1.5
    assert y[-1] == 0
    special = kit.freeze(np.array([0.0, -0.0, np.inf, np.nan, -1.0, -np.inf], dtype))
    y = np.empty_like(special)
    logs(special, y)
    np.testing.assert_array_equal(y, np.array([-np.inf, -np.inf, np.inf, np.nan, np.nan, np.nan], dtype))
