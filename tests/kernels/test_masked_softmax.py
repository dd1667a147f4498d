import numpy as np
import pytest

from handgrad.kernels.cpu import masked_softmax

PAIRS = {"production": masked_softmax, **masked_softmax.RUNGS}


def oracle(dy, x, mask, *, axis=-1):
    s = np.where(mask, x, -np.inf)
    m = s.max(axis=-1, keepdims=True)
    e = np.exp(s - np.where(m == -np.inf, 0, m))
    total = e.sum(axis=-1, keepdims=True)
    y = e / np.where(total == 0, 1, total)
    jacobian = np.einsum("...i,ij->...ij", y, np.eye(x.shape[-1])) - np.einsum("...i,...j->...ij", y, y)
    return y, (np.einsum("...i,...ij->...j", dy, jacobian), None)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.parametrize(
    ("shape", "mask"),
    [
        ((1,), (1,)), ((3, 5), (5,)), ((2, 3, 17), (1, 3, 17)), ((4, 2, 65), (4, 1, 65)), ((7, 65), (7, 1)),
        ((3, 130), (1, 1)), ((3, 4), ()), ((10, 70, 64), (70, 64)), ((700, 64), (700, 64)),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, pair, shape, mask, dtype):
    """Every way to stretch a mask; some rows of nothing."""
    x, mask = (3 * rng.standard_normal(shape)).astype(dtype), np.asarray(rng.random(mask) < 0.6)
    kit.check(pair, (x, mask), oracle, inputs="x mask", reads="y", length=4, rng=rng)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_what_is_masked_may_be_anything(kit, pair):
    """NaN and +inf that nobody sees do no harm; a NaN that is seen fills what the mask allows, and no more."""
    mask = kit.freeze(np.array([[False, True, True], [False, False, False], [True, True, False], [True, True, True]]))
    x = np.array([[np.nan, 1.0, 1.0], [np.inf, np.nan, 1.0], [np.nan, 1.0, 1.0], [-np.inf] * 3])
    y, _ = pair.forward(kit.freeze(x), mask)
    nan = np.nan
    np.testing.assert_array_equal(y, [[0, 0.5, 0.5], [0, 0, 0], [nan, nan, 0], [0, 0, 0]])


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0)], ids=str)
def test_nothing(kit, shape):
    x, mask = kit.freeze(np.empty(shape, np.float32)), kit.freeze(np.empty(shape, bool))
    assert masked_softmax.forward(x, mask)[0].shape == shape


def test_a_mask_of_fewer_axes_is_not_written_out():
    mask = np.ones((1, 3, 4), bool)
    assert np.shares_memory(masked_softmax.mask_rows(mask, (2, 3, 4)), mask)
    assert masked_softmax.mask_rows(mask, (2, 3, 4)).shape == (3, 4)
    assert masked_softmax.mask_rows(np.ones((2, 1, 4), bool), (2, 3, 4)).shape == (6, 4)


def test_accepts():
    x = np.zeros((2, 3), np.float32)
    assert masked_softmax.accepts(x, x > 0) and not masked_softmax.accepts(x, x > 0, axis=0)
    assert not masked_softmax.accepts(x, np.zeros((2, 3), np.int64))
