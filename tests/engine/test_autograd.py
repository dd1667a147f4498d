"""Backward: what it adds up, whose memory it touches, and what it refuses. Most tests are a trap that a probe fell into."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import handgrad as hg
from handgrad import Tensor
from handgrad.engine.tensor import KERNELS, apply
from handgrad.reference.op import Op
from handgrad.reference.table import BY_NAME

RNG = np.random.default_rng(7)


def leaf(*shape: int, dtype: Any = np.float64) -> Tensor:
    return Tensor(RNG.standard_normal(shape).astype(dtype), requires_grad=True)


def row(name: str, forward: Any, vjp: Any, **fields: Any) -> Op:
    """An operation of our own."""
    fields = {"inputs": ("x",), "signature": None, "samples": (), "wrong": {}, "source": "", **fields}
    return Op(name, forward, vjp, None, definition=forward, formula="", gradient="", cost=lambda *_: (0, 0), **fields)  # type: ignore[arg-type]


def counting(name: str, calls: Counter[str]) -> Op:
    """A row of the table that counts how often its vjp runs."""
    op = BY_NAME[name]

    def vjp(*args: Any, **params: Any) -> Any:
        calls[name] += 1
        return op.vjp(*args, **params)

    return replace(op, vjp=vjp)


# ---- adding up, and whose memory it is


def test_an_input_used_twice_gets_both_cotangents() -> None:
    x = leaf(3)
    (x + x + x).backward(np.ones(3))
    assert x.grad.numpy().tolist() == [3.0] * 3
    u = leaf(3)
    v = hg.exp(u)
    (v + v + v).backward(np.ones(3))
    assert np.allclose(u.grad.numpy(), 3.0 * v.detach().numpy(), rtol=1e-15)


def test_a_leaf_never_adopts_a_cotangent_that_others_share() -> None:
    a, b, dy = leaf(3), leaf(3), np.array([1.0, 2.0, 3.0])
    (a + b).backward(dy)  # add returns dy twice
    (a * 1.0).backward(np.ones(3))
    assert b.grad.numpy().tolist() == [1.0, 2.0, 3.0]
    assert a.grad.numpy().tolist() == [2.0, 3.0, 4.0]
    assert dy.tolist() == [1.0, 2.0, 3.0]


def test_adding_to_one_slot_leaves_the_other_holder_of_the_array_alone() -> None:
    a, b = leaf(3), leaf(3)
    u, v = a * 1.0, b * 1.0
    first = u + v  # both slots will hold the same array
    (first + u * 10.0 + u * 100.0).backward(np.ones(3))
    assert a.grad.numpy().tolist() == [111.0] * 3
    assert b.grad.numpy().tolist() == [1.0] * 3


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_alias_neither_the_cotangent_nor_each_other(create_graph: bool) -> None:
    a, b, c = leaf(2, 3), leaf(2, 3), leaf(6)
    dy = Tensor(np.ones((2, 3)))
    for _ in range(2):
        (a + b + c.reshape(2, 3)).backward(dy, create_graph=create_graph)
    a_grad = a.grad.detach().numpy().copy()
    dy.copy_(np.full((2, 3), 9.0))
    assert np.array_equal(a.grad.detach().numpy(), a_grad)
    if not create_graph:
        found = [t.grad.numpy() for t in (a, b, c)]
        for i, g in enumerate(found):
            assert not any(np.shares_memory(g, h) for h in [*found[:i], dy.numpy(), a.data, b.data, c.data])


def test_a_fresh_gradient_with_create_graph_is_not_the_users_cotangent() -> None:
    x, dy = leaf(2), Tensor(np.ones(2))
    (x + 0.0).backward(dy, create_graph=True)
    dy.copy_([9.0, 9.0])
    assert x.grad.numpy().tolist() == [1.0, 1.0]


def test_the_leaf_itself_is_a_root() -> None:
    x = leaf()
    x.backward()
    x.backward()
    assert x.grad.item() == 2.0
    y, dy = leaf(2), np.array([1.0, 2.0])
    y.backward(dy)
    assert not np.shares_memory(y.grad.numpy(), dy)


def test_several_backward_calls_accumulate_and_none_starts_again() -> None:
    x, w = leaf(3), np.array([1.0, -2.0, 3.0])
    for n in (1, 2, 3):
        (x * w).sum().backward()
        assert np.array_equal(x.grad.numpy(), n * w)
    x.grad = None
    (x * w).sum().backward()
    assert np.array_equal(x.grad.numpy(), w)


def test_a_gradient_set_by_hand_is_added_to_and_left_as_it_was() -> None:
    x, mine = leaf(2), Tensor(np.array([10.0, 20.0]))
    x.grad = mine
    for n in (1.0, 2.0):
        (x * 1.0).sum().backward()
        assert x.grad.numpy().tolist() == [10.0 + n, 20.0 + n]
    assert mine.numpy().tolist() == [10.0, 20.0]


def test_a_wrong_vjp_shape_is_a_sentence() -> None:
    op = row("halves", lambda x: x * 1.0, lambda dy, y, x: (dy[:1],))
    with pytest.raises(ValueError, match=r"a vjp gave a gradient of shape \(1,\) for a leaf of shape \(3,\)"):
        apply(op, leaf(3)).backward(np.ones(3))


# ---- kernels: `into`, read-only arrays, strides


def inputs_of(name: str, dtype: Any = np.float64) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a row that has a kernel."""
    def f(*shape: int) -> Tensor:
        return Tensor(np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype), requires_grad=True)

    ids = np.random.default_rng(3).integers(0, 6, (2, 5))
    return {
        "attention": ((f(2, 3, 5, 4), f(2, 3, 5, 4) * 0.5, f(2, 3, 5, 4) * 2.0), {"causal": True, "scale": None}),
        "cross_entropy": ((f(2, 5, 6), ids), {}),
        "dropout": ((f(4, 6), np.random.default_rng(1).random((4, 6)) < 0.7), {"p": 0.3}),
        "embedding": ((f(6, 4), ids), {}),
        "gelu": ((f(3, 5),), {}),
        "layer_norm": ((f(3, 8), f(8), f(8)), {"eps": 1e-5}),
        "linear": ((f(3, 4), f(5, 4), f(5)), {"transposed": True}),
        "packed_attention": ((f(2, 5, 12),), {"n_head": 2, "causal": True}),
        "softmax": ((f(3, 7),), {"axis": 1}),
    }[name]  # fmt: skip


