"""Recurrent layers beside PyTorch's: state dicts change hands; outputs, last states and gradients agree.

Packed sequences are the oracle for `lengths`.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is absent: pip install -e '.[peers]'")

import handgrad as hg  # noqa: E402

pytestmark = pytest.mark.peers

T, B, I, H = 7, 4, 3, 5
LENGTHS = np.array([5, 7, 1, 4])
BOUND = 1e-10

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "LSTM": ("LSTM", {}),
    "GRU": ("GRU", {}),
    "RNN": ("RNN", {}),
    "RNN, relu": ("RNN", {"nonlinearity": "relu"}),
}
kinds = pytest.mark.parametrize("kind", KINDS)
DESIGNS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"num_layers": 3},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
]
designs = pytest.mark.parametrize(
    "design", DESIGNS, ids=lambda d: ", ".join(f"{k}={v}" for k, v in d.items()) or "plain"
)


def example(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def exchanged(ours: Any, theirs: Any) -> tuple[Any, Any]:
    """Both in float64 with the same random parameters, loaded from PyTorch's state dict, after it has loaded ours."""
    own, peer = ours.state_dict(), theirs.state_dict()
    assert list(own) == list(peer)
    for name, value in peer.items():
        assert own[name].shape == tuple(value.shape), name
    theirs.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in own.items()})
    theirs = theirs.double()
    for k, value in enumerate(theirs.state_dict().values()):
        value.copy_(value + torch.from_numpy(0.2 * example(k, *value.shape)))
    ours = ours.astype(np.float64)
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    return ours, theirs


def close(got: np.ndarray, want: np.ndarray) -> None:
    assert got.shape == want.shape
    assert np.max(np.abs(got - want)) <= BOUND * np.max(np.abs(want))


def tensors(state: Any) -> list[Any]:
    return list(state) if isinstance(state, tuple) else [state]


@kinds
@designs
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
@pytest.mark.parametrize("kernels", ["off", "auto", "force"])
def test_layer_equals_torch(kind: str, design: dict[str, Any], lengths: Any, kernels: str) -> None:
    name, options = KINDS[kind]
    ours, theirs = exchanged(*(getattr(side.nn, name)(I, H, **design, **options) for side in (hg, torch)))
    first = design.get("batch_first", False)
    states = design.get("num_layers", 1) * (1 + design.get("bidirectional", False))
    x = example(1, B, T, I) if first else example(1, T, B, I)
    hx = [example(2 + k, states, B, H) for k in range(2 if name == "LSTM" else 1)]
    mine, peers = hg.Tensor(x, requires_grad=True), torch.from_numpy(x.copy()).requires_grad_()
    my_state = [hg.Tensor(s, requires_grad=True) for s in hx]
    peer_state = [torch.from_numpy(s.copy()).requires_grad_() for s in hx]
    with hg.use_kernels(kernels):
        y, end = ours(mine, tuple(my_state) if name == "LSTM" else my_state[0], lengths=lengths)
        outputs = [y, *tensors(end)]
        start = tuple(peer_state) if name == "LSTM" else peer_state[0]
        if lengths is None:
            peer_y, peer_end = theirs(peers, start)
        else:
            packed = torch.nn.utils.rnn.pack_padded_sequence(
                peers, torch.from_numpy(lengths), batch_first=first, enforce_sorted=False
            )
            packed_y, peer_end = theirs(packed, start)
            peer_y, _ = torch.nn.utils.rnn.pad_packed_sequence(packed_y, batch_first=first, total_length=T)
        peer_outputs = [peer_y, *tensors(peer_end)]
        dys = [example(10 + k, *y.shape) for k, y in enumerate(outputs)]
        for got, want in zip(outputs, peer_outputs, strict=True):
            close(got.detach().numpy(), want.detach().numpy())
        sum((y * dy).sum() for y, dy in zip(outputs, dys, strict=True)).backward()
    torch.autograd.backward(peer_outputs, [torch.from_numpy(dy) for dy in dys])
    for got, want in zip([mine, *my_state], [peers, *peer_state], strict=True):
        close(got.grad.numpy(), want.grad.numpy())
    grads = dict(theirs.named_parameters())
    for parameter_name, p in ours.named_parameters():
        close(p.grad.numpy(), grads[parameter_name].grad.numpy())


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "RNNCell"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("given", [True, False])
def test_cell_equals_torch(name: str, bias: bool, given: bool) -> None:
    ours, theirs = exchanged(*(getattr(side.nn, name)(I, H, bias) for side in (hg, torch)))
    x, states = example(1, B, I), [example(2 + k, B, H) for k in range(2 if name == "LSTMCell" else 1)]
    mine = [hg.Tensor(a, requires_grad=True) for a in (x, *states)]
    peers = [torch.from_numpy(a.copy()).requires_grad_() for a in (x, *states)]
    ends = []
    for layer, (first, *state) in ((ours, mine), (theirs, peers)):
        ends.append(tensors(layer(first, *([tuple(state) if len(state) == 2 else state[0]] if given else []))))
    dys = [example(10 + k, *y.shape) for k, y in enumerate(ends[0])]
    for got, want in zip(*ends, strict=True):
        close(got.detach().numpy(), want.detach().numpy())
    sum((y * dy).sum() for y, dy in zip(ends[0], dys, strict=True)).backward()
    torch.autograd.backward(ends[1], [torch.from_numpy(dy) for dy in dys])
    for got, want in zip([*mine, *ours.parameters()], [*peers, *theirs.parameters()], strict=True):
        if want.grad is not None:
            close(got.grad.numpy(), want.grad.numpy())


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"])
def test_the_arguments_have_torchs_names_and_order(name: str) -> None:
    """RNN and the cells spell theirs out in PyTorch; LSTM and GRU name theirs in RNNBase."""
    base = torch.nn.RNNCell if name.endswith("Cell") else torch.nn.modules.rnn.RNNBase
    want = [p for p in inspect.signature(base).parameters if p not in ("mode", "proj_size", "device", "dtype")]
    got = list(inspect.signature(getattr(hg.nn, name)).parameters)
    if name == "RNN":
        want.insert(3, "nonlinearity")
    if name in ("LSTMCell", "GRUCell"):
        want.remove("nonlinearity")
    assert got == want


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_initial_values_have_torchs_range(name: str) -> None:
    hg.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = (getattr(side.nn, name)(64, 64) for side in (hg, torch))
    peer = theirs.state_dict()
    for key, value in ours.state_dict().items():
        rough = 1.0 / value.size**0.5  # of few numbers the largest and the deviation are known roughly
        assert (1 - 2 * rough) / 8 < np.abs(value).max() <= 1 / 8, key
        assert np.isclose(value.std(), peer[key].numpy().std(), rtol=3 * rough), key
