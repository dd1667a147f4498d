"""docs/semantics.md, Recurrent layers: where a sequence ends, what goes in and out, in which order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor, nn
from handgrad.engine.models import LSTMLanguageModel
from handgrad.engine.models.beam import beam_search
from handgrad.engine.training.feed import CarriedFeed

answers = pytest.mark.answers
kinds = pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
T, B, I, H = 5, 3, 2, 4


def made(kind: str, **options: Any) -> Any:
    hg.manual_seed(1)
    return getattr(nn, kind)(I, H, **options).astype(np.float64)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).standard_normal(shape)


def states(state: Any) -> list[np.ndarray]:
    return [s.detach().numpy() for s in (state if isinstance(state, tuple) else (state,))]


@answers("order of gates, and biases")
def test_gates_by_hand() -> None:
    """i, f, g, o down the rows of PyTorch's weights, r, z, n for a GRU; both biases are added."""
    x, h, c = 0.3, 0.2, -0.4
    lstm, gru = nn.LSTMCell(1, 1).astype(np.float64), nn.GRUCell(1, 1).astype(np.float64)

    def rows(cell: Any, parts: int) -> list[np.ndarray]:
        found = {name: value.reshape(parts) for name, value in cell.state_dict().items()}
        return [found[f"{what}_{part}"] for what in ("weight", "bias") for part in ("ih", "hh")]

    w, u, b, b_u = rows(lstm, 4)
    i, f, g, o = w * x + u * h + b + b_u
    sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    c_new = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    got = states(lstm(Tensor(np.array([[x]])), (Tensor(np.array([[h]])), Tensor(np.array([[c]])))))
    np.testing.assert_allclose(np.ravel(got), [sigmoid(o) * np.tanh(c_new), c_new], rtol=1e-12)

    w, u, b, b_u = rows(gru, 3)
    r, z = sigmoid((w * x + u * h + b + b_u)[:2])
    n = np.tanh(w[2] * x + b[2] + r * (u[2] * h + b_u[2]))  # r behind the product
    got = states(gru(Tensor(np.array([[x]])), Tensor(np.array([[h]]))))
    np.testing.assert_allclose(np.ravel(got), [(1 - z) * n + z * h], rtol=1e-12)


@kinds
@answers("`lengths`")
def test_what_lies_behind_an_end_is_never_seen(kind: str, kernels: str) -> None:
    """NaN there changes nothing; the outputs are zero, the last state is that of the sequence alone; 0 is a length."""
    layer, lengths, x = made(kind, bidirectional=True), np.array([5, 0, 2]), numbers(T, B, I)
    for b, length in enumerate(lengths):
        x[length:, b] = np.nan
    given = Tensor(x, requires_grad=True)
    y, end = layer(given, lengths=lengths)
    hg.sum(y * y).backward()
    for b, length in enumerate(lengths):
        assert not y.detach().numpy()[length:, b].any() and not given.grad.numpy()[length:, b].any()
        alone, alone_end = layer(Tensor(x[:length, b : b + 1]))
        np.testing.assert_allclose(y.detach().numpy()[:length, b], alone.detach().numpy()[:, 0], rtol=1e-12)
        for got, want in zip(states(end), states(alone_end), strict=True):
            np.testing.assert_allclose(got[:, b], want[:, 0], rtol=1e-12)
    assert all(np.isfinite(p.grad.numpy()).all() for p in layer.parameters())


@kinds
@answers("the state of several layers and directions")
def test_order_of_states(kind: str) -> None:
    """Layer by layer, forward before backward; backward ends at the first step."""
    layer = made(kind, num_layers=2, bidirectional=True)
    x = Tensor(numbers(T, B, I))
    y, end = layer(x)
    h = states(end)[0]
    assert h.shape == (4, B, H)
    np.testing.assert_array_equal(h[2], y.detach().numpy()[-1, :, :H])
    np.testing.assert_array_equal(h[3], y.detach().numpy()[0, :, H:])
    single = made(kind, bidirectional=True)
    names = {name: value for name, value in layer.state_dict().items() if "_l0" in name}
    single.load_state_dict(names)
    np.testing.assert_array_equal(states(single(x)[1])[0], h[:2])


@kinds
@answers("no steps, no sequences")
def test_nothing_to_read(kind: str) -> None:
    layer = made(kind)
    first = Tensor(numbers(1, B, H))
    y, end = layer(Tensor(np.zeros((0, B, I))), (first, first) if kind == "LSTM" else first)
    assert y.shape == (0, B, H)
    for got in states(end):
        np.testing.assert_array_equal(got, first.numpy())
    assert layer(Tensor(np.zeros((T, 0, I))))[0].shape == (T, 0, H)


@answers("a state that is carried on")
def test_a_state_keeps_its_history_until_it_is_detached() -> None:
    layer, x = made("LSTM"), Tensor(numbers(T, B, I), requires_grad=True)
    _, hidden = layer(x)
    y, _ = layer(Tensor(numbers(T, B, I)), hidden)
    hg.sum(y).backward()
    assert x.grad is not None and x.grad.numpy().any()
    model = LSTMLanguageModel(7, 3, 4, 1)
    ids = np.arange(6).reshape(1, 6)
    _, (h, c) = model.loss(ids, ids)
    assert not h.requires_grad and not c.requires_grad


@answers("validation of `train lstm`")
def test_validation_reads_its_part_in_order() -> None:
    """The mean over all of it is that of one long sequence, wherever the chunks are cut."""
    hg.manual_seed(0)
    model = LSTMLanguageModel(5, 3, 4, 1).astype(np.float64)
    ids = np.random.default_rng(0).integers(0, 5, 41)
    feed = CarriedFeed(ids, ids, 7, 1)
    whole, _ = model.loss(ids[None, :-1], ids[None, 1:])
    np.testing.assert_allclose(feed.validate(model), whole.item(), rtol=1e-12)


@answers("score of a translation")
def test_length_penalty() -> None:
    """Log probability over ((5 + n) / 6)^0.6, the end counted: 0 would prefer the shorter text here."""
    # token 0, end 1, begin 2: end at once (0.3), or 0 (0.7) and then the end (0.4), or 0 again and the end
    table = np.log(np.array([[0.6, 0.4, 1e-9], [1e-9] * 3, [0.7, 0.3, 1e-9]]))

    def search(penalty: float) -> Any:
        return beam_search(
            lambda tokens, state: (table[tokens], state), lambda state, rows: state, None, begin=2, end=1, width=3,
            length_penalty=penalty, most=2,
        )  # fmt: skip

    plain, penalized = search(0.0), search(0.6)
    for text in penalized:
        n = len(text.tokens) + (len(text.tokens) < 2)
        assert text.score == pytest.approx(text.log_probability / ((5 + n) / 6) ** 0.6)
    assert [text.score for text in plain] == [text.log_probability for text in plain]