WITH_KERNELS = ("attention", "cross_entropy", "dropout", "embedding", "gelu", "layer_norm", "linear", "packed_attention",
                "softmax")  # fmt: skip


def leaves(name: str) -> tuple[Tensor, list[Tensor]]:
    """A row's result on fresh leaves."""
    xs, params = inputs_of(name)
    xs = tuple(Tensor(x.data, requires_grad=True) if isinstance(x, Tensor) else x for x in xs)
    return apply(BY_NAME[name], *xs, **params), [x for x in xs if isinstance(x, Tensor)]


@pytest.mark.parametrize("name", WITH_KERNELS)
def test_kernels_and_formulas_agree_for_every_layout_of_the_cotangent(name: str) -> None:
    """Stride 0 and read-only (sum's vjp), transposed, and dense cotangents; a retained second pass doubles."""
    reductions = (lambda y: y.sum(), lambda y: (y.reshape(-1, 1).permute_dims((1, 0)) * 1.5).sum(), lambda y: (y * y).sum())
    for reduce in reductions:
        with hg.use_kernels("off"):
            y, wanted = leaves(name)
            reduce(y).backward()
        with hg.use_kernels("force") as calls:
            y, found = leaves(name)
            total = reduce(y)
            total.backward(retain_graph=True)
            of_this_row = {call: n for call, n in calls.items() if call.startswith(f"{name} ")}
            assert of_this_row == {f"{name} forward": 1, f"{name} backward": 1}
            for got, want in zip(found, wanted, strict=True):
                scale = max(1.0, float(np.abs(want.grad.numpy()).max()))
                assert np.abs(got.grad.numpy() - want.grad.numpy()).max() <= 1e-12 * scale
            first = [got.grad.numpy().copy() for got in found]
            total.backward()
            for got, once in zip(found, first, strict=True):
                assert np.allclose(got.grad.numpy(), 2.0 * once, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", WITH_KERNELS)
def test_a_kernel_adds_to_what_is_there_already(name: str) -> None:
    """Leaves with a gradient, leaves whose gradient an optimizer houses, and inner slots: all give the same sum."""
    xs, params = inputs_of(name)
    arrays = [x.data.astype(np.float64) if isinstance(x, Tensor) else x for x in xs]

    def run(mode: str, home: bool, inner: bool) -> list[np.ndarray]:
        ts = [Tensor(a, requires_grad=True) if isinstance(x, Tensor) else a for x, a in zip(xs, arrays, strict=True)]
        own = [t for t in ts if isinstance(t, Tensor)]
        if home:
            hg.optim.AdamW(own)
        with hg.use_kernels(mode):
            used = [t * 1.0 if inner and isinstance(t, Tensor) else t for t in ts]
            total = sum((u * u + u).sum() for u in used if isinstance(u, Tensor))
            for k in (1.0, 2.0):
                total = total + (apply(BY_NAME[name], *used, **params) * k).sum()
            total.backward()
        return [t.grad.numpy().copy() for t in own]

    wanted = run("off", False, False)
    for home, inner in ((False, False), (True, False), (True, True)):
        for got, want in zip(run("force", home, inner), wanted, strict=True):
            assert np.allclose(got, want, rtol=1e-11, atol=1e-11)


def test_one_leaf_in_several_places_of_a_kernel() -> None:
    grads = {}
    for mode in ("off", "force"):
        x = Tensor(np.random.default_rng(5).standard_normal((2, 4, 3)), requires_grad=True)
        hg.optim.AdamW([x])  # its gradient has a home: lent once, not three times
        with hg.use_kernels(mode):
            hg.attention(x, x, x, causal=True).backward(np.ones((2, 4, 3)))
        grads[mode] = x.grad.numpy().copy()
    assert np.allclose(grads["off"], grads["force"], rtol=1e-12)


def planted(vjp: Any) -> Op:
    """An identity whose kernel's vjp is given; its formula is right."""
    op = row("identity", lambda x: x * 1.0, lambda dy, y, x: (dy,))
    KERNELS[op] = SimpleNamespace(accepts=lambda x: True, forward=lambda x: (x * 1.0, None), vjp=vjp)
    return op


@pytest.fixture(autouse=True)
def _forget_planted_kernels() -> Any:
    before = dict(KERNELS)
    yield
    KERNELS.clear()
    KERNELS.update(before)


def test_a_kernel_that_writes_into_its_cotangent_is_caught() -> None:
    def vjp(dy: Any, y: Any, x: Any, *, residuals: Any, wanted: Any, into: Any) -> Any:
        dy *= 2.0
        return (dy,)

    x = leaf(3)
    with pytest.raises(ValueError, match=r"read-only"):
        (apply(planted(vjp), x) * 2.0).sum().backward()


def test_returning_dy_is_not_mistaken_for_having_added_to_the_buffer() -> None:
    def vjp(dy: Any, y: Any, x: Any, *, residuals: Any, wanted: Any, into: Any) -> Any:
        return (dy,)

    x = leaf(3)
    hg.optim.AdamW([x])
    y = apply(planted(vjp), x)
    (y + y + y).backward(np.ones(3))
    (apply(planted(vjp), x)).backward(np.ones(3))
    assert x.grad.numpy().tolist() == [4.0] * 3


def test_a_kernel_may_write_or_add_as_the_buffer_says() -> None:
    seen = []

    def vjp(dy: Any, y: Any, x: Any, *, residuals: Any, wanted: Any, into: Any) -> Any:
        seen.append(None if into[0] is None else into[0][1])
        if into[0] is None:
            return (dy * 1.0,)
        buffer, add = into[0]
        buffer[...] = buffer + dy if add else dy
        return (buffer,)

    op = planted(vjp)
    x = leaf(3)
    for n in (1.0, 2.0):
        apply(op, x).backward(np.ones(3))
        assert x.grad.numpy().tolist() == [n] * 3
    assert seen == [False, True]  # first fresh memory, then our own accumulator
    x.grad = Tensor(np.ones(3))
    apply(op, x).backward(np.ones(3))
    assert seen[-1] is None  # never into a gradient that somebody else made
    z = leaf(3)
    hg.optim.AdamW([z])
    apply(op, z).backward(np.ones(3))
    assert seen[-1] is False  # the optimizer's memory, whatever it holds
    assert z.grad.numpy().tolist() == [1.0] * 3


# ---- graphs of every form


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=25))
def test_random_graphs_have_the_derivative_of_finite_differences(steps: list[tuple[int, int, int]]) -> None:
    unary = (hg.tanh, lambda t: t.permute_dims((1, 0)), lambda t: t[::-1], lambda t: hg.concat([t[1:], t[:1]]))

    def f(*xs: Tensor) -> Tensor:
        ts = list(xs)
        for kind, i, j in steps:
            a, b = ts[i % len(ts)], ts[j % len(ts)]
            ts.append((unary[kind](a)) if kind < 4 else (a + b, a * b, a - b, a @ b)[kind - 4] * 0.5)
        return hg.sum(hg.tanh(sum(ts[1:], ts[0])) * weights)

    rng = np.random.default_rng(0)
    weights, arrays, along = (rng.standard_normal(s) for s in ((3, 3), (2, 3, 3), (2, 3, 3)))
    xs = [Tensor(a, requires_grad=True) for a in arrays]
    y = f(*xs)
    again = hg.gradients(y, xs, create_graph=True)  # another path: nothing is added in place
    y.backward()
    for x, g in zip(xs, again, strict=True):
        assert np.allclose(x.grad.numpy(), g.detach().numpy(), rtol=1e-11, atol=1e-12)
    h = 1e-6
    up, down = (f(*(Tensor(a + s * h * d) for a, d in zip(arrays, along, strict=True))).item() for s in (1.0, -1.0))
    slope = sum(float(np.sum(x.grad.numpy() * d)) for x, d in zip(xs, along, strict=True))
    assert abs(slope - (up - down) / (2 * h)) <= 1e-6 * (1.0 + abs(slope)) * len(steps)


