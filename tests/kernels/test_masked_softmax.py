import numpy as np
import pytest

from handgrad.kernels.cpu import masked_softmax
from handgrad.kernels.cpu.masked_softmax import RUNGS, mask_rows


def oracle(dy, x, mask):
    with np.errstate(invalid="ignore"):
        e = np.where(mask, np.exp(x - np.max(np.where(mask, x, -np.inf), -1, keepdims=True)), 0.0)
    total = e.sum(-1, keepdims=True)
    y = e / np.where(total == 0, 1.0, total)
    return y, (y * (dy - (dy * y).sum(-1, keepdims=True)), None)


@pytest.mark.parametrize("name", ["numba", *RUNGS])
@pytest.mark.parametrize(
    ("shape", "mask_shape"),
    [((1,), (1,)), ((3, 7), (3, 7)), ((2, 5, 13), (5, 13)), ((2, 3, 40), (2, 1, 40)), ((4, 6), (6,)), ((4, 6), (4, 1)),
     ((300, 67), (300, 67)), ((2, 150, 64), (150, 64))],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, name, shape, mask_shape, dtype):
    pair = {"numba": masked_softmax, **RUNGS}[name]
    x, mask = 3 * rng.standard_normal(shape).astype(dtype), rng.random(mask_shape) < 0.6
    kit.check(pair, (x, mask), oracle, inputs="x mask", reads="y", length=8 + shape[-1], rng=rng)


@pytest.mark.parametrize("name", ["numba", *RUNGS])
def test_what_is_masked_may_be_anything_and_nothing_gives_zeros(kit, name):
    pair = {"numba": masked_softmax, **RUNGS}[name]
    x = kit.freeze(
        np.array([[np.nan, 0.0, 0.0], [np.inf, 1.0, 1.0], [-np.inf, -np.inf, 5.0], [1.0, 2.0, 3.0]], np.float32)
    )
    mask = kit.freeze(np.array([[0, 1, 1], [0, 1, 1], [1, 1, 0], [0, 0, 0]], bool))
    y, _ = pair.forward(x, mask)
    np.testing.assert_array_equal(y, np.array([[0, 0.5, 0.5], [0, 0.5, 0.5], [0, 0, 0], [0, 0, 0]], np.float32))
    seen = kit.freeze(np.ones((4, 3), bool))
    assert np.isnan(pair.forward(x, seen)[0][0]).all()  # what is seen is not hidden


def test_nothing_and_strides(kit, rng):
    none = kit.freeze(np.ones((0, 3), bool))
    assert masked_softmax.forward(kit.freeze(np.empty((0, 3), np.float32)), none)[0].shape == (0, 3)
    x, mask = rng.standard_normal((6, 10)).astype(np.float32), rng.random((6, 10)) < 0.5
    y, _ = masked_softmax.forward(kit.freeze(x[::2, ::-1]), kit.freeze(mask[::2, ::-1]))
    kit.close(y, oracle(0.0, x[::2, ::-1].astype(np.float64), mask[::2, ::-1])[0], np.float32, 18)


def test_a_mask_with_fewer_axes_is_not_written_out():
    mask = np.ones((5, 13), bool)
    assert np.shares_memory(mask_rows(mask, (2, 5, 13)), mask)
    assert mask_rows(np.ones((2, 1, 13), bool), (2, 5, 13)).shape == (10, 13)


def test_accepts():
    x, mask = np.zeros((3, 4), np.float32), np.ones((3, 4), bool)
    assert masked_softmax.accepts(x, mask) and masked_softmax.accepts(x, mask, axis=1)
    assert not masked_softmax.accepts(x, mask, axis=0)
    assert not masked_softmax.accepts(x, mask.astype(np.int64))
