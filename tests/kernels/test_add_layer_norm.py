import numpy as np
import pytest

from handgrad.kernels.cpu import add_layer_norm


def oracle(dy, ds, x, residual, weight, bias=None, *, eps=1e-5):
    C = x.shape[-1]
    s = x + residual
    c = s - s.mean(-1, keepdims=True)
    r = 1 / np.sqrt((c * c).mean(-1, keepdims=True) + eps)
    h = c * r
    projector = np.eye(C) - 1 / C - np.einsum("...i,...j->...ij", h, h) / C  # the Jacobian of h, divided by r
    dx = ds + r * np.einsum("...i,...ij->...j", dy * weight, projector)
    gradients = (dx, dx, (dy * h).reshape(-1, C).sum(0), dy.reshape(-1, C).sum(0))
    return h * weight + (0 if bias is None else bias), s, gradients[: 4 if bias is not None else 3]


def arrays_of(rng, shape, dtype, with_bias=True):
    arrays = [rng.standard_normal(n).astype(dtype) for n in (shape, shape, shape[-1], shape[-1])]
    return arrays[: 4 if with_bias else 3]


def frozen(kit, arrays):
    return [kit.freeze(a) for a in arrays]


@pytest.mark.parametrize("with_bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("unused", [None, 0, 1], ids=["both outputs", "y unused", "s unused"])
@pytest.mark.parametrize("shape", [(3,), (5, 7), (3, 2, 37), (257, 128)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, shape, dtype, unused, with_bias):
    """Two outputs are more than kit.check knows, so y and s are checked here and each gradient against the oracle."""
    arrays = arrays_of(rng, shape, dtype, with_bias)
    dys = [None if k == unused else rng.standard_normal(shape).astype(dtype) for k in range(2)]
    exact_dys = [np.zeros(shape) if dy is None else dy.astype(np.float64) for dy in dys]
    want_y, want_s, want = oracle(*exact_dys, *(a.astype(np.float64) for a in arrays))
    (y, s), saved = add_layer_norm.forward(*frozen(kit, arrays))
    length = max(shape[-1], y.size // shape[-1]) ** 0.5 * 16
    kit.close(y, want_y, dtype, length, "y")
    kit.close(s, want_s, dtype, 1, "s")
    spec = kit.Spec(s.shape, s.dtype)  # x, residual and y are not read

    def vjp(wanted, into):
        cotangents = tuple(None if dy is None else kit.freeze(dy) for dy in dys)
        return add_layer_norm.vjp(
            cotangents,
            (spec, kit.freeze(s)),
            spec,
            spec,
            *frozen(kit, arrays[2:]),
            residuals=saved,
            wanted=wanted,
            into=into,
        )

    n = len(arrays)
    for name, got, exact in zip(("x", "residual", "weight", "bias"), vjp((True,) * n, (None,) * n), want, strict=False):
        kit.close(got, exact, dtype, length, f"d{name}")
    for i in range(n):
        start = rng.standard_normal(arrays[i].shape).astype(dtype)
        for add in (False, True):
            buffer = start.copy() if add else np.full_like(start, np.nan)
            only = tuple(j == i for j in range(n))
            gradients = vjp(only, tuple((buffer, add) if o else None for o in only))
            assert gradients[i] is buffer and all(g is None for g, o in zip(gradients, only, strict=True) if not o)
            kit.close(buffer, want[i] + (start if add else 0), dtype, length, f"into, add={add}")


def test_same_bits_for_any_number_of_threads(kit, rng):
    import numba

    arrays = frozen(kit, arrays_of(rng, (257, 128), np.float32))
    dys = tuple(frozen(kit, [rng.standard_normal((257, 128)).astype(np.float32) for _ in range(2)]))
    results, threads = [], numba.get_num_threads()
    try:
        for n in (threads, 1):
            numba.set_num_threads(n)
            ys, saved = add_layer_norm.forward(*arrays)
            gradients = add_layer_norm.vjp(
                dys, (None, kit.freeze(ys[1])), *arrays, residuals=saved, wanted=(True,) * 4, into=(None,) * 4
            )
            results.append((*ys, *gradients))
    finally:
        numba.set_num_threads(threads)
    for many, one in zip(*results, strict=True):
        np.testing.assert_array_equal(many, one)


@pytest.mark.parametrize("rows", [3, 300])
def test_nan_stays_in_its_row(kit, rng, rows):
    x, residual, weight, bias = arrays_of(rng, (rows, 64), np.float32)
    residual[1, 5] = np.nan
    (y, s), _ = add_layer_norm.forward(*frozen(kit, (x, residual, weight, bias)))
    assert np.isnan(y[1]).all() and np.isfinite(np.delete(y, 1, 0)).all() and np.isnan(s).sum() == 1


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)], ids=str)
def test_nothing(kit, shape):
    x, w = kit.freeze(np.empty(shape, np.float32)), kit.freeze(np.ones(shape[-1], np.float32))
    ys, r = add_layer_norm.forward(x, x, w, w)
    d = add_layer_norm.vjp((x, x), ys, x, x, w, w, residuals=r, wanted=(True,) * 4, into=(None,) * 4)
    assert [g.shape for g in d] == [shape, shape, w.shape, w.shape] and not any(g.any() for g in d)


def test_strided_inputs(kit, rng):
    x, residual, weight, bias = arrays_of(rng, (6, 8), np.float32)
    (y, s), _ = add_layer_norm.forward(*frozen(kit, (x[:, ::-1], np.asfortranarray(residual), weight, bias)))
    zeros = np.zeros(x.shape)
    want_y, want_s, _ = oracle(zeros, zeros, x[:, ::-1].astype(np.float64), residual, weight, bias)
    kit.close(y, want_y, np.float32, 16)
    kit.close(s, want_s, np.float32, 1)


def test_accepts():
    x, w = np.zeros((2, 3), np.float32), np.zeros(3, np.float32)
    assert add_layer_norm.accepts(x, x, w) and add_layer_norm.accepts(x, x, w, w, eps=1e-6)
    assert not add_layer_norm.accepts(x, x[0], w)  # a stretched residual is the formula's
    assert not add_layer_norm.accepts(x, x, w.astype(np.float64))


@pytest.mark.parametrize("shape", [(2, 5), (300, 64)], ids=str)
def test_both_cotangents_into_their_buffers(rng, shape):
    """Fresh buffers for x and residual are both written in one pass; where one is to be added to, neither is used."""
    x, residual = rng.standard_normal(shape), rng.standard_normal(shape)
    weight, dy = np.ones(shape[-1]), rng.standard_normal(shape)
    for array in (x, residual, weight, dy):
        array.flags.writeable = False
    y, residuals = add_layer_norm.forward(x, residual, weight)

    def vjp(*into):
        return add_layer_norm.vjp(
            (dy, None), y, x, residual, weight, residuals=residuals, wanted=(True,) * 3, into=(*into, None)
        )

    want = vjp(None, None)[0]
    for add in (False, True):
        buffers = np.full(shape, np.nan), np.full(shape, np.nan)
        dx, dresidual, _ = vjp((buffers[0], False), (buffers[1], add))
        assert (dx is buffers[0] and dresidual is buffers[1]) == (not add)
        np.testing.assert_array_equal(dx, want)
        np.testing.assert_array_equal(dresidual, want)
