"""The optimizers, clipping and the learning rate against PyTorch's, and against the formula written down a second time."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is absent: pip install -e '.[peers]'")

import handgrad as hg  # noqa: E402
from handgrad.engine.training.schedule import warmup_cosine  # noqa: E402

pytestmark = pytest.mark.peers

SHAPES = ((7, 5), (5,), (3, 2, 4), (1,), (600, 40))  # the last is large enough for threads
STEPS = 20
BOUNDS = {"float32": 4e-6, "float64": 1e-13}  # relative to the parameter's norm, after STEPS updates


def leaves(dtype: str) -> tuple[list[Any], list[Any]]:
    """The same random parameters on both sides."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]
    return [hg.Tensor(a, requires_grad=True) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]


def give_gradients(ours: list[Any], theirs: list[Any], step: int, *, left_out: frozenset[int] = frozenset()) -> None:
    """The same gradients on both sides, through each side's own backward; `left_out` get none."""
    rng = np.random.default_rng(100 + step)
    for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
        gradient = (rng.standard_normal(p.shape) * 10.0 ** rng.integers(-3, 2)).astype(p.dtype)
        p.grad = q.grad = None
        if i not in left_out:
            (p * 1.0).backward(gradient)
            q.backward(torch.from_numpy(gradient))


def assert_equal(ours: list[Any], theirs: list[Any], bound: float) -> None:
    for p, q in zip(ours, theirs, strict=True):
        want = q.detach().numpy()
        error = np.linalg.norm(p.detach().numpy() - want) / np.linalg.norm(want)
        assert error <= bound, f"a parameter of shape {p.shape} is off by {error:.1e} relative"


GROUPS: dict[str, list[tuple[list[int], dict[str, Any]]]] = {
    "one group": [([0, 1, 2, 3, 4], {})],
    "decay on matrices only": [([0, 2, 4], {"weight_decay": 0.3}), ([1, 3], {"weight_decay": 0.0})],
    "every setting differs": [
        ([3, 0], {"lr": 3e-2, "betas": (0.5, 0.7)}),
        ([4, 1, 2], {"lr": 1e-3, "eps": 1e-4, "weight_decay": 1.0}),
    ],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("max_norm", [None, 1.0, 1e6], ids=["no clipping", "clipped", "clipping that never acts"])
@pytest.mark.parametrize("groups", GROUPS)
def test_adamw_equals_torch(groups: str, max_norm: float | None, dtype: str) -> None:
    ours, theirs = leaves(dtype)
    common: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 0.1}
    optimizer = hg.optim.AdamW(
        [{"params": [ours[i] for i in which], **own} for which, own in GROUPS[groups]], **common, max_norm=max_norm
    )
    peer = torch.optim.AdamW([{"params": [theirs[i] for i in which], **own} for which, own in GROUPS[groups]], **common)
    for step in range(STEPS):
        give_gradients(ours, theirs, step)
        norm = optimizer.step()
        if max_norm is not None:
            wanted = float(torch.nn.utils.clip_grad_norm_(theirs, max_norm))
            assert norm == pytest.approx(wanted, rel=1e-5 if dtype == "float32" else 1e-12)
        peer.step()
    assert_equal(ours, theirs, BOUNDS[dtype])


def test_a_parameter_without_a_gradient_is_left_alone_and_counts_its_own_steps() -> None:
    ours, theirs = leaves("float64")
    optimizer, peer = hg.optim.AdamW(ours, lr=1e-2), torch.optim.AdamW(theirs, lr=1e-2)
    for step in range(STEPS):
        give_gradients(ours, theirs, step, left_out=frozenset({step % 5, 2 if step < 9 else 4}))
        optimizer.step()
        peer.step()
    assert_equal(ours, theirs, BOUNDS["float64"])


