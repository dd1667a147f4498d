"""Derivatives as functions, gradients of chosen Tensors, derivatives of derivatives, and the switch that records them."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor
from handgrad.engine.recording import state
from handgrad.engine.tensor import apply
from handgrad.reference.table import EXP, TANH


@pytest.fixture(autouse=True)
def _recording_is_on_again() -> Any:
    yield
    state.record = True
    state.transforms = 0


# ---- grad, value_and_grad


def test_grad_of_numbers_arrays_and_tensors() -> None:
    f = lambda x: hg.sum(x * x)  # noqa: E731
    assert hg.grad(f)(3.0).item() == 6.0
    assert hg.grad(f)(np.array([1.0, 2.0])).numpy().tolist() == [2.0, 4.0]
    x = Tensor([1.0, 2.0])
    assert hg.grad(f)(x).numpy().tolist() == [2.0, 4.0]
    assert not x.requires_grad
    assert x.grad is None
    value, slope = hg.value_and_grad(f)(x)
    assert value.item() == 5.0
    assert not value.requires_grad
    assert not slope.requires_grad


def test_argnums_and_keyword_arguments() -> None:
    def f(x: Any, y: Any, *, k: float = 1.0) -> Any:
        return hg.sum(x * y) * k

    x, y = np.array([1.0, 2.0]), np.array([3.0, 5.0])
    assert hg.grad(f, argnums=1)(x, y, k=2.0).numpy().tolist() == [2.0, 4.0]
    dx, dy = hg.grad(f, argnums=(0, 1))(x, y)
    assert (dx.numpy().tolist(), dy.numpy().tolist()) == ([3.0, 5.0], [1.0, 2.0])
    (only,) = hg.grad(f, argnums=(1,))(x, y)
    assert only.numpy().tolist() == [1.0, 2.0]
    assert hg.grad(f, argnums=-1)(x, y).numpy().tolist() == [1.0, 2.0]


def test_the_same_array_twice_is_two_variables() -> None:
    x = Tensor([2.0])
    dx, dy = hg.grad(lambda a, b: hg.sum(a * a * b), argnums=(0, 1))(x, x)
    assert (dx.item(), dy.item()) == (8.0, 4.0)


def test_what_does_not_depend_on_the_argument_is_zero() -> None:
    assert hg.grad(lambda x: Tensor(1.0))(np.ones(2)).numpy().tolist() == [0.0, 0.0]
    w = Tensor(2.0, requires_grad=True)
    assert hg.grad(lambda x: w * w)(np.ones(2)).numpy().tolist() == [0.0, 0.0]
    assert w.grad is None
    d = hg.grad(lambda a, b: hg.sum(a), argnums=(0, 1))(np.ones(2), np.ones(3))
    assert d[1].numpy().tolist() == [0.0] * 3


def test_nested_derivatives_of_any_order() -> None:
    f, slopes = (lambda x: x**5.0), [32.0, 80.0, 160.0, 240.0, 240.0, 120.0]
    for want in slopes:
        assert f(Tensor(2.0)).item() == want
        f = hg.grad(f)
    x = 0.3
    want = -2.0 * (1.0 - np.tanh(x) ** 2) * (1.0 - 3.0 * np.tanh(x) ** 2)
    assert np.isclose(hg.grad(hg.grad(hg.grad(hg.tanh)))(np.float64(x)).item(), want, rtol=1e-12)


def test_perturbations_are_not_confused() -> None:
    """d/dx (x d/dy (x + y)) is 1, not 2 (Siskind and Pearlmutter 2005); and friends."""
    assert hg.grad(lambda x: x * hg.grad(lambda y: x + y)(1.0))(1.0).item() == 1.0
    assert hg.grad(lambda x: x * hg.grad(lambda y: x * y)(2.0))(3.0).item() == 6.0
    assert hg.grad(lambda x: hg.grad(lambda y: x * y * y)(x))(3.0).item() == 12.0  # d/dx 2 x x
    assert hg.grad(lambda x: x * hg.grad(lambda y: y * y * y)(x))(2.0).item() == 36.0  # d/dx 3 x^3


def test_a_closure_over_the_outer_variable_three_deep() -> None:
    f = hg.grad(lambda x: hg.grad(lambda y: hg.grad(lambda z: x * x * y * y * z * z)(3.0))(2.0))
    assert f(5.0).item() == 2 * 5 * 2 * 2 * 2 * 3


def test_a_nested_value_keeps_its_history() -> None:
    def f(x: Tensor) -> Tensor:
        value, slope = hg.value_and_grad(lambda y: y**3.0)(x)
        return value + slope

    assert hg.grad(f)(2.0).item() == 3 * 4 + 6 * 2


def test_an_argument_that_requires_grad_is_followed() -> None:
    x = Tensor(2.0, requires_grad=True)
    hg.grad(lambda y: y**3.0)(x).backward()
    assert x.grad.item() == 12.0


def test_it_works_inside_no_grad_and_leaves_it_on() -> None:
    with hg.no_grad():
        assert hg.grad(lambda x: x * x)(3.0).item() == 6.0
        assert not hg.is_grad_enabled()


def test_an_error_in_the_function_leaves_no_trace() -> None:
    def broken(x: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        hg.grad(broken)(1.0)
    assert state.transforms == 0
    assert not hg.grad(lambda x: x * x)(3.0).requires_grad


def test_mistakes_are_sentences() -> None:
    for call, kind, sentence in (
        (lambda: hg.grad(lambda x: 2.0)(1.0), TypeError, "^grad: the function returned a float, but it must return a Tensor"),
        (lambda: hg.grad(lambda x: x * 2.0)(np.ones(2)), ValueError, r"y has shape \(2,\); give a cotangent .* or reduce y"),
        (lambda: hg.grad(lambda x: x, argnums=1)(1.0), TypeError, "^grad: argnums is 1, but the function got 1 positional"),
        (lambda: hg.grad(lambda x: x)(x=1.0), TypeError, "^grad: argnums is 0, but the function got 0 positional"),
        (lambda: hg.grad(lambda x: x)(3), TypeError, "only floating point can require grad, but this is int64"),
    ):
        with pytest.raises(kind, match=sentence):
            call()


# ---- gradients


def test_gradients_of_leaves_and_of_what_lies_between() -> None:
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    u = x * 3.0
    v = u * u
    y = hg.sum(v)
    dx, du, dv, dy, du2 = hg.gradients(y, [x, u, v, y, u])
    assert dx.numpy().tolist() == [18.0, 36.0]
    assert du.numpy().tolist() == du2.numpy().tolist() == [6.0, 12.0]
    assert dv.numpy().tolist() == [1.0, 1.0]
    assert dy.item() == 1.0
    assert x.grad is None
    assert not np.shares_memory(du.numpy(), du2.numpy())


def test_gradients_are_zero_where_y_ignores_x() -> None:
    x, other = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    (g,) = hg.gradients(hg.sum(x), [other])
    assert g.shape == (2, 3)
    assert g.dtype == np.float32
    assert not g.numpy().any()


def test_gradients_alias_neither_each_other_nor_the_cotangent() -> None:
    a, b, dy = (Tensor(np.ones(2), requires_grad=True) for _ in range(3))
    da, db = hg.gradients(a + b, [a, b], dy.detach())
    assert not np.shares_memory(da.numpy(), db.numpy())
    assert not np.shares_memory(da.numpy(), dy.data)


def test_branches_that_nobody_asked_for_are_not_computed() -> None:
    calls: Counter[str] = Counter()

    def counted(op: Any) -> Any:
        def vjp(*args: Any, **params: Any) -> Any:
            calls[op.name] += 1
            return op.vjp(*args, **params)

        return replace(op, vjp=vjp)

    exp, tanh = counted(EXP), counted(TANH)
    a, b = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(2), requires_grad=True)

    def graph() -> tuple[Tensor, Tensor]:
        calls.clear()
        left, right = apply(exp, apply(exp, a)), apply(tanh, apply(tanh, b))
        return left, hg.sum(left * right)

    _, y = graph()
    hg.gradients(y, [a])
    assert calls == {"exp": 2}
    left, y = graph()
    hg.gradients(y, [left])
    assert calls == {}
    _, y = graph()
    y.backward()
    assert calls == {"exp": 2, "tanh": 2}


def test_wanted_tells_a_row_what_nobody_needs() -> None:
    asked = []
    from handgrad.reference.table import MULTIPLY

    def vjp(dy: Any, y: Any, x1: Any, x2: Any, *, wanted: Any) -> Any:
        asked.append(wanted)
        return MULTIPLY.vjp(dy, y, x1, x2, wanted=wanted)

    op = replace(MULTIPLY, vjp=vjp)
    a, b = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(2), requires_grad=True)
    hg.gradients(apply(op, a, b), [b], np.ones(2))
    apply(op, a, np.ones(2)).backward(np.ones(2))
    apply(op, a, 2.0).backward(np.ones(2))
    assert asked == [(False, True), (True, False), (True, False)]


# ---- create_graph


def test_third_order_through_backward() -> None:
    x = Tensor(np.array([0.5, -1.5]), requires_grad=True)
    hg.sum(x**4.0).backward(create_graph=True)
    first = x.grad
    x.grad = None
    hg.sum(first).backward(create_graph=True)
    second = x.grad
    x.grad = None
    hg.sum(second).backward()
    assert np.allclose(first.detach().numpy(), 4 * x.data**3, rtol=1e-14)
    assert np.allclose(second.detach().numpy(), 12 * x.data**2, rtol=1e-14)
    assert np.allclose(x.grad.numpy(), 24 * x.data, rtol=1e-14)


def test_mixed_third_derivatives_equal_finite_differences() -> None:
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(s) for s in ((2, 3), (3, 4), (4,))]
    dirs = [rng.standard_normal(a.shape) for a in arrays]

    def along(gs: Any) -> Tensor:
        return sum((hg.sum(g * d) for g, d in zip(gs[1:], dirs[1:], strict=True)), hg.sum(gs[0] * dirs[0]))

    def derivative(order: int, values: list[np.ndarray]) -> Tensor:
        xs = [Tensor(a, requires_grad=True) for a in values]
        y = hg.sum(hg.softmax(hg.tanh(xs[0] @ xs[1]) + xs[2]) * np.array([[1.0, -2.0, 0.5, 3.0], [0.1, 0.2, -1.0, 1.0]]))
        for _ in range(order):
            y = along(hg.gradients(y, xs, create_graph=True))
        return y

    h = 1e-5
    for order in (1, 2, 3):
        up, down = (derivative(order - 1, [a + s * h * d for a, d in zip(arrays, dirs, strict=True)]).item() for s in (1, -1))
        assert abs(derivative(order, arrays).item() - (up - down) / (2 * h)) < 1e-6 * max(1.0, abs(up))


def test_the_cotangent_can_be_differentiated_too() -> None:
    x, dy = Tensor(np.array([2.0]), requires_grad=True), Tensor(np.array([3.0]), requires_grad=True)
    (g,) = hg.gradients(x * x, [x], dy, create_graph=True)  # 2 x dy
    assert [t.item() for t in hg.gradients(hg.sum(g), [x, dy])] == [6.0, 4.0]


def test_create_graph_retains_and_plain_backward_records_nothing() -> None:
    x = Tensor(np.array([2.0]), requires_grad=True)
    y = hg.sum(x * x)
    y.backward(create_graph=True)
    assert x.grad.requires_grad
    x.grad = None
    y.backward()
    assert not x.grad.requires_grad
    with hg.enable_grad():
        (g,) = hg.gradients(hg.sum(x * x), [x])
    assert not g.requires_grad


def test_kernels_forward_and_formulas_backward_with_create_graph() -> None:
    x = Tensor(np.random.default_rng(0).standard_normal((3, 5)), requires_grad=True)
    w = np.random.default_rng(1).standard_normal((3, 5))
    found = {}
    for mode in ("off", "force"):
        with hg.use_kernels(mode):
            (g,) = hg.gradients(hg.sum(hg.softmax(hg.gelu(x)) * w), [x], create_graph=True)
            (found[mode],) = hg.gradients(hg.sum(g * g), [x])
    assert np.allclose(found["off"].numpy(), found["force"].numpy(), rtol=1e-11, atol=1e-13)


# ---- what backward refuses, before it touches anything


def test_cotangents_of_another_shape_or_dtype_are_refused() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    for dy, kind, sentence in (
        (None, ValueError, r"y has shape \(2,\); give a cotangent of that shape, or reduce y to one number"),
        (Tensor([1.0]), ValueError, r"the cotangent has shape \(1,\), but y has shape \(2,\)"),
        (Tensor(1.0), ValueError, r"the cotangent has shape \(\), but y has shape \(2,\)"),
        (np.ones(2), TypeError, "the cotangent is float64, but y is float32; cast it with astype"),
        (Tensor([1, 1]), TypeError, "the cotangent is int64, but y is float32"),
    ):
        y = x * 2.0
        for call in (lambda: y.backward(dy), lambda: hg.gradients(y, [x], dy)):  # noqa: B023
            with pytest.raises(kind, match=r"^backward: " + sentence):
                call()
        assert x.grad is None
    (x * 2.0)[0].reshape(1, 1).backward()  # one number needs none
    assert x.grad.numpy().tolist() == [2.0, 0.0]


def test_a_result_without_history_is_refused() -> None:
    for y in (Tensor(1.0), Tensor(1.0) * 2.0, Tensor(1.0, requires_grad=True).detach()):
        with pytest.raises(RuntimeError, match=r"depends on nothing that requires grad"):
            y.backward()


def test_integers_cut_the_graph() -> None:
    """The derivative of a cast to integers is zero almost everywhere; its result must not pass cotangents on."""
    x = Tensor([1.5, 2.5], requires_grad=True)
    assert not x.astype(np.int64).requires_grad
    assert not x.astype(bool).requires_grad
    assert x.astype(np.float64).requires_grad


# ---- the switch


def test_no_grad_and_enable_grad() -> None:
    x = Tensor(1.0, requires_grad=True)
    with hg.no_grad():
        assert not (x * 2.0).requires_grad
        with hg.enable_grad():
            assert (x * 2.0).requires_grad
        assert not hg.is_grad_enabled()
    assert hg.is_grad_enabled()
    with pytest.raises(ZeroDivisionError), hg.no_grad():
        raise ZeroDivisionError
    assert hg.is_grad_enabled()


def test_a_decorated_function_may_call_itself() -> None:
    @hg.no_grad()
    def f(n: int) -> None:
        assert not hg.is_grad_enabled()
        if n:
            f(n - 1)

    f(2)
    assert hg.is_grad_enabled()


def test_one_switch_may_be_entered_twice() -> None:
    off = hg.no_grad()
    with off, off:
        pass
    assert hg.is_grad_enabled()


def test_a_decorated_function_runs_in_two_threads_at_once() -> None:
    inside, leave = threading.Event(), threading.Event()

    @hg.no_grad()
    def f(wait: bool) -> None:
        if wait:
            inside.set()
            leave.wait(10)

    found = []

    def other() -> None:
        f(True)
        found.append(hg.is_grad_enabled())

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(10)
    with hg.no_grad():
        f(False)
        leave.set()
        thread.join()
    assert found == [True]
    assert hg.is_grad_enabled()


def test_each_thread_has_its_own_switch() -> None:
    found = []
    with hg.no_grad():
        thread = threading.Thread(target=lambda: found.append(hg.is_grad_enabled()))
        thread.start()
        thread.join()
    assert found == [True]


def test_a_graph_may_be_built_by_several_threads() -> None:
    x = Tensor([2.0], requires_grad=True)
    trunk = x
    for _ in range(5):
        trunk = trunk * 1.5
    found: list[Tensor] = []
    thread = threading.Thread(target=lambda: found.append(hg.sum(trunk * 3.0)))
    thread.start()
    thread.join()
    found[0].backward()
    assert np.isclose(x.grad.item(), 3.0 * 1.5**5)
