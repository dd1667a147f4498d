"""Sampling: what temperature, top-k and top-p mean, by brute force; seeds; streaming."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handgrad.engine.cli import generate as command
from handgrad.engine.errors import UserError
from handgrad.engine.models.folder import save_model
from handgrad.engine.models.generation import check_sampling, generate, probabilities, reader_of
from handgrad.engine.models.gpt import GPT, GPTConfig
from handgrad.engine.models.lstm import LSTMLanguageModel
from handgrad.engine.random import Generator
from handgrad.engine.text.tokenizer import CharacterTokenizer

QUICK = settings(deadline=None, derandomize=True, max_examples=100)
logits = st.lists(st.integers(-40, 40), min_size=1, max_size=7).map(lambda x: np.array(x, np.float32) / 4)
PLAIN = {"temperature": 1.0, "top_k": None, "top_p": None}


class Fixed:
    """A model whose next token depends on nothing but the length of what it saw; records it."""

    def __init__(self, logits: Any) -> None:
        self.logits, self.seen = np.asarray(logits, np.float32), []

    def next_logits(self, ids: np.ndarray) -> np.ndarray:
        self.seen.append(ids.tolist())
        return self.logits


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype(np.longdouble) - x.max())
    return (e / e.sum()).astype(np.float64)


@QUICK
@given(logits, st.floats(0.05, 5.0))
def test_temperature_divides_the_logits(x: np.ndarray, temperature: float) -> None:
    p = probabilities(x, temperature=temperature, top_k=None, top_p=None)
    assert p.dtype == np.float64
    assert np.allclose(p, softmax(x.astype(np.float64) / temperature), rtol=1e-12, atol=1e-300)


@QUICK
@given(logits, st.one_of(st.none(), st.integers(1, 9)), st.one_of(st.none(), st.floats(0.01, 1.0)))
def test_temperature_zero_is_argmax(x: np.ndarray, k: int | None, top_p: float | None) -> None:
    p = probabilities(x, temperature=0.0, top_k=k, top_p=top_p)
    assert p.tolist() == [float(i == int(np.argmax(x))) for i in range(x.size)]
    chosen = set(itertools.islice(generate(Fixed(x), np.array([0]), 5, temperature=0.0, top_k=k, top_p=top_p), 5))
    assert chosen == {int(np.argmax(x))}


@QUICK
@given(logits, st.integers(1, 9))
def test_top_k_keeps_the_k_likeliest_and_ties_with_the_last(x: np.ndarray, k: int) -> None:
    kept = [v >= sorted(x, reverse=True)[min(k, x.size) - 1] for v in x]
    want = np.where(kept, softmax(x), 0.0)
    assert np.allclose(probabilities(x, temperature=1.0, top_k=k, top_p=None), want / want.sum(), rtol=1e-12)


@QUICK
@given(logits, st.floats(0.01, 0.999))
def test_top_p_keeps_the_fewest_likeliest_that_reach_p(x: np.ndarray, top_p: float) -> None:
    full, got = softmax(x), probabilities(x, temperature=1.0, top_k=None, top_p=top_p)
    kept = np.flatnonzero(got)
    best = [max(sum(full[list(c)]) for c in itertools.combinations(range(x.size), n)) for n in range(1, x.size + 1)]
    sizes = [n for n, mass in enumerate(best, 1) if mass >= top_p - 1e-12]
    assert abs(len(kept) - sizes[0]) <= (1 if abs(np.sort(full)[::-1][: sizes[0]].sum() - top_p) < 1e-9 else 0)
    assert full[kept].min() >= np.delete(full, kept).max(initial=0.0) - 1e-15
    assert np.allclose(got[kept], full[kept] / full[kept].sum(), rtol=1e-12)


def test_top_k_comes_before_top_p_and_temperature_before_top_p() -> None:
    x = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    p = probabilities(x, temperature=1.0, top_k=2, top_p=0.62)  # 0.625 and 0.375 of what top_k left
    assert np.allclose(p, [1.0, 0.0, 0.0, 0.0])
    p = probabilities(x, temperature=0.5, top_k=None, top_p=0.68)  # squares: 0.685, 0.247 ...
    assert np.allclose(p, [1.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("x", [[1000.0, 999.0], [-1e30, 0.0], [-np.inf, 0.0, 0.0], [3.0]])
def test_extreme_logits_stay_probabilities(x: list[float]) -> None:
    for options in (PLAIN, {**PLAIN, "temperature": 1e-6}, {**PLAIN, "top_k": 1}, {**PLAIN, "top_p": 0.5}):
        p = probabilities(np.array(x, np.float32), **options)
        assert np.isclose(p.sum(), 1.0)
        assert p[int(np.argmax(x))] > 0


@pytest.mark.parametrize("x", [[np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf]])
def test_logits_without_a_largest_are_a_sentence(x: list[float]) -> None:
    with pytest.raises(
        UserError, match=r"^generate: the model's largest logit is -?(nan|inf), so its weights are of no use"
    ):
        probabilities(np.array(x, np.float32), **PLAIN)


def test_a_tiny_temperature_is_argmax_without_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p = probabilities(np.array([0.0, 2.0, 1.0], np.float32), temperature=1e-320, top_k=None, top_p=None)
    assert p.tolist() == [0.0, 1.0, 0.0]


def test_draws_follow_the_distribution() -> None:
    x, n = np.log(np.array([0.5, 0.25, 0.15, 0.1])), 3000
    tokens = np.fromiter(generate(Fixed(x), np.array([0]), n, generator=Generator(3)), int)
    counts, expected = np.bincount(tokens, minlength=4), n * np.array([0.5, 0.25, 0.15, 0.1])
    assert np.sum((counts - expected) ** 2 / expected) < 3 + 5 * math.sqrt(6)


def test_what_has_no_weight_is_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the draw is the largest that there is and rounding leaves the sum below it, or the smallest."""
    for drawn in (0.0, 1.0 - 2.0**-32, 1.0 - 2.0**-53):
        monkeypatch.setattr(Generator, "uniform", lambda *_, drawn=drawn: np.array(drawn))
        for x in (
            [-np.inf, 1.0, -np.inf],
            [0.0, 0.1, 0.2, -np.inf],
            [0.0] * 10 + [-np.inf],
        ):  # ten tenths are less than 1
            (token,) = generate(Fixed(x), np.array([0]), 1)
            assert np.isfinite(x[token])


