import numpy as np
import pytest

from handgrad.kernels.cpu import embedding


def oracle(dy, weight, ids):
    onehot = (ids.reshape(-1, 1) == np.arange(weight.shape[0])).astype(np.float64)
    return (onehot @ weight).reshape(*ids.shape, -1), (onehot.T @ dy.reshape(-1, weight.shape[1]), None)


@pytest.mark.parametrize(
    ("V", "C", "shape"), [(5, 3, ()), (5, 3, (4,)), (65, 128, (12, 64)), (300, 130, (200,))], ids=str
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, V, C, shape, dtype):
    weight = rng.standard_normal((V, C)).astype(dtype)
    ids = np.asarray(rng.integers(0, V, shape))
    kit.check(embedding, (weight, ids), oracle, inputs="weight ids", reads="ids", length=8, rng=rng)


@pytest.mark.parametrize("shape", [(2,), (300, 20)], ids=str)
@pytest.mark.parametrize("bad", [70, -1])
def test_ids_out_of_range(kit, bad, shape):
    """Serial and on all threads; the way back looks for itself."""
    weight, ids = kit.freeze(np.zeros((65, 4), np.float32)), np.ones(shape, np.int64)
    ids[-1] = bad
    kit.freeze(ids)
    with pytest.raises(IndexError, match=f"embedding: ids holds {bad}, but weight has 65 rows"):
        embedding.forward(weight, ids)
    with pytest.raises(IndexError, match=f"embedding: ids holds {bad}"):
        embedding.vjp(
            kit.freeze(np.zeros((*shape, 4), np.float32)), None, weight, ids,
            residuals=None, wanted=(True, False), into=(None, None),
        )  # fmt: skip


def test_nothing_int32_and_nan(kit, rng):
    weight = rng.standard_normal((6, 4)).astype(np.float32)
    weight[2] = np.nan
    y, _ = embedding.forward(kit.freeze(weight), kit.freeze(np.array([1, 2, 5], np.int32)))
    np.testing.assert_array_equal(y, weight[[1, 2, 5]])
    none = kit.freeze(np.empty((2, 0), np.int64))
    assert embedding.forward(weight, none)[0].shape == (2, 0, 4)
    dy = kit.freeze(np.empty((2, 0, 4), np.float32))
    buffer = np.ones((6, 4), np.float32)
    d, _ = embedding.vjp(dy, None, weight, none, residuals=None, wanted=(True, False), into=((buffer, False), None))
    assert d is buffer and not buffer.any()


@pytest.mark.parametrize("shape", [(4,), (40, 20)], ids=str)
def test_padding_row_gets_nothing(kit, rng, shape):
    """Serial and on all threads; a lent buffer keeps what it held there."""
    weight = rng.standard_normal((6, 70)).astype(np.float32)
    ids = np.asarray(rng.integers(0, 6, shape))

    def padded(dy, weight, ids, padding_idx):
        y, (dweight, nothing) = oracle(dy, weight, ids)
        dweight[padding_idx] = 0.0
        return y, (dweight, nothing)

    kit.check(embedding, (weight, ids), padded, inputs="weight ids", reads="ids", length=40, rng=rng, padding_idx=2)


def test_no_columns(kit):
    """(V, 0) has nothing to gather and nothing to check: forward and backward agree."""
    weight, ids = kit.freeze(np.empty((0, 0), np.float32)), kit.freeze(np.array([2, 2]))
    y, _ = embedding.forward(weight, ids)
    d, _ = embedding.vjp(kit.freeze(y), None, weight, ids, residuals=None, wanted=(True, False), into=(None, None))
    assert y.shape == (2, 0) and d is not None and d.shape == (0, 0)
