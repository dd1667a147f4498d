"""Elementary functions where checks at random points do not come: ends, poles, ties, infinities, longdouble's last digits."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad.reference import constants
from handgrad.reference.extension import erf
from handgrad.reference.gelu_erf import gelu_erf

UNARY = (
    "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "expm1", "log1p", "log2",
    "log10", "abs", "sigmoid", "softplus", "silu", "relu", "erf", "gelu_erf", "square", "reciprocal", "positive",
)  # fmt: skip
BINARY = ("logaddexp", "hypot", "atan2", "maximum", "minimum", "remainder")


def slopes(name: str, *xs: Any, **params: Any) -> list[np.ndarray]:
    """The gradients of the function's sum, in float64. No warning may be raised on the way."""
    leaves = [hg.Tensor(np.asarray(x, np.float64), requires_grad=True) for x in xs]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [g.numpy() for g in hg.gradients(getattr(hg, name)(*leaves, **params).sum(), leaves)]


# ---- NaN, integers, and names without a row


@pytest.mark.parametrize("name", UNARY)
def test_nan_stays_nan(name: str) -> None:
    assert math.isnan(getattr(hg, name)(hg.Tensor([math.nan])).item())


@pytest.mark.parametrize("name", BINARY)
def test_nan_in_either_input_stays_nan(name: str) -> None:
    for pair in ((math.nan, 1.0), (1.0, math.nan)):
        assert math.isnan(getattr(hg, name)(*(hg.Tensor([x]) for x in pair)).item())


def test_nan_stays_nan_between_bounds_and_as_a_bound() -> None:
    x = hg.Tensor([math.nan, 1.0])
    assert np.isnan(hg.clip(x, 0.0, 2.0).numpy()).tolist() == [True, False]
    assert np.isnan(hg.clip(x, hg.Tensor([0.0, 0.0]), 2.0).numpy()).tolist() == [True, False]
    assert np.isnan(hg.clip(hg.Tensor([1.0, 1.0]), hg.Tensor([math.nan, 0.0]), 2.0).numpy()).tolist() == [True, False]


@pytest.mark.parametrize("name", ["maximum", "minimum", "remainder"])
def test_integers_stay_integers(name: str) -> None:
    x1, x2 = np.array([[7, -7, 0]]), np.array([[3], [-3]])
    y = getattr(hg, name)(hg.Tensor(x1), x2)
    assert y.dtype == np.int64 and not y.requires_grad
    np.testing.assert_array_equal(y.numpy(), getattr(np, name)(x1, x2))


def test_integers_of_one_input() -> None:
    x = hg.Tensor([-3, 5])
    assert hg.abs(x).numpy().tolist() == [3, 5]
    assert hg.clip(x, -1, 4).numpy().tolist() == [-1, 4]
    assert hg.square(x).numpy().tolist() == [9, 25]
    assert hg.clip(x, max=4).dtype == np.int64


def test_copysign_takes_the_sign_of_zero_and_nan() -> None:
    x1, x2 = np.array([1.0, -2.0, 3.0, -0.0]), np.array([-0.0, 0.0, -math.nan, -1.0])
    y = hg.copysign(hg.Tensor(x1, dtype=np.float64), x2).numpy()
    np.testing.assert_array_equal(np.signbit(y), np.signbit(np.copysign(x1, x2)))
    np.testing.assert_array_equal(y, np.copysign(x1, x2))
    leaf = hg.Tensor([2.0, -2.0], requires_grad=True)
    hg.copysign(leaf, hg.Tensor([-1.0, -1.0])).sum().backward()
    assert leaf.grad is not None and leaf.grad.numpy().tolist() == [-1.0, 1.0]


def test_misfits_of_clip_and_copysign_are_one_sentence() -> None:
    x, b = hg.Tensor(np.ones((2, 3))), hg.Tensor([True])
    for call, kind, sentence in (
        (
            lambda: hg.clip(x, hg.Tensor([1.0, 2.0])),
            ValueError,
            r"^clip: the shapes \(2, 3\) and \(2,\) do not broadcast",
        ),
        (
            lambda: hg.copysign(x, hg.Tensor([1.0, 2.0])),
            ValueError,
            r"^copysign: the shapes \(2, 3\) and \(2,\) do not",
        ),
        (lambda: hg.copysign(x, None), TypeError, "^copysign: got None, but it takes"),
        (lambda: hg.copysign(b, b), TypeError, "^copysign: x1 is bool, but only numbers have a sign"),
        (lambda: hg.dropout(x, x, p="a"), ValueError, "^dropout: p is 'a', but a probability"),  # type: ignore[arg-type]
    ):
        with pytest.raises(kind, match=sentence):
            call()


