"""Rounding weights to fewer bits: reference/quantization.py, and the products of kernels/cpu/quantization.py."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from handgrad.kernels.cpu import matvec, quantization
from handgrad.reference import quantization as page

QUICK = settings(deadline=None, derandomize=True, max_examples=100)
EPS = float(np.finfo(np.float32).eps)
NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)
MATRICES = arrays.arrays(np.float32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=NUMBERS)


@QUICK
@given(MATRICES)
def test_round_trip_stays_within_the_bound(w):
    q, scale = page.quantize(w)
    assert q.dtype == np.int8 and scale.dtype == np.float32 and (q != -128).all()
    error = np.abs(w - q.astype(np.float64) * scale[:, None].astype(np.float64)).max(axis=1)
    tiny = 127 * float(np.finfo(np.float32).smallest_normal)  # of a row that becomes zero
    assert (
        error <= np.maximum(page.error_bound(scale.astype(np.float64), EPS / 2), np.where(scale == 0, tiny, 0))
    ).all()


@QUICK
@given(arrays.arrays(np.float32, (3, 5), elements=st.integers(-900, 900).map(lambda n: np.float32(n / 8))))
def test_the_definition(w):
    q, scale = page.quantize(w)
    want_q, want_scale = page.quantize_definition(w)
    assert q.tolist() == want_q.tolist() and scale.tolist() == want_scale.tolist()


def test_rows_that_cannot_be_rounded():
    """Zeros stay zeros, tiny numbers become zeros, and what is no number is seen in the product."""
    w = np.array([[0, 0, 0], [1e-38, -1e-40, 0], [1, np.nan, 2], [1, -np.inf, 2], [3e38, -3e38, 1]], np.float32)
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        q, scale = page.quantize(w)
        empty, none = page.quantize(np.empty((2, 0), np.float32))
    assert empty.shape == (2, 0) and none.tolist() == [0, 0]
    assert q[:4].any() == np.False_ and scale[:2].tolist() == [0, 0] and np.isnan(scale[2:4]).all()
    assert q[4].tolist() == [127, -127, 0]
    x = np.ones((1, 3), np.float32)
    y = quantization.linear(x, q, scale)[0]
    assert y[:2].tolist() == [0, 0] and np.isnan(y[2:4]).all() and np.isfinite(y[4])
    assert page.dequantize(q, scale)[:2].tolist() == [[0] * 3] * 2


def test_bfloat16_is_rounded_as_ml_dtypes_does():
    """Two million bit patterns: all signs and exponents, ties, NaN and infinities among them."""
    bits = np.random.default_rng(0).integers(0, 1 << 32, 1 << 21, np.uint64).astype(np.uint32)
    bits[: 1 << 18] = bits[: 1 << 18] & 0xFFFF8000  # ties, and what is exact
    bits[:4] = 0x7F800000, 0xFF800000, 0x7F800001, 0x7F7FFFFF  # infinities, a NaN of one low bit, the largest
    w = bits.view(np.float32)
    with np.errstate(all="ignore"):
        want = w.astype(ml_dtypes.bfloat16)
    got = page.from_bfloat16_bits(page.bfloat16_bits(w))
    np.testing.assert_array_equal(got, want.astype(np.float32))
    normal = np.isfinite(got) & (np.abs(w) >= np.finfo(np.float32).smallest_normal)
    assert (np.abs(got[normal].astype(np.float64) - w[normal]) <= 2.0**-8 * np.abs(w[normal].astype(np.float64))).all()


def stored(weight, form):
    """(array, scale) as the kernel takes it."""
    if form == "int8":
        return page.quantize(weight)
    return (page.bfloat16_bits(weight) if form == "bfloat16" else weight.astype(form)), None


def widened(w, scale, form):
    if form == "int8":
        return page.dequantize(w.astype(np.float64), scale.astype(np.float64))
    return (page.from_bfloat16_bits(w) if form == "bfloat16" else w).astype(np.float64)


@pytest.mark.parametrize("form", ["float32", "bfloat16", "float16", "int8"])
@pytest.mark.parametrize("R", [0, 1, 3, matvec.FEW, matvec.FEW + 1, 40])
@pytest.mark.parametrize(("O", "I"), [(1, 1), (5, 33), (70, 100), (0, 4), (4, 0), (300, 800)])
def test_products(form, R, O, I, rng):
    """By a few rows and by many; the rounding of the weights is taken as it is."""
    weight, x = rng.standard_normal((O, I)).astype(np.float32), rng.standard_normal((R, I)).astype(np.float32)
    w, scale = stored(weight, form)
    bias = rng.standard_normal(O).astype(np.float32)
    for b in (None, bias):
        assert quantization.accepts(x, w, scale, b)
        y = quantization.linear(x, w, scale, b)
        assert y.dtype == np.float32 and y.shape == (R, O)
        exact = widened(w, scale, form)
        want = x.astype(np.float64) @ exact.T + (0 if b is None else b)
        size = np.abs(x.astype(np.float64)) @ np.abs(exact).T + np.abs(bias)
        assert (np.abs(y - want) <= (I + 4) * EPS * size).all()
    assert quantization.widen(w, scale).tobytes() == widened(w, scale, form).astype(np.float32).tobytes()


@pytest.mark.parametrize(("form", "relative"), [("bfloat16", 2.0**-8), ("float16", 2.0**-11)])
def test_products_stay_within_the_bound_of_rounded_weights(form, relative, rng):
    weight, x = rng.standard_normal((30, 200)).astype(np.float32), rng.standard_normal((4, 200)).astype(np.float32)
    size = np.abs(x.astype(np.float64)) @ np.abs(weight.astype(np.float64)).T
    error = np.abs(quantization.linear(x, *stored(weight, form)) - x.astype(np.float64) @ weight.T)
    assert (error <= (relative + 200 * EPS) * size + 200 * 2.0**-25 * np.abs(x).max()).all()
    assert error.max() > 0.01 * relative * size.max()  # it is no float32


@QUICK
@given(st.integers(1, 20), st.integers(1, 70), st.integers(0, 999))
def test_int8_products_stay_within_the_bound(O, I, seed):
    """Whatever the signs: x is chosen so that every rounding error of a row counts with its own."""
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((O, I)) * 10.0 ** rng.integers(-9, 9, (O, 1))).astype(np.float32)
    q, scale = page.quantize(weight)
    errors = weight - page.dequantize(q.astype(np.float64), scale.astype(np.float64))
    x = (np.sign(errors) * rng.random((O, I))).astype(np.float32)
    for o in range(O):
        y = quantization.linear(x[o : o + 1], q, scale)[0, o]
        exact, one_norm = x[o].astype(np.float64) @ weight[o], np.abs(x[o].astype(np.float64)).sum()
        summed = (I + 2) * EPS * np.abs(x[o].astype(np.float64)) @ np.abs(weight[o])
        assert abs(y - exact) <= page.error_bound(float(scale[o]), EPS / 2) * one_norm + summed


def test_accepts():
    x, w = np.zeros((2, 3), np.float32), np.zeros((4, 3), np.int8)
    scale, bias = np.zeros(4, np.float32), np.zeros(4, np.float32)
    assert quantization.accepts(x, w, scale) and quantization.accepts(x, w, scale, bias)
    assert not quantization.accepts(x, w) and not quantization.accepts(x, w.astype(np.uint16), scale)
    assert not quantization.accepts(x[0], w, scale) and not quantization.accepts(x, w[:, :2], scale)
    assert not quantization.accepts(x.astype(np.float64), w, scale) and not quantization.accepts(x, w, scale, bias[:3])
    assert not quantization.accepts(x, w, scale.astype(np.float64)) and not quantization.accepts(x, w.astype(np.int16))
