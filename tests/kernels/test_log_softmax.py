import numpy as np
import pytest

from handgrad.kernels.cpu import log_softmax
from handgrad.kernels.cpu.row_passes import STREAM_BYTES


def oracle(dy, x, *, axis=-1):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    jacobian = np.eye(x.shape[-1]) - np.broadcast_to(y[..., None, :], (*x.shape, x.shape[-1]))
    return np.log(y), (np.einsum("...i,...ij->...j", dy, jacobian),)


PAIRS = {"production": log_softmax, **log_softmax.RUNGS}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 17), (7, 65), (3, 130), (700, 64)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, pair, shape, dtype):
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    kit.check(pair, (x,), oracle, inputs="x", reads="y", length=4 + shape[-1] ** 0.5, rng=rng)


def test_a_result_that_is_streamed_has_the_same_bits(kit, rng):
    """Rows of odd length of an array beyond STREAM_BYTES against the same rows by themselves."""
    x, dy = (kit.freeze(rng.standard_normal((90, 100_003)).astype(np.float32)) for _ in range(2))
    assert x.nbytes >= STREAM_BYTES

    def both(x, dy):
        y, _ = log_softmax.forward(x)
        return y, log_softmax.vjp(dy, kit.freeze(y), x, residuals=None, wanted=(True,), into=(None,))[0]

    for large, small in zip(both(x, dy), both(x[7:9], dy[7:9]), strict=True):
        np.testing.assert_array_equal(large[7:9], small)


def test_strided_input(kit, rng):
    x = rng.standard_normal((64, 33)).astype(np.float32)
    y, _ = log_softmax.forward(kit.freeze(x.T))
    kit.close(y, oracle(np.zeros((33, 64)), x.T.astype(np.float64))[0], np.float32, 4)


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0)], ids=str)
def test_nothing(kit, shape):
    x = kit.freeze(np.empty(shape, np.float32))
    y, _ = log_softmax.forward(x)
    (dx,) = log_softmax.vjp(x, kit.freeze(y), x, residuals=None, wanted=(True,), into=(None,))
    assert y.shape == dx.shape == shape


@pytest.mark.parametrize("rows", [2, 400])
def test_not_finite(kit, rng, rows):
    """NaN fills its row and no other; -inf stays -inf; +inf gives NaN, as inf - inf does."""
    x = rng.standard_normal((rows, 50)).astype(np.float32)
    x[0, 37] = np.nan
    x[1, 3:40] = -np.inf
    y, _ = log_softmax.forward(kit.freeze(x))
    assert np.isnan(y[0]).all()
    assert (y[1, 3:40] == -np.inf).all() and np.isfinite(np.delete(y[1], slice(3, 40))).all()
    np.testing.assert_allclose(np.exp(y[1:]).sum(-1), 1, rtol=1e-6)
    x = np.array([[-np.inf] * 3, [np.nan] * 3], np.float32)
    assert np.isnan(log_softmax.forward(kit.freeze(x))[0]).all()


def test_a_large_shift_costs_no_digits(kit):
    """x - (m + log sum) would round log sum to the ulp of m, here 0.06."""
    x = kit.freeze(np.array([[1e6, 1e6 - 1.0, 1e6 - 3.0]], np.float32))
    kit.close(log_softmax.forward(x)[0], oracle(np.zeros(x.shape), x.astype(np.float64))[0], np.float32, 2)


def test_accepts():
    x = np.zeros((2, 3), np.float32)
    assert log_softmax.accepts(x) and log_softmax.accepts(x, axis=1) and not log_softmax.accepts(x, axis=0)
    assert not log_softmax.accepts(x.astype(np.longdouble))
