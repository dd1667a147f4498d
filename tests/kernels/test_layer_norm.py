import numpy as np
import pytest

from handgrad.kernels.cpu import layer_norm


def oracle(dy, x, weight, bias=None, *, eps=1e-5):
    C = x.shape[-1]
    mean = x.mean(-1, keepdims=True)
    r = 1 / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps)
    h = (x - mean) * r
    y = h * weight + (0 if bias is None else bias)
    g = dy * weight
    projector = np.eye(C) - 1 / C - np.einsum("...i,...j->...ij", h, h) / C  # the Jacobian of h, divided by r
    dx = r * np.einsum("...i,...ij->...j", g, projector)
    gradients = (dx, (dy * h).reshape(-1, C).sum(0), dy.reshape(-1, C).sum(0))
    return y, gradients if bias is not None else gradients[:2]


@pytest.mark.parametrize("with_bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("shape", [(1,), (2, 3), (5, 1), (3, 2, 37), (257, 128)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, shape, dtype, with_bias):
    C = shape[-1]
    x = (2 * rng.standard_normal(shape) + 1).astype(dtype)
    weight, bias = (rng.standard_normal(C).astype(dtype) for _ in range(2))
    arrays = (x, weight, bias) if with_bias else (x, weight)
    # C = 1 has r = 1 / sqrt(eps), which multiplies the rounding of x
    length = max(C, x.size // C) ** 0.5 * (300 if C == 1 else 8)
    kit.check(layer_norm, arrays, oracle, inputs="x weight bias", reads="x weight", length=length, rng=rng, eps=1e-5)


def test_bias_of_none_is_an_input(kit, rng):
    x, weight = kit.freeze(rng.standard_normal((2, 4))), kit.freeze(rng.standard_normal(4))
    y, r = layer_norm.forward(x, weight, None)
    out = layer_norm.vjp(
        kit.freeze(y.copy()), y, x, weight, None, residuals=r, wanted=(True, True, False), into=(None,) * 3
    )
    assert len(out) == 3 and out[2] is None


def test_offset_does_not_cancel(kit, rng):
    """Mean 1000, deviation 1: one-pass variance would lose five of float32's seven digits."""
    x = (1000 + rng.standard_normal((4, 64))).astype(np.float32)
    weight = np.ones(64, np.float32)
    y, _ = layer_norm.forward(kit.freeze(x), kit.freeze(weight))
    want, _ = oracle(np.zeros(x.shape), x.astype(np.float64), weight.astype(np.float64))
    assert np.abs(y - want).max() < 1000 * 64**0.5 * np.finfo(np.float32).eps


@pytest.mark.parametrize("rows", [3, 300])
def test_nan_stays_in_its_row(kit, rng, rows):
    x = rng.standard_normal((rows, 64)).astype(np.float32)
    x[1, 5] = np.nan
    y, _ = layer_norm.forward(kit.freeze(x), kit.freeze(np.ones(64, np.float32)))
    assert np.isnan(y[1]).all() and np.isfinite(np.delete(y, 1, 0)).all()


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)], ids=str)
def test_nothing(kit, shape):
    x, w = kit.freeze(np.empty(shape, np.float32)), kit.freeze(np.ones(shape[-1], np.float32))
    y, r = layer_norm.forward(x, w, w)
    d = layer_norm.vjp(kit.freeze(y), y, x, w, w, residuals=r, wanted=(True,) * 3, into=(None,) * 3)
    assert [g.shape for g in d] == [shape, w.shape, w.shape] and not any(g.any() for g in d)


def test_accepts():
    x, w = np.zeros((2, 3), np.float32), np.zeros(3, np.float32)
    assert layer_norm.accepts(x, w) and layer_norm.accepts(x, w, w, eps=1e-6)
    assert not layer_norm.accepts(x, np.zeros(2, np.float32))
    assert not layer_norm.accepts(x, w.astype(np.float64))
