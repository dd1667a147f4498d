"""What a graph keeps, when it lets go, and what backward says where its memory is gone or was changed."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor
from handgrad.engine.kernel_table import CPU, kernel
from handgrad.engine.tensor import Node, apply
from handgrad.engine.testing.draw import random_sample
from handgrad.reference.op import Op, Sample
from handgrad.reference.table import ROWS

USED = "was used and freed; call the first backward with retain_graph=True"
CHANGED = "was changed after the forward pass; compute y again before backward"


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    """Memory must go by reference count alone."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def nodes() -> int:
    return sum(type(o) is Node for o in gc.get_objects())


# ---- what is kept


def _sample(op: Op) -> Sample:
    """The first draw that the row's kernel, if it has one, accepts."""
    rng, pair = np.random.default_rng(11), kernel(op)
    while True:
        sample = random_sample(op, rng)
        if pair is None or pair.accepts(*sample.inputs, **sample.params):
            return sample


def kept(op: Op) -> tuple[list[bool], list[bool], bool]:
    """Which inputs and outputs of `op` its node alone keeps alive, and whether it recorded one."""
    sample = _sample(op)
    zero = Tensor(np.zeros(()), requires_grad=True)  # adding it makes results whose arrays the sum does not keep
    xs = [Tensor(x) if isinstance(x, (np.ndarray, np.generic)) else x for x in sample.inputs]
    xs = [x + zero if isinstance(x, Tensor) and x.dtype.kind == "f" else x for x in xs]
    inputs = [weakref.ref(x.data) if isinstance(x, Tensor) and x.requires_grad else None for x in xs]
    y = apply(op, *xs, **sample.params)
    ys = y if isinstance(y, tuple) else (y,)
    outputs = [weakref.ref(t.data) for t in ys]
    node = ys[0].node
    del xs, y, ys
    return [r is not None and r() is not None for r in inputs], [r() is not None for r in outputs], node is not None


@pytest.mark.parametrize("op", ROWS, ids=lambda op: op.name)
def test_a_node_keeps_what_its_row_reads_and_nothing_else(op: Op) -> None:
    with hg.use_kernels("off"):
        inputs, outputs, recorded = kept(op)
    assert recorded
    sample = _sample(op)
    reads = op.read_inputs * len(inputs) if op.variadic else op.read_inputs
    floats = [hasattr(x, "dtype") and x.dtype.kind == "f" for x in sample.inputs]
    assert inputs == [f and r for f, r in zip(floats, reads, strict=False)]
    assert outputs == [op.reads_y] * len(outputs)


@pytest.mark.parametrize("op", list(CPU), ids=lambda op: op.name)
def test_a_kernels_node_keeps_no_more(op: Op) -> None:
    with hg.use_kernels("force"):
        inputs, outputs, recorded = kept(op)
    assert recorded
    reads = op.read_inputs
    assert not any(alive and not read for alive, read in zip(inputs, reads, strict=False))
    assert not any(outputs) or op.reads_y or op.name in STATES


STATES = ("gru", "lstm", "rnn")
"""Their outputs are the hidden states, which the kernels' walk back through time needs; the formulas compute them again."""


def test_examples_that_a_reader_can_check() -> None:
    leaf = Tensor(np.ones(4), requires_grad=True)
    for f, keeps_x, keeps_y in (
        (hg.tanh, False, True),
        (hg.sum, False, False),
        (hg.softmax, False, True),
        (hg.log, True, False),
        (lambda x: x + 1.0, False, False),
        (lambda x: x.reshape(2, 2), False, False),
    ):
        x = leaf + 1.0
        y = f(x)
        x_array, y_array, node = weakref.ref(x.data), weakref.ref(y.data), y.node
        del x, y
        assert (x_array() is not None, y_array() is not None) == (keeps_x, keeps_y), f
        del node


# ---- when it goes


