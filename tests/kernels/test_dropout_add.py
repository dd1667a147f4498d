import numpy as np
import pytest

from handgrad.kernels.cpu import dropout, dropout_add
from handgrad.kernels.cpu.philox import bernoulli_mask

DRAW = (2**63 + 1, 2, 2**64 - 5)  # all 64 bits, and a counter that wraps around
PAIRS = {"numba": dropout_add, **dropout_add.RUNGS}


def oracle(dy, x, residual, draw, *, p):
    mask = bernoulli_mask(*(int(word) for word in draw), x.size, 1 - p).reshape(x.shape)
    return residual + np.where(mask, x / (1 - p), 0), (np.where(mask, dy / (1 - p), 0), dy, None)


def arrays_of(rng, shape, dtype):
    return (*(np.asarray(rng.standard_normal(shape)).astype(dtype) for _ in range(2)), np.array(DRAW, np.uint64))


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(), (3, 5), (32,), (64,), (5, 13, 3), (70, 301)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, shape, p, dtype, pair):
    arrays = arrays_of(rng, shape, dtype)
    kit.check(pair, arrays, oracle, inputs="x residual draw", reads="draw", length=2, rng=rng, p=p)


@pytest.mark.parametrize("size", [100, 50_001])
def test_the_same_bits_as_dropout_and_an_addition(kit, rng, size):
    """Forward, and on the way back, written and added."""
    x, residual, draw = (kit.freeze(a) for a in arrays_of(rng, (size,), np.float32))
    dy = kit.freeze(rng.standard_normal(size).astype(np.float32))
    mask = kit.freeze(bernoulli_mask(*DRAW, size, 0.9))
    y, bits = dropout_add.forward(x, residual, draw, p=0.1)
    np.testing.assert_array_equal(y, residual + dropout.forward(x, mask, p=0.1)[0])
    assert bits.nbytes <= size / 8 + 12  # one bit a number, in groups of 64, and a word that is read and not used
    want = dropout.vjp(dy, None, x, mask, residuals=None, wanted=(True, False), into=(None, None), p=0.1)[0]
    for add in (False, True):
        offer = np.ones(size, np.float32), add
        dx, dresidual, _ = dropout_add.vjp(
            dy, None, x, residual, draw, residuals=bits, wanted=(True,) * 3, into=(offer, None, None), p=0.1
        )
        assert dx is offer[0] and dresidual is dy
        np.testing.assert_array_equal(dx, want + np.float32(add))


def test_edges(kit):
    x = kit.freeze(np.array([np.nan, np.inf] * 40, np.float32))
    residual, draw = kit.freeze(np.full(80, 2, np.float32)), kit.freeze(np.array([1, 0, 0]))
    mask = bernoulli_mask(1, 0, 0, 80, 0.5)
    y, _ = dropout_add.forward(x, residual, draw, p=0.5)
    np.testing.assert_array_equal(y, np.where(mask, x, 2))
    assert 0 < mask.sum() < 80
    nothing = kit.freeze(np.empty((0, 2), np.float32))
    y, bits = dropout_add.forward(nothing, nothing, draw, p=0.5)
    dx = dropout_add.vjp(
        nothing, None, nothing, nothing, draw, residuals=bits, wanted=(True,) * 3, into=(None,) * 3, p=0.5
    )[0]
    assert y.shape == dx.shape == (0, 2)


def test_accepts():
    x, draw = np.zeros((2, 3), np.float32), np.zeros(3, np.int64)
    assert dropout_add.accepts(x, x, draw, p=0.0) and not dropout_add.accepts(x, x, draw, p=1.0)
    assert not dropout_add.accepts(x, x[0], draw, p=0.5) and not dropout_add.accepts(x, x.astype(float), draw, p=0.5)
    assert not dropout_add.accepts(x, x, draw[:2], p=0.5) and not dropout_add.accepts(x, x, draw * 1.0, p=0.5)
    assert not dropout_add.accepts(x, x, draw, p=1 - 2.0**-40)  # no word keeps, which a largest one cannot say
