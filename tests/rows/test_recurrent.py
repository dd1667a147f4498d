"""Recurrent rows: what a walk through time must keep, one cell at a time, padding, errors at the door."""

import re

import numpy as np
import pytest

import handgrad as hg
from handgrad.reference.gru import gru, gru_vjp
from handgrad.reference.lstm import lstm, lstm_vjp
from handgrad.reference.lstm_cell import lstm_cell
from handgrad.reference.rnn import rnn, rnn_vjp

T, B, I, H = 6, 4, 3, 5
LENGTHS = np.array([4, 6, 0, 1])
ROWS = {"lstm": (lstm, lstm_vjp, 4, 2, 1), "gru": (gru, gru_vjp, 3, 1, 2), "rnn": (rnn, rnn_vjp, 1, 1, 1)}
rows = pytest.mark.parametrize("name", ROWS)
directions = pytest.mark.parametrize("reverse", [False, True])


def example(name, seed=0):
    """x, the states, w, u and the biases."""
    _, _, gates, states, biases = ROWS[name]
    rng = np.random.default_rng(seed)
    shapes = [(T, B, I), *[(B, H)] * states, (I, gates * H), (H, gates * H), *[(gates * H,)] * biases]
    return [0.7 * rng.standard_normal(shape) for shape in shapes]


def cotangents(ys):
    rng = np.random.default_rng(9)
    return tuple(rng.standard_normal(y.shape) for y in ys)


def test_lstm_is_its_cell_step_by_step():
    x, h, c, w, u, b = example("lstm")
    ys, h_n, c_n = lstm(x, h, c, w, u, b)
    for t in range(T):
        h, c = lstm_cell(x[t], h, c, w, u, b)
        np.testing.assert_allclose(ys[t], h, rtol=1e-14)
    np.testing.assert_allclose(h_n, h, rtol=1e-14)
    np.testing.assert_allclose(c_n, c, rtol=1e-14)


def test_the_engine_finds_the_hand_derived_gradients_of_an_unrolled_lstm():
    """The same sequence out of lstm_cell: automatic differentiation walks back through T nodes."""
    arrays = example("lstm")
    tensors = [hg.Tensor(a, requires_grad=True) for a in arrays]
    x, h, c, *weights = tensors
    outputs = []
    for t in range(T):
        h, c = hg.lstm_cell(x[t], h, c, *weights)
        outputs.append(h)
    dy = cotangents(lstm(*arrays))
    total = sum((a * d).sum() for a, d in zip((hg.stack(outputs), h, c), dy, strict=True))
    total.backward()
    for tensor, want in zip(tensors, lstm_vjp(dy, None, *arrays), strict=True):
        np.testing.assert_allclose(tensor.grad.numpy(), want, rtol=1e-12, atol=1e-14)


@rows
@directions
@pytest.mark.parametrize("kernels", ["off", "force"])
def test_padding_gets_no_gradient_and_gives_none(name, reverse, kernels):
    """NaN behind the lengths reaches nothing, forwards or backwards; x gets exact zeros there."""
    arrays = example(name)
    inside = (np.arange(T)[:, None] < LENGTHS)[:, :, None]
    grads = []
    for filling in (0.0, np.nan):
        x = np.where(inside, arrays[0], filling)
        tensors = [hg.Tensor(a, requires_grad=True) for a in (x, *arrays[1:])]
        with hg.use_kernels(kernels):
            ys, *last = getattr(hg, name)(*tensors, LENGTHS, reverse=reverse)
            dy = cotangents([ys, *last])
            sum((a * d).sum() for a, d in zip((ys, *last), dy, strict=True)).backward()
        assert not ys.detach().numpy()[~np.broadcast_to(inside, ys.shape)].any()
        grads.append([t.grad.numpy() for t in tensors])
        assert not grads[-1][0][~np.broadcast_to(inside, x.shape)].any()
    for clean, spoilt in zip(*grads, strict=True):
        np.testing.assert_array_equal(clean, spoilt)


