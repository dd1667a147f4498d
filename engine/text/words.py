"""Words: how a text is cut into them, and how files become blocks of words without being held in memory.

A tokenizer is any function from a piece of text to its words. A piece is cut at white space, so no word may hold any.
A block is a list of words in which None ends a document; windows of co-occurrence never reach over such an end.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ..errors import UserError
from ..files import StrPath
from .stop_words import CHINESE, ENGLISH

__all__ = [
    "Block",
    "Tokenizer",
    "WordBlocks",
    "characters",
    "chinese",
    "stop_words",
    "unicode_words",
    "whitespace",
    "without",
]

Tokenizer = Callable[[str], Iterable[str]]
Block = list[str | None]

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"


def whitespace(text: str) -> list[str]:
    """Cut at spaces, tabs and newlines, and nowhere else, and ignore carriage returns: the words of Stanford's programs.

    (Those also cut a word that is longer than 999 bytes; here it stays whole.)
    """
    return re.findall(r"[^ \t\n]+", text.replace("\r", ""))


def unicode_words(text: str, *, lower: bool = True) -> list[str]:
    """Letters, digits and marks of any script as words, apostrophes inside of them too: "Don't stop" is don't, stop.

    Text that separates no words, such as Chinese, gives one long word: take `chinese` or `characters` for it.
    """
    found = word_pattern().findall(text.lower() if lower else text)
    return [word.replace("\u2019", "'") for word in found]


def chinese(text: str) -> list[str]:
    """Segment Chinese text with jieba; what holds no letter or digit is left out. UserError where jieba is missing."""
    try:
        import jieba  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError("cutting Chinese text into words needs jieba: pip install 'handgrad[zh]'") from None
    jieba.setLogLevel(60)  # it would report on stderr that it loads its dictionary
    return [word for word in jieba.cut(text) if any(map(str.isalnum, word))]


def characters(text: str) -> list[str]:
    """Every Chinese character as a word, and every other run of letters and digits: needs no dictionary."""
    return re.findall(rf"[{_HAN}]|(?:(?![{_HAN}_])\w)+", text)


def stop_words(language: Literal["en", "zh"]) -> frozenset[str]:
    """Return the words that hold a language's sentences together and say little about their subject, in lower case."""
    known = {"en": ENGLISH, "zh": CHINESE}
    if language not in known:
        raise UserError(f"there is no list of stop words for {language!r}, but for 'en' and 'zh': give your own")
    return frozenset(known[language].split())


def without(stop: Collection[str], tokenizer: Tokenizer) -> Tokenizer:
    """Return a tokenizer that leaves out the words of `stop`: `without(stop_words("en"), unicode_words)`."""
    left_out = frozenset(stop)
    return lambda text: [word for word in tokenizer(text) if word not in left_out]


@dataclass(frozen=True)
class WordBlocks:
    """The words of UTF-8 files as blocks, from the beginning again whenever it is iterated.

    documents: "lines", as for Stanford's programs (each newline ends a document), or "files". block_size: bytes read at a
    time; memory stays at some ten times that, unless there is no white space to cut at. The words do not depend on it.
    Raises UserError for a file that is missing, unreadable or not UTF-8.
    """

    paths: tuple[Path, ...]
    tokenizer: Tokenizer = whitespace
    documents: Literal["lines", "files"] = "lines"
    block_size: int = 1 << 18

    def __init__(
        self,
        paths: StrPath | Iterable[StrPath],
        tokenizer: Tokenizer = whitespace,
        documents: Literal["lines", "files"] = "lines",
        block_size: int = 1 << 18,
    ) -> None:
        if documents not in ("lines", "files"):
            raise UserError(f"WordBlocks: documents is {documents!r}, but it must be 'lines' or 'files'")
        if block_size < 1:
            raise ValueError(f"WordBlocks: block_size is {block_size}, but it must be at least 1")
        several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        for name, value in (
            ("paths", tuple(map(Path, several))), ("tokenizer", tokenizer),
            ("documents", documents), ("block_size", block_size),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    def __iter__(self) -> Iterator[Block]:
        for piece in self.pieces():
            if piece is None:
                yield [None]
                continue
            *lines, last = str(piece, "utf-8").split("\n") if self.documents == "lines" else [str(piece, "utf-8")]
            block: Block = []
            for line in lines:
                block += self.tokenizer(line)
                block.append(None)
            block += self.tokenizer(last)
            yield block

    def pieces(self) -> Iterator[bytes | None]:
        """The files as bytes of valid UTF-8, cut behind a newline or else another blank; None ends each file."""
        for path in self.paths:
            try:
                with open(path, "rb") as file:
                    offset = 0
                    for piece in _pieces(iter(lambda file=file: file.read(self.block_size), b"")):
                        _check_utf8(path, piece, offset)
                        offset += len(piece)
                        yield piece
            except OSError as error:
                raise UserError(f"{path} cannot be read: {error.strerror}") from error
            yield None


def _pieces(blocks: Iterator[bytes]) -> Iterator[bytes]:
    rest: list[bytes] = []  # without a blank
    for block in blocks:
        cut = block.rfind(b"\n") + 1 or max(block.rfind(b" "), block.rfind(b"\t")) + 1
        if cut:
            yield b"".join([*rest, block[:cut]])
            rest = []
        rest.append(block[cut:])
    if last := b"".join(rest):
        yield last


def _check_utf8(path: Path, piece: bytes, offset: int) -> None:
    try:
        piece.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{piece[error.start]:02x} at offset {offset + error.start}"
        raise UserError(f"{path} is not UTF-8 ({found}), but it must be UTF-8 text") from None


@lru_cache(1)
def word_pattern() -> re.Pattern[str]:
    """Python's \\w knows no combining marks, without which many scripts fall to pieces: they are added here."""
    marks = [point for point in range(sys.maxunicode + 1) if unicodedata.category(chr(point))[0] == "M"]
    letter = rf"(?:[^\W_]|[{''.join(map(chr, marks))}])"
    return re.compile(rf"[^\W_]{letter}*(?:['\u2019]{letter}+)*")
