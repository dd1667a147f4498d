import numpy as np
import pytest

from handgrad.kernels.cpu import cross_entropy


def oracle(logits, targets):
    """(loss, dloss/dlogits) row by row."""
    flat, ids = logits.reshape(-1, logits.shape[-1]).astype(np.longdouble), targets.reshape(-1)
    loss, gradient = np.longdouble(0), np.zeros_like(flat)
    for row, t, g in zip(flat, ids, gradient, strict=True):
        p = np.exp(row - row.max())
        p /= p.sum()
        loss -= np.log(p[t]) / len(ids)
        g[:] = (p - (np.arange(len(p)) == t)) / len(ids)
    return np.float64(loss), gradient.reshape(logits.shape).astype(np.float64)


@pytest.mark.parametrize("shape", [(1,), (5, 3), (2, 3, 65), (300, 65)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, shape, dtype):
    logits = kit.freeze((3 * rng.standard_normal(shape)).astype(dtype))
    targets = kit.freeze(rng.integers(0, shape[-1], shape[:-1]))
    assert cross_entropy.accepts(logits, targets)
    loss, residual = cross_entropy.forward(logits, targets)
    want, gradient = oracle(logits, targets)
    assert loss.shape == () and isinstance(loss, np.ndarray)
    kit.close(loss, want, dtype, 4, "loss")
    for scale in (1.0, -0.37):
        for _ in range(2):  # the residual is the same the second time
            dlogits, nothing = cross_entropy.vjp(
                kit.freeze(np.array(scale, dtype)), kit.Spec((), dtype), logits, targets,
                residuals=residual, wanted=(True, False), into=(None, None),
            )  # fmt: skip
            kit.close(dlogits, gradient * scale, dtype, 4, "dlogits")
            assert nothing is None
            assert (dlogits is residual) == (scale == 1)
    assert cross_entropy.vjp(
        np.array(1.0, dtype), None, logits, targets, residuals=residual, wanted=(False, False), into=(None, None)
    ) == (None, None)


def test_int32_and_strided(kit, rng):
    logits = rng.standard_normal((65, 400)).astype(np.float32).T
    targets = rng.integers(0, 65, 800).astype(np.int32)[::2]
    loss, residual = cross_entropy.forward(kit.freeze(logits), kit.freeze(targets))
    want, gradient = oracle(logits, targets)
    kit.close(loss, want, np.float32, 4)
    kit.close(residual, gradient, np.float32, 4)


@pytest.mark.parametrize("bad", [65, -1])
def test_targets_out_of_range(kit, bad):
    logits = kit.freeze(np.zeros((2, 65), np.float32))
    with pytest.raises(IndexError, match=f"cross_entropy: targets holds {bad}, but logits has 65 classes"):
        cross_entropy.forward(logits, kit.freeze(np.array([3, bad])))


def test_no_rows_is_nan(kit):
    loss, residual = cross_entropy.forward(kit.freeze(np.empty((0, 5), np.float32)), kit.freeze(np.empty(0, np.int64)))
    assert np.isnan(loss) and loss.dtype == np.float32 and residual.shape == (0, 5)


def test_not_finite(kit, rng):
    logits = rng.standard_normal((400, 65)).astype(np.float32)
    logits[0, 3] = -np.inf
    targets = np.full(400, 4)
    loss, residual = cross_entropy.forward(kit.freeze(logits.copy()), kit.freeze(targets))
    assert np.isfinite(loss) and residual[0, 3] == 0
    targets = targets.copy()
    targets[0] = 3
    loss, _ = cross_entropy.forward(kit.freeze(logits.copy()), kit.freeze(targets))
    assert loss == np.inf
    logits[7, 9] = np.nan
    loss, residual = cross_entropy.forward(kit.freeze(logits), kit.freeze(targets))
    assert np.isnan(loss) and np.isnan(residual[7]).all() and np.isfinite(np.delete(residual, 7, 0)).all()


def test_threads(kit, rng):
    import numba

    logits = kit.freeze(rng.standard_normal((900, 65)).astype(np.float32))
    targets = kit.freeze(rng.integers(0, 65, 900))
    many = cross_entropy.forward(logits, targets)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = cross_entropy.forward(logits, targets)
    finally:
        numba.set_num_threads(threads)
    assert many[0] == one[0]
    np.testing.assert_array_equal(many[1], one[1])
