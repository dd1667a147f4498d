"""Reductions and scans at the places where one could think otherwise: nothing to reduce, zeros, kinks, infinities, dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor, gradients

INF, NAN = np.inf, np.nan


def slope(function: Any, x: Any, dy: Any = None) -> list[Any]:
    """The gradient of function(x), as nested lists."""
    leaf = Tensor(np.asarray(x, np.float64), requires_grad=True)
    y = function(leaf)
    return gradients(y, [leaf], np.ones(y.shape) if dy is None else np.asarray(dy, np.float64))[0].numpy().tolist()


def derivatives(function: Any, x: Any, order: int) -> np.ndarray:
    """All derivatives of one number y = function(x), x a vector: shape (n,) * order."""
    leaf = Tensor(np.asarray(x, np.float64), requires_grad=True)

    def towards(y: Tensor, left: int) -> np.ndarray:
        if left == 0:
            return y.detach().numpy()
        if not y.requires_grad:
            return np.zeros((leaf.size,) * left)
        (dx,) = gradients(y, [leaf], create_graph=True)
        return np.stack([towards(dx[i], left - 1) for i in range(leaf.size)])

    return towards(function(leaf), order)


# ---- nothing to reduce


def test_reductions_of_nothing_over_an_axis() -> None:
    x = Tensor(np.zeros((2, 0)))
    with np.errstate(divide="ignore"):
        assert hg.logsumexp(x, axis=1).numpy().tolist() == [-INF, -INF]
    assert hg.sum(x, axis=1).numpy().tolist() == [0.0, 0.0]
    assert hg.prod(x, axis=1).numpy().tolist() == [1.0, 1.0]


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
@pytest.mark.parametrize("name", ["mean", "var", "std"])
def test_moments_of_nothing_are_not_a_number(name: str) -> None:
    function = getattr(hg, name)
    assert np.isnan(function(Tensor(np.zeros((2, 0))), axis=1).numpy()).all()
    assert np.isnan(function(Tensor(np.zeros(0))).item())
    assert slope(lambda x: function(x, axis=1), np.zeros((2, 0))) == [[], []]


@pytest.mark.parametrize("name", ["max", "min"])
def test_extremes_of_nothing_are_one_clear_error(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: x has shape \(2, 0\), but axis 1 must hold at least one number"):
        getattr(hg, name)(Tensor(np.zeros((2, 0))), axis=1)
    assert getattr(hg, name)(Tensor(np.zeros((0, 3))), axis=1).shape == (0,)


def test_scans_of_nothing() -> None:
    x = Tensor(np.zeros((2, 0)))
    for name, initial in (("cumulative_sum", 0.0), ("cumulative_prod", 1.0)):
        scan = getattr(hg, name)
        assert scan(x, axis=1).shape == (2, 0)
        assert scan(x, axis=1, include_initial=True).numpy().tolist() == [[initial], [initial]]
        assert slope(lambda x, scan=scan: scan(x, axis=1, include_initial=True), np.zeros((2, 0))) == [[], []]


# ---- ties, zeros, kinks


def test_ties_share_equally() -> None:
    assert slope(hg.max, [2.0, 5.0, 5.0]) == slope(hg.min, [7.0, 1.0, 1.0]) == [0.0, 0.5, 0.5]
    assert slope(lambda x: hg.min(x, axis=0), [[INF, -INF], [INF, 0.0]]) == [[0.5, 1.0], [0.5, 0.0]]


def test_extremes_of_nan_are_nan() -> None:
    with np.errstate(invalid="ignore"):
        for function in (hg.max, hg.min):
            assert np.isnan(function(Tensor(np.array([1.0, NAN, 3.0]))).item())
            assert np.isnan(slope(function, [1.0, NAN, 3.0])).all()


def test_a_product_with_zeros_has_the_right_slopes() -> None:
    assert slope(hg.prod, [2.0, 0.0, 5.0]) == [0.0, 10.0, 0.0]
    assert slope(hg.prod, [2.0, 0.0, 0.0]) == [0.0, 0.0, 0.0]
    assert slope(hg.prod, [0.0]) == [1.0]
    assert slope(lambda x: hg.prod(x, axis=(0, 2)), np.ones((2, 3, 2))) == np.ones((2, 3, 2)).tolist()


@pytest.mark.parametrize("x", [[2.0, 3.0, 5.0, 7.0], [2.0, 0.0, 5.0, 7.0], [0.0, 3.0, 0.0, 7.0], [0.0, 0.0, 0.0, 7.0]])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_every_derivative_of_a_product_is_the_product_of_the_others(x: list[float], order: int) -> None:
    n = len(x)
    want = np.zeros((n,) * order)
    for place in np.ndindex(want.shape):
        if len(set(place)) == order:  # linear in each factor: no derivative twice by the same one
            want[place] = np.prod([v for i, v in enumerate(x) if i not in place])
    np.testing.assert_allclose(derivatives(hg.prod, x, order), want, rtol=1e-14)
    np.testing.assert_allclose(derivatives(lambda x: hg.cumulative_prod(x)[-1], x, order), want, rtol=1e-14)


def test_a_running_product_with_a_zero() -> None:
    scan = slope(hg.cumulative_prod, [2.0, 0.0, 5.0], dy=[1.0, 1.0, 1.0])
    assert scan == [1.0, 2.0 + 2.0 * 5.0, 0.0]  # y = (a, ab, abc): 1 + b + bc, a + ac, ab
    initial = slope(lambda x: hg.cumulative_prod(x, include_initial=True), [2.0, 0.0, 5.0], dy=[9.0, 1.0, 1.0, 1.0])
    assert initial == scan  # whatever the cotangent of the constant 1 is


def test_deviation_zero_has_the_subgradient_zero() -> None:
    x = [[3.0, 3.0], [1.0, 2.0]]
    assert hg.std(Tensor(np.array(x)), axis=1).numpy().tolist() == [0.0, 0.5]
    with np.errstate(all="raise"):
        np.testing.assert_allclose(slope(lambda x: hg.std(x, axis=1), x), [[0.0, 0.0], [-0.5, 0.5]])
        assert not derivatives(hg.std, [3.0, 3.0], 2).any()
    assert np.isnan(hg.std(Tensor(np.array([1.0, NAN]))).item())
    assert np.isnan(slope(hg.std, [1.0, NAN])).all()


def test_no_degrees_of_freedom() -> None:
    with np.errstate(all="ignore"):
        assert np.isnan(hg.var(Tensor(np.array([7.0])), correction=1).item())
        assert hg.var(Tensor(np.array([1.0, 3.0])), correction=2).item() == INF
        assert np.isnan(slope(lambda x: hg.var(x, correction=1), [7.0])).all()


def test_variance_of_large_numbers_that_are_near_each_other() -> None:
    x = np.array([1.0, 2.0, 3.0]) + 1e9
    assert hg.var(Tensor(x)).item() == pytest.approx(2.0 / 3.0, rel=1e-12)
    assert hg.std(Tensor(x), correction=1).item() == pytest.approx(1.0, rel=1e-12)


def test_a_correction_is_a_number() -> None:
    with pytest.raises(TypeError, match=r"^var: correction is None, but it must be a number"):
        hg.var(Tensor([1.0, 2.0]), correction=None)  # type: ignore[arg-type]


# ---- logarithms of sums


def test_logsumexp_of_masked_scores() -> None:
    x = [[-INF, -INF], [-INF, 0.0], [1000.0, 1000.0]]
    with np.errstate(divide="ignore"):
        y = hg.logsumexp(Tensor(np.array(x)), axis=1)
        np.testing.assert_allclose(y.numpy(), [-INF, 0.0, 1000.0 + np.log(2.0)])
        dx = slope(lambda x: hg.logsumexp(x, axis=1), x)
        np.testing.assert_allclose(dx, [[0.0, 0.0], [0.0, 1.0], [0.5, 0.5]], rtol=1e-12)  # exp(x - y): y holds 1000
        assert not derivatives(hg.logsumexp, x[0], 2).any()


def test_logsumexp_of_infinity_and_nan() -> None:
    assert hg.logsumexp(Tensor(np.array([INF, -INF, 3.0]))).item() == INF
    assert np.isnan(hg.logsumexp(Tensor(np.array([NAN, 3.0]))).item())
    assert np.isnan(hg.logsumexp(Tensor(np.array([NAN, -INF]))).item())


def test_log_softmax_keeps_what_softmax_loses() -> None:
    x = np.array([0.0, -2000.0, -INF])
    assert hg.softmax(Tensor(x)).numpy().tolist() == [1.0, 0.0, 0.0]
    assert hg.log_softmax(Tensor(x)).numpy().tolist() == [0.0, -2000.0, -INF]
    assert slope(hg.log_softmax, x, dy=[1.0, 0.5, 0.25]) == [1.0 - 1.75, 0.5, 0.25]


def test_log_softmax_is_the_logarithm_of_softmax() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    for axis in (0, 1, -1):
        got = hg.log_softmax(Tensor(x), axis=axis).numpy()
        np.testing.assert_allclose(got, np.log(hg.softmax(Tensor(x), axis=axis).numpy()), rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(got, x - hg.logsumexp(Tensor(x), axis=axis, keepdims=True).numpy(), rtol=1e-12)


# ---- scans


def test_scans_are_numpys() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 3, 4))
    for name in ("cumulative_sum", "cumulative_prod"):
        for axis in range(-3, 3):
            for initial in (False, True):
                got = getattr(hg, name)(Tensor(x), axis=axis, include_initial=initial)
                want = getattr(np, name)(x, axis=axis, include_initial=initial)
                np.testing.assert_array_equal(got.numpy(), want)
    assert hg.cumulative_sum(Tensor([1.0, 2.0])).numpy().tolist() == [1.0, 3.0]


def test_a_scan_needs_one_axis() -> None:
    x = Tensor(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"^cumulative_sum: x has 2 axes, so say along which"):
        hg.cumulative_sum(x)
    with pytest.raises(ValueError, match=r"^cumulative_prod: axis is \(0, 1\), but it runs along a single axis"):
        hg.cumulative_prod(x, axis=(0, 1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^cumulative_sum: axis is 2, but x has 2 axes"):
        hg.cumulative_sum(x, axis=2)


def test_an_axis_is_an_integer() -> None:
    x = Tensor(np.arange(6.0).reshape(2, 3))
    assert hg.sum(x, axis=np.int64(1)).shape == (2,)
    assert hg.softmax(x, axis=np.int64(0)).shape == (2, 3)  # type: ignore[arg-type]
    for axis in (1.0, True, "a", [0, 1]):
        with pytest.raises(
            TypeError, match=r"^sum: axis is .*, but it must be an integer, a tuple of integers or None$"
        ):
            hg.sum(x, axis=axis)
    for name in ("softmax", "log_softmax"):
        for axis in (None, (0, 1)):
            with pytest.raises(TypeError, match=rf"^{name}: axis is .*, but it must be an integer$"):
                getattr(hg, name)(x, axis=axis)


def test_std_speaks_of_itself() -> None:
    with pytest.raises(ValueError, match=r"^std: axis is 5, but x has 2 axes"):
        hg.std(Tensor(np.ones((2, 3))), axis=5)
    with pytest.raises(TypeError, match=r"^std: correction is 'a', but it must be a number"):
        hg.std(Tensor(np.ones(3)), correction="a")  # type: ignore[arg-type]


# ---- dtypes and optional arguments of the standard


@pytest.mark.parametrize("name", ["sum", "prod", "cumulative_sum", "cumulative_prod"])
def test_dtype_is_cast_first(name: str) -> None:
    function, want = getattr(hg, name), getattr(np, name)
    axis = {"axis": 0}
    small = np.array([1, 2, 3], np.int32)
    assert function(Tensor(small), dtype=np.float64, **axis).dtype == np.float64
    assert function(Tensor(small), **axis).dtype == want(small, **axis).dtype == np.int64
    assert function(Tensor(small), dtype=np.int32, **axis).dtype == want(small, dtype=np.int32, **axis).dtype
    assert function(Tensor(np.array([True, True])), **axis).dtype == np.int64
    assert function(Tensor(np.ones(3, np.float32)), **axis).dtype == np.float32
    leaf = Tensor(np.ones(3, np.float32), requires_grad=True)
    y = function(leaf, dtype=np.float64, **axis)
    assert y.dtype == np.float64
    hg.sum(y).backward()
    assert leaf.grad.dtype == np.float32


@pytest.mark.parametrize("name", ["prod", "min", "var", "std"])
def test_reductions_are_numpys(name: str) -> None:
    x = np.random.default_rng(2).standard_normal((2, 3, 4))
    for axis in (None, 0, -1, (0, 2), (1, -1, 0), ()):
        for keepdims in (False, True):
            params: dict[str, Any] = {"axis": axis, "keepdims": keepdims}
            got, want = getattr(hg, name)(Tensor(x), **params), getattr(np, name)(x, **params)
            np.testing.assert_allclose(got.numpy(), want, rtol=1e-13, atol=1e-15)
            assert got.shape == np.shape(want)
    for name, correction in (("var", 1.0), ("std", 1), ("var", 0.5)):
        got = getattr(hg, name)(Tensor(x), axis=1, correction=correction).numpy()
        np.testing.assert_allclose(got, getattr(np, name)(x, axis=1, correction=correction), rtol=1e-13)


def test_integers_can_be_reduced_where_the_standard_allows_it() -> None:
    x = Tensor(np.array([[3, 1], [2, 5]]))
    assert hg.prod(x, axis=0).numpy().tolist() == [6, 5]
    assert hg.min(x).item() == 1
    assert hg.max(x, axis=1).numpy().tolist() == [3, 5]
    assert hg.cumulative_sum(x, axis=1).numpy().tolist() == [[3, 4], [2, 7]]
