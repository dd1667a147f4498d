"""Reading piece by piece with keys and values kept: the same as reading the whole, for any cuts."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import handgrad as hg
from handgrad import Tensor, nn
from handgrad.engine.models.generation import generate
from handgrad.engine.models.gpt import GPT, GPTConfig
from handgrad.engine.random import Generator

BLOCK = 12
EPS = float(np.finfo(np.float64).eps)


def gpt(**changes: Any) -> GPT:
    config = {"vocab_size": 11, "block_size": BLOCK, "n_layer": 2, "n_head": 3, "n_embd": 12, **changes}
    model = GPT(GPTConfig(**config), generator=Generator(1)).astype(np.float64)
    for p in model.parameters():  # larger than initial weights, so that every position matters
        p.copy_(p.data * 5 if p.ndim == 2 else p.data + 0.3)
    return model


class WithoutReader:
    def __init__(self, model: GPT) -> None:
        self.next_logits = model.next_logits


@pytest.mark.parametrize("kernels", ["off", "force"])
@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 99))
def test_any_cuts_give_the_logits_of_the_whole(kernels: str, cuts: list[int], seed: int) -> None:
    """Also where the text grows out of the context: then the window moves on."""
    model = gpt()
    ids = np.random.default_rng(seed).integers(0, 11, sum(cuts))
    reader, end = model.reader(), 0
    with hg.use_kernels(kernels):
        for cut in cuts:
            got = reader.read(ids[end : end + cut])
            end += cut
            want = model.next_logits(ids[:end])
            assert np.abs(got - want).max() <= 1000 * EPS * np.abs(want).max()


def test_generation_is_the_same_with_and_without() -> None:
    model = gpt()
    options = {"temperature": 0.9, "top_k": 7}
    with_cache = list(generate(model, np.array([1, 2, 3]), 20, generator=Generator(4), **options))
    without = list(generate(WithoutReader(model), np.array([1, 2, 3]), 20, generator=Generator(4), **options))
    assert with_cache == without and len(set(with_cache)) > 2


def test_a_position_is_computed_once() -> None:
    """Within the context a piece costs what it is long: the first block sees only the new positions."""
    model, seen = gpt(), []
    block = model.transformer.h[0]
    forward = block.forward
    block.forward = lambda x, mask=None, cache=None: seen.append(x.shape[1]) or forward(x, mask, cache)
    list(generate(model, np.array([1, 2, 3]), 5, generator=Generator(4)))
    assert seen == [3, 1, 1, 1, 1]


def test_keys_and_values_of_several_sequences() -> None:
    layer = nn.SelfAttention(8, 2, causal=True).astype(np.float64)
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
