import numpy as np
import pytest

from handgrad.kernels.cpu import logsumexp
from handgrad.kernels.cpu.logsumexp import RUNGS

PAIRS = {"numba": logsumexp, **RUNGS}


def oracle(dy, x, axis=-1, keepdims=False):
    m = x.max(-1, keepdims=True)
    total = np.exp(x - m).sum(-1, keepdims=True)
    y = m + np.log(total)
    dy = np.asarray(dy).reshape(y.shape)
    return y if keepdims else y[..., 0], (dy * np.exp(x - m) / total,)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape", [(1,), (3, 7), (2, 5, 13), (300, 67), (4, 5000)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, name, keepdims, shape, dtype):
    x = 3 * rng.standard_normal(shape).astype(dtype)
    kit.check(
        PAIRS[name], (x,), oracle, inputs="x", reads="x", length=8 + shape[-1], rng=rng, axis=-1, keepdims=keepdims
    )


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_not_finite(kit, name):
    rows = [[-np.inf, -np.inf], [np.inf, 1.0], [np.nan, 1.0], [-np.inf, 1.0], [1e30, 1e30]]
    x = kit.freeze(np.array(rows, np.float32))
    y, residuals = PAIRS[name].forward(x, axis=-1)
    np.testing.assert_array_equal(y, np.array([-np.inf, np.inf, np.nan, 1.0, 1e30], np.float32))
    dy = kit.freeze(np.ones(5, np.float32))
    (dx,) = PAIRS[name].vjp(dy, kit.freeze(y), x, residuals=residuals, wanted=(True,), into=(None,), axis=-1)
    np.testing.assert_array_equal(dx[0], [0, 0])
    assert np.isnan(dx[1, 0]) and np.isnan(dx[2]).all()
    np.testing.assert_array_equal(dx[3:], np.array([[0, 1], [0.5, 0.5]], np.float32))


def test_nothing_strides_and_accepts(kit, rng):
    y, _ = logsumexp.forward(kit.freeze(np.empty((0, 3), np.float32)), axis=1)
    assert y.shape == (0,)
    np.testing.assert_array_equal(logsumexp.forward(kit.freeze(np.empty((2, 0), np.float32)), axis=1)[0], [-np.inf] * 2)
    x = rng.standard_normal((6, 10)).astype(np.float32)
    y, _ = logsumexp.forward(kit.freeze(x[::2, ::-1]), axis=-1)
    kit.close(y, oracle(np.ones(3), x[::2, ::-1].astype(np.float64))[0], np.float32, 18)
    assert logsumexp.accepts(x, axis=1) and logsumexp.accepts(x[0]) and logsumexp.accepts(x, axis=(-1,))
    assert not (logsumexp.accepts(x) or logsumexp.accepts(x, axis=0) or logsumexp.accepts(x.astype(np.int64), axis=1))
