"""Tokenizers, stop words and blocks of words from files."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handgrad.engine.errors import UserError
from handgrad.engine.text.words import (
    WordBlocks,
    characters,
    chinese,
    stop_words,
    unicode_words,
    whitespace,
    without,
)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a b\tc\nd", ["a", "b", "c", "d"]),
        ("  a  ", ["a"]),
        ("a\r\nb a\rb", ["a", "b", "ab"]),  # carriage returns are ignored, inside of words too
        ("a\u00a0b c\x0bd\u3000e", ["a\u00a0b", "c\x0bd\u3000e"]),  # other white space is part of a word
        ('Don\'t, "stop"!', ["Don't,", '"stop"!']),
        (" \n\t", []),
    ],
)
def test_whitespace_cuts_as_the_stanford_programs_do(text: str, want: list[str]) -> None:
    assert whitespace(text) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Don't STOP, it\u2019s 'quoted'!", ["don't", "stop", "it's", "quoted"]),
        ("well-known snake_case 3rd 1,000", ["well", "known", "snake", "case", "3rd", "1", "000"]),
        ("Größe café cafe\u0301", ["größe", "café", "cafe\u0301"]),  # composed or not, one word
        ("हिन्दी में", ["हिन्दी", "में"]),  # vowel signs and virama are marks, not letters
        ("Мир и Ἀθῆναι", ["мир", "и", "ἀθῆναι"]),
        ("-- ... '", []),
    ],
)
def test_words_of_any_script(text: str, want: list[str]) -> None:
    assert unicode_words(text) == want


def test_words_keep_capitals_when_told() -> None:
    assert unicode_words("Don't STOP", lower=False) == ["Don't", "STOP"]


def test_characters_cut_chinese_and_keep_the_rest_whole() -> None:
    assert characters("我爱Python 3。x_y,\U00020000") == ["我", "爱", "Python", "3", "x", "y", "\U00020000"]


def test_chinese_is_segmented_by_jieba() -> None:
    pytest.importorskip("jieba")
    assert chinese("我来到北京清华大学,学NLP。") == ["我", "来到", "北京", "清华大学", "学", "NLP"]


def test_chinese_without_jieba_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "jieba":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"needs jieba: pip install 'handgrad\[zh\]'$"):
        chinese("我")


def test_stop_words_are_left_out() -> None:
    assert without(stop_words("en"), unicode_words)("The cat sat on a mat, didn't it?") == [
        "cat",
        "sat",
        "mat",
        "didn't",
    ]
    assert without(stop_words("zh"), characters)("我的书") == ["书"]
    assert without({"b"}, whitespace)("a b B") == ["a", "B"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_stop_words_are_what_a_tokenizer_gives(language: Any) -> None:
    for word in stop_words(language):
        assert unicode_words(word) == [word]


def test_no_stop_words_for_other_languages() -> None:
    with pytest.raises(UserError, match="there is no list of stop words for 'xx'"):
        stop_words("xx")  # type: ignore[arg-type]


# ---- files


def flat(blocks: Any) -> list[str | None]:
    return [word for block in blocks for word in block]


def write(folder: Path, *texts: bytes) -> list[Path]:
    paths = [folder / f"{i}.txt" for i in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text)
    return paths


def test_documents_are_lines_or_files(tmp_path: Path) -> None:
    paths = write(tmp_path, b"a b\nc\n", b"d")
    assert flat(WordBlocks(paths)) == ["a", "b", None, "c", None, None, "d", None]
    assert flat(WordBlocks(paths, documents="files")) == ["a", "b", "c", None, "d", None]
    assert flat(WordBlocks(str(paths[1]))) == ["d", None]


def test_blocks_can_be_read_again(tmp_path: Path) -> None:
    blocks = WordBlocks(write(tmp_path, b"a b"))
    assert flat(blocks) == flat(blocks) == ["a", "b", None]


@given(
    text=st.text(st.sampled_from("ab é\u4e2d\t\n\r"), max_size=40),
    size=st.integers(1, 20),
    tokenizer=st.sampled_from([whitespace, unicode_words, characters]),
    documents=st.sampled_from(["lines", "files"]),
)
def test_the_block_size_changes_nothing(
    tmp_path_factory: Any, text: str, size: int, tokenizer: Any, documents: Any
) -> None:
    paths = write(tmp_path_factory.mktemp("text"), text.encode())
    want = [*tokenizer(text), None] if documents == "files" else []
    if documents == "lines":
        for line in text.split("\n"):
            want += [*tokenizer(line), None]
    got = flat(WordBlocks(paths, tokenizer, documents, size))
    assert without_repeats(got) == without_repeats(want)


def without_repeats(stream: list[str | None]) -> list[str | None]:
    """An empty document has no windows, so two ends in a row are as good as one."""
    return [word for k, word in enumerate(stream) if word is not None or (k and stream[k - 1] is not None)]


def test_reads_a_block_at_a_time(tmp_path: Path) -> None:
    blocks = WordBlocks(write(tmp_path, b"word " * 10_000), block_size=1000)
    assert max(len(block) for block in blocks) <= 200


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"good\n" * 3 + b"a\xffb", r"0\.txt is not UTF-8 \(byte 0xff at offset 16\)"),
        (None, r"0\.txt cannot be read: No such file"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, data: bytes | None, message: str) -> None:
    path = tmp_path / "0.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError, match=message):
        flat(WordBlocks(path, block_size=5))


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="documents is 'pages', but it must be 'lines' or 'files'"):
        WordBlocks(tmp_path, documents="pages")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="block_size is 0"):
        WordBlocks(tmp_path, block_size=0)
