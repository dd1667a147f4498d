"""Byte-pair encoding: the definition (count everything anew after each merge), published results, and the laws."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from handgrad.engine.errors import UserError
from handgrad.engine.text import bpe
from handgrad.engine.text.bpe import BytePairTokenizer
from handgrad.engine.text.tokenizers import load_tokenizer

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "tokenizers"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the tokenizer data in {DATA}")
QUICK = settings(deadline=None, derandomize=True, max_examples=60)
few_letters = st.text("ab \u00e9\n'", max_size=60)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def by_definition(text: str, tokens: int) -> list[tuple[bytes, bytes]]:
    """Sennrich's algorithm, with all pairs counted anew after each merge, until there are that many new tokens; ties: the
    greater bytes. Two merges may give the same token.
    """
    words = Counter(tuple(bytes([b]) for b in word.encode()) for word in bpe._words(text))
    learned = []
    while len({a + b for a, b in learned}) < tokens:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, count in words.items():
            for k in range(len(word) - 1):
                pairs[word[k], word[k + 1]] += count
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        learned.append(best)
        after: Counter[tuple[bytes, ...]] = Counter()
        for word, count in words.items():
            new, k = [], 0
            while k < len(word):
                join = word[k : k + 2] == best
                new.append(best[0] + best[1] if join else word[k])
                k += 1 + join
            after[tuple(new)] += count
        words = after
    return learned


@QUICK
@given(few_letters, st.integers(0, 12))
@example("abc abc ab bc abc", 6)
def test_training_is_the_definition(text: str, tokens: int) -> None:
    assert BytePairTokenizer.train(text, 256 + tokens).merges == by_definition(text, tokens)


@QUICK
@given(few_letters, any_text)
def test_what_was_encoded_is_decoded_and_streamed(training: str, text: str) -> None:
    tokenizer = BytePairTokenizer.train(training, 280)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64 and tokenizer.decode(ids) == text
    assert "".join(tokenizer.stream(ids.tolist())) == text
    assert tokenizer.decode_bytes(ids) == text.encode()


@QUICK
@given(st.lists(st.integers(0, 299), max_size=12))
def test_any_ids_stream_as_they_decode(ids: list[int]) -> None:
    tokenizer = BytePairTokenizer.train("\u00e9\u4e2d\U0001f600 the cat sat on the mat " * 3, 300)
    ids = [index for index in ids if index < len(tokenizer)]
    assert "".join(tokenizer.stream(ids)) == tokenizer.decode(ids)


def test_a_character_is_streamed_when_its_last_byte_has_come() -> None:
    tokenizer = BytePairTokenizer.train("", 256)
    assert list(tokenizer.stream(tokenizer.encode("a\u4e2d").tolist())) == ["a", "", "", "\u4e2d", ""]
    assert list(tokenizer.stream(tokenizer.encode("\u4e2d")[:2].tolist())) == ["", "", "\ufffd"]


def test_encoding_joins_in_the_order_of_training() -> None:
    """abc: "bc" was learned first, so a + bc, although "ab" is a token too."""
    tokenizer = BytePairTokenizer.train("bc bc bc ab ab", 261)
    assert tokenizer.merges[:2] == [(b"b", b"c"), (b"a", b"b")]
    assert [tokenizer.vocabulary[i] for i in tokenizer.encode("abc")] == [b"a", b"bc"]


def test_special_tokens_are_whole_and_only_themselves() -> None:
    tokenizer = BytePairTokenizer.train("ab<|end|>ab<|end|>ab", 262, ["<|end|>", "<|end|><|end|>"])
    assert tokenizer.encode("<|end|>").tolist() == [0]
    assert tokenizer.encode("<|end|><|end|>").tolist() == [1]  # the longest first
    ids = tokenizer.encode("ab<|end|>ab").tolist()
    assert ids.count(0) == 1 and tokenizer.decode(ids) == "ab<|end|>ab"
    assert not {0, 1} & set(tokenizer.encode("<|end ab |>").tolist())
    assert not any(b"<" in a + b for a, b in tokenizer.merges)  # not learned from


@needs_data
def test_stanfords_reference_merges() -> None:
    """CS336's corpus, its merges in their order, its vocabulary."""
    folder = DATA / "bpe_training_reference"
    lines = (folder / "train-bpe-reference-merges.txt").read_text(encoding="utf-8").split("\n")
    vocabulary = json.loads((folder / "train-bpe-reference-vocab.json").read_text(encoding="utf-8"))
    tokenizer = BytePairTokenizer.train(
        (folder / "corpus.en").read_text(encoding="utf-8"), len(vocabulary), ["<|endoftext|>"]
    )
    assert [f"{bpe._shown(a)} {bpe._shown(b)}" for a, b in tokenizer.merges] == [line for line in lines if line]
    mine = {token if token == b"<|endoftext|>" else bpe._shown(token).encode() for token in tokenizer.vocabulary}
    assert mine == {token.encode() for token in vocabulary}


@needs_data
def test_gpt2s_published_vectors() -> None:
    tokenizer = BytePairTokenizer.from_gpt2_files(DATA / "gpt2" / "encoder.json", DATA / "gpt2" / "vocab.bpe")
    vectors = json.loads((DATA / "gpt2" / "vectors.json").read_text(encoding="utf-8"))["vectors"]
    assert len(tokenizer) == 50257 and len(vectors) == 20
    for vector in vectors:
        assert tokenizer.encode(vector["text"]).tolist() == vector["ids"]
        assert tokenizer.decode(vector["ids"]) == vector["text"]
    assert tokenizer.encode("<|endoftext|>").tolist() == [50256]


def test_files(tmp_path: Path) -> None:
    tokenizer = BytePairTokenizer.train("the \u00e9t\u00e9 cat " * 5, 270, ["<|end|>"])
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path) == tokenizer
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    for spoil, sentence in {
        "gap": (lambda m: m["vocab"].update(zzz=999), "without gaps"),
        "strange": (lambda m: m["merges"].append(["a", "\u4e2d"]), "stands for no byte"),
        "unknown": (lambda m: m["merges"].append(["z", "q"]), "vocabulary lacks b'zq'"),
        "three": (lambda m: m["merges"].append("a b c"), "'a b c' is not a pair"),
        "no merges": (lambda m: m.pop("merges"), "must have model.merges"),
    }.values():
        broken = json.loads(json.dumps(content))
        spoil(broken["model"])
        path.write_text(json.dumps(broken))
        with pytest.raises(UserError, match=sentence) as caught:
            load_tokenizer(tmp_path)
        assert str(path) in str(caught.value)
    path.write_text("[]")
    with pytest.raises(UserError, match=r"is not a tokenizer file: it must be JSON with model.type and model.vocab"):
        load_tokenizer(tmp_path)
    path.write_text('{"model": {"type": "Unigram", "vocab": []}}')
    with pytest.raises(UserError, match="holds a tokenizer of type 'Unigram', but known are character, BPE, WordLevel"):
        load_tokenizer(tmp_path)


def test_bad_input() -> None:
    with pytest.raises(UserError, match="vocab_size is 255, but byte-pair encoding needs at least 256"):
        BytePairTokenizer.train("a", 255)
    tokenizer = BytePairTokenizer.train("a", 256)
    with pytest.raises(UserError, match="half of a surrogate pair"):
        tokenizer.encode("a\ud800")
    with pytest.raises(ValueError, match="decode: ids has 256, but the tokenizer knows 256 tokens"):
        tokenizer.decode([256])
