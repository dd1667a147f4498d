"""Attention, encoder and decoder layers beside PyTorch's: state dicts change hands, outputs and gradients agree.

PyTorch's boolean masks say True for what is ignored, handgrad's for what takes part: hence the `~` below.
"""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is absent: pip install -e '.[peers]'")

import handgrad as hg  # noqa: E402

pytestmark = pytest.mark.peers

B, T, S, C, H, F = 3, 6, 8, 16, 4, 40
BOUND = 1e-10

DESIGNS = [
    {"norm_first": norm_first, "activation": activation, "bias": bias, "layer_norm_eps": 1e-4}
    for norm_first, activation, bias in itertools.product((False, True), ("relu", "gelu"), (True, False))
]
designs = pytest.mark.parametrize(
    "design", DESIGNS, ids=lambda d: f"{'pre' if d['norm_first'] else 'post'}-norm, {d['activation']}, bias={d['bias']}"
)


def example(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def padding(length: int, lengths: tuple[int, ...]) -> np.ndarray:
    """(B, length): True where a position takes part."""
    return np.arange(length) < np.array(lengths)[:, None]


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


def close(got: np.ndarray, want: np.ndarray, floor: float = 0.0) -> None:
    assert got.shape == want.shape
    assert np.max(np.abs(got - want)) <= BOUND * max(float(np.max(np.abs(want))), floor)


def same_results(ours: Any, theirs: Any, inputs: list[np.ndarray], run: Any, run_peer: Any) -> None:
    """Outputs, and the gradients of inputs and parameters from a random cotangent."""
    mine = [hg.Tensor(x, requires_grad=True) for x in inputs]
    peers = [torch.from_numpy(x.copy()).requires_grad_() for x in inputs]
    y, want = run(*mine), run_peer(*peers)
    close(y.detach().numpy(), want.detach().numpy())
    dy = example(99, *y.shape)
    y.backward(dy)
    want.backward(torch.from_numpy(dy))
    grads = dict(theirs.named_parameters())
    largest = max(float(p.grad.abs().max()) for p in grads.values())
    for t, u in zip(mine, peers, strict=True):
        close(t.grad.numpy(), u.grad.numpy())
    for name, p in ours.named_parameters():
        close(p.grad.numpy(), grads[name].grad.numpy(), 1e-2 * largest)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_self_attention(bias: bool, masked: bool) -> None:
    ours, theirs = exchanged(
        hg.nn.MultiheadAttention(C, H, bias=bias), torch.nn.MultiheadAttention(C, H, bias=bias, batch_first=True)
    )
    takes_part = padding(T, (6, 4, 1))
    later = np.triu(np.ones((T, T), bool), 1)

    def run(x: Any) -> Any:
        return ours(x, mask=takes_part[:, None, None, :], causal=True) if masked else ours(x)

    def run_peer(x: Any) -> Any:
        options = {"key_padding_mask": torch.from_numpy(~takes_part), "attn_mask": torch.from_numpy(later)}
        return theirs(x, x, x, **options if masked else {}, need_weights=False)[0]

    same_results(ours, theirs, [example(1, B, T, C)], run, run_peer)


def test_attention_of_three_inputs_with_any_mask() -> None:
    ours, theirs = exchanged(hg.nn.MultiheadAttention(C, H), torch.nn.MultiheadAttention(C, H, batch_first=True))
    mask = np.random.default_rng(2).random((B, H, T, S)) < 0.6
    mask[..., 0] = True  # a query that may see nothing is NaN in PyTorch, zeros here

    def run_peer(q: Any, k: Any, v: Any) -> Any:
        return theirs(q, k, v, attn_mask=torch.from_numpy(~mask.reshape(B * H, T, S)), need_weights=False)[0]

    inputs = [example(3, B, T, C), example(4, B, S, C), example(5, B, S, C)]
    same_results(ours, theirs, inputs, lambda q, k, v: ours(q, k, v, mask=mask), run_peer)


@designs
def test_encoder_layer(design: dict[str, Any]) -> None:
    ours, theirs = exchanged(
        hg.nn.TransformerEncoderLayer(C, H, F, dropout=0.0, **design),
        torch.nn.TransformerEncoderLayer(C, H, F, dropout=0.0, batch_first=True, **design),
    )
    takes_part = padding(T, (6, 4, 2))
    same_results(
        ours,
        theirs,
        [example(6, B, T, C)],
        lambda x: ours(x, mask=takes_part[:, None, None, :]),
        lambda x: theirs(x, src_key_padding_mask=torch.from_numpy(~takes_part)),
    )


@designs
def test_decoder_layer(design: dict[str, Any]) -> None:
    ours, theirs = exchanged(
        hg.nn.TransformerDecoderLayer(C, H, F, dropout=0.0, **design),
        torch.nn.TransformerDecoderLayer(C, H, F, dropout=0.0, batch_first=True, **design),
    )
    target, source = padding(T, (6, 4, 2)), padding(S, (3, 8, 5))
    later = torch.from_numpy(np.triu(np.ones((T, T), bool), 1))
    same_results(
        ours,
        theirs,
        [example(7, B, T, C), example(8, B, S, C)],
        lambda x, m: ours(x, m, mask=target[:, None, None, :], memory_mask=source[:, None, None, :]),
        lambda x, m: theirs(
            x,
            m,
            tgt_mask=later,
            tgt_key_padding_mask=torch.from_numpy(~target),
            memory_key_padding_mask=torch.from_numpy(~source),
        ),
    )


def test_stacks() -> None:
    """Encoder and decoder of two layers each, pre-norm, with norms at the end; all parameters of both get gradients."""
    options: dict[str, Any] = {"dropout": 0.0, "norm_first": True}
    encoder, peer_encoder = exchanged(
        hg.nn.TransformerEncoder(
            [hg.nn.TransformerEncoderLayer(C, H, F, **options) for _ in range(2)], hg.nn.LayerNorm(C)
        ),
        torch.nn.TransformerEncoder(
            torch.nn.TransformerEncoderLayer(C, H, F, batch_first=True, **options),
            2,
            torch.nn.LayerNorm(C),
            enable_nested_tensor=False,
        ),
    )
    decoder, peer_decoder = exchanged(
        hg.nn.TransformerDecoder(
            [hg.nn.TransformerDecoderLayer(C, H, F, **options) for _ in range(2)], hg.nn.LayerNorm(C)
        ),
        torch.nn.TransformerDecoder(
            torch.nn.TransformerDecoderLayer(C, H, F, batch_first=True, **options), 2, torch.nn.LayerNorm(C)
        ),
    )
    later = torch.from_numpy(np.triu(np.ones((T, T), bool), 1))
    ours = hg.nn.ModuleList([encoder, decoder])
    theirs = torch.nn.ModuleList([peer_encoder, peer_decoder])
    same_results(
        ours,
        theirs,
        [example(9, B, S, C), example(10, B, T, C)],
        lambda src, tgt: decoder(tgt, encoder(src)),
        lambda src, tgt: peer_decoder(tgt, peer_encoder(src), tgt_mask=later),
    )


@pytest.mark.parametrize("name", ["MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer"])
def test_the_arguments_have_torchs_names_and_defaults(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(side.nn, name)).parameters for side in (hg, torch))
    for argument, parameter in ours.items():
        theirs_default = theirs[argument].default
        if argument == "activation":  # PyTorch's is a function
            assert parameter.default == theirs_default.__name__ == "relu"
        else:
            assert parameter.default == theirs_default, argument
    positional = [p.name for p in ours.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == list(theirs)[: len(positional)]


@pytest.mark.parametrize("name", ["MultiheadAttention", "TransformerEncoderLayer"])
def test_initial_values_have_torchs_sizes(name: str) -> None:
    torch.manual_seed(0)
    hg.manual_seed(0)
    ours, theirs = getattr(hg.nn, name)(64, 4).state_dict(), getattr(torch.nn, name)(64, 4).state_dict()
    for key, value in theirs.items():
        want = value.numpy()
        assert np.isclose(ours[key].std(), want.std(), rtol=0.1, atol=1e-7), key
        assert np.isclose(np.abs(ours[key]).max(), np.abs(want).max(), rtol=0.1), key
