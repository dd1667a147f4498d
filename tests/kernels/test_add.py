import numpy as np
import pytest

from handgrad.kernels.cpu import add, multiply

PAIRS = {
    "add": (add, lambda dy, a, b: (a + b, (dy, dy)), ""),
    "multiply": (multiply, lambda dy, a, b: (a * b, (dy * b, dy * a)), "x1 x2"),
}


@pytest.mark.parametrize("shape", [(), (1,), (3, 7), (2, 5, 13), (20011,), (0, 3)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_pair(kit, rng, name, shape, dtype):
    pair, oracle, reads = PAIRS[name]
    a, b = (np.asarray(rng.standard_normal(shape)).astype(dtype) for _ in range(2))
    kit.check(pair, (a, b), oracle, inputs="x1 x2", reads=reads, length=4, rng=rng)


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_not_finite_goes_through(kit, name):
    pair, oracle, _ = PAIRS[name]
    a = kit.freeze(np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32))
    b = kit.freeze(np.array([1.0, -np.inf, 2.0, np.nan, 0.0], np.float32))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(pair.forward(a, b)[0], oracle(a, a, b)[0])


@pytest.mark.parametrize("name", PAIRS)
def test_what_numpy_does_better_is_not_accepted(name):
    pair = PAIRS[name][0]
    x = np.zeros((4, 6), np.float32)
    assert pair.accepts(x, x)
    for other in (x[0], x.astype(np.float64), 2.0, x.T.copy().T, np.zeros((4, 12), np.float32)[:, ::2]):
        assert not pair.accepts(x, other)
    assert not pair.accepts(x.astype(np.longdouble), x.astype(np.longdouble))
    assert not pair.accepts(x.astype(np.int64), x.astype(np.int64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_way_back_of_add_fills_what_is_lent(kit, rng, dtype):
    """Written, added, or dy itself: for each input as it was offered, with the signs of zeros."""
    n = add.PARALLEL_WORK + 5
    dy = rng.standard_normal(n).astype(dtype)
    dy[:3] = -0.0, np.nan, -np.inf
    dy, start = kit.freeze(dy), rng.standard_normal(n).astype(dtype)
    for add1 in (None, False, True):
        for add2 in (None, False, True):
            into = [None if how is None else (start.copy(), how) for how in (add1, add2)]
            found = add.vjp(dy, None, dy, dy, residuals=None, wanted=(True, True), into=into)
            for how, offer, dx in zip((add1, add2), into, found, strict=True):
                assert dx is (dy if offer is None else offer[0])
                np.testing.assert_array_equal(dx, start + dy if how else dy)
                assert how or np.array_equal(np.signbit(dx), np.signbit(dy))
    buffer = start.copy()
    found = add.vjp(dy, None, dy, dy, residuals=None, wanted=(False, True), into=[(buffer, False), None])
    assert found[0] is None and found[1] is dy and np.array_equal(buffer, start)