def test_seeds_reproduce_and_differ() -> None:
    def run(seed: int) -> list[int]:
        return list(generate(Fixed(np.zeros(50)), np.array([0]), 30, generator=Generator(seed)))

    assert run(1) == run(1) != run(2)
    g = Generator(1)
    first = list(generate(Fixed(np.zeros(50)), np.array([0]), 10, generator=g))
    assert first + list(generate(Fixed(np.zeros(50)), np.array([0]), 20, generator=g)) == run(1)


def test_tokens_are_yielded_as_drawn_and_seen_by_the_next_draw() -> None:
    model, prompt = Fixed(np.zeros(9)), np.array([4, 5])
    stream: Iterator[int] = generate(model, prompt, 1000)
    drawn = [next(stream) for _ in range(3)]
    assert len(model.seen) == 3
    assert model.seen == [[4, 5], [4, 5, drawn[0]], [4, 5, *drawn[:2]]]
    assert prompt.tolist() == [4, 5]
    assert list(generate(model, prompt, 0)) == []
    assert all(type(t) is int for t in drawn)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature": -0.5}, "temperature is -0.5"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_k": -3}, "top_k is -3"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_p": math.nan}, "top_p is nan"),
    ],
)
def test_senseless_options_are_sentences(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=rf"^generate: {sentence}, but it must be"):
        check_sampling(**{**PLAIN, **options})
    with pytest.raises(UserError, match=sentence):
        next(generate(Fixed([0.0]), np.array([0]), 1, **options))


def test_an_empty_prompt_is_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"^generate: the prompt is empty"):
        next(generate(Fixed([0.0]), np.array([], np.int64), 1))


class Reading:
    """A reader that says how much it read."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def read(self, ids: np.ndarray) -> np.ndarray:
        self.seen.append(len(ids))
        return np.zeros(3, np.float32)


def test_a_reader_is_a_model_too() -> None:
    reader = Reading()
    assert len(list(generate(reader, np.array([0, 1]), 3))) == 3
    assert reader.seen == [2, 1, 1] and reader_of(reader) is reader


def test_what_cannot_be_read_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"^generate: a dict cannot go on with a text, it has no reader$"):
        next(generate({}, np.array([0]), 1))
    for model in (Fixed([0.0]), Reading()):
        with pytest.raises(UserError, match=r"^generate: weights is 'int8', but a \w+ reads its own as they are$"):
            reader_of(model, "int8")
    model = LSTMLanguageModel(5, 4, 4, 1)
    assert reader_of(model, "float32").read(np.array([1])).shape == (5,)
    with pytest.raises(UserError, match=r"^generate: weights is 'int8', but an LSTMLanguageModel reads its own"):
        reader_of(model, "int8")


def test_the_command_writes_with_other_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same text from float32, from fewer bits a text; and how many bytes they take, on stderr."""
    tokenizer = CharacterTokenizer(" abcdefg")
    model = GPT(GPTConfig(len(tokenizer), 8, 1, 2, 8), generator=Generator(3))
    save_model(tmp_path, model, tokenizer)
    said = {}
    for weights in (None, "float32", "bfloat16", "float16", "int8"):
        options = {"temperature": 1.0, "top_k": None, "top_p": None, "seed": 7, "weights": weights}
        command.run(tmp_path, "abc", 20, **options)
        said[weights], err = capsys.readouterr()
        assert len(said[weights]) == len("abc") + 20 + 1
        line = f"handgrad: weights in {weights}: {model.reader(weights).nbytes / 1e6:.3g} MB, "
        assert line in err if weights else err == ""
    assert said[None] == said["float32"]
