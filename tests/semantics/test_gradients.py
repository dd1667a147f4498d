"""docs/semantics.md, Gradients: what automatic differentiation promises, and what it refuses."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor

answers = pytest.mark.answers


def numbers(seed: int, *shape: int, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def leaf(data: Any) -> Tensor:
    return Tensor(data, requires_grad=True)


@answers("autograd, `nn`, `optim`, state dicts")
def test_pytorchs_names_and_layouts() -> None:
    x = leaf([1.0, 2.0])
    y = hg.sum(x * x)
    assert x.is_leaf and not y.is_leaf and y.requires_grad and x.grad is None
    y.backward(retain_graph=True, create_graph=False)
    assert x.grad is not None and not x.detach().requires_grad
    with hg.no_grad():
        assert not hg.is_grad_enabled()
        with hg.enable_grad():
            assert (x * 2.0).requires_grad
    layer = hg.nn.Linear(3, 2)
    assert {name: p.shape for name, p in layer.state_dict().items()} == {"weight": (2, 3), "bias": (2,)}
    assert layer.load_state_dict(layer.state_dict()) is not NotImplemented
    optimizer = hg.optim.AdamW(layer.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2)
    assert all(callable(getattr(optimizer, name)) for name in ("step", "zero_grad", "state_dict", "load_state_dict"))
    assert optimizer.param_groups[0]["lr"] == 1e-3


@answers("`grad`, `vjp`, `jvp`, `hvp`, `jacobian`, `hessian`")
def test_functions_of_functions_follow_their_arguments(near: Any) -> None:
    a, v = numbers(1, 3), numbers(2, 3)
    closed = leaf(numbers(3, 3))

    def f(x: Tensor) -> Tensor:
        return hg.sum(x**3 * closed)

    c = closed.detach().numpy()
    near(hg.grad(f)(a), 3 * a**2 * c)
    near(hg.hvp(f, Tensor(a), Tensor(v)), 6 * a * c * v)
    near(hg.hessian(f)(a), np.diag(6 * a * c))
    near(hg.jacobian(lambda x: x**2)(a), np.diag(2 * a))
    near(hg.jvp(f, Tensor(a), Tensor(v))[1], np.sum(3 * a**2 * c * v))
    near(hg.vjp(f, a)[1](2.0)[0], 6 * a**2 * c)
    assert not hg.grad(f)(a).requires_grad and closed.grad is None  # what is closed over is a constant
    inside = hg.grad(lambda y: hg.sum(hg.grad(lambda x: hg.sum(x * x * y))(Tensor(a))))(Tensor(v))
    near(inside, 2 * a)  # unless an outer derivative follows it


@answers("forward mode inside of forward mode")
def test_forward_mode_is_one_level_deep(near: Any) -> None:
    one = Tensor(1.0)

    def slope(x: Tensor) -> Tensor:
        return hg.jvp(lambda x: x**3, x, one)[1]

    with pytest.raises(RuntimeError, match="one level deep"):
        hg.jvp(slope, Tensor(2.0), one)
    near(hg.grad(slope)(2.0), 12.0)  # reverse over forward
    near(hg.jvp(hg.grad(lambda x: x**3), Tensor(2.0), one)[1], 12.0)  # forward over reverse
    near(hg.grad(hg.grad(lambda x: x**3))(2.0), 12.0)
    near(hg.grad(hg.grad(slope))(2.0), 6.0)
    near(hg.jvp(hg.grad(hg.grad(lambda x: x**4)), Tensor(2.0), one)[1], 48.0)


@answers("integers and booleans")
def test_integers_have_no_gradient() -> None:
    for data in (1, [1, 2], [True], np.zeros(2, np.uint8)):
        with pytest.raises(TypeError, match="only floating point can require grad"):
            leaf(data)
    with pytest.raises(TypeError, match="only floating point"):
        hg.grad(lambda x: x * x)(3)
    weight, ids, mask = leaf(numbers(4, 3, 2)), Tensor([2, 0]), Tensor([[True, False], [True, True]])
    y = hg.embedding(weight, ids) * hg.where(mask, 1.0, Tensor(np.full((2, 2), 2.0)))
    (hg.sum(y) + hg.cross_entropy(y, Tensor([1, 0]))).backward()
    assert weight.grad is not None and ids.grad is None and mask.grad is None


@answers("a cast")
def test_a_cast_to_integers_cuts_the_graph(near: Any) -> None:
    x = leaf(numbers(5, 2))
    assert x.astype(np.float32).requires_grad and not x.astype(np.int64).requires_grad
    dx = hg.grad(lambda x: hg.sum(x.astype(np.float32) ** 2))(x)
    assert dx.dtype == np.float64
    np.testing.assert_allclose(dx.detach().numpy(), 2 * x.detach().numpy(), rtol=4e-7)
    near(
        hg.grad(lambda x: hg.sum(x.astype(np.int64).astype(np.float64) * x))(Tensor([2.0, 3.0], dtype=np.float64)),
        [2, 3],
    )


@answers("a gradient that nobody asked for")
def test_what_nobody_wants_is_not_computed(kernels: str) -> None:
    asked = []

    def vjp(dy: Any, y: Any, x1: Any, x2: Any, *, wanted: tuple[bool, ...]) -> tuple:
        asked.append(wanted)
        return tuple(d if w else None for d, w in zip((dy * x2, dy * x1), wanted, strict=True))

    multiply = next(row for row in hg.ROWS if row.name == "multiply")
    seen = replace(multiply, vjp=vjp)
    x, y = leaf([1.0, 2.0]), Tensor([3.0, 4.0])
    hg.sum(hg.apply(seen, x, y)).backward()
    hg.gradients(hg.sum(hg.apply(seen, x, leaf([1.0, 1.0]))), [x])
    assert asked == [(True, False), (True, False)] and y.grad is None
    weight = leaf(numbers(6, 3, 2, dtype=np.float32))
    hg.sum(hg.linear(Tensor(numbers(7, 4, 3, dtype=np.float32)), weight)).backward()
    assert weight.grad is not None


@answers("`backward` twice")
def test_backward_twice(kernels: str, near: Any) -> None:
    x = leaf([0.5, 2.0])
    y = hg.sum(hg.softmax(x * 1.0) * Tensor([1.0, 0.0]))
    y.backward(retain_graph=True)
    assert x.grad is not None
    first = x.grad.numpy().copy()
    y.backward()
    near(x.grad, 2 * first)
    with pytest.raises(RuntimeError, match=r"used and freed.*retain_graph=True"):
        y.backward()
    near(x.grad, 2 * first)


@answers("`backward` of several numbers")
def test_backward_of_several_numbers_wants_a_cotangent(near: Any) -> None:
    x = leaf([1.0, 2.0])
    with pytest.raises(ValueError, match=r"give a cotangent of that shape, or reduce y to one number"):
        (x * x).backward()
    for wrong, kind in (([1.0], ValueError), (np.ones(2), TypeError)):
        with pytest.raises(kind, match="the cotangent"):
            (x * x).backward(Tensor(wrong))
    with pytest.raises(ValueError, match=r"reduce y to one number"):
        hg.grad(lambda x: x * x)(x)
    assert x.grad is None
    (x * x).backward(Tensor([1.0, 10.0]))
    assert x.grad is not None
    near(x.grad, [2.0, 40.0])


@answers("what depends on no variable")
def test_independent_results(near: Any) -> None:
    with pytest.raises(RuntimeError, match="depends on nothing that requires grad"):
        hg.sum(Tensor([1.0, 2.0])).backward()
    near(hg.grad(lambda x: Tensor(3.0))([1.0, 2.0]), [0.0, 0.0])
    near(hg.grad(hg.grad(lambda x: 2.0 * x))(1.0), 0.0)
    near(hg.jvp(lambda x: Tensor(3.0), Tensor(1.0), Tensor(1.0))[1], 0.0)
    x, other = leaf([1.0]), leaf([1.0])
    near(hg.gradients(hg.sum(x), [other])[0], [0.0])


@answers("a leaf changed between forward and backward")
def test_a_changed_leaf_is_noticed(near: Any) -> None:
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    y = hg.sum(hg.exp(w) + x * w)
    w.copy_([0.0, 0.0])
    with pytest.raises(RuntimeError, match=r"x2 of multiply was changed after the forward pass"):
        y.backward()
    assert x.grad is None and w.grad is None  # exp, which could have been walked, was not
    optimizer = hg.optim.SGD([w], lr=0.5)
    hg.sum(w * w + w).backward()
    z = hg.sum(w[:1] * x)  # a view of w
    optimizer.step()
    with pytest.raises(RuntimeError, match="was changed"):
        z.backward()
    z = hg.sum(w + w)  # whose derivative does not read w
    w.copy_([1.0, 1.0])
    near(hg.gradients(z, [w])[0], [2.0, 2.0])


@answers("`.grad`")
@pytest.mark.parametrize("kernel", [False, True])
def test_grad_is_added_to(kernel: bool, near: Any) -> None:
    with hg.use_kernels("force" if kernel else "off"):
        x = leaf([1.0, -2.0])
        mine = Tensor([10.0, 10.0])
        x.grad = mine
        hg.sum(hg.relu(x)).backward()
        near(x.grad, [11.0, 10.0])
        near(mine, [10.0, 10.0])  # a gradient that was set by hand is left as it was
        dy = np.array([1.0, 1.0], np.float32)
        x.grad = None
        (x + 0.0).backward(Tensor(dy, copy=False))
        assert x.grad is not None and not np.shares_memory(x.grad.numpy(), dy)
        hg.sum(hg.relu(x)).backward()
        near(x.grad, [2.0, 1.0])
    module = hg.nn.Module()
    module.x = x  # type: ignore[attr-defined]
    module.zero_grad()
    assert x.grad is None


@answers("`.grad` under an optimizer")
def test_grad_lies_in_the_optimizers_array(near: Any) -> None:
    x, y = leaf([1.0, 2.0]), leaf([3.0])
    optimizer = hg.optim.AdamW([x, y])
    (hg.sum(x * x) + hg.sum(y)).backward()
    assert x.grad is not None and y.grad is not None
    assert np.shares_memory(x.grad.numpy(), optimizer.flat_grad) and np.shares_memory(
        y.grad.numpy(), optimizer.flat_grad
    )
    kept, copied = x.grad, Tensor(x.grad)
    optimizer.zero_grad()
    assert x.grad is None
    hg.sum(3.0 * x).backward()
    near(copied, [2.0, 4.0])
    near(kept, [3.0, 3.0])  # the same memory


@answers("`no_grad`, `detach`")
def test_no_grad_and_detach(near: Any) -> None:
    x = leaf([1.0, 2.0])
    with hg.no_grad():
        assert not (x * x).requires_grad
        dx = hg.grad(lambda x: hg.sum(x * x))(x)  # asked for by name, a derivative is taken, but not followed further
        value, pull = hg.vjp(lambda x: x * x, x)
        near(hg.jacobian(lambda x: x * x, mode="reverse")(x), np.diag([2.0, 4.0]))
    near(dx, [2.0, 4.0])
    near(pull(Tensor([1.0, 1.0]))[0], [2.0, 4.0])
    assert not dx.requires_grad and not value.requires_grad
    assert hg.grad(lambda x: hg.sum(x * x))(x).requires_grad  # outside, it is
    d = x.detach()
    assert not d.requires_grad and np.shares_memory(d.numpy(), x.detach().numpy())
    hg.sum(x * x.detach()).backward()
    assert x.grad is not None
    near(x.grad, [1.0, 2.0])


@answers("`copy.deepcopy`, `Tensor(t)`")
def test_copies_are_leaves(near: Any) -> None:
    x = leaf([1.0, 2.0])
    y = copy.deepcopy(x * 2.0)
    assert y.is_leaf and y.requires_grad and not Tensor(x * 2.0).requires_grad
    hg.sum(y * y).backward()
    assert x.grad is None and y.grad is not None
    near(y.grad, [4.0, 8.0])
    assert not np.shares_memory(copy.deepcopy(x).detach().numpy(), x.detach().numpy())
