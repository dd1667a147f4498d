"""docs/semantics.md, Arrays: what Python's own operators, loops and numbers make of a Tensor. The rest is in test_arrays.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor

answers = pytest.mark.answers


@answers("sums of booleans")
def test_sums_of_booleans() -> None:
    b = Tensor([True, True, False, True])
    assert hg.sum(b).item() == 3 and hg.sum(b).dtype == np.int64
    assert hg.mean(b).item() == 0.75 and hg.mean(b).dtype == np.float64
    assert hg.cumulative_sum(b).numpy().tolist() == [1, 2, 2, 3]
    assert hg.max(b).dtype == np.bool_ and (b + b).dtype == np.bool_  # two booleans: or


@answers("`//` and `%` of integers")
def test_integer_division() -> None:
    i, j = np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2])
    assert (Tensor(i) // Tensor(j)).numpy().tolist() == [a // b for a, b in zip(i.tolist(), j.tolist(), strict=True)]
    assert (Tensor(i) % Tensor(j)).numpy().tolist() == [a % b for a, b in zip(i.tolist(), j.tolist(), strict=True)]
    assert (Tensor(i) // 2).dtype == (Tensor(i) % 2).dtype == np.int64
    assert (Tensor(i) // 0).numpy().tolist() == (Tensor(i) % 0).numpy().tolist() == [0] * 4
    with np.errstate(divide="warn"), pytest.warns(RuntimeWarning, match="divide by zero"):
        Tensor(i) // 0


@answers("a result of one number")
def test_one_number_is_a_tensor_without_axes(dtype: Any) -> None:
    x = Tensor(np.array([1.0, 2.0], dtype))
    for y in (hg.sum(x), x[0], hg.argmax(x), x @ x, hg.all(x), hg.count_nonzero(x), hg.mean(x)):
        assert type(y) is Tensor and y.shape == ()
    assert (hg.sum(x).item(), float(x[1]), int(x[1]), bool(x[0])) == (3.0, 2.0, 2, True)
    assert type(hg.sum(x).item()) is float and [10, 20, 30][hg.argmax(x)] == 20
    for take in (Tensor.item, float, int, bool):
        with pytest.raises(ValueError, match="single element"):
            take(x)
    with pytest.raises(TypeError):
        [10, 20][x[0]]  # only integers are indices


@answers("`x == y`, `hash(x)`, `x == None`")
def test_equality_and_identity() -> None:
    x: Any = Tensor([1.0, 2.0], requires_grad=True)
    same: Any = Tensor([1.0, 2.0])
    assert (x == same).numpy().tolist() == [True, True] and (x != 1.0).numpy().tolist() == [False, True]
    assert not (x == same).requires_grad
    whole: Any = Tensor([1, 2])
    assert (whole == np.array([1.0, 2.5])).numpy().tolist() == [True, False]
    assert (x == None).numpy().tolist() == [False, False]  # noqa: E711
    assert len({x, same, x}) == 2 and {x: "mine"}[x] == "mine"
    with pytest.raises(TypeError, match=r"^equal: got a str"):
        _ = x == "12"


@answers("`0 < x < 1`, `and`, `or`, `not`, `if x:`")
def test_truth_is_for_one_number() -> None:
    x = Tensor([0.5, 2.0])
    questions: list[Any] = [lambda: 0 < x < 1, lambda: x and x, lambda: x or x, lambda: not x, lambda: bool(Tensor([]))]
    for question in questions:
        with pytest.raises(ValueError, match="single element"):
            question()
    assert ((x > 0) & (x < 1)).numpy().tolist() == [True, False]
    assert ((x < 0) | ~(x < 1)).numpy().tolist() == [False, True]
    assert 0 < x[0] < 1


@answers("`len(x)`, `for row in x`")
def test_length_and_iteration(near: Any) -> None:
    x = Tensor(np.ones((3, 2)), requires_grad=True)
    assert len(x) == 3 and [row.shape for row in x] == [(2,)] * 3
    sum((hg.sum(row * k) for k, row in enumerate(x)), Tensor(0.0, dtype=np.float64)).backward()
    assert x.grad is not None
    near(x.grad, [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    for use in (len, list):
        with pytest.raises(TypeError, match="no axes"):
            use(Tensor(1.0))


@answers("`x += y`")
def test_an_augmented_assignment_makes_a_new_tensor(near: Any) -> None:
    x = before = Tensor([1.0, 2.0], requires_grad=True)
    x += 1.0
    assert x is not before and before.detach().numpy().tolist() == [1.0, 2.0]
    hg.sum(x * x).backward()
    assert before.grad is not None
    near(before.grad, [4.0, 6.0])


@answers("NumPy's functions on a Tensor")
def test_numpys_functions() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    for call in (lambda: np.exp(x), lambda: np.add(np.ones(2, np.float32), x)):
        with pytest.raises(TypeError, match="does not support ufuncs"):
            call()
    with pytest.raises(RuntimeError, match=r"use t\.detach\(\)\.numpy\(\)"):
        np.asarray(x)
    assert np.asarray(x.detach()).tolist() == [1.0, 2.0]
    y = np.ones(2, np.float32) * x  # an operator comes to the Tensor, on whichever side it stands
    assert type(y) is Tensor and y.requires_grad
