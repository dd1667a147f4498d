"""Corpora, the character tokenizer and batches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handgrad.engine.errors import UserError
from handgrad.engine.text import corpora
from handgrad.engine.text.batches import RandomBlocks, consecutive_blocks
from handgrad.engine.text.corpora import describe_text, python_topics, train_validation_split
from handgrad.engine.text.tokenizer import CharacterTokenizer

ANY_CHARACTER = st.characters(exclude_categories=())  # lone surrogates too


class Counter:
    """A generator whose draws are known: low, low + 1 ... below high, over and over."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, tuple[int, ...]]] = []

    def integers(self, low: int, high: int, shape: tuple[int, ...], /) -> np.ndarray:
        self.asked.append((low, high, shape))
        return (low + np.arange(np.prod(shape)) % (high - low)).reshape(shape)


def test_topics_come_in_key_order_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "topics", {"b": "B \r\n", "a": "  A"})
    assert python_topics() == "# a\n  A\n\n# b\nB \r\n\n\n"


def test_python_topics_are_english_in_key_order_with_titles() -> None:
    text = python_topics()
    assert len(text) > 300_000
    assert text.startswith("# assert\n")
    titles = [line[2:] for line in text.splitlines() if line in ("# assert", "# lambda", "# yield")]
    assert titles == ["assert", "lambda", "yield"]
    assert python_topics() == text


def test_describe_text_is_the_sha256_of_utf8() -> None:
    known = describe_text("abc")  # FIPS 180-2, appendix B.1
    assert known.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert describe_text("aé").characters == 2


def test_split_is_contiguous_and_shares_memory() -> None:
    ids = np.arange(11)
    train, validation = train_validation_split(ids)
    assert train.tolist() == list(range(9))
    assert validation.tolist() == [9, 10]
    assert train.base is ids


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_split_refuses_fractions_outside(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction is"):
        train_validation_split(np.arange(10), fraction)


def test_split_refuses_an_empty_part() -> None:
    with pytest.raises(UserError, match=r"has 1 tokens, too few to keep 0.9"):
        train_validation_split(np.arange(1))


@given(st.text(ANY_CHARACTER, min_size=1))
def test_decode_undoes_encode(text: str) -> None:
    tokenizer = CharacterTokenizer.train(text)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64
    assert ids.shape == (len(text),)
    assert tokenizer.decode(ids) == text
    assert [tokenizer.vocabulary[i] for i in ids] == list(text)


@given(st.data())
def test_encode_undoes_decode_in_any_vocabulary_order(data: st.DataObject) -> None:
    vocabulary = data.draw(st.lists(ANY_CHARACTER, min_size=1, max_size=20, unique=True))
    ids = data.draw(st.lists(st.integers(0, len(vocabulary) - 1)))
    tokenizer = CharacterTokenizer(vocabulary)
    assert tokenizer.encode(tokenizer.decode(ids)).tolist() == ids


def test_train_numbers_characters_by_code_point() -> None:
    assert CharacterTokenizer.train("hello").vocabulary == "ehlo"
    assert repr(CharacterTokenizer("ab")) == "CharacterTokenizer('ab')"


def test_unknown_characters_are_named_at_most_five() -> None:
    with pytest.raises(UserError, match=r"knows 2 characters, but the text has unknown character '\\n'$"):
        CharacterTokenizer("ab").encode("a\nb\n")
    with pytest.raises(UserError, match=r"unknown characters 'c', 'd', 'e', 'f', 'g' and 1 more$"):
        CharacterTokenizer("ab").encode("hgfedcab")


@pytest.mark.parametrize(
    ("vocabulary", "message"), [("", "is empty"), ("aba", "'a' twice"), (["a", "bc"], "has 'bc'"), ([""], "has ''")]
)
def test_wrong_vocabularies(vocabulary: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CharacterTokenizer(vocabulary)


@pytest.mark.parametrize(
    ("ids", "message"), [([-1, 0], "has -1"), ([0, 2], "has 2"), ([0.5], "float64"), ([[0]], "shape")]
)
def test_decode_refuses_wrong_ids(ids: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CharacterTokenizer("ab").decode(ids)


@given(st.lists(ANY_CHARACTER, min_size=1, max_size=30, unique=True))
def test_tokenizer_file_round_trip(tmp_path_factory: pytest.TempPathFactory, vocabulary: list[str]) -> None:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = CharacterTokenizer(vocabulary)
    tokenizer.save(folder)
    assert CharacterTokenizer.load(folder) == tokenizer
    assert json.loads((folder / "tokenizer.json").read_text())["model"]["type"] == "character"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{ ", "is not a tokenizer file"),
        ("[]", "is not a tokenizer file"),
        ('{"model": {"type": "character"}}', "is not a tokenizer file"),
        ('{"model": {"type": "BPE", "vocab": {}}}', "of type 'BPE'"),
        ('{"model": {"type": "character", "vocab": {"a": 0, "b": 2}}}', "without gaps"),
        ('{"model": {"type": "character", "vocab": {"ab": 0}}}', "has 'ab'"),
        ('{"model": {"type": "character", "vocab": ["a"]}}', "broken vocabulary"),
        ('{"model": {"type": "character", "vocab": {}}}', "is empty"),
    ],
)
def test_broken_tokenizer_files(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=message):
        CharacterTokenizer.load(tmp_path)


def test_random_blocks_are_contiguous_and_y_is_one_later() -> None:
    generator = Counter()
    x, y = RandomBlocks(np.arange(100, 110, dtype=np.uint16), 4, 7, generator).draw()
    assert generator.asked == [(0, 6, (7,))]  # starts 0 to 5: the last block ends with the text
    assert x[0].tolist() == [100, 101, 102, 103]
    assert x[5].tolist() == [105, 106, 107, 108]
    assert (y == x + 1).all()
    assert x.dtype == y.dtype == np.int64
    assert x.flags.c_contiguous
    assert y.flags.c_contiguous


@pytest.mark.parametrize("make", [lambda ids, t, b: RandomBlocks(ids, t, b, Counter()), consecutive_blocks])
def test_blocks_say_what_is_wrong(make) -> None:
    with pytest.raises(UserError, match=r"^the text has 40 tokens, but a context of 64 needs at least 65$"):
        make(np.arange(40), 64, 2)
    with pytest.raises(UserError, match=r"^the text has 64 tokens"):
        make(np.arange(64), 64, 2)
    make(np.arange(65), 64, 2)
    with pytest.raises(ValueError, match="batch_size is 0"):
        make(np.arange(65), 64, 0)
    with pytest.raises(ValueError, match="block_size is -1"):
        make(np.arange(65), -1, 1)
    with pytest.raises(ValueError, match="dtype float64"):
        make(np.ones(65), 4, 1)


@given(st.integers(2, 60), st.integers(1, 7), st.integers(1, 4))
def test_consecutive_blocks_predict_every_token_once_but_the_tail(count: int, block_size: int, batch_size: int) -> None:
    block_size = min(block_size, count - 1)
    batches = consecutive_blocks(np.arange(count), block_size, batch_size)
    pairs = list(batches)
    assert len(pairs) == len(batches)
    assert all(x.shape == (batch_size, block_size) for x, _ in pairs[:-1])
    assert sum(len(x) for x, _ in pairs) == batches.blocks
    targets = np.concatenate([y.ravel() for _, y in pairs])
    assert targets.tolist() == list(range(1, count - batches.dropped))
    assert 0 <= batches.dropped < block_size
    assert all((y == x + 1).all() for x, y in pairs)
