"""Words as tokens: the rule for spaces, and the law that decoding loses no token."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handgrad.engine.errors import UserError
from handgrad.engine.text.tokenizers import load_tokenizer, train_tokenizer
from handgrad.engine.text.word_tokenizer import UNKNOWN, WordTokenizer

QUICK = settings(deadline=None, derandomize=True, max_examples=200)
TEXT = (
    'He said: "don\'t go (now)!"\n\nA well-known 1/2-truth \u2014 3.14% of [it]; '
    "\u201cyes\u201d, \u4e2d\u6587 e\u0301t _a_ <unk> ~"
)
WHOLE = WordTokenizer.train(TEXT)


def test_tokens_and_spaces() -> None:
    tokenizer = WordTokenizer.train("a b")
    assert [tokenizer.vocabulary[i] for i in tokenizer.encode("a  b\tzebra")] == ["a", "b", UNKNOWN]
    assert WHOLE.decode(WHOLE.encode("He said: don't go (now)!\nA well-known truth, yes.")) == (
        "He said: don't go (now)!\nA well-known truth, yes."
    )


@QUICK
@given(st.lists(st.integers(0, len(WHOLE) - 1), max_size=12), st.integers(0, 12))
def test_no_token_is_lost_and_streams_agree(ids: list[int], cut: int) -> None:
    text = WHOLE.decode(ids)
    assert WHOLE.encode(text).tolist() == ids
    assert WHOLE.decode(ids[:cut]) + "".join(WHOLE.stream(ids[cut:], after=ids[:cut])) == text


def test_the_most_frequent_words_stay() -> None:
    tokenizer = WordTokenizer.train("c b b a a a d", max_size=3)
    assert tokenizer.vocabulary == [UNKNOWN, "a", "b"]
    assert WordTokenizer.train("c b b a a a d", min_count=2) == tokenizer
    assert tokenizer.encode("a c").tolist() == [1, tokenizer.unknown_id]


def test_files(tmp_path: Path) -> None:
    WHOLE.save(tmp_path)
    assert load_tokenizer(tmp_path) == WHOLE
    for vocabulary, sentence in (
        ({"a": 0}, "vocabulary lacks <unk>"),
        ({UNKNOWN: 0, "a b": 1}, "'a b', but that is not one token"),
        ({UNKNOWN: 0, "a": 2}, "without gaps"),
        ([], "lacks <unk>|broken vocabulary"),
    ):
        (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordLevel", "vocab": vocabulary}}))
        with pytest.raises(UserError, match=sentence):
            load_tokenizer(tmp_path)


def test_bad_input() -> None:
    with pytest.raises(UserError, match="no word of the text stands in it at least 2 times"):
        WordTokenizer.train("a b", min_count=2)
    with pytest.raises(UserError, match="vocab_size is 1, but a word tokenizer needs at least 2"):
        WordTokenizer.train("a b", 1)
    with pytest.raises(UserError, match="level is 'letter', but it must be one of character, bpe, word"):
        train_tokenizer("a b", "letter")
    with pytest.raises(UserError, match="vocab_size is for the levels bpe and word"):
        train_tokenizer("a b", "character", 5)
    with pytest.raises(ValueError, match="it must be integers"):
        WHOLE.decode(np.zeros(2))
