import numpy as np
import pytest

from handgrad.kernels.cpu import sigmoid


def oracle(dy, x):
    """By tanh, unlike the kernel's exponential."""
    y = 0.5 * (1 + np.tanh(0.5 * x))
    return y, (dy * y * (1 - y),)


@pytest.mark.parametrize("shape", [(), (1,), (3, 7), (2, 5, 13), (20011,)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, shape, dtype):
    x = np.asarray(3 * rng.standard_normal(shape)).astype(dtype)
    kit.check(sigmoid, (x,), oracle, inputs="x", reads="y", length=4, rng=rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_and_not_finite(kit, dtype):
    big = np.finfo(dtype).max
    x = kit.freeze(np.array([big, -big, 40, np.inf, -np.inf, np.nan, 0], dtype))
    y, _ = sigmoid.forward(x)
    np.testing.assert_array_equal(y, np.array([1, 0, 1, 1, 0, np.nan, 0.5], dtype))
    dy = kit.freeze(np.full(x.shape, 2, dtype))
    (dx,) = sigmoid.vjp(dy, kit.freeze(y), kit.Spec(x.shape, x.dtype), residuals=None, wanted=(True,), into=(None,))
    np.testing.assert_array_equal(dx, np.array([0, 0, 0, 0, 0, np.nan, 0.5], dtype))


def test_small_probabilities_keep_their_digits(kit):
    x = kit.freeze(np.array([-80.0, -20.0, -3.0], np.float32))
    np.testing.assert_allclose(sigmoid.forward(x)[0], 1 / (1 + np.exp(-x.astype(np.float64))), rtol=1e-6)


def test_nothing_and_strides(kit, rng):
    x = kit.freeze(np.empty((0, 3), np.float32))
    assert sigmoid.forward(x)[0].shape == (0, 3)
    x = rng.standard_normal((6, 5)).astype(np.float32)
    y, _ = sigmoid.forward(kit.freeze(x[::2, ::-1]))
    kit.close(y, oracle(1.0, x[::2, ::-1].astype(np.float64))[0], np.float32, 4)


def test_accepts():
    assert sigmoid.accepts(np.zeros(3, np.float32)) and sigmoid.accepts(np.zeros((), np.float64))
    assert not sigmoid.accepts(np.zeros(3, np.int64)) and not sigmoid.accepts(np.zeros(3, np.longdouble))
