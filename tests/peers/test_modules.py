"""Layers beside PyTorch's: the same names, shapes and dtypes in state dicts, the same outputs and gradients from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is absent: pip install -e '.[peers]'")

import handgrad as hg  # noqa: E402

pytestmark = pytest.mark.peers

FLOATS = np.random.default_rng(1).standard_normal((3, 5, 8)).astype(np.float32)
IDS = np.random.default_rng(2).integers(0, 11, (3, 5))

LAYERS: dict[str, tuple[Callable[[], Any], Callable[[], Any], np.ndarray]] = {
    "Linear": (lambda: hg.nn.Linear(8, 6), lambda: torch.nn.Linear(8, 6), FLOATS),
    "Linear without bias": (lambda: hg.nn.Linear(8, 6, bias=False), lambda: torch.nn.Linear(8, 6, bias=False), FLOATS),
    "LayerNorm": (lambda: hg.nn.LayerNorm(8), lambda: torch.nn.LayerNorm(8), FLOATS),
    "LayerNorm without bias": (
        lambda: hg.nn.LayerNorm(8, 1e-3, bias=False),
        lambda: torch.nn.LayerNorm(8, 1e-3, bias=False),
        FLOATS,
    ),
    "Embedding": (lambda: hg.nn.Embedding(11, 8), lambda: torch.nn.Embedding(11, 8), IDS),
    "GELU": (lambda: hg.nn.GELU(), lambda: torch.nn.GELU(approximate="tanh"), FLOATS),
    "GELU, exact": (lambda: hg.nn.GELU("none"), lambda: torch.nn.GELU(), FLOATS),
    "ReLU": (lambda: hg.nn.ReLU(), lambda: torch.nn.ReLU(), FLOATS),
    "SiLU": (lambda: hg.nn.SiLU(), lambda: torch.nn.SiLU(), FLOATS),
    "Dropout in eval mode": (lambda: hg.nn.Dropout(0.3).eval(), lambda: torch.nn.Dropout(0.3).eval(), FLOATS),
}


def exchanged(ours: Any, theirs: Any) -> None:
    """Both state dicts have the same names, shapes and dtypes, and each side loads the other's."""
    own, peer = ours.state_dict(), theirs.state_dict()
    assert list(own) == list(peer)
    for name, value in peer.items():
        assert own[name].shape == tuple(value.shape), name
        assert own[name].dtype == value.numpy().dtype, name
    rng = np.random.default_rng(0)
    theirs.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in own.items()})
    for value in theirs.state_dict().values():
        value.copy_(torch.from_numpy(rng.standard_normal(tuple(value.shape)).astype(np.float32) * 0.5))
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})


def same_results(ours: Any, theirs: Any, x: np.ndarray, rtol: float = 2e-5) -> None:
    """The same output and gradients (of the input too, where it has one), with a random cotangent."""
    is_float = x.dtype.kind == "f"
    a, b = hg.Tensor(x, requires_grad=is_float), torch.from_numpy(x.copy()).requires_grad_(is_float)
    y, want = ours(a if is_float else x), theirs(b)
    np.testing.assert_allclose(y.detach().numpy(), want.detach().numpy(), rtol=rtol, atol=rtol)
    dy = np.random.default_rng(3).standard_normal(y.shape).astype(np.float32)
    y.backward(dy)
    want.backward(torch.from_numpy(dy))
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True)) + ([(a, b)] if is_float else [])
    for p, q in pairs:
        want_grad = q.grad.numpy()
        error = np.linalg.norm(p.grad.numpy() - want_grad) / np.linalg.norm(want_grad)
        assert error <= rtol, f"a gradient of shape {p.shape} is off by {error:.1e} relative"


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_equals_torch(layer: str) -> None:
    make, make_peer, x = LAYERS[layer]
    ours, theirs = make(), make_peer()
    exchanged(ours, theirs)
    same_results(ours, theirs, x)


@pytest.mark.parametrize("bias", [True, False])
def test_transformer_block_equals_torch(torch_gpt: Any, bias: bool) -> None:
    ours, theirs = hg.nn.TransformerBlock(8, 2, bias=bias), torch_gpt.Block(8, 2, bias)
    exchanged(ours, theirs)
    same_results(ours, theirs, FLOATS)


def test_attention_equals_torchs_multihead_attention() -> None:
    """torch.nn.MultiheadAttention names its weights otherwise: in_proj_weight is c_attn.weight, out_proj is c_proj."""
    ours, theirs = hg.nn.SelfAttention(8, 2), torch.nn.MultiheadAttention(8, 2, batch_first=True)
    state = {name: value.numpy() for name, value in theirs.state_dict().items()}
    names = {"c_attn.": "in_proj_", "c_proj.": "out_proj."}
    ours.load_state_dict(
        {n: state[p + n.split(".")[1]] for n in ours.state_dict() for o, p in names.items() if n.startswith(o)}
    )
    padding = np.array([[0, 0, 0, 0, 0], [0, 0, 0, 1, 1], [0, 0, 1, 1, 1]], bool)  # True: not there
    plain = theirs(*[torch.from_numpy(FLOATS)] * 3, need_weights=False)[0].detach().numpy()
    np.testing.assert_allclose(ours(hg.Tensor(FLOATS)).detach().numpy(), plain, rtol=2e-5, atol=2e-6)
    padded = theirs(*[torch.from_numpy(FLOATS)] * 3, key_padding_mask=torch.from_numpy(padding), need_weights=False)[0]
    found = ours(hg.Tensor(FLOATS), ~padding[:, None, None, :]).detach().numpy()
    np.testing.assert_allclose(found, padded.detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("layer", ["Linear", "Embedding"])
def test_initial_weights_have_torchs_distribution(layer: str) -> None:
    """Mean, standard deviation and range of 40,000 initial weights, to the statistical error."""
    ours, theirs = {
        "Linear": lambda: (hg.nn.Linear(200, 200), torch.nn.Linear(200, 200)),
        "Embedding": lambda: (hg.nn.Embedding(200, 200), torch.nn.Embedding(200, 200)),
    }[layer]()
    a, b = ours.weight.detach().numpy(), theirs.weight.detach().numpy()
    assert abs(a.mean()) < 5 * b.std() / 200
    assert a.std() == pytest.approx(b.std(), rel=0.02)
    if layer == "Linear":
        assert np.abs(a).max() == pytest.approx(np.abs(b).max(), rel=1e-3)
        assert ours.bias is not None and np.abs(ours.bias.detach().numpy()).max() <= 200**-0.5
