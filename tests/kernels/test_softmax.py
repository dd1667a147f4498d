import numpy as np
import pytest

from handgrad.kernels.cpu import softmax
from handgrad.kernels.cpu.row_passes import STREAM_BYTES


def oracle(dy, x, *, axis=-1):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    jacobian = np.einsum("...i,ij->...ij", y, np.eye(x.shape[-1])) - np.einsum("...i,...j->...ij", y, y)
    return y, (np.einsum("...i,...ij->...j", dy, jacobian),)


PAIRS = {"production": softmax, **softmax.RUNGS}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 17), (7, 65), (3, 130), (700, 64)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, pair, shape, dtype):
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    kit.check(pair, (x,), oracle, inputs="x", reads="y", length=4, rng=rng)


def test_a_result_that_is_streamed_has_the_same_bits(kit, rng):
    """Rows of odd length of an array beyond STREAM_BYTES against the same rows by themselves."""
    x, dy = (kit.freeze(rng.standard_normal((90, 100_003)).astype(np.float32)) for _ in range(2))
    assert x.nbytes >= STREAM_BYTES

    def both(x, dy):
        y, _ = softmax.forward(x)
        return y, softmax.vjp(dy, kit.freeze(y), x, residuals=None, wanted=(True,), into=(None,))[0]

    for large, small in zip(both(x, dy), both(x[7:9], dy[7:9]), strict=True):
        np.testing.assert_array_equal(large[7:9], small)


def test_strided_input(kit, rng):
    x = rng.standard_normal((64, 33)).astype(np.float32)
    y, _ = softmax.forward(kit.freeze(x.T))
    kit.close(y, oracle(np.zeros((33, 64)), x.T.astype(np.float64))[0], np.float32, 4)


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0)], ids=str)
def test_nothing(kit, shape):
    x = kit.freeze(np.empty(shape, np.float32))
    y, _ = softmax.forward(x)
    assert y.shape == shape
    (dx,) = softmax.vjp(x, kit.freeze(y), kit.Spec(x.shape, x.dtype), residuals=None, wanted=(True,), into=(None,))
    assert dx.shape == shape


@pytest.mark.parametrize("rows", [2, 400])
def test_not_finite(kit, rng, rows):
    """NaN fills its row and no other; -inf gives exactly 0; +inf gives NaN, as e^(inf - inf) does."""
    x = rng.standard_normal((rows, 50)).astype(np.float32)
    x[0, 37] = np.nan
    x[1, 3:40] = -np.inf
    y, _ = softmax.forward(kit.freeze(x))
    assert np.isnan(y[0]).all()
    assert (y[1, 3:40] == 0).all() and np.isfinite(y[1]).all()
    np.testing.assert_allclose(y[1:].sum(-1), 1, rtol=1e-6)
    x = np.array([[1.0, np.inf, 2.0], [-np.inf] * 3, [np.nan] * 3], np.float32)
    assert np.isnan(softmax.forward(kit.freeze(x))[0]).all()


def test_large_logits(kit):
    x = np.array([[1e30, -1e30, 1e30], [88.0, 89.0, -300.0]], np.float32)
    np.testing.assert_allclose(
        softmax.forward(kit.freeze(x))[0], [[0.5, 0, 0.5], [0.26894143, 0.7310586, 0]], rtol=1e-6, atol=1e-38
    )


def test_rung_01_equals_production(kit, rng):
    x, dy = (kit.freeze(rng.standard_normal((9, 21)).astype(np.float32)) for _ in range(2))
    y, dx = np.empty_like(x), np.empty_like(x)
    softmax.softmax_forward_01_naive(x, y)
    want_y, (want_dx,) = oracle(dy.astype(np.float64), x.astype(np.float64))
    kit.close(y, want_y, np.float32, 4)
    softmax.softmax_vjp_01_naive(dy, kit.freeze(y), dx)
    kit.close(dx, want_dx, np.float32, 4)


def test_accepts(rng):
    x = np.zeros((2, 3), np.float32)
    assert softmax.accepts(x) and softmax.accepts(x, axis=1)
    assert not softmax.accepts(x, axis=0)
    assert not softmax.accepts(x.astype(np.float16))
    assert not softmax.accepts(np.zeros((), np.float32))
