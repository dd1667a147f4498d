"""SGD, Adagrad and Adam over flat memory equal their pages in reference/, step by step, and share AdamW's manners."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor
from handgrad.engine.optim.flat import BLOCK, FlatOptimizer
from handgrad.reference.adagrad import adagrad_update
from handgrad.reference.adam import adam_update
from handgrad.reference.adamw import adamw_update, clip_factor, global_norm
from handgrad.reference.sgd import sgd_update

SHAPES = ((3, 4), (5,), (), (2, 1, 3))
STEPS = 12

Case = tuple[Callable[..., Any], Callable[..., Any], list[dict[str, Any]]]
CASES: dict[str, Case] = {
    "SGD": (hg.optim.SGD, sgd_update, [{"lr": 0.1}, {"lr": 0.02}]),
    "SGD with momentum": (
        hg.optim.SGD, sgd_update, [{"lr": 0.1, "momentum": 0.9}, {"lr": 0.02, "momentum": 0.5, "dampening": 0.3}],
    ),
    "SGD, Nesterov": (
        hg.optim.SGD,
        sgd_update,
        [{"lr": 0.1, "momentum": 0.9, "nesterov": True}, {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.2}],
    ),
    "Adagrad": (
        hg.optim.Adagrad,
        adagrad_update,
        [
            {"lr": 0.1, "initial_accumulator_value": 0.5},
            {"lr": 0.02, "lr_decay": 0.1, "eps": 1e-3, "weight_decay": 0.2},
        ],
    ),
    "Adam": (
        hg.optim.Adam,
        adam_update,
        [{"lr": 0.1, "weight_decay": 0.3}, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3}],
    ),
    "AdamW": (
        hg.optim.AdamW, adamw_update, [{"lr": 0.1, "weight_decay": 0.3}, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3}],
    ),
}  # fmt: skip
by_case = pytest.mark.parametrize("case", CASES)


def leaves(dtype: Any = np.float64, shapes: Any = SHAPES) -> list[Tensor]:
    rng = np.random.default_rng(1)
    return [Tensor(np.asarray(rng.standard_normal(s), dtype), requires_grad=True) for s in shapes]


def backward(params: list[Tensor], grads: list[Any]) -> None:
    """Leaves `grads` as gradients, by way of backward; None: no gradient."""
    for p, g in zip(params, grads, strict=True):
        if g is not None:
            (p * 1.0).backward(g)


def gradients(params: list[Tensor], step: int) -> list[Any]:
    """Random ones, of sizes 0.01 to 10, some of them missing in some steps."""
    rng = np.random.default_rng(100 + step)
    grads: list[Any] = [np.asarray(rng.standard_normal(p.shape) * 10.0 ** rng.integers(-2, 2), p.dtype) for p in params]
    for missing in ((), (1,), (0, 3), (0, 1, 2, 3))[step % 4]:
        grads[missing] = None
    return grads


class Page:
    """The page's step on each array by itself, in longdouble."""

    def __init__(self, update: Callable[..., Any], params: list[Tensor], options: list[dict[str, Any]]) -> None:
        self.update, self.options, self.k = update, [dict(o) for o in options], [0] * len(params)
        self.p = [p.data.astype(np.longdouble) for p in params]
        n_state = 2 if update in (adam_update, adamw_update) else 1
        first = [o.pop("initial_accumulator_value", 0.0) for o in self.options]
        self.state = [tuple(np.full_like(p, s) for _ in range(n_state)) for p, s in zip(self.p, first, strict=True)]
        for o in self.options:
            if "betas" in o:
                o["beta1"], o["beta2"] = o.pop("betas")

    def step(self, grads: list[Any], max_norm: float | None) -> float:
        present = [np.asarray(g, np.longdouble) for g in grads if g is not None]
        factor = clip_factor(present, max_norm) if max_norm is not None else 1.0
        for i, g in enumerate(grads):
            if g is not None:
                self.k[i] += 1
                wide = np.asarray(g, np.longdouble) * factor
                self.p[i], *state = self.update(self.p[i], wide, *self.state[i], step=self.k[i], **self.options[i])
                self.state[i] = tuple(state)
        return float(global_norm(present)) if present else 0.0


