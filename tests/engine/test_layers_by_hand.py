"""The engine's encoder and decoder layers against their pages in reference/, and the pages against finite differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor, nn
from handgrad.engine.testing import check_op
from handgrad.reference.decoder_block import decoder_block, decoder_block_vjp
from handgrad.reference.encoder_block import encoder_block, encoder_block_vjp
from handgrad.reference.multi_head_attention import (
    multi_head_attention,
    multi_head_attention_vjp,
    self_attention,
    self_attention_vjp,
)

B, T, S, C, H, F = 2, 5, 7, 12, 3, 20
RNG = np.random.default_rng

DESIGNS = [
    {"norm_first": norm_first, "activation": activation, "bias": bias}
    for norm_first, activation, bias in itertools.product((False, True), ("relu", "gelu"), (True, False))
]
designs = pytest.mark.parametrize("design", DESIGNS, ids=lambda d: ", ".join(f"{k}={v}" for k, v in d.items()))
kernels = pytest.mark.parametrize("use", ["off", "force"])
masked = pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])


def example(*shape: int) -> np.ndarray:
    return RNG(shape).standard_normal(shape)


def padding(length: int, lengths: tuple[int, ...]) -> np.ndarray:
    """(B, 1, 1, length): the first of them take part."""
    return (np.arange(length) < np.array(lengths)[:, None])[:, None, None, :]


def some_mask(use: str, t: int, s: int) -> np.ndarray:
    """Any, for the formulas; the kernels know masks for padding."""
    return RNG(3).random((B, H, t, s)) < 0.7 if use == "off" else padding(s, (s, max(1, s - 2)))


def randomized(module: nn.Module) -> dict[str, np.ndarray]:
    """Gives every parameter random numbers, away from zeros and ones; returns them."""
    rng = RNG(5)
    module.load_state_dict({name: a + 0.3 * rng.standard_normal(a.shape) for name, a in module.state_dict().items()})
    return module.state_dict()


def close(got: Any, want: np.ndarray, bound: float = 1e-12) -> None:
    assert got.shape == want.shape
    assert np.max(np.abs(got - want)) <= bound * np.max(np.abs(want))


def agree(
    module: nn.Module, run: Callable[..., Any], inputs: list[np.ndarray], y: np.ndarray, page_vjp: Any, use: str
) -> None:
    """The module's output is the page's, and so are all its gradients; page_vjp(dy) -> (one for each input, dparams)."""
    tensors = [Tensor(x, requires_grad=True) for x in inputs]
    dy = example(*y.shape)
    with hg.use_kernels(use) as calls:
        got = run(*tensors)
        got.backward(dy)
    assert bool(calls) == (use == "force")
    close(got.data, y)
    *dinputs, dparams = page_vjp(dy)
    found = {name: p.grad.data for name, p in module.named_parameters() if p.grad is not None}
    assert set(found) == set(dparams)
    pairs = [(t.grad.data, dx) for t, dx in zip(tensors, dinputs, strict=True) if t.grad is not None]
    assert len(pairs) == len(inputs)
    pairs += [(found[name], d) for name, d in dparams.items()]
    largest = max(float(np.max(np.abs(d))) for _, d in pairs)
    for grad, d in pairs:
        # Some are zero but for rounding: one key alone has weight 1 whatever its score.
        assert grad.shape == d.shape
        assert np.max(np.abs(grad - d)) <= 1e-12 * max(float(np.max(np.abs(d))), 1e-2 * largest)


# ---- the engine against the pages


@kernels
@masked
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_self_attention(bias: bool, causal: bool, masked: bool, use: str) -> None:
    m = nn.MultiheadAttention(C, H, bias=bias).astype(np.float64)
    params, x = randomized(m), example(B, T, C)
    options = {"mask": some_mask(use, T, T) if masked else None, "causal": causal}
    page = {**options, "n_head": H}
    agree(
        m,
        lambda t: m(t, **options),
        [x],
        self_attention(x, params, **page),
        lambda dy: self_attention_vjp(dy, None, x, params, **page),
        use,
    )


@kernels
@masked
@pytest.mark.parametrize(("t", "s"), [(T, S), (S, T), (1, S), (T, 1)])
def test_cross_attention_of_other_lengths(t: int, s: int, masked: bool, use: str) -> None:
    m = nn.MultiheadAttention(C, H).astype(np.float64)
    params, x_q, x_kv = randomized(m), example(B, t, C), example(B, s, C)
    mask = some_mask(use, t, s) if masked else None
    agree(
        m,
        lambda q, kv: m(q, kv, mask=mask),
        [x_q, x_kv],
        multi_head_attention(x_q, x_kv, params, mask, n_head=H),
        lambda dy: multi_head_attention_vjp(dy, None, x_q, x_kv, params, mask, n_head=H),
        use,
    )


@kernels
@masked
@designs
def test_encoder_layer(design: dict[str, Any], masked: bool, use: str) -> None:
    layer = nn.TransformerEncoderLayer(C, H, F, dropout=0.0, layer_norm_eps=1e-3, **design).astype(np.float64)
    params, x = randomized(layer), example(B, T, C)
    options = {"mask": padding(T, (5, 3)) if masked else None, "causal": masked}
    page = {k: v for k, v in design.items() if k != "bias"} | options | {"n_head": H, "eps": 1e-3}
    agree(
        layer,
        lambda t: layer(t, **options),
        [x],
        encoder_block(x, params, **page),
        lambda dy: encoder_block_vjp(dy, None, x, params, **page),
        use,
    )


@kernels
@masked
@designs
def test_decoder_layer(design: dict[str, Any], masked: bool, use: str) -> None:
    layer = nn.TransformerDecoderLayer(C, H, F, dropout=0.0, layer_norm_eps=1e-3, **design).astype(np.float64)
    params, x, memory = randomized(layer), example(B, T, C), example(B, S, C)
    options = {
        "mask": padding(T, (4, 5)) if masked else None,
        "memory_mask": padding(S, (7, 3)) if masked else None,
        "causal": not masked,
    }
    page = {k: v for k, v in design.items() if k != "bias"} | options | {"n_head": H, "eps": 1e-3}
    agree(
        layer,
        lambda t, m: layer(t, m, **options),
        [x, memory],
        decoder_block(x, memory, params, **page),
        lambda dy: decoder_block_vjp(dy, None, x, memory, params, **page),
        use,
    )


def test_three_different_inputs_of_attention_are_told_apart() -> None:
    """The page has one array for keys and values; with another value only v changes, linearly."""
    m = nn.MultiheadAttention(C, H).astype(np.float64)
    randomized(m)
    query, key, value = (Tensor(RNG(k).standard_normal((B, n, C))) for k, n in enumerate((T, S, S)))
    same = m(query, key, key).data
    close(m(query, key).data, same)
    close(m(query, key, Tensor(key.data.copy())).data, same)
    two = m(query, key, value).data
    mean = m(query, key, (key + value) * 0.5).data
    close(mean, 0.5 * (same + two))
    assert not np.allclose(m(query, value, value).data, two)


# ---- the pages against finite differences


def check_page(forward: Any, vjp: Any, inputs: list[np.ndarray], params: dict[str, np.ndarray]) -> None:
    """check_op, with the parameters as further inputs: vjp gives (one for each input, dparams).

    Sizes stay as they are: the checker cannot know that the rows of in_proj_weight are three times its columns.
    """
    n, names = len(inputs), list(params)

    def f(*arrays: Any) -> Any:
        return forward(*arrays[:n], dict(zip(names, arrays[n:], strict=True)))

    def f_vjp(dy: Any, y: Any, *arrays: Any) -> tuple[Any, ...]:
        *dinputs, dparams = vjp(dy, y, *arrays[:n], dict(zip(names, arrays[n:], strict=True)))
        return (*dinputs, *(dparams[name] for name in names))

    check_op(f, inputs=(*inputs, *params.values()), vjp=f_vjp, samples=2, skip=("zero size",), name=forward.__name__)


def test_the_page_of_attention_equals_finite_differences() -> None:
    params = randomized(nn.MultiheadAttention(4, 2).astype(np.float64))
    mask = np.array([[True, False, True], [True, True, False]])

    def forward(x_q: Any, x_kv: Any, p: Any) -> Any:
        return multi_head_attention(x_q, x_kv, p, mask, n_head=2)

    def vjp(dy: Any, y: Any, x_q: Any, x_kv: Any, p: Any) -> Any:
        return multi_head_attention_vjp(dy, y, x_q, x_kv, p, mask, n_head=2)

    check_page(forward, vjp, [example(2, 2, 4), example(2, 3, 4)], params)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_the_pages_of_the_layers_equal_finite_differences(kind: str, norm_first: bool) -> None:
    make = {"encoder": nn.TransformerEncoderLayer, "decoder": nn.TransformerDecoderLayer}[kind]
    params = randomized(make(4, 2, 5, 0.0, norm_first=norm_first).astype(np.float64))
    options: Any = {"n_head": 2, "norm_first": norm_first, "activation": "gelu", "eps": 0.1, "causal": True}
    page, page_vjp = {"encoder": (encoder_block, encoder_block_vjp), "decoder": (decoder_block, decoder_block_vjp)}[
        kind
    ]

    def forward(*arguments: Any) -> Any:
        return page(*arguments, **options)

    def vjp(*arguments: Any) -> Any:
        return page_vjp(*arguments, **options)

    check_page(forward, vjp, [example(1, 3, 4), example(1, 2, 4)][: 1 + (kind == "decoder")], params)


# ---- laws


@kernels
def test_padding_and_later_positions_never_count(use: str) -> None:
    encoder = nn.TransformerEncoder([nn.TransformerEncoderLayer(C, H, F) for _ in range(2)], nn.LayerNorm(C))
    decoder = nn.TransformerDecoder([nn.TransformerDecoderLayer(C, H, F) for _ in range(2)], nn.LayerNorm(C))
    for stack in (encoder, decoder):
        randomized(stack.astype(np.float64).eval())
    src, tgt = example(B, S, C), example(B, T, C)
    padded, later = src.copy(), tgt.copy()
    padded[1, 4:], later[:, 3:] = 100.0, -50.0
    mask = padding(S, (7, 4))
    with hg.use_kernels(use):
        memory, other = (encoder(Tensor(x), mask=mask) for x in (src, padded))
        assert np.array_equal(memory.data[0], other.data[0])
        assert np.array_equal(memory.data[1, :4], other.data[1, :4])
        y, changed = decoder(Tensor(tgt), memory, memory_mask=mask), decoder(Tensor(later), other, memory_mask=mask)
    assert np.array_equal(y.data[:, :3], changed.data[:, :3])
    assert not np.array_equal(y.data[:, 3:], changed.data[:, 3:])


def test_the_encoder_gets_the_sum_of_what_every_decoder_layer_asks() -> None:
    decoder = nn.TransformerDecoder([nn.TransformerDecoderLayer(C, H, F, 0.0) for _ in range(2)]).astype(np.float64)
    state, x, memory = randomized(decoder), example(B, T, C), example(B, S, C)
    first, second = (
        {name.removeprefix(f"layers.{i}."): a for name, a in state.items() if name.startswith(f"layers.{i}.")}
        for i in range(2)
    )
    middle = decoder_block(x, memory, first, n_head=H)
    dy = example(B, T, C)
    dmiddle, dmemory2, _ = decoder_block_vjp(dy, None, middle, memory, second, n_head=H)
    dx, dmemory1, _ = decoder_block_vjp(dmiddle, None, x, memory, first, n_head=H)
    t, m = Tensor(x, requires_grad=True), Tensor(memory, requires_grad=True)
    decoder(t, m).backward(dy)
    close(t.grad.data, dx)
    close(m.grad.data, dmemory1 + dmemory2)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("norm", [None, nn.LayerNorm(C, eps=0.5)], ids=["bare", "norm"])
def test_a_stack_is_its_layers_in_a_row(norm: nn.LayerNorm | None, causal: bool) -> None:
    encoder = nn.TransformerEncoder([nn.TransformerEncoderLayer(C, H, F) for _ in range(2)], norm).eval()
    decoder = nn.TransformerDecoder([nn.TransformerDecoderLayer(C, H, F) for _ in range(2)], norm).eval()
    src, tgt = (Tensor(example(B, n, C).astype(np.float32)) for n in (S, T))
    x, y = src, tgt
    options = {"mask": padding(S, (7, 4)), "causal": causal}
    for layer in encoder.layers:
        x = layer(x, **options)
    memory = x if norm is None else norm(x)
    assert np.array_equal(encoder(src, **options).data, memory.data)
    options = {"mask": padding(T, (5, 3)), "memory_mask": padding(S, (7, 4)), "causal": causal}
    for layer in decoder.layers:
        y = layer(y, memory, **options)
    y = y if norm is None else norm(y)
    assert np.array_equal(decoder(tgt, memory, **options).data, y.data)


def test_dropout_of_the_weights_keeps_their_expectation_and_respects_masks() -> None:
    hg.manual_seed(3)
    m = nn.MultiheadAttention(C, H, dropout=0.4).astype(np.float64)
    randomized(m)
    x, mask = Tensor(example(1, T, C)), padding(T, (3,))
    want = m.eval()(x, mask=mask).data
    m.train()
    draws = np.stack([m(x, mask=mask).data for _ in range(2000)])
    assert draws.std(axis=0).min() > 0.0
    assert np.all(np.abs(draws.mean(axis=0) - want) < 5.0 * draws.std(axis=0) / np.sqrt(2000))
    m.dropout.p = 1e-12  # keeps everything, on the way that drops
    for options in ({"mask": mask}, {"causal": True}):
        got = m(x, **options).data
        close(got, m.eval()(x, **options).data, 1e-11)
        m.train()


def test_a_layer_without_training_is_deterministic_and_with_it_random() -> None:
    layer = nn.TransformerDecoderLayer(C, H, F, dropout=0.5)
    x, memory = (Tensor(example(B, n, C).astype(np.float32)) for n in (T, S))
    assert not np.array_equal(layer(x, memory).data, layer(x, memory).data)
    layer.eval()
    assert np.array_equal(layer(x, memory).data, layer(x, memory).data)


def test_initial_values_are_pytorchs() -> None:
    m = nn.MultiheadAttention(64, 4)
    bound = np.sqrt(6.0 / (4 * 64))
    assert bound * 0.99 < np.abs(m.in_proj_weight.data).max() <= bound
    assert 0.99 / 8.0 < np.abs(m.out_proj.weight.data).max() <= 1.0 / 8.0
    assert not m.in_proj_bias.data.any()
    assert not m.out_proj.bias.data.any()


def test_mistakes_are_sentences() -> None:
    m, x = nn.MultiheadAttention(8, 2), Tensor(np.ones((1, 3, 8), np.float32))
    with pytest.raises(ValueError, match=r"^MultiheadAttention: embed_dim is 8, which num_heads 3 does not divide"):
        nn.MultiheadAttention(8, 3)
    with pytest.raises(ValueError, match=r"^MultiheadAttention: num_heads is 0, but it must be a positive integer"):
        nn.MultiheadAttention(8, 0)
    with pytest.raises(
        ValueError, match=r"^MultiheadAttention: query has shape \(3, 8\), but it must be \(batch, length, 8\)"
    ):
        m(x[0])
    with pytest.raises(ValueError, match=r"^MultiheadAttention: key has shape \(1, 3, 4\), but it must be"):
        m(x, x[:, :, :4])
    with pytest.raises(ValueError, match=r"^attention: mask has shape"):
        m(x, mask=np.ones((2, 2), bool))
    with pytest.raises(
        ValueError, match=r"^TransformerEncoderLayer: activation is 'tanh', but it must be one of relu, gelu"
    ):
        nn.TransformerEncoderLayer(8, 2, activation="tanh")
    with pytest.raises(ValueError, match=r"^TransformerDecoderLayer: dim_feedforward is 0, but"):
        nn.TransformerDecoderLayer(8, 2, 0)
