import numpy as np
import pytest

from handgrad.kernels.cpu import relu


def oracle(dy, x):
    return np.maximum(x, 0), (np.where(x > 0, dy, 0),)


@pytest.mark.parametrize("shape", [(), (1,), (3, 7), (2, 5, 13), (20011,)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, shape, dtype):
    x = np.asarray(3 * rng.standard_normal(shape)).astype(dtype)
    kit.check(relu, (x,), oracle, inputs="x", reads="y", length=4, rng=rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_and_not_finite(kit, dtype):
    big = np.finfo(dtype).max
    x = kit.freeze(np.array([big, -big, 1e-30, -1e-30, np.inf, -np.inf, np.nan, 0], dtype))
    y, _ = relu.forward(x)
    np.testing.assert_array_equal(y, np.array([big, 0, 1e-30, 0, np.inf, 0, np.nan, 0], dtype))
    dy = kit.freeze(np.full(x.shape, 2, dtype))
    (dx,) = relu.vjp(dy, kit.freeze(y), kit.Spec(x.shape, x.dtype), residuals=None, wanted=(True,), into=(None,))
    np.testing.assert_array_equal(dx, np.array([2, 0, 2, 0, 2, 0, 2, 0], dtype))


def test_nothing_and_strides(kit, rng):
    x = kit.freeze(np.empty((0, 3), np.float32))
    assert relu.forward(x)[0].shape == (0, 3)
    x = rng.standard_normal((6, 5)).astype(np.float32)
    y, _ = relu.forward(kit.freeze(x[::2, ::-1]))
    kit.close(y, oracle(1.0, x[::2, ::-1].astype(np.float64))[0], np.float32, 4)


def test_accepts():
    assert relu.accepts(np.zeros(3, np.float32)) and relu.accepts(np.zeros((), np.float64))
    assert not relu.accepts(np.zeros(3, np.int64)) and not relu.accepts(np.zeros(3, np.longdouble))