def step() -> None:
    """A model's forward and backward, retained, differentiated again, and dropped without backward."""
    model = hg.models.GPT(hg.models.GPTConfig(7, block_size=4, n_layer=1, n_head=2, n_embd=8, dropout=0.1))
    ids = np.arange(8).reshape(2, 4) % 7
    model.loss(ids, ids).backward()
    loss = model.loss(ids, ids)
    loss.backward(retain_graph=True)
    loss.backward()
    model.loss(ids, ids)
    x = Tensor(np.ones(3), requires_grad=True)
    (g,) = hg.gradients(hg.sum(x * x * x), [x], create_graph=True)
    hg.sum(g).backward()
    hg.grad(hg.grad(lambda v: v**3))(2.0)
    a, b = hg.lstm_cell(*(Tensor(np.ones(s), requires_grad=True) for s in ((1, 2), (1, 3), (1, 3), (2, 12), (3, 12), 12)))
    (a + b).sum().backward()


def test_nothing_is_left_for_the_cycle_collector() -> None:
    step()
    gc.collect()
    before = nodes()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        step()
        assert nodes() == before
        gc.collect()
        ours = [o for o in gc.garbage if isinstance(o, (Node, Tensor, np.ndarray))]
        assert ours == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def test_arrays_go_in_backward_although_the_result_lives_on() -> None:
    x = Tensor(np.ones(4), requires_grad=True)
    u = hg.exp(x)
    array = weakref.ref(u.data)
    y = hg.sum(u * u)
    del u
    assert array() is not None
    before = nodes()
    y.backward()
    assert array() is None
    assert nodes() == before - 2  # y still holds its own node, an empty one
    assert y.node.saved is None
    assert y.node.edges == []


def test_retain_graph_keeps_them() -> None:
    x = Tensor(np.ones(4), requires_grad=True)
    u = hg.exp(x)
    array = weakref.ref(u.data)
    y = hg.sum(u * u)
    del u
    y.backward(retain_graph=True)
    assert array() is not None
    del y
    assert array() is None


def test_backward_lets_go_while_it_walks() -> None:
    megabyte, length = 1 << 17, 24
    x = Tensor(np.full(megabyte, 0.5), requires_grad=True)
    tracemalloc.start()
    try:
        y = x
        for _ in range(length):
            y = hg.tanh(y)
        y = hg.sum(y)
        after_forward = tracemalloc.get_traced_memory()[0]
        assert after_forward > 8 * megabyte * (length - 1)
        tracemalloc.reset_peak()
        y.backward()
        current, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - after_forward < 8 * megabyte * 5  # a few cotangents at a time, not one for each operation
    assert current < 8 * megabyte * 3


def test_no_grad_keeps_nothing() -> None:
    x = Tensor(np.ones(4), requires_grad=True)
    before = nodes()
    with hg.no_grad():
        u = hg.exp(x)
        array = weakref.ref(u.data)
        y = u * u
    del u
    assert array() is None
    assert nodes() == before
    assert not y.requires_grad


# ---- gone: a second backward


def test_a_second_backward_says_what_to_do() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = hg.sum(hg.exp(x))
    y.backward()
    once = x.grad.numpy().copy()
    for again in (lambda: y.backward(), lambda: hg.gradients(y, [x])):
        with pytest.raises(RuntimeError, match=rf"the graph of sum {USED}"):
            again()
    assert np.array_equal(x.grad.numpy(), once)


def test_a_freed_trunk_is_noticed_before_the_heads_gradients_are_written() -> None:
    x, w, v = (Tensor([2.0], requires_grad=True) for _ in range(3))
    trunk = hg.exp(x)
    first, second = hg.sum(trunk * w), hg.sum(hg.tanh(trunk * v) * v)
    first.backward()
    before = x.grad.item()
    with pytest.raises(RuntimeError, match=rf"the graph of exp {USED}"):
        second.backward()
    assert v.grad is None
    assert x.grad.item() == before
    with pytest.raises(RuntimeError, match=USED):
        hg.gradients(second, [v])