def test_numbers_alone_make_tensors() -> None:
    assert hg.positive(2.0).item() == 2.0
    assert hg.reciprocal(4.0).item() == 0.25
    assert hg.clip(3.0, 0.0, 1.0).item() == 1.0


# ---- kinks


def test_kinks_of_one_input_have_slope_zero() -> None:
    for name in ("abs", "relu"):
        assert slopes(name, [0.0, -0.0])[0].tolist() == [0.0, 0.0]


def test_the_edges_of_clip_let_through() -> None:
    x = [-2.0, -1.0, 0.0, 1.0, 2.0]
    for bounds in ({"min": -1.0, "max": 1.0}, {"min": np.full(5, -1.0), "max": np.full((5,), 1.0)}):
        assert slopes("clip", x, **bounds)[0].tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_bounds_that_are_tensors_have_gradients() -> None:
    x = hg.Tensor([-2.0, 0.0, 5.0])
    low, high = hg.Tensor([-1.0], requires_grad=True), hg.Tensor(2.0, requires_grad=True)
    y = hg.clip(x, low, high)
    y.backward(hg.Tensor([10.0, 20.0, 30.0]))
    assert y.detach().numpy().tolist() == [-1.0, 0.0, 2.0]
    assert low.grad is not None and low.grad.numpy().tolist() == [10.0]
    assert high.grad is not None and high.grad.item() == 30.0


def test_ties_share_equally() -> None:
    for name in ("maximum", "minimum", "logaddexp"):
        for tie in (2.0, 0.0, math.inf, -math.inf):
            assert [dx.tolist() for dx in slopes(name, [tie], [tie])] == [[0.5], [0.5]], (name, tie)


def test_clip_says_what_is_wrong_with_its_bounds() -> None:
    with pytest.raises(ValueError, match=r"clip: min is 2.0 and max is 1.0, but min must not be above max"):
        hg.clip(hg.Tensor([1.0]), 2.0, 1.0)
    with pytest.raises(TypeError, match=r"clip: max is 0.5, but x is int64 and needs an integer"):
        hg.clip(hg.Tensor([1]), max=0.5)
    with pytest.raises(TypeError, match=r"clip: got a str"):
        hg.clip(hg.Tensor([1.0]), "0")


# ---- the remainder


def test_the_operator_has_the_same_gradient() -> None:
    x1, x2 = hg.Tensor([7.5, -7.5], requires_grad=True), hg.Tensor([2.0, 2.0], requires_grad=True)
    y = x1 % x2
    y.sum().backward()
    assert y.detach().numpy().tolist() == [1.5, 0.5]
    assert x1.grad is not None and x1.grad.numpy().tolist() == [1.0, 1.0]
    assert x2.grad is not None and x2.grad.numpy().tolist() == [-3.0, 4.0]
    assert (7.0 % x2).detach().numpy().tolist() == [1.0, 1.0]


def test_the_slope_in_the_divisor_counts_as_the_remainder_does() -> None:
    """1 / 0.1 rounds to 10, but 1 % 0.1 is 0.1 less a little: 0.1 goes nine times into one."""
    assert slopes("remainder", [1.0], [0.1])[1].tolist() == [-9.0]


# ---- ends, poles and sizes at which squares overflow


def test_slopes_beside_the_ends_keep_their_digits() -> None:
    d = 2.0**-45  # 1 - d is exact, and 1 - x^2 = d (2 - d)
    square = d * (2.0 - d)
    for name, want in (("asin", 1 / math.sqrt(square)), ("acos", -1 / math.sqrt(square)), ("atanh", 1 / square)):
        np.testing.assert_allclose(slopes(name, [1.0 - d])[0], want, rtol=1e-15)
    np.testing.assert_allclose(slopes("acosh", [1.0 + d])[0], 1 / math.sqrt(d * (2.0 + d)), rtol=1e-15)


def test_slopes_far_out_neither_overflow_nor_vanish() -> None:
    big, small = 1e200, 1e-200
    np.testing.assert_allclose(slopes("asinh", [big])[0], 1e-200, rtol=1e-15)
    np.testing.assert_allclose(slopes("acosh", [big])[0], 1e-200, rtol=1e-15)
    for size in (big, small):
        np.testing.assert_allclose(slopes("hypot", [size], [size]), math.sqrt(0.5), rtol=1e-15)
        np.testing.assert_allclose(slopes("atan2", [size], [size]), [[0.5 / size], [-0.5 / size]], rtol=1e-15)


