import math

import numpy as np
import pytest

from handgrad.kernels.cpu import gelu_erf


def oracle(dy, x):
    """With the C library's erf, one number at a time."""
    below = np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)), otypes=[float])(x)
    return x * below, (dy * (below + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)),)


@pytest.mark.parametrize("shape", [(), (1,), (3, 7), (2, 5, 13), (20011,)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, shape, dtype):
    x = np.asarray(3 * rng.standard_normal(shape)).astype(dtype)
    kit.check(gelu_erf, (x,), oracle, inputs="x", reads="x", length=4, rng=rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_and_not_finite(kit, dtype):
    big = np.finfo(dtype).max
    x = kit.freeze(np.array([big, -big, 2000, -2000, np.inf, np.nan, 0], dtype))
    y, _ = gelu_erf.forward(x)
    np.testing.assert_array_equal(y, np.array([big, 0, 2000, 0, np.inf, np.nan, 0], dtype))
    dy = kit.freeze(np.full(x.shape, 2, dtype))
    (dx,) = gelu_erf.vjp(dy, kit.Spec(x.shape, x.dtype), x, residuals=None, wanted=(True,), into=(None,))
    np.testing.assert_array_equal(dx, np.array([2, 0, 2, 0, 2, np.nan, 1], dtype))


def test_nothing_and_strides(kit, rng):
    x = kit.freeze(np.empty((0, 3), np.float32))
    assert gelu_erf.forward(x)[0].shape == (0, 3)
    x = rng.standard_normal((6, 5)).astype(np.float32)
    y, _ = gelu_erf.forward(kit.freeze(x[::2, ::-1]))
    kit.close(y, oracle(1.0, x[::2, ::-1].astype(np.float64))[0], np.float32, 4)


def test_accepts():
    assert gelu_erf.accepts(np.zeros(3, np.float32)) and gelu_erf.accepts(np.zeros((), np.float64))
    assert not gelu_erf.accepts(np.zeros(3, np.int64)) and not gelu_erf.accepts(np.zeros(3, np.longdouble))