def test_two_heads_work_where_the_first_retains() -> None:
    x = Tensor([2.0], requires_grad=True)
    trunk = hg.exp(x)
    first, second = hg.sum(trunk), hg.sum(trunk * 2.0)
    first.backward(retain_graph=True)
    second.backward()
    assert np.isclose(x.grad.item(), 3.0 * np.exp(2.0), rtol=1e-6)


# ---- changed: an input that was written since


def in_place(x: Tensor) -> None:
    x.copy_(x.data + 1.0)


def by_an_optimizer(x: Tensor) -> None:
    optimizer = hg.optim.AdamW([x])
    x.grad = Tensor(np.ones(x.shape))
    optimizer.step()


VIEWS = {
    "itself": lambda x: x,
    "reshape": lambda x: x.reshape(6),
    "permute": lambda x: x.permute_dims((1, 0)),
    "row": lambda x: x[0],
    "slice": lambda x: x[:, ::-1],
    "broadcast": lambda x: hg.broadcast_to(x, (2, 2, 3)),
    "view of a view": lambda x: x.reshape(6)[1:5].reshape(2, 2).T,
    "detached": lambda x: x.detach(),
    "shared": lambda x: Tensor(x, copy=False),
    "asarray": lambda x: x.namespace.asarray(x),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("change", [in_place, by_an_optimizer])
@pytest.mark.parametrize("optimizer_first", [False, True])
def test_a_changed_input_is_noticed_also_through_a_view(view: str, change: Any, optimizer_first: bool) -> None:
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    if optimizer_first:  # its array is then itself a view, of the flat one
        hg.optim.AdamW([Tensor(np.ones(2), requires_grad=True), x])
    w = Tensor(np.ones(1), requires_grad=True)
    v = VIEWS[view](x)
    y = hg.sum(hg.exp(w) * v)
    change(x)
    before = None if x.grad is None else x.grad.numpy().copy()
    if np.shares_memory(v.data, x.data):  # otherwise the old numbers are still there, and so the gradient is right
        for backward in (y.backward, lambda: hg.gradients(y, [w]), lambda: y.backward(create_graph=True)):
            with pytest.raises(RuntimeError, match=rf"x2 of multiply {CHANGED}"):
                backward()
        assert w.grad is None
        assert before is None or np.array_equal(x.grad.numpy(), before)


def test_the_next_forward_pass_is_fine() -> None:
    x = Tensor(np.ones(3), requires_grad=True)
    optimizer = hg.optim.AdamW([x])
    for _ in range(3):
        optimizer.zero_grad()
        hg.sum(x.reshape(3, 1) * x.reshape(1, 3)).backward()
        optimizer.step()


def test_a_change_that_no_vjp_reads_does_no_harm() -> None:
    x = Tensor(np.ones(3), requires_grad=True)
    y = hg.sum(x + 1.0)
    in_place(x)
    y.backward()
    assert x.grad.numpy().tolist() == [1.0] * 3


def test_a_changed_input_anywhere_in_the_graph_stops_all_of_it() -> None:
    x, w = (Tensor(np.ones(3), requires_grad=True) for _ in range(2))
    deep = hg.sum(x * x)
    y = deep * hg.sum(w)
    in_place(x)
    with pytest.raises(RuntimeError, match=CHANGED):
        y.backward()
    assert w.grad is None
    assert x.grad is None


def test_a_write_on_another_leaf_is_not_blamed() -> None:
    x, other = (Tensor(np.ones(3), requires_grad=True) for _ in range(2))
    hg.optim.AdamW([x, other])  # neighbours in one array
    y = hg.sum(x.reshape(3, 1) * 2.0 * x.reshape(1, 3))
    in_place(other)
    y.backward()
    assert x.grad.numpy().tolist() == [12.0] * 3
