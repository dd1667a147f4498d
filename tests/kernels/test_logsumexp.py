import numpy as np
import pytest

from handgrad.kernels.cpu import logsumexp

PAIRS = {"production": logsumexp, **logsumexp.RUNGS}


def oracle(dy, x, *, axis=-1, keepdims=False):
    """In float64, one row of the last axis at a time."""
    y, dx = np.empty((*x.shape[:-1], 1)), np.empty_like(x)
    dy = dy.reshape(y.shape)
    for i in np.ndindex(x.shape[:-1]):
        m = x[i].max(initial=-np.inf)
        e = np.exp(x[i] - (m if np.isfinite(m) else 0.0))
        y[i] = (m if np.isfinite(m) else 0.0) + np.log(e.sum())
        dx[i] = dy[i] * e / (e.sum() or 1.0)
    return (y if keepdims else y[..., 0]), (dx,)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 17), (7, 65), (3, 130), (700, 64)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, pair, shape, dtype):
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    params = {"axis": -1, "keepdims": len(shape) == 2}
    kit.check(pair, (x,), oracle, inputs="x", reads="x y", length=8, rng=rng, **params)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_not_finite(kit, rng, pair):
    """-inf alone and no entries at all sum to nothing; +inf outweighs the rest; NaN fills its row."""
    x = np.array([[1.0, -np.inf], [-np.inf, -np.inf], [np.inf, 1.0], [np.nan, 1.0], [np.nan, np.nan]])
    with np.errstate(all="ignore"):
        y, residuals = pair.forward(kit.freeze(x), axis=1)
        np.testing.assert_array_equal(y, [1.0, -np.inf, np.inf, np.nan, np.nan])
        (dx,) = pair.vjp(kit.freeze(np.ones(5)), y, x, residuals=residuals, wanted=(True,), into=(None,), axis=1)
    nan = np.nan
    np.testing.assert_array_equal(dx, [[1, 0], [0, 0], [nan, 0], [nan, nan], [nan, nan]])
    y, residuals = pair.forward(kit.freeze(np.empty((2, 0))), axis=-1, keepdims=True)
    assert y.tolist() == [[-np.inf], [-np.inf]]
    assert pair.forward(kit.freeze(np.empty((0, 3))), axis=-1)[0].shape == (0,)


def test_gradients_do_not_show_the_digits_that_y_lost(kit):
    """e^(x - y) with y rounded to the ulp of 1e6, here 0.06, would be off by as much."""
    x = kit.freeze(np.array([[1e6, 1e6 - 1.0, 1e6 - 3.0]], np.float32))
    y, residuals = logsumexp.forward(x, axis=1)
    dy = kit.freeze(np.ones(1, np.float32))
    (dx,) = logsumexp.vjp(dy, y, x, residuals=residuals, wanted=(True,), into=(None,), axis=1)
    kit.close(dx, oracle(np.ones(1), x.astype(np.float64))[1][0], np.float32, 2)


def test_accepts():
    x = np.zeros((2, 3), np.float32)
    assert all(logsumexp.accepts(x, axis=axis) for axis in (-1, 1, (1,), (-1,)))
    assert not any(logsumexp.accepts(x, axis=axis) for axis in (None, 0, (0,), (0, 1), ()))
    assert logsumexp.accepts(x[0]) and not logsumexp.accepts(x[0].astype(np.float16))
    assert not logsumexp.accepts(np.zeros((), np.float32))
