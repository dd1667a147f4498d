import numpy as np
import pytest

from handgrad.kernels.cpu import swiglu

PAIRS = {"numba": swiglu, **swiglu.RUNGS}


def oracle(dy, gate, up):
    s = 1 / (1 + np.exp(-gate))
    return gate * s * up, (dy * up * (s + gate * s * (1 - s)), dy * gate * s)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("shape", [(), (3, 7), (2, 5, 13), (20011,)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, shape, dtype, pair):
    gate, up = (np.asarray(2 * rng.standard_normal(shape)).astype(dtype) for _ in range(2))
    kit.check(pair, (gate, up), oracle, inputs="gate up", reads="gate up", length=4, rng=rng)


@pytest.mark.parametrize("adds", [(False, True), (True, False), (True, True)], ids=str)
@pytest.mark.parametrize("size", [50, 20011])
def test_both_gradients_into_their_buffers(kit, rng, size, adds):
    gate, up, dy = (kit.freeze(rng.standard_normal(size)) for _ in range(3))
    buffers = [np.ones(size) for _ in range(2)]
    offers = tuple(zip(buffers, adds, strict=True))
    found = swiglu.vjp(dy, None, gate, up, residuals=None, wanted=(True, True), into=offers)
    for got, buffer, add, want in zip(found, buffers, adds, oracle(dy, gate, up)[1], strict=True):
        assert got is buffer
        kit.close(got, want + add, np.float64, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_and_not_finite(kit, dtype):
    big = np.finfo(dtype).max
    gate = kit.freeze(np.array([big, -big, 4000, -4000, np.inf, np.nan, 0], dtype))
    up = kit.freeze(np.full(7, 0.5, dtype))
    y, _ = swiglu.forward(gate, up)
    np.testing.assert_array_equal(y, np.array([big / 2, 0, 2000, 0, np.inf, np.nan, 0], dtype))
    dy = kit.freeze(np.full(7, 2, dtype))
    dgate, _ = swiglu.vjp(dy, None, gate, up, residuals=None, wanted=(True, True), into=(None, None))
    np.testing.assert_array_equal(dgate, np.array([1, 0, 1, 0, 1, np.nan, 0.5], dtype))


def test_nothing_strides_and_accepts(kit, rng):
    nothing = kit.freeze(np.empty((0, 3), np.float32))
    assert swiglu.forward(nothing, nothing)[0].shape == (0, 3)
    none = swiglu.vjp(nothing, None, nothing, nothing, residuals=None, wanted=(True, True), into=(None, None))
    assert [g.shape for g in none] == [(0, 3)] * 2
    gate, up = (rng.standard_normal((6, 5)).astype(np.float32) for _ in range(2))
    y, _ = swiglu.forward(kit.freeze(gate[::2, ::-1]), kit.freeze(np.asfortranarray(up[::2])))
    kit.close(y, oracle(1.0, gate[::2, ::-1].astype(np.float64), up[::2])[0], np.float32, 4)
    assert swiglu.accepts(gate, up) and not swiglu.accepts(gate, up[0]) and not swiglu.accepts(gate, up.astype(float))