@by_case
@pytest.mark.parametrize("max_norm", [None, 0.5])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 3e-6)])
def test_the_optimizer_is_its_page_with_groups_clipping_and_missing_gradients(
    case: str, dtype: Any, tolerance: float, max_norm: float | None
) -> None:
    make, update, options = CASES[case]
    params, which = leaves(dtype), [0, 1, 1, 0]
    groups = [{"params": [p for p, w in zip(params, which, strict=True) if w == g], **o} for g, o in enumerate(options)]
    optimizer = make(groups, max_norm=max_norm)
    if case == "AdamW":  # which decays unless told otherwise
        options = [{"weight_decay": 0.01, **o} for o in options]
    page = Page(update, params, [options[w] for w in which])
    for k in range(STEPS):
        if k == 5:
            optimizer.param_groups[0]["lr"] = np.float64(0.03)  # as a schedule may give it
            for o, w in zip(page.options, which, strict=True):
                o["lr"] = 0.03 if w == 0 else o["lr"]
        grads = gradients(params, k)
        optimizer.zero_grad()
        backward(params, grads)
        norm, want = optimizer.step(), page.step(grads, max_norm)
        assert math.isnan(norm) if max_norm is None else np.isclose(norm, want, rtol=tolerance)
        for p, q, g in zip(params, page.p, grads, strict=True):
            assert np.allclose(p.data, q.astype(np.float64), rtol=tolerance, atol=tolerance)
            assert not p.data.flags.writeable
            assert g is None or np.array_equal(p.grad.data, g)  # neither clipped nor decayed for those who look


@by_case
def test_parameters_longer_than_a_block_are_updated_everywhere(case: str) -> None:
    make, update, options = CASES[case]
    (p,) = params = leaves(shapes=((2 * BLOCK + 7,),))
    optimizer = make([{"params": params, **options[0]}], max_norm=1.0)
    page = Page(update, params, options[:1])
    for k in range(3):
        grads = [np.random.default_rng(k).standard_normal(p.shape)]
        optimizer.zero_grad()
        backward(params, grads)
        assert np.isclose(optimizer.step(), page.step(grads, 1.0), rtol=1e-12)
    assert np.allclose(p.data, page.p[0].astype(np.float64), rtol=1e-12, atol=1e-12)


@by_case
def test_state_dict_round_trip_goes_on_bit_for_bit(case: str) -> None:
    make, _, options = CASES[case]

    def run(steps: range, params: list[Tensor], optimizer: Any) -> None:
        for k in steps:
            optimizer.zero_grad()
            backward(params, gradients(params, k))
            optimizer.step()

    straight = leaves()
    optimizer = make([{"params": straight, **options[1]}], max_norm=1.0)
    run(range(3), straight, optimizer)
    state, numbers = optimizer.state_dict(), [p.data.copy() for p in straight]
    run(range(3, 7), straight, optimizer)
    assert all(isinstance(array, np.ndarray) for array in state.values())
    resumed = [Tensor(a, requires_grad=True) for a in numbers]
    second = make([{"params": resumed, **options[1]}], max_norm=1.0)
    second.load_state_dict(state)
    run(range(3, 7), resumed, second)
    assert all(a.data.tobytes() == b.data.tobytes() for a, b in zip(straight, resumed, strict=True))
    assert all(np.array_equal(v, optimizer.state_dict()[name]) for name, v in second.state_dict().items())
    name = type(optimizer).__name__
    with pytest.raises(ValueError, match=rf"^{name}: state \w+ has shape"):
        make(leaves(shapes=((2,),))).load_state_dict(state)
    with pytest.raises(ValueError, match=rf"^{name}: state steps is missing"):
        second.load_state_dict({k: v for k, v in state.items() if k != "steps"})


