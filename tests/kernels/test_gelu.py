import numpy as np
import pytest

from handgrad.kernels.cpu import gelu


def oracle(dy, x):
    """The textbook form with tanh, unlike the kernel's sigmoid form."""
    x = np.asarray(x, np.longdouble)  # 1 + tanh cancels: the oracle needs the digits
    c = np.sqrt(2 / np.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    return 0.5 * x * (1 + t), (dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)),)


@pytest.mark.parametrize("shape", [(), (1,), (3, 7), (2, 5, 13), (20011,)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, shape, dtype):
    x = np.asarray(3 * rng.standard_normal(shape)).astype(dtype)
    kit.check(gelu, (x,), oracle, inputs="x", reads="x", length=4, rng=rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_and_not_finite(kit, dtype):
    big = np.finfo(dtype).max
    x = kit.freeze(np.array([big, -big, 40, -40, 1e20, -1e20, np.inf, np.nan, 0], dtype))
    y, _ = gelu.forward(x)
    kit.close(y[:-3], np.where(x[:-3] > 0, x[:-3], 0), dtype, 1)
    assert y[-3] == np.inf and np.isnan(y[-2]) and y[-1] == 0
    dy = kit.freeze(np.full(x.shape, 2, dtype))
    (dx,) = gelu.vjp(dy, kit.Spec(x.shape, x.dtype), x, residuals=None, wanted=(True,), into=(None,))
    np.testing.assert_array_equal(dx, np.array([2, 0, 2, 0, 2, 0, 2, np.nan, 1], dtype))


def test_nothing_and_strides(kit, rng):
    x = kit.freeze(np.empty((0, 3), np.float32))
    assert gelu.forward(x)[0].shape == (0, 3)
    x = rng.standard_normal((6, 5)).astype(np.float32)
    y, _ = gelu.forward(kit.freeze(x[::2, ::-1]))
    kit.close(y, oracle(1.0, x[::2, ::-1].astype(np.float64))[0], np.float32, 4)
