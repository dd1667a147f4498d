"""bias_gelu and bias_silu: the same contract, edges and launcher."""

import numpy as np
import pytest

from handgrad.kernels.cpu import bias_gelu, bias_silu

KERNELS = {"bias_gelu": bias_gelu, "bias_silu": bias_silu}
PAIRS = {
    f"{op} {name}": (op, pair)
    for op, module in KERNELS.items()
    for name, pair in {"numba": module, **module.RUNGS}.items()
}
over_pairs = pytest.mark.parametrize(("op", "pair"), PAIRS.values(), ids=PAIRS)


def oracle_of(op):
    """The textbook forms in longdouble: 1 + tanh cancels, and the oracle needs the digits."""

    def oracle(dy, x, bias):
        v = np.asarray(x, np.longdouble) + bias
        if op == "bias_gelu":
            c = np.sqrt(2 / np.pi)
            t = np.tanh(c * (v + 0.044715 * v**3))
            y, slope = 0.5 * v * (1 + t), 0.5 * (1 + t) + 0.5 * v * (1 - t * t) * c * (1 + 3 * 0.044715 * v * v)
        else:
            s = 1 / (1 + np.exp(-v))
            y, slope = v * s, s + v * s * (1 - s)
        return y, (dy * slope, (dy * slope).reshape(-1, *bias.shape).sum(0))

    return oracle


@over_pairs
@pytest.mark.parametrize("shape", [(3,), (1, 1), (5, 7), (2, 5, 13), (257, 128), (9, 3000)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, shape, dtype, op, pair):
    """The error of a sum over rows grows like the root of their number."""
    x, bias = (2 * rng.standard_normal(n).astype(dtype) for n in (shape, shape[-1]))
    length = 8 * max(1, x.size // shape[-1]) ** 0.5
    kit.check(pair, (x, bias), oracle_of(op), inputs="x bias", reads="x bias", length=length, rng=rng)


@pytest.mark.parametrize("pair", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_and_not_finite(kit, dtype, pair):
    big = np.finfo(dtype).max
    x, bias = kit.freeze(np.array([[big, -big, 4000, -4000, np.inf, np.nan, 1]], dtype)), np.zeros(7, dtype)
    bias[-1] = -1
    y, _ = pair.forward(x, kit.freeze(bias))
    np.testing.assert_array_equal(y[0, 4:], np.array([np.inf, np.nan, 0], dtype))
    kit.close(y[0, :4], np.array([big, 0, 4000, 0], dtype), dtype, 1)
    dy = kit.freeze(np.full(x.shape, 2, dtype))
    dx, dbias = pair.vjp(dy, None, x, kit.freeze(bias), residuals=None, wanted=(True, True), into=(None, None))
    np.testing.assert_array_equal(dx[0], np.array([2, 0, 2, 0, 2, np.nan, 1], dtype))
    np.testing.assert_array_equal(dbias, dx[0])


@over_pairs
@pytest.mark.parametrize("shape", [(0, 4), (3, 0)], ids=str)
def test_nothing(kit, shape, op, pair):
    x, bias = kit.freeze(np.empty(shape, np.float32)), kit.freeze(np.ones(shape[-1], np.float32))
    y, residuals = pair.forward(x, bias)
    found = pair.vjp(x, None, x, bias, residuals=residuals, wanted=(True, True), into=(None, None))
    assert [a.shape for a in (y, *found)] == [shape, shape, bias.shape] and not found[1].any()


@over_pairs
def test_strided_inputs_and_what_is_accepted(kit, rng, op, pair):
    x, bias = rng.standard_normal((6, 8)).astype(np.float32), rng.standard_normal(16).astype(np.float32)
    y, _ = pair.forward(kit.freeze(x[::2, ::-1]), kit.freeze(bias[::2]))
    kit.close(y, oracle_of(op)(1.0, x[::2, ::-1].astype(np.float64), bias[::2])[0], np.float32, 4)
    assert pair.accepts(x, bias[:8]) and not pair.accepts(x, bias) and not pair.accepts(x, x)
    assert not pair.accepts(x[0, 0], bias[0]) and not pair.accepts(x, bias[:8].astype(np.float64))


def test_nan_stays_in_its_row_and_column(kit, rng):
    x, bias = rng.standard_normal((300, 64)).astype(np.float32), np.zeros(64, np.float32)
    x[1, 5] = np.nan
    for pair in KERNELS.values():
        y, _ = pair.forward(kit.freeze(x), kit.freeze(bias))
        dx, dbias = pair.vjp(
            kit.freeze(np.ones_like(x)), None, x, bias, residuals=None, wanted=(True, True), into=(None, None)
        )
        assert np.isnan(y).sum() == np.isnan(dx).sum() == 1 and np.flatnonzero(np.isnan(dbias)).tolist() == [5]
