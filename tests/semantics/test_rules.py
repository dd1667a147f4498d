"""docs/semantics.md: lines about axes, ids, directions, threads, and what optimizers refuse."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor

answers = pytest.mark.answers

INF, NAN = float("inf"), float("nan")
X = np.arange(12.0).reshape(3, 4)


@answers("what may be an axis")
@pytest.mark.parametrize("name", ["sum", "max", "var", "logsumexp", "cumulative_sum", "softmax", "flip", "argmax"])
def test_axes(name: str) -> None:
    f = getattr(hg, name)
    np.testing.assert_array_equal(f(X, axis=np.int64(-1)).numpy(), f(X, axis=1).numpy())
    for bad in (True, 0.5, [0]):
        with pytest.raises(TypeError, match=f"^{name}: axis is "):
            f(X, axis=bad)
    with pytest.raises(ValueError, match=f"^{name}: axis is 2, but x has 2 axes"):
        f(X, axis=2)


@answers("ids and targets of a narrow dtype")
def test_narrow_ids(kernels: str, near: Any) -> None:
    logits = np.random.default_rng(0).standard_normal((2, 300))
    for targets in (np.array([44, 200], np.uint8), np.array([44, 100], np.int8)):
        near(hg.cross_entropy(logits, targets), hg.cross_entropy(logits, targets.astype(np.int64)).numpy())
    weight = np.random.default_rng(1).standard_normal((300, 2))
    pull = hg.vjp(lambda w: hg.embedding(w, np.array([44], np.uint8)), weight)[1]
    found = np.nonzero(pull(np.ones((1, 2)))[0].numpy())[0]
    assert found.tolist() == [44, 44], "row 300 - 256 is another one"


@answers("None as a direction of `jvp`")
def test_what_stands_still() -> None:
    f = lambda q, k, v: hg.attention(q, k, v, causal=True)  # noqa: E731
    for moving in range(3):
        still = tuple(X if i == moving else None for i in range(3))
        zeros = tuple(X if i == moving else np.zeros_like(X) for i in range(3))
        np.testing.assert_array_equal(hg.jvp(f, (X, X, X), still)[1].numpy(), hg.jvp(f, (X, X, X), zeros)[1].numpy())


@answers("the same results on another number of threads")
@pytest.mark.parametrize("name", ["softmax", "gelu", "log_softmax", "sigmoid", "relu"])
def test_threads(name: str) -> None:
    x = np.random.default_rng(2).standard_normal((700, 300)).astype(np.float32)
    found = []
    before = numba.get_num_threads()
    try:
        for threads in (1, before):
            numba.set_num_threads(threads)
            with hg.use_kernels("force"):
                y, pull = hg.vjp(getattr(hg, name), x)
                found.append((y.numpy().tobytes(), pull(x)[0].numpy().tobytes()))
    finally:
        numba.set_num_threads(before)
    assert found[0] == found[1]


@answers("a gradient norm that is NaN")
def test_nan_norms() -> None:
    for clip in (True, False):
        a, b = (Tensor(np.ones(2), requires_grad=True) for _ in range(2))
        optimizer = hg.optim.SGD([a, b], lr=0.1, max_norm=1.0 if clip else None)
        a.grad, b.grad = Tensor(np.array([NAN, 1.0])), Tensor(np.ones(2))
        norm = optimizer.step()
        assert np.isnan(norm) and np.isnan(b.detach().numpy()).all() == clip


@answers("binary cross entropy of an infinite logit that is right")
def test_infinite_logits(dtype: Any, near: Any) -> None:
    logits, targets = np.array([INF, -INF], dtype), np.array([1.0, 0.0], dtype)
    near(hg.binary_cross_entropy_with_logits(logits, targets, reduction="none"), [0.0, 0.0])
    near(hg.grad(lambda x: hg.binary_cross_entropy_with_logits(x, targets))(logits), [0.0, 0.0])


@answers("an unknown setting of an optimizer's group")
def test_unknown_settings() -> None:
    p = Tensor(np.ones(2), requires_grad=True)
    with pytest.raises(ValueError, match="learning_rate"):
        hg.optim.AdamW([{"params": [p], "learning_rate": 0.1}])


@answers("`state_dict` of an optimizer")
def test_optimizer_state() -> None:
    p = Tensor(np.ones(2), requires_grad=True)
    optimizer = hg.optim.Adam([p], lr=0.123)
    p.grad = Tensor(np.ones(2))
    optimizer.step()
    state = optimizer.state_dict()
    assert state and not any("lr" in key for key in state)
    assert all(isinstance(value, np.ndarray) for value in state.values())
