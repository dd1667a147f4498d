"""Vocabularies: building, order, files, ids; the table of bytes against the dictionary."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handgrad.engine.errors import UserError
from handgrad.engine.text.vocabulary import Vocabulary
from handgrad.engine.text.word_progress import WordProgress
from handgrad.engine.text.words import WordBlocks, unicode_words, whitespace


def build(text: str, **settings: Any) -> Vocabulary:
    return Vocabulary.build([[*text.split(), None]], **{"min_count": 1, **settings})


def test_frequent_words_come_first_and_ties_by_code_point() -> None:
    made = build("b a é c c Z")
    assert made.words == ("c", "Z", "a", "b", "é")
    assert made.counts == (2, 1, 1, 1, 1)
    assert build("Z c é a c b") == made


def test_min_count_and_max_size() -> None:
    assert build("a a a b b c", min_count=2).words == ("a", "b")
    assert build("a a a b b c", max_size=1).words == ("a",)


def test_ids_and_unknown_words() -> None:
    made = build("a a b")
    assert (made.id("a"), made.id("b"), len(made)) == (0, 1, 2)
    assert "a" in made and "x" not in made and None not in made
    ids = made.encode(["b", "x", "a", None, "x", "b"])
    assert ids.dtype == np.int32
    assert ids.tolist() == [1, 0, -1, 1]
    with pytest.raises(KeyError):
        made.id("x")
    assert repr(made) == "<Vocabulary of 2 words, 3 in the text>"


@pytest.mark.parametrize("tokenizer", [whitespace, unicode_words])
def test_nothing_left_is_an_error(tmp_path: Path, tokenizer: Any) -> None:
    path = tmp_path / "text"
    path.write_text(" \n")
    with pytest.raises(UserError, match=r"^the text has no words, so there is no vocabulary$"):
        Vocabulary.build(WordBlocks(path, tokenizer))
    path.write_text("a b b")
    with pytest.raises(UserError, match=r"^no word occurs 5 times, the most frequent one 2: lower min_count$"):
        Vocabulary.build(WordBlocks(path, tokenizer))


@pytest.mark.parametrize("settings", [{"min_count": 0}, {"max_size": 0}])
def test_limits_must_be_positive(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        build("a", **settings)


def test_words_and_counts_must_fit() -> None:
    with pytest.raises(ValueError, match="there are 1 counts"):
        Vocabulary(["a", "b"], [1])
    with pytest.raises(ValueError, match="words has 'a' twice"):
        Vocabulary(["a", "b", "a"], [1, 1, 1])


# ---- bytes


@given(
    text=st.text(st.sampled_from("abé\u4e2d \t\n\r"), max_size=60),
    size=st.integers(1, 20),
    documents=st.sampled_from(["lines", "files"]),
)
def test_bytes_and_strings_give_the_same(tmp_path_factory: Any, text: str, size: int, documents: Any) -> None:
    path = tmp_path_factory.mktemp("text") / "text"
    path.write_bytes(text.encode())
    fast = WordBlocks(path, whitespace, documents, size)
    slow = list(WordBlocks(path, lambda piece: whitespace(piece), documents, size))
    if not text.split():
        return
    made = Vocabulary.build(fast, min_count=1, max_size=5)
    assert made == Vocabulary.build(slow, min_count=1, max_size=5)
    got, want = (np.concatenate(list(made.encode_blocks(blocks))) for blocks in (fast, slow))
    assert once(got) == once(want)


def once(ids: np.ndarray) -> list[int]:
    """Without documents that are empty."""
    listed = ids.tolist()
    return [i for k, i in enumerate(listed) if i >= 0 or (k and listed[k - 1] >= 0)]


def test_many_words_grow_the_table(tmp_path: Path) -> None:
    text = " ".join(f"{k * k:x}" for k in range(20_000))
    (tmp_path / "text").write_text(text)
    blocks = WordBlocks(tmp_path / "text")
    made = Vocabulary.build(blocks, min_count=1)
    assert made == build(text)
    assert np.concatenate(list(made.encode_blocks(blocks)))[:-1].tolist() == made.encode(list(text.split())).tolist()


@pytest.mark.parametrize("words", [["New York", "is"], ["York is", "is"], ["Yo\rrk", "is"]])
def test_a_word_that_blanks_would_cut_is_never_found_among_bytes(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "text").write_text("New York is new")
    made = Vocabulary(words, [1, 1])
    assert np.concatenate(list(made.encode_blocks(WordBlocks(tmp_path / "text")))).tolist() == [1, -1]


# ---- files


@given(
    st.lists(
        st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda w: not any(map(str.isspace, w))), min_size=1
    )
)
def test_save_and_load(tmp_path_factory: Any, text: list[str]) -> None:
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    made = Vocabulary.build([[*text]], min_count=1)
    made.save(path)
    assert Vocabulary.load(path) == made


def test_the_file_is_that_of_vocab_count(tmp_path: Path) -> None:
    build("a b b").save(tmp_path / "vocab.txt")
    assert (tmp_path / "vocab.txt").read_bytes() == b"b 2\na 1\n"


@pytest.mark.parametrize("word", ["a b", "", "a\u00a0b"])
def test_words_with_blanks_cannot_be_saved(tmp_path: Path, word: str) -> None:
    with pytest.raises(UserError, match="must be without white space"):
        Vocabulary([word], [1]).save(tmp_path / "vocab.txt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty, but a vocabulary must have at least one word"),
        (b"a 1\nb\n", "line 2 of .* is 'b', but it must be a word, a space and its count"),
        (b"a -1\n", "line 1 of"),
        (b"a 99999999999999999999\n", "line 1 of"),
        (b"\n", "line 1 of"),
        (b"a 1\na 1\n", "is not a vocabulary: .*'a' twice"),
        (b"\xff 1\n", "is not UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, data: bytes | None, message: str) -> None:
    if data is not None:
        (tmp_path / "vocab.txt").write_bytes(data)
    with pytest.raises(UserError, match=message):
        Vocabulary.load(tmp_path / "vocab.txt")


@pytest.mark.parametrize("tokenizer", [whitespace, unicode_words])
def test_progress_says_how_many_words_were_read(
    tmp_path: Path, tokenizer: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "text"
    path.write_text("a b\n" * 300)
    blocks = WordBlocks(path, tokenizer, block_size=400)
    Vocabulary.build(blocks)
    assert capsys.readouterr().err == ""  # too quick for a line
    seconds = iter(range(0, 1000, 3))
    monkeypatch.setattr(WordProgress.__init__, "__defaults__", (lambda: float(next(seconds)),))
    Vocabulary.build(blocks)
    lines = capsys.readouterr().err.splitlines()
    assert lines and re.fullmatch(r"counting words: 600 words  \d+ words/s", lines[-1])
    assert len(lines) > 1 and not lines[0].startswith("counting words: 600 ")
    Vocabulary.build(blocks, progress=False)
    assert capsys.readouterr().err == ""