@rows
@directions
def test_a_batch_is_its_sequences_one_by_one(name, reverse):
    forward, vjp, _, states, _ = ROWS[name]
    x, *others = example(name)
    start, weights = others[:states], others[states:]
    ys, *last = forward(x, *start, *weights, LENGTHS, reverse=reverse)
    dy = cotangents([ys, *last])
    gradients = vjp(dy, None, x, *start, *weights, LENGTHS, reverse=reverse)
    dweights = [np.zeros_like(w) for w in weights]
    for n, length in enumerate(LENGTHS):
        own = [x[:length, n : n + 1], *(s[n : n + 1] for s in start), *weights]
        alone, *end = forward(*own, reverse=reverse)
        np.testing.assert_allclose(ys[:length, n], alone[:, 0], rtol=1e-13, atol=1e-15)
        for all_last, one in zip(last, end, strict=True):
            np.testing.assert_allclose(all_last[n], one[0], rtol=1e-13, atol=1e-15)
        own_dy = (dy[0][:length, n : n + 1], *(d[n : n + 1] for d in dy[1:]))
        dx, *rest = vjp(own_dy, None, *own, reverse=reverse)
        np.testing.assert_allclose(gradients[0][:length, n], dx[:, 0], rtol=1e-12, atol=1e-15)
        for k, d in enumerate(rest[states:]):
            dweights[k] += d
    for got, want in zip(gradients[1 + states : -1], dweights, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


def test_a_long_lstm_keeps_its_gradient_and_a_plain_network_loses_it():
    """Open forget gates: dc_T / dc_0 is 1 after 200 steps; with U = 0.5 the plain network's is 0.5^200 or less."""
    steps, one = 200, np.zeros((1, 1))
    x = np.zeros((steps, 1, 1))
    bias = np.array([-40.0, 40.0, 0.0, 40.0])
    dy = (np.zeros((steps, 1, 1)), one, one + 1)
    dc = lstm_vjp(dy, None, x, one, one, np.zeros((1, 4)), np.zeros((1, 4)), bias)[2]
    assert dc == pytest.approx(1.0)
    dh = rnn_vjp((dy[0], one + 1), None, x, one, one, one + 0.5, np.zeros(1))[1]
    assert 0 < dh.item() <= 0.5**steps


def test_gru_with_a_closed_reset_gate_forgets_its_past():
    """r = 0 and z = 0: the new state is tanh(x w + b), whatever h was."""
    x, h, w, u, b, b_u = example("gru")
    w, b = w.copy(), b.copy()
    w[:, : 2 * H], b[: 2 * H] = 0.0, -1e4
    ys, _ = gru(x, h, w, u, b, b_u)
    np.testing.assert_allclose(ys, np.tanh(x @ w[:, 2 * H :] + b[2 * H :]), rtol=1e-13)


def test_third_derivatives_go_through():
    """d^3 / dx^3 of tanh(x) from a plain network of one step is that of tanh."""
    x, zero, one = 0.3, np.zeros((1, 1)), np.ones((1, 1))

    def f(v):
        return hg.rnn(v[None, ...], zero, one, zero, np.zeros(1))[0].sum()

    y = hg.Tensor(np.array([[x]]), requires_grad=True)
    first = hg.grad(f)(y)
    third = hg.grad(lambda v: hg.grad(lambda s: hg.grad(f)(s).sum())(v).sum())(y)
    s = 1 - np.tanh(x) ** 2
    assert first.item() == pytest.approx(s)
    assert third.item() == pytest.approx(-2 * s * s + 4 * np.tanh(x) ** 2 * s)


@pytest.mark.parametrize(
    "lengths, sentence",
    [
        ([4, 7, 0, 1], "lengths holds 7, but x has shape (6, 4, 3), that is 6 steps"),
        ([4, -1, 0, 1], "lengths holds -1, but x has shape (6, 4, 3), that is 6 steps"),
        ([4, 6], "lengths has shape (2,)"),
        ([4.0, 6.0, 0.0, 1.0], "lengths is float64, but it must be an integer array"),
    ],
    ids=["too long", "negative", "too few", "not integers"],
)
@rows
def test_lengths_are_checked_at_the_door(name, lengths, sentence):
    with pytest.raises((ValueError, TypeError), match=f"^{name}: " + re.escape(sentence)):
        getattr(hg, name)(*example(name), np.array(lengths))


def test_errors_at_the_door():
    x, h, w, u, b = example("rnn")
    with pytest.raises(ValueError, match="rnn: nonlinearity is 'sigmoid', but it must be 'tanh' or 'relu'"):
        hg.rnn(x, h, w, u, b, nonlinearity="sigmoid")
    with pytest.raises(ValueError, match=r"rnn: u has shape \(5, 3\)"):
        hg.rnn(x, h, w, u[:, :3], b)