def test_a_learning_rate_that_changes_equals_torch() -> None:
    ours, theirs = leaves("float64")
    optimizer, peer = hg.optim.AdamW(ours, lr=1.0), torch.optim.AdamW(theirs, lr=1.0)
    for step in range(STEPS):
        for group in (*optimizer.param_groups, *peer.param_groups):
            group["lr"] = warmup_cosine(step, lr=1e-2, min_lr=1e-3, warmup=5, total=STEPS)
        give_gradients(ours, theirs, step)
        optimizer.step()
        peer.step()
    assert_equal(ours, theirs, BOUNDS["float64"])


OTHERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "plain SGD": ("SGD", {"lr": 0.1}, {"weight_decay": 0.2}),
    "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}, {"momentum": 0.5, "dampening": 0.3, "weight_decay": 0.2}),
    "Nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}, {"weight_decay": 0.2}),
    "Adagrad": ("Adagrad", {"lr": 0.1}, {"lr_decay": 0.1, "eps": 1e-3, "weight_decay": 0.2}),
    "Adagrad with an accumulator": ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.7}, {"lr": 0.03}),
    "Adam": ("Adam", {"lr": 0.1}, {"betas": (0.5, 0.7), "eps": 1e-4, "weight_decay": 0.2}),
}
"""Optimizer, settings of both groups, settings in which the second group differs."""


@pytest.mark.parametrize("max_norm", [None, 1.0], ids=["no clipping", "clipped"])
@pytest.mark.parametrize("case", OTHERS)
def test_the_other_optimizers_equal_torch(case: str, max_norm: float | None) -> None:
    name, common, own = OTHERS[case]
    ours, theirs = leaves("float64")
    optimizer = getattr(hg.optim, name)(
        [{"params": ours[:2]}, {"params": ours[2:], **own}], **common, max_norm=max_norm
    )
    peer = getattr(torch.optim, name)([{"params": theirs[:2]}, {"params": theirs[2:], **own}], **common)
    for step in range(STEPS):
        give_gradients(ours, theirs, step, left_out=frozenset({step % 5} if step % 3 else {}))
        norm = optimizer.step()
        if max_norm is not None:
            assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs, max_norm)), rel=1e-12)
        peer.step()
    assert_equal(ours, theirs, 1e-12)


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Adam", "AdamW"])
def test_the_settings_have_torchs_names_order_and_defaults(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(side.optim, name)).parameters.values() for side in (hg, torch))
    settings = [(p.name, p.default) for p in ours if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert settings == [(p.name, p.default) for p in theirs][: len(settings)]


@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 1e6])
def test_clip_grad_norm_equals_torch(max_norm: float) -> None:
    ours, theirs = leaves("float64")
    give_gradients(ours, theirs, 0, left_out=frozenset({1}))
    norm = hg.optim.clip_grad_norm_(ours, max_norm)
    assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs, max_norm)), rel=1e-12)
    for p, q in zip(ours, theirs, strict=True):
        assert (p.grad is None) == (q.grad is None)
        if q.grad is not None:
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)


def test_clipping_inside_the_step_equals_clipping_before_it() -> None:
    inside, theirs = leaves("float64")
    before, _ = leaves("float64")
    first, second = hg.optim.AdamW(inside, lr=1e-2, max_norm=0.5), hg.optim.AdamW(before, lr=1e-2)
    for step in range(STEPS):
        give_gradients(inside, theirs, step)
        give_gradients(before, theirs, step)
        norm = first.step()
        assert hg.optim.clip_grad_norm_(before, 0.5) == pytest.approx(norm, rel=1e-12)
        second.step()
    for p, q in zip(inside, before, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-13, atol=1e-15)


def test_warmup_cosine_equals_nanogpts_formula() -> None:
    """nanoGPT's train.py, get_lr, written down again line by line."""
    lr, min_lr, warmup, total = 1e-3, 1e-4, 100, 2000
    for step in (*range(0, 2200, 7), 99, 100, 101, 1999, 2000, 2001):
        if step < warmup:
            wanted = lr * (step + 1) / (warmup + 1)
        elif step > total:
            wanted = min_lr
        else:
            wanted = min_lr + 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup))) * (lr - min_lr)
        assert warmup_cosine(step, lr=lr, min_lr=min_lr, warmup=warmup, total=total) == pytest.approx(wanted, rel=1e-15)