@by_case
def test_the_norm_of_float32_gradients_is_taken_in_float64(case: str) -> None:
    (p,) = leaves(np.float32, shapes=((3,),))
    optimizer = CASES[case][0]([p], max_norm=1.0)
    backward([p], [np.full(3, 1e30, np.float32)])
    assert np.isclose(optimizer.step(), math.sqrt(3.0) * 1e30, rtol=1e-6)
    assert np.isfinite(p.data).all()


def test_the_first_step_of_momentum_is_undamped_and_plain_descent_writes_no_velocity() -> None:
    p, q = leaves(shapes=((2,), (2,)))
    before = p.data.copy()
    optimizer = hg.optim.SGD(
        [{"params": [p], "momentum": 0.9, "dampening": 0.9}, {"params": [q]}], lr=0.1, max_norm=None
    )
    backward([p, q], [np.array([1.0, -2.0]), np.ones(2)])
    optimizer.step()
    assert np.allclose(p.data, before - 0.1 * np.array([1.0, -2.0]), rtol=1e-15)
    assert optimizer.velocity.tolist() == [1.0, -2.0, 0.0, 0.0]


def test_nesterovs_rewriting_follows_the_point_that_looks_ahead() -> None:
    """The page's second derivation: b' = mu b + g(p - lr mu b), p' = p - lr b', on a quadratic bowl."""
    slopes, lr, mu = np.array([1.0, 10.0]), 0.05, 0.9
    p, b = np.array([3.0, -2.0]), np.zeros(2)
    ahead, velocity = p.copy(), np.zeros(2)
    for k in range(1, 20):
        b = mu * b + slopes * (p - lr * mu * b)
        p = p - lr * b
        ahead, velocity = sgd_update(ahead, slopes * ahead, velocity, lr=lr, momentum=mu, nesterov=True, step=k)
        assert np.allclose(ahead, p - lr * mu * b, rtol=1e-12, atol=1e-14)


def test_adagrads_steps_shrink_like_one_over_the_root() -> None:
    p, squares = np.zeros(2), np.zeros(2)
    for k in range(1, 30):
        before = p
        p, squares = adagrad_update(p, np.array([1e-3, 1e3]), squares, lr=0.1, eps=0.0, step=k)
        assert np.allclose(before - p, 0.1 / math.sqrt(k), rtol=1e-12)


@by_case
def test_bad_settings_are_sentences(case: str) -> None:
    make, (p,) = CASES[case][0], leaves(shapes=((2,),))
    name = make([p]).__class__.__name__
    wrong: dict[str, Any] = {"lr": -1.0, "weight_decay": math.nan, "max_norm": 0.0}
    if name == "SGD":
        wrong |= {"momentum": -0.1, "nesterov": True}
    elif name == "Adagrad":
        wrong |= {"lr_decay": -1.0, "initial_accumulator_value": -1.0, "eps": -1.0}
    else:
        wrong |= {"betas": (1.0, 0.9), "eps": -1.0}
    for setting, value in wrong.items():
        with pytest.raises(ValueError, match=rf"^{name}: {setting} is .*, but it must be "):
            make([p], **{setting: value})
    with pytest.raises(ValueError, match=rf"^{name}: a parameter is listed twice"):
        make([p, p])


def test_the_base_says_what_an_optimizer_must_define() -> None:
    class Mine(FlatOptimizer):
        STATE = ()

    (p,) = leaves(shapes=((2,),))
    optimizer = Mine([p], {"lr": 0.1, "weight_decay": 0.0}, None)
    backward([p], [np.ones(2)])
    with pytest.raises(NotImplementedError, match=r"^Mine: define _update"):
        optimizer.step()
    with pytest.raises(ValueError, match=r"nesterov is True, but it must be False without momentum or with dampening"):
        hg.optim.SGD([p], momentum=0.9, dampening=0.1, nesterov=True)
