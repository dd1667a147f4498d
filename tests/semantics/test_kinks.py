"""docs/semantics.md, Kinks, ties, zeros: what a derivative is where the textbook has none, or none that is finite."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor
from handgrad.engine.testing import check_op

answers = pytest.mark.answers
pytestmark = pytest.mark.filterwarnings("ignore:Mean of empty slice")

INF, NAN = math.inf, math.nan


def total(f: Any) -> Any:
    """f, its entries weighted by 1, 2, 3 ... and summed: a function to differentiate."""

    def weighted(*xs: Any) -> Tensor:
        y = f(*xs)
        return hg.sum(y * Tensor(np.arange(1.0, y.size + 1).reshape(y.shape), dtype=y.dtype))

    return weighted


def ones(x: Tensor) -> Tensor:
    return Tensor(np.ones(x.shape, x.dtype))


@answers("`abs(0)`, `relu(0)`, `hypot` and `atan2` at the origin")
def test_zero_is_a_subgradient(dtype: Any, near: Any) -> None:
    x = Tensor(np.array([0.0, -0.0, 2.0, -2.0], dtype))
    near(hg.grad(total(hg.abs))(x), [0, 0, 3, -4])
    for kernels in ("off", "force"):
        with hg.use_kernels(kernels):
            near(hg.grad(total(hg.relu))(x), [0, 0, 3, 0])
            near(hg.hvp(total(hg.relu), x, ones(x)), [0, 0, 0, 0])
    near(hg.hvp(total(hg.abs), x, ones(x)), [0, 0, 0, 0])
    for f, signs in itertools.product((hg.hypot, hg.atan2), itertools.product((0.0, -0.0), repeat=2)):
        origin = tuple(Tensor(np.array(s, dtype)) for s in signs)
        for first in hg.grad(f, (0, 1))(*origin):
            near(first, 0.0)
        for second in itertools.chain(*hg.hessian(f, (0, 1))(*origin)):
            near(second, 0.0)
        for moved in hg.jvp(f, origin, (Tensor(np.array(1.0, dtype)), None))[1:]:
            near(moved, 0.0)


@answers("ties of `max`, `min`, `maximum`, `minimum`")
def test_ties_share_equally(dtype: Any, near: Any) -> None:
    x = Tensor(np.array([[1, 3, 3, 3], [5, 5, 4, 6]], dtype))
    near(hg.grad(total(lambda x: hg.max(x, axis=1)))(x), [[0, 1 / 3, 1 / 3, 1 / 3], [0, 0, 0, 2]])
    near(hg.grad(total(lambda x: hg.min(x, axis=0)))(x), [[1, 2, 3, 4], [0, 0, 0, 0]])
    near(hg.grad(hg.max)(Tensor(np.full((2, 3), 7, dtype))), np.full((2, 3), 1 / 6))
    near(hg.hvp(hg.max, x[0], x[1]), [0, 0, 0, 0])
    a, b = Tensor(np.array([1, 2, 3], dtype)), Tensor(np.array([1, 3, 2], dtype))
    for f, of_a in ((hg.maximum, [0.5, 0, 3]), (hg.minimum, [0.5, 2, 0])):
        da, db = hg.grad(total(f), (0, 1))(a, b)
        near(da, of_a)
        near(db, np.array([1.0, 2.0, 3.0]) - of_a)


@answers("`clip` at its edges")
def test_clip(dtype: Any, near: Any) -> None:
    x = Tensor(np.array([-2, -1, 0, 1, 2], dtype))
    near(hg.grad(total(lambda x: hg.clip(x, -1.0, 1.0)))(x), [0, 2, 3, 4, 0])
    low, high = ones(x) * -1.0, ones(x)
    dx, dlow, dhigh = hg.grad(total(hg.clip), (0, 1, 2))(x, low, high)
    near(dx, [0, 2, 3, 4, 0])
    near(dlow, [1, 0, 0, 0, 0])
    near(dhigh, [0, 0, 0, 0, 5])
    with pytest.raises(ValueError, match="min must not be above max"):
        hg.clip(x, 1.0, -1.0)
    near(hg.clip(x, high, low), [-1, -1, -1, -1, -1])  # bounds that are arrays: the upper one wins, as in the standard


@answers("`prod`, `cumulative_prod` with zeros")
@pytest.mark.parametrize("x", [[2.0, 0.0, 3.0, 5.0], [0.0, 2.0, 0.0, 3.0], [0.0, 0.0, 0.0, 2.0]], ids=str)
def test_products_with_zeros(x: list[float], dtype: Any, near: Any) -> None:
    """A product is linear in each factor: the derivative by some of them is the product of the others."""
    t, n = Tensor(np.array(x, dtype)), len(x)

    def without(*left_out: int, last: int = n) -> float:
        if len(set(left_out)) < len(left_out) or max(left_out) >= last:
            return 0.0
        return math.prod(v for k, v in enumerate(x[:last]) if k not in left_out)

    near(hg.grad(hg.prod)(t), [without(i) for i in range(n)])
    near(hg.hessian(hg.prod)(t), [[without(i, j) for j in range(n)] for i in range(n)])
    third = hg.jacobian(hg.hessian(hg.prod, mode="reverse"))(t)
    near(third, [[[without(i, j, k) for k in range(n)] for j in range(n)] for i in range(n)])
    near(hg.jacobian(hg.cumulative_prod)(t), [[without(i, last=k + 1) for i in range(n)] for k in range(n)])
    weighted = [sum((k + 1) * without(i, last=k + 1) for k in range(n)) for i in range(n)]
    near(hg.grad(total(hg.cumulative_prod))(t), weighted)
    curved = [sum((k + 1) * without(i, j, last=k + 1) for k in range(n) for j in range(n)) for i in range(n)]
    near(hg.hvp(total(hg.cumulative_prod), t, ones(t)), curved)


@answers("`power(x, 0)`, `power(0, n)`")
def test_powers_at_zero(dtype: Any, near: Any) -> None:
    near(Tensor(np.array([0, -0.0, 2, -3], dtype)) ** 0, [1, 1, 1, 1])
    near(Tensor(np.array([0, 0, 0], dtype)) ** Tensor(np.array([1, 2, 0.5], dtype)), [0, 0, 0])
    exponents = (0, 1, 2, 3, 0.5, -1)
    first, second = [0, 1, 0, 0, INF, -INF], [0, 0, 2, 0]
    for n, want in zip(exponents, first, strict=True):
        near(hg.grad(lambda x, n=n: x**n)(Tensor(np.array(0.0, dtype))), want)
    for n, want in zip(exponents, second, strict=False):
        near(hg.grad(hg.grad(lambda x, n=n: x**n))(Tensor(np.array(0.0, dtype))), want)
    zeros, n = Tensor(np.zeros(4, dtype)), Tensor(np.arange(4.0), dtype=dtype)
    dx, dn = hg.grad(lambda x, n: hg.sum(x**n), (0, 1))(zeros, n)
    near(dx, first[:4])
    near(dn, [0, 0, 0, 0])
    near(hg.hvp(lambda x: hg.sum(x**n), zeros, ones(zeros)), second)


@answers("`remainder`, `%`")
def test_remainder(dtype: Any, near: Any) -> None:
    a, b = np.array([5.5, -5.5, 5.5, -5.5], dtype), np.array([2, 2, -2, -2], dtype)
    near(Tensor(a) % Tensor(b), [x % y for x, y in zip(a.tolist(), b.tolist(), strict=True)])
    near(hg.remainder(Tensor(a), 2.0), a % 2)
    da, db = hg.grad(lambda a, b: hg.sum(a % b), (0, 1))(a, b)
    near(da, [1, 1, 1, 1])
    near(db, -(a // b))
    check_op(hg.remainder, (a, b), samples=2)


@answers("steps: `floor`, `ceil`, `round`, `trunc`, `sign`, `//`, comparisons")
def test_steps_are_constants(dtype: Any, near: Any) -> None:
    x = Tensor(np.array([1.5, -0.5], dtype), requires_grad=True)
    for f in (hg.floor, hg.ceil, hg.round, hg.trunc, hg.sign, lambda x: x // 2.0, lambda x: (x > 0.0).astype(dtype)):
        assert not f(x).requires_grad
        near(hg.grad(lambda x, f=f: hg.sum(f(x) * x))(x.detach()), f(x).detach().numpy())


@answers("`sqrt(0)`, `log(0)`, `1 / 0`")
def test_infinite_slopes_show(dtype: Any, near: Any) -> None:
    zero = Tensor(np.array(0.0, dtype))
    near(hg.grad(hg.sqrt)(zero), INF)
    near(hg.grad(hg.log)(zero), INF)
    near(hg.grad(lambda x: 1.0 / x)(zero), -INF)
    near(hg.sqrt(zero), 0.0)
    near(hg.log(zero), -INF)
    near(hg.log(zero - 1.0), NAN)
    near(hg.sqrt(zero - 1.0), NAN)


@answers("`where` beside a pole")
def test_where_beside_a_pole(dtype: Any, near: Any) -> None:
    x = Tensor(np.array([0.0, 4.0], dtype))
    near(hg.grad(lambda x: hg.sum(hg.where(x > 0.0, hg.sqrt(x), 0.0)))(x), [NAN, 0.25])
    safe = hg.grad(lambda x: hg.sum(hg.where(x > 0.0, hg.sqrt(hg.where(x > 0.0, x, 1.0)), 0.0)))
    near(safe(x), [0.0, 0.25])
    pulled = hg.vjp(lambda a, b: hg.where(x > 0.0, a, b), x, x)[1](Tensor(np.array([NAN, 2.0], dtype)))
    near(pulled[0], [0.0, 2.0])  # where itself gives 0, not 0 times what comes
    near(pulled[1], [NAN, 0.0])


@answers("`std` where all numbers are equal")
def test_std_of_equal_numbers(dtype: Any, near: Any) -> None:
    x = Tensor(np.array([[0.1, 0.1, 0.1], [1.0, 2.0, 4.0]], dtype))
    for correction in (0, 1):

        def f(x: Tensor, correction: int = correction) -> Tensor:
            return total(lambda x: hg.std(x, axis=1, correction=correction))(x)

        first, second = hg.grad(f)(x), hg.hvp(f, x, x * x)
        for d in (first, second, hg.grad(lambda x, f=f: hg.sum(hg.grad(f)(x) ** 2))(x)):
            near(d[0], [0, 0, 0])
            assert np.all(np.isfinite(d.detach().numpy())) and np.any(d.detach().numpy()[1])
    assert hg.std(x, axis=1)[0].item() == 0.0


@answers("`var` with n <= correction")
def test_var_without_degrees_of_freedom(dtype: Any, near: Any) -> None:
    near(hg.var(Tensor(np.array([2.0], dtype)), correction=1), NAN)
    for correction in (2, 2.5, 5):
        near(hg.var(Tensor(np.array([2.0, 3.0], dtype)), correction=correction), INF)
        near(hg.var(Tensor(np.array([2.0, 2.0], dtype)), correction=correction), NAN)


@answers("reduction of nothing")
def test_reductions_of_nothing(dtype: Any, near: Any) -> None:
    none, rows = Tensor(np.zeros(0, dtype)), Tensor(np.zeros((2, 0), dtype))
    for name, want in {"sum": 0, "prod": 1, "logsumexp": -INF, "mean": NAN, "var": NAN, "std": NAN}.items():
        f = getattr(hg, name)
        near(f(none), want)
        near(f(rows, axis=1), [want, want])
        near(f(rows, axis=0), [])
        assert hg.grad(f)(none).shape == hg.hvp(f, none, none).shape == (0,)
    for name in ("max", "min", "argmax", "argmin"):
        with pytest.raises(ValueError, match=rf"^{name}: .* at least one number"):
            getattr(hg, name)(none)
        assert getattr(hg, name)(rows, axis=0).shape == (0,)


@answers("`logsumexp` of nothing but -inf")
def test_logsumexp_of_impossible_things(dtype: Any, near: Any) -> None:
    x = Tensor(np.array([[-INF, -INF], [0.0, -INF]], dtype))

    def f(x: Tensor) -> Tensor:
        return hg.sum(hg.logsumexp(x, axis=1))

    near(hg.logsumexp(x, axis=1), [-INF, 0.0])
    near(hg.grad(f)(x), [[0, 0], [1, 0]])
    near(hg.hvp(f, x, ones(x)), [[0, 0], [0, 0]])


@answers("`softmax`, `log_softmax` of nothing but -inf")
def test_softmax_of_impossible_things(dtype: Any, kernels: str, near: Any) -> None:
    x = Tensor(np.array([[-INF, -INF], [0.0, -INF]], dtype))
    near(hg.softmax(x), [[NAN, NAN], [1, 0]])
    near(hg.log_softmax(x), [[NAN, NAN], [0, -INF]])
    near(hg.grad(total(hg.softmax))(x), [[NAN, NAN], [0, 0]])
    near(hg.grad(total(lambda x: hg.log_softmax(x)[:, 0]))(x), [[NAN, NAN], [0, 0]])
    q = Tensor(np.ones((1, 2, 3), dtype))
    near(hg.attention(q, q, q, Tensor([[[False, False]]])), np.zeros((1, 2, 3)))


@answers("`logaddexp` of two equal infinities")
def test_logaddexp_of_infinities(dtype: Any, near: Any) -> None:
    for s in (INF, -INF):
        a = Tensor(np.array([s], dtype))
        near(hg.logaddexp(a, a), [s])
        for d in hg.grad(lambda a, b: hg.sum(hg.logaddexp(a, b)), (0, 1))(a, a):
            near(d, [0.5])
    near(hg.logaddexp(Tensor(np.array([INF], dtype)), -INF), [INF])


@answers("NaN")
def test_nan_goes_through(dtype: Any, kernels: str, near: Any) -> None:
    rows = Tensor(np.array([[NAN, 1.0, -1.0, 0.5], [0.5, 1.0, -1.0, 2.0]], dtype))
    w, b = ones(rows[0]), ones(rows[0])
    entry = (hg.relu, hg.gelu, hg.gelu_erf, hg.silu, hg.sigmoid, hg.exp, hg.tanh, hg.abs, hg.sqrt, hg.square, hg.erf)
    row: tuple[Any, ...] = (
        hg.softmax, hg.log_softmax, lambda x: hg.layer_norm(x, w, b), lambda x: hg.rms_norm(x, w),
        lambda x: hg.linear(x, Tensor(np.ones((4, 4), dtype))), lambda x: hg.cumulative_sum(x, axis=1),
        lambda x: hg.sum(x, axis=1), lambda x: hg.max(x, axis=1), lambda x: hg.min(x, axis=1), lambda x: hg.std(x, axis=1),
        lambda x: hg.logsumexp(x, axis=1),
    )  # fmt: skip
    for f in entry:
        y, dx = f(rows).numpy(), hg.grad(lambda x, f=f: hg.sum(f(x) ** 2))(rows).numpy()
        assert np.isnan(y[0, 0]) and np.isnan(dx[0, 0])
        assert not np.isnan(dx[1, [0, 1, 3]]).any()
    for f in row:
        y, dx = f(rows).numpy(), hg.grad(lambda x, f=f: hg.sum(f(x) ** 2))(rows).numpy()
        assert np.isnan(y[0]).all() and np.isnan(dx[0]).all()
        assert not np.isnan(y[1]).any() and not np.isnan(dx[1]).any()
    assert np.isnan(hg.cross_entropy(rows, np.array([1, 1])).item())
    near(hg.grad(total(lambda x: hg.max(x, axis=1)))(rows), [[NAN] * 4, [0, 0, 0, 2]])
    q = Tensor(np.where(np.arange(8).reshape(1, 4, 2) == 3, NAN, 0.5).astype(dtype))
    assert np.isnan(hg.attention(q, q, q).numpy()).all()


@answers("comparisons with NaN in `maximum`, `clip` ...")
def test_nan_passes_the_cotangent(dtype: Any, kernels: str, near: Any) -> None:
    x, one = Tensor(np.array([NAN, 2.0], dtype)), Tensor(np.array([1.0, 1.0], dtype))
    for f in (hg.relu, lambda x: hg.clip(x, 0.0, 5.0), lambda x: hg.clip(x, one * 0.0, one * 5.0)):
        near(f(x), [NAN, 2.0])
        near(hg.grad(total(f))(x), [1.0, 2.0])
    for f in (hg.maximum, hg.minimum):
        for a, b in ((x, one), (one, x)):
            near(f(a, b)[0], NAN)
            for d in hg.grad(total(f), (0, 1))(a, b):
                near(d[0], 1.0)
    near(hg.clip(one, Tensor(np.array([NAN, 0.0], dtype))), [NAN, 1.0])


@answers("`softplus`")
def test_softplus(dtype: Any, near: Any) -> None:
    x = np.array([-800.0, -40.0, -1.0, 0.0, 19.0, 20.5, 30.0, 800.0])
    want = [math.log1p(math.exp(v)) if v < 0 else v + math.log1p(math.exp(-v)) for v in x.tolist()]
    got = hg.softplus(Tensor(x.astype(dtype)))
    np.testing.assert_allclose(got.numpy(), want, rtol=8 * np.finfo(dtype).eps)  # relatively, tails included
    assert hg.softplus(Tensor(np.array(20.5))).item() > 20.5
    slope = [math.exp(min(v, 0.0)) / (1 + math.exp(-abs(v))) for v in x.tolist()]
    np.testing.assert_allclose(hg.grad(lambda x: hg.sum(hg.softplus(x)))(x.astype(dtype)).numpy(), slope, rtol=4e-6)


@answers("`gelu`")
def test_gelu(dtype: Any, kernels: str, near: Any) -> None:
    x = np.linspace(-4, 4, 41)
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    exact = np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x])
    near(hg.gelu(Tensor(x.astype(dtype))), 0.5 * x * (1 + np.tanh(u)))
    near(hg.gelu(Tensor(x.astype(dtype)), approximate="none"), exact)
    near(hg.nn.GELU()(Tensor(x.astype(dtype))), 0.5 * x * (1 + np.tanh(u)))
    slope = [0.5 * (1 + math.erf(v / math.sqrt(2))) + v * math.exp(-v * v / 2) / math.sqrt(2 * math.pi) for v in x]
    near(hg.grad(lambda x: hg.sum(hg.gelu(x, approximate="none")))(x.astype(dtype)), slope)
    du = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    near(
        hg.grad(lambda x: hg.sum(hg.gelu(x)))(x.astype(dtype)), 0.5 * (1 + np.tanh(u)) + 0.5 * x * du / np.cosh(u) ** 2
    )
