"""AdamW over flat memory equals the page of reference/adamw.py, step by step; clipping; and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor
from handgrad.reference.adamw import adamw_update, clip_factor, global_norm

SHAPES = ((3, 4), (5,), (), (2, 1, 3))


def leaves(dtype: Any = np.float64, shapes: Any = SHAPES) -> list[Tensor]:
    rng = np.random.default_rng(1)
    return [Tensor(np.asarray(rng.standard_normal(s), dtype), requires_grad=True) for s in shapes]


def backward(params: list[Tensor], grads: list[Any]) -> None:
    """Leaves `grads` as gradients, by way of backward; None: no gradient."""
    terms = [hg.sum(p * g) for p, g in zip(params, grads, strict=True) if g is not None]
    if terms:
        sum(terms[1:], terms[0]).backward()


class Page:
    """The textbook's step on each array by itself."""

    def __init__(self, params: list[Tensor], options: list[dict[str, Any]], max_norm: float | None) -> None:
        self.p = [p.data.astype(np.longdouble) for p in params]
        self.m, self.v, self.k = [0 * p for p in self.p], [0 * p for p in self.p], [0] * len(params)
        self.options, self.max_norm = options, max_norm

    def step(self, grads: list[Any]) -> float:
        present = [np.asarray(g, np.longdouble) for g in grads if g is not None]
        factor = clip_factor(present, self.max_norm) if self.max_norm is not None else 1.0
        for i, g in enumerate(grads):
            if g is not None:
                self.k[i] += 1
                found = adamw_update(
                    self.p[i],
                    np.asarray(g, np.longdouble) * factor,
                    self.m[i],
                    self.v[i],
                    step=self.k[i],
                    **self.options[i],
                )
                self.p[i], self.m[i], self.v[i] = found
        return float(global_norm(present)) if present and self.max_norm is not None else math.nan


GROUPS = [
    {"lr": 0.1, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.1},
    {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "weight_decay": 0.0},
]


