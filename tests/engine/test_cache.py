"""Reading piece by piece with keys and values kept: the same as reading the whole, for any cuts."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import handgrad as hg
from handgrad import Tensor, nn
from handgrad.engine.errors import UserError
from handgrad.engine.models.generation import generate
from handgrad.engine.models.gpt import GPT, GPTConfig
from handgrad.engine.models.matrix import Matrix
from handgrad.engine.random import Generator
from handgrad.reference.quantization import quantize

EPS = float(np.finfo(np.float64).eps)
SIZES = st.fixed_dictionaries({
    "vocab_size": st.integers(1, 20), "block_size": st.integers(1, 12), "n_layer": st.integers(1, 3),
    "n_head": st.integers(1, 3), "bias": st.booleans(),
})  # fmt: skip
QUICK = settings(deadline=None, derandomize=True, max_examples=40)


def gpt(*, dtype: Any = np.float64, **changes: Any) -> GPT:
    config = {"vocab_size": 11, "block_size": 12, "n_layer": 2, "n_head": 3, "n_embd": 12, **changes}
    model = GPT(GPTConfig(**config), generator=Generator(1)).astype(dtype)
    for p in model.parameters():  # larger than initial weights, so that every position matters
        p.copy_(p.data * 5 if p.ndim == 2 else p.data + dtype(0.3))
    return model.eval()


class WithoutReader:
    def __init__(self, model: GPT) -> None:
        self.next_logits = model.next_logits


def close(got: np.ndarray, want: np.ndarray) -> None:
    """Within rounding, of which each number on the way through the model adds some."""
    assert got.dtype == want.dtype and got.shape == want.shape
    assert np.abs(got - want).max() <= 1000 * np.finfo(want.dtype).eps * np.abs(want).max()


@pytest.mark.parametrize("kernels", ["off", "auto", "force"])
@QUICK
@given(SIZES, st.integers(1, 5), st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 99))
def test_any_cuts_give_the_logits_of_the_whole(
    kernels: str, sizes: dict[str, Any], head_dim: int, cuts: list[int], seed: int
) -> None:
    """Also where the text grows out of the context: then the window moves on."""
    model = gpt(**sizes, n_embd=sizes["n_head"] * head_dim)
    ids = np.random.default_rng(seed).integers(0, sizes["vocab_size"], sum(cuts))
    reader, end = model.reader(), 0
    with hg.use_kernels(kernels):
        for cut in cuts:
            got = reader.read(ids[end : end + cut])
            end += cut
            close(got, model.next_logits(ids[:end]))


def rounded(model: GPT, form: str) -> GPT:
    """A model whose matrices are what `form` makes of them."""
    copy = GPT(model.config)
    copy.load_state_dict(model.state_dict())
    for p in copy.parameters():
        if p.ndim == 2:
            if form == "int8":
                q, scale = quantize(p.data)
                p.copy_(q * scale[:, None])
            else:
                p.copy_(p.data.astype(ml_dtypes.bfloat16 if form == "bfloat16" else form).astype(np.float32))
    return copy.eval()


@pytest.mark.parametrize("kernels", ["off", "auto"])
@pytest.mark.parametrize("form", ["float32", "bfloat16", "float16", "int8"])
@settings(QUICK, max_examples=15)
@given(SIZES, st.integers(1, 5), st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(0, 99))
def test_other_weights_give_the_logits_of_the_rounded_model(
    form: str, kernels: str, sizes: dict[str, Any], head_dim: int, cuts: list[int], seed: int
) -> None:
    """So all that int8 adds is the rounding of the weights; for any cuts."""
    model = gpt(dtype=np.float32, **{**sizes, "block_size": 3 * sizes["block_size"]}, n_embd=sizes["n_head"] * head_dim)
    ids = np.random.default_rng(seed).integers(0, sizes["vocab_size"], sum(cuts))
    with hg.use_kernels(kernels):
        reader, same, end = model.reader(form), rounded(model, form), 0
        for cut in cuts:
            got = reader.read(ids[end : end + cut])
            end += cut
            close(got, same.next_logits(ids[:end]))


def test_weights_take_the_bytes_of_their_form() -> None:
    model = gpt(dtype=np.float32, n_embd=96, vocab_size=100)
    matrices = sum(p.size for p in model.parameters() if p.ndim == 2)
    vectors = 4 * sum(p.size for p in model.parameters() if p.ndim == 1)
    rows = sum(len(p.data) for p in model.parameters() if p.ndim == 2)
    assert model.reader().nbytes == model.reader("float32").nbytes == 4 * matrices + vectors
    assert model.reader("bfloat16").nbytes == model.reader("float16").nbytes == 2 * matrices + vectors
    assert model.reader("int8").nbytes == matrices + 4 * rows + vectors


def test_a_reader_shares_the_memory_of_its_model_or_does_not_need_it() -> None:
    model = gpt(dtype=np.float32)
    own, others = model.reader(), [model.reader(form) for form in ("bfloat16", "int8")]
    before = [reader.read(np.array([1, 2])) for reader in others]
    for p in model.parameters():
        p.copy_(p.data + np.float32(1))
    again = [model.reader(form).read(np.array([1, 2])) for form in ("bfloat16", "int8")]
    close(own.read(np.array([1, 2])), model.next_logits(np.array([1, 2])))
    for reader, was, now in zip(others, before, again, strict=True):
        assert not np.array_equal(was, now)
        reader.forget()
        assert np.array_equal(reader.read(np.array([1, 2])), was)  # with the weights of then
    fresh = [gpt(dtype=np.float32).reader(form).read(np.array([1, 2])) for form in ("bfloat16", "int8")]
    assert all(np.array_equal(was, new) for was, new in zip(before, fresh, strict=True))  # deterministic


def test_ids_and_weights_that_make_no_sense() -> None:
    model = gpt(dtype=np.float32)
    for ids in ([11], [-1], [3, -2, 4]):
        with pytest.raises(IndexError, match=r"^GPT: ids hold -?\d+ to -?\d+, but there are 11 tokens$"):
            model.reader("int8").read(np.array(ids))
    with pytest.raises(ValueError, match=r"^GPT: there are no ids to read$"):
        model.reader().read(np.array([], np.int64))
    with pytest.raises(UserError, match=r"^generate: weights is 'int4', but it must be one of float32, .*, int8$"):
        model.reader("int4")
    model.transformer.ln_f.weight.copy_(np.full(12, 1e6, np.float32))
    model.reader("float16")  # vectors are not rounded
    model.transformer.wpe.weight.copy_(np.full((12, 12), -7e4, np.float32))
    with pytest.raises(UserError, match=r"^generate: weights is 'float16', but one of them is 7e\+04, and the largest"):
        model.reader("float16")
    assert np.isfinite(model.reader("bfloat16").read(np.array([1]))).all()


def test_generation_is_the_same_with_and_without() -> None:
    model = gpt()
    options = {"temperature": 0.9, "top_k": 7}
    with_cache = list(generate(model, np.array([1, 2, 3]), 20, generator=Generator(4), **options))
    without = list(generate(WithoutReader(model), np.array([1, 2, 3]), 20, generator=Generator(4), **options))
    assert with_cache == without and len(set(with_cache)) > 2


def test_a_position_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the context a piece costs what it is long: the first block sees only the new positions."""
    seen: list[int] = []
    model, linear = gpt(), Matrix.linear
    monkeypatch.setattr(Matrix, "linear", lambda self, x, *bias: seen.append(len(x)) or linear(self, x, *bias))
    list(generate(model, np.array([1, 2, 3]), 5, generator=Generator(4)))
    # four products in each of two blocks, and the logits of one position
    assert seen == ([3] * 8 + [1]) + ([1] * 8 + [1]) * 4