def test_the_origin_has_no_direction() -> None:
    for name in ("hypot", "atan2"):
        assert [float(np.abs(dx[0])) for dx in slopes(name, [0.0], [0.0])] == [0.0, 0.0]


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "silu", "relu", "erf", "gelu_erf"])
def test_saturation_raises_no_warning(name: str) -> None:
    x = [-1e4, -750.0, -80.0, 80.0, 750.0, 1e4]
    flat = [1.0] * 3 if name in ("softplus", "silu", "relu", "gelu_erf") else [0.0] * 3
    np.testing.assert_allclose(slopes(name, x)[0], [0.0] * 3 + flat, atol=1e-30)


def test_both_halves_of_a_choice_have_the_same_derivatives() -> None:
    """sigmoid and its family choose a form by the sign of x; at 0 all derivatives must be those of the function."""

    def second(f: Any) -> float:
        return float(hg.grad(lambda x: hg.grad(lambda z: f(z).sum())(x).sum())(hg.Tensor([0.0])).item())

    assert second(hg.sigmoid) == 0.0
    assert second(hg.softplus) == 0.25
    assert second(hg.silu) == 0.5
    assert second(lambda x: hg.logaddexp(x, 0.0)) == 0.25


# ---- all digits


PI = Fraction(31415926535897932384626433832795028841971693993751, 10**49)


def root(x: Fraction) -> Fraction:
    """The square root, to 40 digits."""
    return Fraction(math.isqrt(x.numerator * 10**80 // x.denominator), 10**40)


def long(x: Fraction) -> Any:
    """The nearest longdouble, or nearly."""
    return np.longdouble(float(x)) + np.longdouble(float(x - Fraction(float(x))))


def erf_exactly(x: Fraction) -> Fraction:
    """2 / sqrt(pi) * sum over n of (-1)^n x^(2n+1) / (n! (2n+1)): in fractions, cancellation costs nothing."""
    total = Fraction(0)
    power, n = x, 0
    while abs(power) > Fraction(1, 10**40):
        total += power / (2 * n + 1)
        n += 1
        power *= -x * x / n
    return 2 / root(PI) * total


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_erf_is_exact_to_a_few_eps(dtype: Any) -> None:
    xs = [Fraction(n, 64) for n in (1, 7, 32, 63, 64, 65, 80, 128, 200, 256, 300, 384, 420)]
    want = np.asarray([long(erf_exactly(x)) for x in xs])
    for sign in (1, -1):
        got = erf(np.asarray([sign * float(x) for x in xs], dtype))
        assert got.dtype == dtype
        assert np.max(np.abs(got - sign * want) / want) < 4 * np.finfo(dtype).eps


def test_erf_at_zero_and_at_infinity() -> None:
    y = erf(np.asarray([0.0, -0.0, np.inf, -np.inf]))
    assert y.tolist() == [0.0, 0.0, 1.0, -1.0]
    assert np.signbit(y).tolist() == [False, True, False, True]


def test_constants_have_the_digits_of_longdouble() -> None:
    one, pi = np.longdouble(1), long(PI)
    for constant, want in (
        (constants.TWO_OVER_ROOT_PI, 2 / np.sqrt(pi)),
        (constants.ONE_OVER_ROOT_2, 1 / np.sqrt(2 * one)),
        (constants.ONE_OVER_ROOT_2PI, 1 / np.sqrt(2 * pi)),
        (constants.ONE_OVER_LN_2, 1 / np.log(2 * one)),
        (constants.ONE_OVER_LN_10, 1 / np.log(10 * one)),
    ):
        assert abs(constants.times(one, constant) - want) < 2 * np.finfo(np.longdouble).eps * want
        assert float(constant[0] + constant[1]) == constant[0]


def test_constants_times_infinity() -> None:
    for constant in (constants.TWO_OVER_ROOT_PI, constants.ONE_OVER_ROOT_2, constants.ONE_OVER_ROOT_2PI):
        for dtype in (np.float32, np.float64, np.longdouble):
            y = constants.times(np.asarray([np.inf, -np.inf], dtype), constant)
            assert y.dtype == dtype
            assert y.tolist() == [np.inf, -np.inf]


# ---- the two forms of gelu


def test_gelu_erf_of_infinity() -> None:
    assert gelu_erf(np.asarray([np.inf])).tolist() == [np.inf]


def test_gelu_has_two_forms() -> None:
    x = hg.Tensor(np.linspace(-4.0, 4.0, 101))
    exact, tanh = hg.gelu(x, approximate="none").numpy(), hg.gelu(x).numpy()
    np.testing.assert_array_equal(exact, hg.gelu_erf(x).numpy())
    np.testing.assert_array_equal(tanh, hg.gelu(x, approximate="tanh").numpy())
    assert 1e-4 < np.max(np.abs(exact - tanh)) < 5e-4
    with pytest.raises(ValueError, match="gelu: approximate is 'erf', but it must be 'tanh' or 'none'"):
        hg.gelu(x, approximate="erf")