@pytest.mark.parametrize("max_norm", [None, 0.5, 100.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 3e-6)])
def test_adamw_is_the_page_with_groups_clipping_and_missing_gradients(
    dtype: Any, tolerance: float, max_norm: Any
) -> None:
    params = leaves(dtype)
    which = [0, 1, 1, 0]
    by_group = [[p for p, w in zip(params, which, strict=True) if w == g] for g in (0, 1)]
    optimizer = hg.optim.AdamW(
        [
            {"params": by_group[0], "lr": 0.1, "weight_decay": 0.1},
            {"params": by_group[1], "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.0},
        ],
        lr=0.01,
        max_norm=max_norm,
    )
    page = Page(params, [GROUPS[w] for w in which], max_norm)
    rng = np.random.default_rng(2)
    for k in range(8):
        grads: list[Any] = [np.asarray(rng.standard_normal(p.shape), dtype) for p in params]
        for missing in ((), (1,), (0, 3), (0, 1, 2, 3))[k % 4]:
            grads[missing] = None
        if k == 5:
            optimizer.param_groups[0]["lr"] = page.options[0]["lr"] / 10
            page.options = [{**o, "lr": 0.01} if w == 0 else o for o, w in zip(page.options, which, strict=True)]
        optimizer.zero_grad()
        backward(params, grads)
        norm, want = optimizer.step(), page.step(grads)
        assert np.isclose(norm, want, rtol=tolerance, equal_nan=True) or (max_norm is not None and norm == 0.0)
        for p, q in zip(params, page.p, strict=True):
            assert np.allclose(p.data, q.astype(np.float64), rtol=tolerance, atol=tolerance)
            assert not p.data.flags.writeable


def test_the_norm_is_of_all_gradients_before_clipping() -> None:
    params = leaves()
    optimizer = hg.optim.AdamW(params, max_norm=0.1)
    grads = [np.asarray(np.random.default_rng(3).standard_normal(p.shape)) for p in params]
    backward(params, grads)
    assert np.isclose(optimizer.step(), math.sqrt(sum(float(np.sum(g * g)) for g in grads)), rtol=1e-12)


def test_a_parameter_without_a_gradient_is_left_alone_whatever_lies_in_its_memory() -> None:
    a, b = leaves(shapes=((3,), (3,)))
    optimizer = hg.optim.AdamW([a, b], max_norm=1.0)
    backward([a, b], [np.ones(3), np.full(3, 1e6)])
    optimizer.step()
    before, version = b.data.copy(), list(b.version)
    optimizer.zero_grad()  # writes nothing: b's old gradient still lies there
    backward([a, b], [np.full(3, 0.1), None])
    assert np.isclose(optimizer.step(), 0.1 * math.sqrt(3.0), rtol=1e-12)
    assert np.array_equal(b.data, before)
    assert b.version == version
    assert a.version == [2]


@pytest.mark.parametrize("by", ["hand", "create_graph", "before"])
def test_gradients_that_lie_elsewhere_are_found(by: str) -> None:
    """Set by hand, made with create_graph, or there before the optimizer was."""
    found = []
    for way in ("usual", by):
        (p,) = leaves(shapes=((2, 3),))
        g = np.arange(6.0).reshape(2, 3) - 2.0
        if way == "before":
            backward([p], [g])
        optimizer = hg.optim.AdamW([p], lr=0.1)
        if way == "hand":
            mine = Tensor(g)
            p.grad = mine
        elif way == "create_graph":
            hg.sum(p * g).backward(create_graph=True)
        elif way == "usual":
            backward([p], [g])
        optimizer.step()
        optimizer.zero_grad()
        backward([p], [g * 2.0])
        optimizer.step()
        found.append(p.data.copy())
        if way == "hand":
            assert np.array_equal(mine.data, g)
    assert np.array_equal(*found)


@pytest.mark.parametrize("shape", [(1,), (3, 2), (6,), (2, 2)])
def test_a_gradient_of_another_shape_is_refused_and_nothing_changes(shape: tuple[int, ...]) -> None:
    a, p = leaves(shapes=((2,), (2, 3)))
    optimizer = hg.optim.AdamW([a, p])
    a.grad, p.grad = Tensor(np.ones(2)), Tensor(np.ones(shape))
    before = a.data.copy(), p.data.copy()
    with pytest.raises((ValueError, RuntimeError), match=r"AdamW: .*shape"):
        optimizer.step()
    assert np.array_equal(a.data, before[0])
    assert np.array_equal(p.data, before[1])
    assert optimizer.steps == [0, 0]
    assert a.version == [0]


def test_weights_keep_their_numbers_and_share_one_array() -> None:
    params = leaves()
    before = [p.data.copy() for p in params]
    optimizer = hg.optim.AdamW(params)
    for p, b in zip(params, before, strict=True):
        assert np.array_equal(p.data, b)
        assert np.shares_memory(p.data, optimizer.flat)
        backward(params, [np.ones(q.shape) for q in params])
        assert np.shares_memory(p.grad.data, optimizer.flat_grad)


def test_replaced_data_is_an_error_before_anything_changes() -> None:
    model = hg.nn.Linear(2, 2)
    optimizer = hg.optim.AdamW(model.parameters())
    hg.sum(model(Tensor(np.ones((1, 2), np.float32)))).backward()
    hg.optim.AdamW([model.bias])  # another one takes the bias over
    before = model.weight.data.copy()
    with pytest.raises(RuntimeError, match=r"^AdamW: a parameter's array was replaced since; make the optimizer after"):
        optimizer.step()
    assert np.array_equal(model.weight.data, before)
    assert optimizer.steps == [0, 0]


def test_a_loaded_state_reaches_the_flat_array() -> None:
    model = hg.nn.Linear(2, 2, bias=False)
    optimizer = hg.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    model.load_state_dict({"weight": np.full((2, 2), 7.0)})
    hg.sum(model(Tensor(np.ones((1, 2), np.float32)))).backward()
    optimizer.step()
    assert np.allclose(model.weight.data, 6.9)


def test_state_dict_round_trip_goes_on_bit_for_bit() -> None:
    def run(k: int, params: list[Tensor], optimizer: Any) -> None:
        rng = np.random.default_rng(k)
        optimizer.zero_grad()
        grads: list[Any] = [np.asarray(rng.standard_normal(p.shape)) for p in params]
        if k == 1:
            grads[2] = None
        backward(params, grads)
        optimizer.step()

    straight = leaves()
    optimizer = hg.optim.AdamW(straight, max_norm=1.0)
    for k in range(6):
        run(k, straight, optimizer)
        if k == 2:
            state, numbers = optimizer.state_dict(), [p.data.copy() for p in straight]
    resumed = [Tensor(a, requires_grad=True) for a in numbers]
    second = hg.optim.AdamW(resumed, max_norm=1.0)
    second.load_state_dict(state)
    assert second.steps == [3, 3, 2, 3]
    for k in range(3, 6):
        run(k, resumed, second)
    assert all(a.data.tobytes() == b.data.tobytes() for a, b in zip(straight, resumed, strict=True))
    assert all(np.array_equal(v, optimizer.state_dict()[name]) for name, v in second.state_dict().items())


def test_a_state_of_other_parameters_is_refused_and_nothing_changes() -> None:
    optimizer = hg.optim.AdamW(leaves())
    good = {"m": np.ones(24), "v": np.ones(24), "steps": np.ones(4, np.int64)}
    for name, wrong in (("m", np.ones(3)), ("v", np.ones((24, 1))), ("steps", np.ones(3, np.int64))):
        with pytest.raises(ValueError, match=rf"^AdamW: state {name} has shape"):
            optimizer.load_state_dict({**good, name: wrong})
        with pytest.raises(ValueError, match=rf"^AdamW: state {name} is missing"):
            optimizer.load_state_dict({k: v for k, v in good.items() if k != name})
    assert not optimizer.m.any()
    assert optimizer.steps == [0] * 4


def test_mistakes_are_sentences() -> None:
    p, q = leaves(shapes=((2,), (2,)))
    for arguments, options, kind, sentence in (
        ([], {}, ValueError, "AdamW: got no parameters"),
        ([p, p], {}, ValueError, "AdamW: a parameter is listed twice"),
        ([{"params": [p]}, {"params": [q, p]}], {}, ValueError, "AdamW: a parameter is listed twice"),
        ([p, Tensor([1.0], requires_grad=True)], {}, TypeError, "AdamW: parameters are float32, float64"),
        ([Tensor([1])], {}, TypeError, "AdamW: parameters are int64"),
        ([p], {"lr": -1.0}, ValueError, "AdamW: lr is -1.0"),
        ([p], {"lr": math.nan}, ValueError, "AdamW: lr is nan"),
        (
            [p],
            {"betas": (0.9, 1.0)},
            ValueError,
            r"AdamW: betas is \(0.9, 1.0\), but it must be two numbers in \[0, 1\)",
        ),
        ([p], {"betas": 0.9}, ValueError, r"AdamW: betas is 0.9, but it must be two numbers in \[0, 1\)"),
        ([p], {"betas": (0.9,)}, ValueError, r"AdamW: betas is \(0.9,\), but it must be two numbers"),
        ([p], {"lr": None}, ValueError, "AdamW: lr is None, but it must be a number that is at least 0"),
        ([p], {"max_norm": "1"}, ValueError, "AdamW: max_norm is '1', but it must be positive or None"),
        ([{"params": [p]}, q], {}, TypeError, "AdamW: a group must be a dict"),
        ([{"lr": 0.1}], {}, TypeError, "AdamW: a group must be a dict"),
        ([{"params": [p], "rate": 1.0}], {}, ValueError, "AdamW: a group sets rate, but it can set lr, betas, eps"),
        ([p], {"eps": -1e-8}, ValueError, "AdamW: eps is"),
        ([p], {"weight_decay": -0.1}, ValueError, "AdamW: weight_decay is -0.1"),
        ([p], {"max_norm": 0.0}, ValueError, "AdamW: max_norm is 0.0"),
    ):
        with pytest.raises(kind, match=r"^" + sentence):
            hg.optim.AdamW(arguments, **options)


def test_a_result_is_no_parameter() -> None:
    with pytest.raises((ValueError, TypeError), match=r"^AdamW: "):
        hg.optim.AdamW([leaves()[0] * 2.0])


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
@pytest.mark.parametrize("flat", [False, True])
def test_clip_grad_norm_scales_in_place_and_returns_the_norm(flat: bool, max_norm: float) -> None:
    params = leaves()
    if flat:
        hg.optim.AdamW(params)
    grads = [np.asarray(np.random.default_rng(4).standard_normal(p.shape)) for p in params]
    backward(params, [*grads[:3], None])
    norm = hg.optim.clip_grad_norm_(params, max_norm)
    factor = clip_factor(grads[:3], max_norm)
    assert np.isclose(norm, float(global_norm(grads[:3])), rtol=1e-14)
    assert all(np.allclose(p.grad.data, g * factor, rtol=1e-14) for p, g in zip(params[:3], grads, strict=False))
    assert params[3].grad is None
    backward(params, [*grads[:3], None])  # goes on adding to the same memory
    assert np.allclose(params[0].grad.data, grads[0] * factor + grads[0], rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clip_grad_norm_of_gradients_that_are_worth_a_kernel(dtype: type) -> None:
    rng = np.random.default_rng(5)
    grads = [rng.standard_normal(shape).astype(dtype) for shape in ((3, 700), (50_001,), (4,))]
    params = [Tensor(np.zeros_like(g), requires_grad=True) for g in grads]
    for p, g in zip(params, grads, strict=True):
        p.backward(g)
    exact = math.sqrt(math.fsum(float(x) ** 2 for g in grads for x in g.reshape(-1)))
    norm = hg.optim.clip_grad_norm_(params, 2.0)
    assert abs(norm - exact) <= 32 * np.finfo(np.float64).eps * exact
    for p, g in zip(params, grads, strict=True):  # one rounding of the factor, one of the product
        np.testing.assert_allclose(p.grad.numpy(), g * (2.0 / (exact + 1e-6)), rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("flat", [False, True])
def test_a_norm_that_is_not_a_number_clips_to_what_is_none(flat: bool) -> None:
    """As on the page: every gradient is multiplied by max_norm / norm, and nothing hides that this is NaN."""
    a, b = leaves(shapes=((2,), (2,)))
    optimizer = hg.optim.SGD([a, b], max_norm=1.0) if flat else None
    backward([a, b], [np.array([math.nan, 1.0]), np.ones(2)])
    norm = optimizer.step() if optimizer else hg.optim.clip_grad_norm_([a, b], 1.0)
    assert math.isnan(norm)
    assert math.isnan(float(clip_factor([np.array([math.nan, 1.0])], 1.0)))
    assert np.isnan(b.data if optimizer else b.grad.data).all()


def test_clip_grad_norm_refuses_before_it_scales() -> None:
    a, b = leaves(shapes=((2,), (2,)))
    backward([a], [np.array([3.0, 4.0])])
    b.grad = Tensor(np.array([30.0, 40.0]))
    with pytest.raises(RuntimeError, match=r"a .grad was set by hand"):
        hg.optim.clip_grad_norm_([a, b], 1.0)
    assert a.grad.data.tolist() == [3.0, 4.0]
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"^clip_grad_norm_: max_norm is"):
            hg.optim.clip_grad_norm_([a], wrong)
    assert hg.optim.clip_grad_norm_([], 1.0) == 0.0
