import numpy as np
import pytest

from handgrad.kernels.cpu import dropout


def oracle(dy, x, mask, *, p):
    return x * mask / (1 - p), (dy * mask / (1 - p), None)


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(), (3, 5), (70, 301)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, shape, p, dtype):
    x = np.asarray(rng.standard_normal(shape)).astype(dtype)
    mask = np.asarray(rng.random(shape) >= p)
    kit.check(dropout, (x, mask), oracle, inputs="x mask", reads="mask", length=2, rng=rng, p=p)


def test_edges(kit):
    x = kit.freeze(np.array([np.nan, 1.0, np.inf, 2.0], np.float32))
    y, _ = dropout.forward(x, kit.freeze(np.array([False, False, True, True])), p=0.5)
    np.testing.assert_array_equal(y, np.array([0, 0, np.inf, 4], np.float32))
    mask = np.ones(4, bool)
    assert dropout.accepts(x, mask, p=0.0) and not dropout.accepts(x, mask, p=1.0)
    assert not dropout.accepts(x, mask[:3], p=0.5) and not dropout.accepts(x, x, p=0.5)
    nothing = kit.freeze(np.empty((0, 2), np.float32))
    assert dropout.forward(nothing, kit.freeze(np.empty((0, 2), bool)), p=0.5)[0].shape == (0, 2)