def test_a_diamond_of_forty_storeys_is_walked_once() -> None:
    calls: Counter[str] = Counter()
    add = counting("add", calls)
    x = leaf()
    y = x * 1.0
    for _ in range(40):
        y = apply(add, y, y)
    y.backward()
    assert x.grad.item() == 2.0**40
    assert calls["add"] == 40


def test_a_chain_of_100_000_operations() -> None:
    x = Tensor([1.0], requires_grad=True)
    y = x
    for _ in range(100_000):
        y = -y
    y.backward(retain_graph=True)
    assert x.grad.item() == 1.0
    del y  # the whole chain at once: that must not recurse either


def split() -> Op:
    """(2x, 3x), and what its vjp was given."""
    return row("split", lambda x: (2.0 * x, 3.0 * x), lambda dy, y, x: (2.0 * dy[0] + 3.0 * dy[1],), outputs=("a", "b"))


def test_an_output_that_nobody_used_is_zeros_for_a_formula_and_none_for_a_kernel() -> None:
    op, given = split(), []

    def vjp(dy: Any, y: Any, x: Any, *, residuals: Any, wanted: Any, into: Any) -> Any:
        given.append(dy)
        return (sum(k * d for k, d in zip((2.0, 3.0), dy, strict=True) if d is not None),)

    for kernel in (False, True):
        if kernel:
            KERNELS[op] = SimpleNamespace(accepts=lambda x: True, forward=lambda x: (op.forward(x), None), vjp=vjp)
        for used, slope in (((0,), 2.0), ((1,), 3.0), ((0, 1), 5.0)):
            x = leaf(2)
            ys = apply(op, x)
            sum(ys[i].sum() for i in used).backward()
            assert x.grad.numpy().tolist() == [slope, slope]
    assert [[d is None for d in dy] for dy in given] == [[False, True], [True, False], [False, False]]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("create_graph", [False, True])
def test_lstm_cell_with_one_output_unused(which: int, create_graph: bool) -> None:
    xs = [leaf(2, 3), leaf(2, 4), leaf(2, 4), leaf(3, 16), leaf(4, 16), leaf(16)]
    used = hg.lstm_cell(*xs)[which]
    h, c = hg.lstm_cell(*xs)
    both = (h, c)[which] + 0.0 * (h, c)[1 - which]
    dy = RNG.standard_normal((2, 4))
    alone = hg.gradients(used, xs, dy, create_graph=create_graph)
    for got, want in zip(alone, hg.gradients(both, xs, dy), strict=True):
        assert np.allclose(got.detach().numpy(), want.numpy(), rtol=1e-13, atol=1e-15)
