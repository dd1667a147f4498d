"""docs/semantics.md, Layers of a language model: losses, optimizers, random numbers. The rest is in test_layers.py."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor

answers = pytest.mark.answers

INF, NAN = float("inf"), float("nan")


def numbers(seed: int, *shape: int, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# ---- losses


@answers("`ignore_index`")
def test_ignored_targets(dtype: Any, kernels: str, near: Any) -> None:
    logits, targets = numbers(16, 4, 3, dtype=dtype), np.array([0, -100, 2, -100])
    unseen = logits.copy()
    unseen[[1, 3]] = [[NAN, INF, 0.0], [-INF, NAN, 1.0]]
    weight, x = numbers(17, 2, 3, dtype=dtype), numbers(18, 4, 2, dtype=dtype)
    want = hg.cross_entropy(logits[[0, 2]], targets[[0, 2]])
    near(hg.cross_entropy(unseen, targets, ignore_index=-100), want.numpy())
    d = hg.grad(lambda z: hg.cross_entropy(z, targets, ignore_index=-100))(unseen)
    near(d[1], [0, 0, 0])
    near(d[2], hg.grad(lambda z: hg.cross_entropy(z, targets[[0, 2]]))(logits[[0, 2]]).numpy()[1])
    near(
        hg.linear_cross_entropy(x, weight, targets, ignore_index=-100),
        hg.cross_entropy(x[[0, 2]] @ weight, targets[[0, 2]]).numpy(),
    )
    ignored: tuple[Any, ...] = (
        lambda z: hg.cross_entropy(z, np.full(4, 7), ignore_index=7),
        lambda z: hg.linear_cross_entropy(z, np.eye(3, dtype=dtype), np.full(4, -1), ignore_index=-1),
    )
    for f in ignored:
        near(f(Tensor(unseen)), 0.0)
        near(hg.grad(f)(unseen), np.zeros((4, 3)))
        near(hg.hvp(f, Tensor(logits), Tensor(logits)), np.zeros((4, 3)))
    with pytest.raises(IndexError, match="-100"):
        hg.cross_entropy(logits, targets)  # None by default


@answers("`label_smoothing` with a logit of -inf")
def test_smoothing_over_impossible_classes(dtype: Any, kernels: str, near: Any) -> None:
    logits = np.array([[0.0, -INF, 1.0]], dtype)
    near(hg.cross_entropy(logits, np.array([0]), label_smoothing=0.1), INF)
    near(hg.cross_entropy(logits, np.array([0])), np.log(1 + np.e))
    near(hg.grad(lambda z: hg.cross_entropy(z, np.array([0])))(logits), [[-np.e / (1 + np.e), 0.0, np.e / (1 + np.e)]])


@answers("shapes in a loss")
def test_nothing_is_broadcast_in_a_loss() -> None:
    a, b = Tensor(numbers(19, 3, 1)), Tensor(numbers(20, 3))
    for loss in (hg.mse, hg.binary_cross_entropy_with_logits, hg.kl_divergence):
        for pair in ((a, b), (b, a), (b, b[:1])):
            with pytest.raises(ValueError, match=r"nothing is broadcast in a loss"):
                loss(*pair)
        assert loss(b, b).shape == ()
    with pytest.raises(ValueError, match=r"^cross_entropy: targets has shape"):
        hg.cross_entropy(Tensor(numbers(21, 3, 4)), np.array([[0], [1], [2]]))


@answers("mean of an empty loss")
def test_losses_of_nothing(near: Any) -> None:
    none = Tensor(np.zeros((0, 3)))
    for loss in (hg.mse, hg.binary_cross_entropy_with_logits, hg.kl_divergence):
        with pytest.raises(ValueError, match="a mean needs at least one"):
            loss(none, none)
        near(loss(none, none, reduction="sum"), 0.0)
        assert hg.grad(lambda x, loss=loss: loss(x, none, reduction="sum"))(none).shape == (0, 3)
    ids = np.zeros(0, np.int64)
    for call in (lambda: hg.cross_entropy(none, ids), lambda: hg.linear_cross_entropy(none, Tensor(np.eye(3)), ids)):
        with pytest.raises(ValueError, match="a mean needs at least one"):
            call()


@answers("`kl_divergence`")
def test_kl_divergence(dtype: Any, near: Any) -> None:
    p, q = np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]]), np.array([[0.25, 0.5, 0.25], [0.1, 0.2, 0.7]])
    each = np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0) / q), 0.0)
    log_q, target = Tensor(np.log(q).astype(dtype)), Tensor(p.astype(dtype))
    wants = {"none": each, "sum": each.sum(), "mean": each.mean(), "batchmean": each.sum() / 2}
    for reduction, want in wants.items():
        near(hg.kl_divergence(log_q, target, reduction=reduction), want)
        log_p = Tensor(np.log(p).astype(dtype))
        near(hg.kl_divergence(log_q, log_p, log_target=True, reduction=reduction), want)
    near(hg.kl_divergence(log_q, target), each.mean())
    dq, dp = hg.grad(lambda q, p: hg.kl_divergence(q, p, reduction="sum"), (0, 1))(log_q, target)
    near(dq, -p)
    near(dp, np.where(p > 0, np.log(np.where(p > 0, p, 1.0)) + 1 - np.log(q), 0.0))
    impossible = Tensor(np.array([[-INF, 0.0]], dtype)), Tensor(np.array([[0.0, 1.0]], dtype))
    near(hg.kl_divergence(*impossible, reduction="sum"), 0.0)
    near(hg.grad(lambda q: hg.kl_divergence(q, impossible[1], reduction="sum"))(impossible[0]), [[0.0, -1.0]])


# ---- optimizers


@answers("`weight_decay`")
@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Adam", "AdamW"])
def test_weight_decay(name: str, near: Any) -> None:
    w0, g, lr, decay = np.array([1.0, -2.0]), np.array([0.5, 0.25]), 0.1, 0.3

    def stepped(w0: np.ndarray, g: np.ndarray, decay: float) -> Tensor:
        w = Tensor(w0, requires_grad=True)
        optimizer = getattr(hg.optim, name)([w], lr=lr, weight_decay=decay)
        hg.sum(w * Tensor(g)).backward()
        optimizer.step()
        assert w.grad is not None and w.grad.numpy().tolist() == g.tolist()
        return w

    if name == "AdamW":
        near(stepped(w0, g, decay), stepped(w0, g, 0.0).detach().numpy() - lr * decay * w0)
        near(stepped(w0, np.zeros(2), decay), w0 * (1 - lr * decay))
    else:
        near(stepped(w0, g, decay), stepped(w0, g + decay * w0, 0.0).detach().numpy())


@answers("`max_norm` of an optimizer")
def test_clipping_comes_before_the_decay(near: Any) -> None:
    w0, g = np.array([1.0, -2.0]), np.array([3.0, 4.0])
    w = Tensor(w0, requires_grad=True)
    optimizer = hg.optim.SGD([w], lr=0.5, weight_decay=0.1, max_norm=1.0)
    hg.sum(w * Tensor(g)).backward()
    assert optimizer.step() == pytest.approx(5.0, rel=1e-12)
    np.testing.assert_allclose(w.detach().numpy(), w0 - 0.5 * (g / 5.0 + 0.1 * w0), rtol=1e-6)  # norm + 1e-6 divides
    for cls in (hg.optim.SGD, hg.optim.Adagrad, hg.optim.Adam, hg.optim.AdamW):
        x = Tensor(w0, requires_grad=True)
        hg.sum(x * x).backward()
        assert np.isnan(cls([x], lr=0.1).step())
        assert cls([x], lr=0.1, max_norm=100.0).step() == pytest.approx(
            np.sqrt(20.0), rel=1e-12
        )  # x.grad is still 2 w0


# ---- random numbers


@answers("random numbers")
def test_random_numbers_are_philox() -> None:
    """Known answers from kat_vectors of Random123, the authors' library."""
    assert hg.Generator().words(4).tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    pi = hg.Generator(0x299F31D0A4093822, 0x0370734413198A2E)
    pi.set_state({**pi.state(), "counter": 0x85A308D3243F6A88})
    assert pi.words(4).tolist() == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]
    assert not np.array_equal(hg.Generator(1, 0).words(4), hg.Generator(1, 1).words(4))
    walked, jumped = hg.Generator(3), hg.Generator(3)
    walked.uniform((8,))
    jumped.set_state({"seed": 3, "stream": 0, "counter": 2})
    assert np.array_equal(walked.normal((5,)), jumped.normal((5,)))


@answers("random numbers")
@pytest.mark.parametrize("n", [16_383, 100_001])
def test_threads_and_kernels_do_not_change_random_numbers(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def draws() -> list[np.ndarray]:
        return [hg.Generator(7).bernoulli((n,), 0.3), hg.Generator(7).words(n)]

    every, before = draws(), numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        for got, want in zip(draws(), every, strict=True):
            assert np.array_equal(got, want)
    finally:
        numba.set_num_threads(before)
    monkeypatch.setattr("handgrad.engine.random._FAST_FROM", n + 1)  # the formula
    for got, want in zip(draws(), every, strict=True):
        assert np.array_equal(got, want)
