import numpy as np
import pytest

from handgrad.kernels.cpu import rms_norm


def oracle(dy, x, weight, *, eps=1e-6):
    C = x.shape[-1]
    r = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    h = x * r
    projector = np.eye(C) - np.einsum("...i,...j->...ij", h, h) / C  # the Jacobian of h, divided by r
    dx = r * np.einsum("...i,...ij->...j", dy * weight, projector)
    return h * weight, (dx, (dy * h).reshape(-1, C).sum(0))


@pytest.mark.parametrize("shape", [(1,), (2, 3), (5, 1), (3, 2, 37), (257, 128)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, shape, dtype):
    C = shape[-1]
    x, weight = (rng.standard_normal(n).astype(dtype) for n in (shape, C))
    # a single entry is its own root mean square: dx is what two nearly equal terms leave, each 1 / |x| large
    length = max(C, x.size // C) ** 0.5 * (8 if C > 1 else 8 / float(np.abs(x).min()))
    kit.check(rms_norm, (x, weight), oracle, inputs="x weight", reads="x weight", length=length, rng=rng, eps=1e-6)


@pytest.mark.parametrize("rows", [3, 300])
def test_nan_stays_in_its_row(kit, rng, rows):
    x = rng.standard_normal((rows, 64)).astype(np.float32)
    x[1, 5] = np.nan
    y, _ = rms_norm.forward(kit.freeze(x), kit.freeze(np.ones(64, np.float32)))
    assert np.isnan(y[1]).all() and np.isfinite(np.delete(y, 1, 0)).all()


def test_zeros_stay_zeros(kit):
    """Only eps keeps the division finite."""
    x, weight = kit.freeze(np.zeros((2, 5), np.float32)), kit.freeze(np.ones(5, np.float32))
    y, r = rms_norm.forward(x, weight)
    assert not y.any()
    dy = kit.freeze(np.full((2, 5), 2.0, np.float32))
    dx, dweight = rms_norm.vjp(dy, y, x, weight, residuals=r, wanted=(True, True), into=(None, None))
    np.testing.assert_allclose(dx, np.full((2, 5), 2e3), rtol=1e-6)
    assert not dweight.any()


def test_strided_input(kit, rng):
    x, weight = rng.standard_normal((6, 8)).astype(np.float32), kit.freeze(np.ones(4, np.float32))
    y, _ = rms_norm.forward(kit.freeze(x[::2, ::-2]), weight)
    kit.close(y, oracle(0.0, x[::2, ::-2].astype(np.float64), weight)[0], np.float32, 8)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)], ids=str)
def test_nothing(kit, shape):
    x, w = kit.freeze(np.empty(shape, np.float32)), kit.freeze(np.ones(shape[-1], np.float32))
    y, r = rms_norm.forward(x, w)
    d = rms_norm.vjp(kit.freeze(y), y, x, w, residuals=r, wanted=(True,) * 2, into=(None,) * 2)
    assert [g.shape for g in d] == [shape, w.shape] and not any(g.any() for g in d)


def test_accepts():
    x, w = np.zeros((2, 3), np.float32), np.zeros(3, np.float32)
    assert rms_norm.accepts(x, w) and rms_norm.accepts(x, w, eps=1e-5)
    assert not rms_norm.accepts(x, np.zeros(2, np.float32))
    assert not rms_norm.accepts(x, w.astype(np.float64))
