"""nn.LSTM, nn.GRU, nn.RNN and their cells: what they promise beside the numbers that PyTorch gives (see tests/peers)."""

import re

import numpy as np
import pytest

import handgrad as hg
from handgrad import nn

T, B, I, H = 5, 3, 2, 4
kinds = pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
RNG = np.random.default_rng


def x_of(*shape):
    return hg.Tensor(RNG(1).standard_normal(shape), dtype=np.float32)


def first(state):
    return state[0] if isinstance(state, tuple) else state


@kinds
def test_shapes(kind):
    layer = getattr(nn, kind)(I, H, num_layers=2, bidirectional=True)
    y, end = layer(x_of(T, B, I))
    assert y.shape == (T, B, 2 * H) and y.dtype == np.float32
    assert all(s.shape == (4, B, H) for s in (end if kind == "LSTM" else [end]))


@kinds
def test_batch_first_is_the_same_with_axes_exchanged(kind):
    hg.manual_seed(0)
    ours = getattr(nn, kind)(I, H)
    hg.manual_seed(0)
    other = getattr(nn, kind)(I, H, batch_first=True)
    x = x_of(T, B, I)
    y, end = ours(x)
    z, other_end = other(hg.permute_dims(x, (1, 0, 2)))
    np.testing.assert_array_equal(y.detach().numpy(), z.detach().numpy().transpose(1, 0, 2))
    np.testing.assert_array_equal(first(end).detach().numpy(), first(other_end).detach().numpy())


@kinds
def test_the_last_state_is_where_the_outputs_end(kind):
    """Forwards at each sequence's last element; backwards at its first."""
    layer, lengths = getattr(nn, kind)(I, H, bidirectional=True), np.array([5, 2, 3])
    y, end = layer(x_of(T, B, I), lengths=lengths)
    y, h = y.detach().numpy(), first(end).detach().numpy()
    np.testing.assert_array_equal(h[0], y[lengths - 1, np.arange(B), :H])
    np.testing.assert_array_equal(h[1], y[0, :, H:])


@kinds
def test_dropout_acts_between_layers_in_training_only(kind):
    layer = getattr(nn, kind)(I, H, num_layers=2, dropout=0.5)
    single = getattr(nn, kind)(I, H, dropout=0.5)
    x = x_of(T, B, I)

    def run(module):
        return module(x)[0].detach().numpy()

    assert not np.array_equal(run(layer), run(layer))
    assert np.array_equal(run(single), run(single))
    layer.eval()
    assert np.array_equal(run(layer), run(layer))


@kinds
@pytest.mark.parametrize("kernels", ["off", "force"])
def test_a_carried_state_makes_two_pieces_equal_the_whole(kind, kernels):
    layer, x = getattr(nn, kind)(I, H, num_layers=2), x_of(T, B, I)
    with hg.use_kernels(kernels):
        whole, end = layer(x)
        one, state = layer(x[:2])
        two, other_end = layer(x[2:], state)
    got = np.concatenate([one.detach().numpy(), two.detach().numpy()])
    np.testing.assert_allclose(got, whole.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first(other_end).detach().numpy(), first(end).detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_cell_is_a_layer_of_one_step(kind):
    cell, layer = getattr(nn, f"{kind}Cell")(I, H), getattr(nn, kind)(I, H)
    layer.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    x = x_of(T, B, I)
    y, _ = layer(x)
    state = None
    for t in range(T):
        state = cell(x[t], state)
        np.testing.assert_allclose(first(state).detach().numpy(), y[t].detach().numpy(), rtol=1e-5, atol=1e-6)


def test_an_lstm_learns_to_remember_the_first_element():
    """Sequences of six numbers whose class is the sign of the first: only a state that lasts can know it."""
    hg.manual_seed(3)
    layer, head = nn.LSTM(1, 16), nn.Linear(16, 2)
    model = nn.ModuleList([layer, head])
    optimizer = hg.optim.Adam(model.parameters(), lr=0.03)
    rng = RNG(0)
    for _ in range(150):
        x = rng.standard_normal((6, 64, 1)).astype(np.float32)
        optimizer.zero_grad()
        loss = hg.cross_entropy(head(layer(hg.Tensor(x))[1][0][0]), (x[0, :, 0] > 0).astype(np.int64))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2


def test_repr_says_what_the_constructor_was_given():
    assert repr(nn.GRU(3, 4, 2, bidirectional=True)).startswith("GRU(3, 4, num_layers=2, bidirectional=True")
    assert "nonlinearity='relu'" in repr(nn.RNN(3, 4, nonlinearity="relu"))
    assert repr(nn.LSTMCell(3, 4)) == "LSTMCell(3, 4, bias=True)"


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: nn.LSTM(0, 4), "LSTM: input_size is 0, but it must be a positive integer"),
        (lambda: nn.GRUCell(3, 0), "GRUCell: hidden_size is 0, but it must be a positive integer"),
        (lambda: nn.RNN(3, 4, nonlinearity="sin"), "RNN: nonlinearity is 'sin', but it must be 'tanh' or 'relu'"),
        (lambda: nn.RNNCell(3, 4, nonlinearity="sin"), "RNNCell: nonlinearity is 'sin'"),
        (lambda: nn.LSTM(I, H)(x_of(T, B, 9)), "LSTM: x has shape (5, 3, 9), but it must be (steps, batch, 2)"),
        (
            lambda: nn.GRU(I, H, batch_first=True)(x_of(B, I)),
            "GRU: x has shape (3, 2), but it must be (batch, steps, 2)",
        ),
        (
            lambda: nn.GRU(I, H)(x_of(T, B, I), x_of(B, H)),
            "GRU: the first h has shape (3, 4), but it must be (1, 3, 4)",
        ),
        (
            lambda: nn.LSTM(I, H)(x_of(T, B, I), (x_of(1, B, H), x_of(2, B, H))),
            "LSTM: the first c has shape (2, 3, 4), but it must be (1, 3, 4)",
        ),
        (lambda: nn.LSTM(I, H)(x_of(T, B, I), x_of(1, B, H)), "LSTM: hx is a Tensor, but it must be a pair (h, c)"),
    ],
)
def test_errors(make, sentence):
    with pytest.raises((ValueError, TypeError), match="^" + re.escape(sentence)):
        make()