@pytest.mark.parametrize("layer", [nn.SelfAttention, nn.TransformerBlock])
def test_keys_and_values_of_several_sequences(layer: Any) -> None:
    layer = layer(8, 2, causal=True).astype(np.float64)
    x = Tensor(np.random.default_rng(0).standard_normal((3, 7, 8)))
    cache = nn.KeyValueCache(7)
    with hg.no_grad():
        whole = layer(x).numpy()
        pieces = [layer(x[:, start:end], cache=cache).numpy() for start, end in ((0, 2), (2, 3), (3, 7))]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, rtol=0, atol=200 * EPS)
    assert cache.length == 7


def test_errors() -> None:
    layer, x = nn.SelfAttention(8, 2, causal=True), Tensor(np.zeros((1, 3, 8), np.float32))
    with pytest.raises(RuntimeError, match=r"KeyValueCache: it keeps numbers without their history.*no_grad"):
        layer(x, cache=nn.KeyValueCache(5))
    with hg.no_grad():
        with pytest.raises(ValueError, match="a cache is for causal attention without a mask"):
            layer(x, np.ones((1, 1, 3, 3), bool), nn.KeyValueCache(5))
        with pytest.raises(ValueError, match="a cache is for causal attention without a mask"):
            nn.SelfAttention(8, 2)(x, cache=nn.KeyValueCache(5))
        cache = nn.KeyValueCache(5)
        layer(x, cache=cache)
        with pytest.raises(ValueError, match=r"^KeyValueCache: 3 and 3 positions are more than the 5 it has room for$"):
            layer(x, cache=cache)
        said = "KeyValueCache: k has shape (2, 2, 1, 4) and dtype float32, but there is room for 5 positions and those before"
        with pytest.raises(ValueError, match=re.escape(said)):
            layer(Tensor(np.zeros((2, 1, 8), np.float32)), cache=cache)
        with pytest.raises(ValueError, match="dtype float64"):
            layer.astype(np.float64)(Tensor(np.zeros((1, 1, 8))), cache=cache)
    assert cache.length == 3
