"""The kernels of lstm, gru and rnn where tests/rows/test_kernels.py does not go: threads, rungs beside each other, shapes."""

import numba
import numpy as np
import pytest

from handgrad.kernels.cpu import gru, lstm, rnn
from handgrad.kernels.cpu.threads import PARALLEL_WORK

MODULES = {"lstm": (lstm, 4, 2, 1), "gru": (gru, 3, 1, 2), "rnn": (rnn, 1, 1, 1)}
kinds = pytest.mark.parametrize("kind", MODULES)
steps = pytest.mark.parametrize("T", [4, 9], ids=["stepwise", "packed"])
"""Few steps and more than lstm.PACKED_STEPS, from which on LSTM's production kernel is another one."""


def example(kit, rng, kind, T, B, I, H, dtype=np.float64, lengths=False):
    """Inputs as the engine hands them in."""
    _, gates, states, biases = MODULES[kind]
    shapes = [(T, B, I), *[(B, H)] * states, (I, gates * H), (H, gates * H), *[(gates * H,)] * biases]
    arrays = [kit.freeze((0.4 * rng.standard_normal(shape)).astype(dtype)) for shape in shapes]
    return [*arrays, kit.freeze(rng.integers(0, T + 1, B))] if lengths else arrays


def gradients(pair, arrays, dy, into=None, wanted=None, **params):
    y, residuals = pair.forward(*arrays, **params)
    nothing = (None,) * len(arrays)
    wanted = wanted or tuple(a.dtype.kind == "f" for a in arrays)
    return y, pair.vjp(dy, y, *arrays, residuals=residuals, wanted=wanted, into=into or nothing, **params)


def cotangents(kit, kind, arrays):
    """Of the outputs and of the last states."""
    x, states = arrays[0], arrays[1 : 1 + MODULES[kind][2]]
    rng = np.random.default_rng(5)
    shapes = [(*x.shape[:2], states[0].shape[1]), *(s.shape for s in states)]
    return tuple(kit.freeze(rng.standard_normal(shape).astype(x.dtype)) for shape in shapes)


@kinds
@steps
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_rungs_agree_where_threads_work(kit, rng, kind, T, lengths, reverse):
    """Above PARALLEL_WORK: several blocks of rows, a width that no vector length divides."""
    module, gates, _, _ = MODULES[kind]
    B, H = (60, 123) if gates > 1 else (160, 123)
    assert B * gates * H >= PARALLEL_WORK
    arrays = example(kit, rng, kind, T, B, 7, H, lengths=lengths)
    dy = cotangents(kit, kind, arrays)
    y, grads = gradients(module, arrays, dy, reverse=reverse)
    for rung in module.RUNGS.values():
        other_y, other = gradients(rung, arrays, dy, reverse=reverse)
        for got, want in zip((*y, *grads), (*other_y, *other), strict=True):
            if want is None:
                assert got is None
            else:
                kit.close(got, want, np.float64, 50.0 * T)  # rounding adds up over the steps


@kinds
@steps
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_thread_gives_the_same_bits(kit, rng, kind, T, dtype):
    module, gates, _, _ = MODULES[kind]
    arrays = example(kit, rng, kind, T, 60 if gates > 1 else 160, 7, 123, dtype, lengths=True)
    dy = cotangents(kit, kind, arrays)
    y, grads = gradients(module, arrays, dy)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        y_1, grads_1 = gradients(module, arrays, dy)
    finally:
        numba.set_num_threads(threads)
    for many, one in zip((*y, *grads[:-1]), (*y_1, *grads_1[:-1]), strict=True):
        np.testing.assert_array_equal(many, one)


@kinds
@steps
def test_buffers_are_written_or_added_to(kit, rng, kind, T):
    module = MODULES[kind][0]
    arrays = example(kit, rng, kind, T, 5, 3, 6)
    dy = cotangents(kit, kind, arrays)
    _, plain = gradients(module, arrays, dy)
    for add in (False, True):
        buffers = [np.full(a.shape, 2.0) for a in arrays]
        _, got = gradients(module, arrays, dy, into=tuple((b, add) for b in buffers))
        lent = [b for g, b in zip(got, buffers, strict=True) if g is b]
        assert len(lent) == len(arrays) - MODULES[kind][2]  # all but the first states
        for g, b, want in zip(got, buffers, plain, strict=True):
            kit.close(g, want + (2.0 if add and g is b else 0.0), np.float64, 100.0)


@kinds
@steps
def test_what_nobody_used_counts_as_zero(kit, rng, kind, T):
    module = MODULES[kind][0]
    arrays = example(kit, rng, kind, T, 5, 3, 6, lengths=True)
    dy = cotangents(kit, kind, arrays)
    for k in range(len(dy)):
        none = tuple(None if j == k else d for j, d in enumerate(dy))
        zero = tuple(np.zeros_like(d) if j == k else d for j, d in enumerate(dy))
        for got, want in zip(*(gradients(module, arrays, d)[1] for d in (none, zero)), strict=True):
            np.testing.assert_array_equal(got, want)


@kinds
@steps
def test_transposed_weights(kit, rng, kind, T):
    """nn.LSTM hands in views: the same numbers."""
    module, _, states, _ = MODULES[kind]
    arrays = example(kit, rng, kind, T, 5, 3, 6)
    views = [np.array(a.T).T if i in (1 + states, 2 + states) else a for i, a in enumerate(arrays)]
    dy = cotangents(kit, kind, arrays)
    for got, want in zip(gradients(module, views, dy)[1], gradients(module, arrays, dy)[1], strict=True):
        kit.close(got, want, np.float64, 50.0)


@kinds
@pytest.mark.parametrize("T", [3, 9])
@pytest.mark.parametrize("B, I, H", [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_nothing(kit, rng, kind, T, B, I, H):
    module = MODULES[kind][0]
    arrays = example(kit, rng, kind, T, B, I, H)
    y, grads = gradients(module, arrays, cotangents(kit, kind, arrays))
    assert y[0].shape == (T, B, H)
    assert [g.shape for g in grads] == [a.shape for a in arrays]
    assert all(np.all(np.isfinite(a)) for a in (*y, *grads))


@kinds
@steps
def test_accepts(kit, rng, kind, T):
    module, _, states, _ = MODULES[kind]
    arrays = example(kit, rng, kind, T, 5, 3, 6, lengths=True)
    assert module.accepts(*arrays) and module.accepts(*arrays[:-1], reverse=True)
    assert not module.accepts(*arrays[:-1], arrays[-1][:2])
    assert not module.accepts(arrays[0].astype(np.float32), *arrays[1:])
    assert not module.accepts(arrays[0], arrays[1][:2], *arrays[2:])
    u = 2 + states
    assert not module.accepts(*arrays[:u], arrays[u][:, :-1], *arrays[u + 1 :])
