"""The vocabulary of a corpus: its words with their counts, the most frequent first, and their ids."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import UserError
from ..files import StrPath, write_atomically
from .word_progress import WordProgress
from .word_table import BORDER, WordTable
from .words import Block, WordBlocks, whitespace

__all__ = ["Vocabulary"]

Ids = np.ndarray[Any, np.dtype[np.int32]]

_LONGEST_COUNT = 18  # digits: below 2^63


class Vocabulary:
    """Words and how often each occurs; a word's id is its place, from 0. Unknown words have none and are dropped."""

    def __init__(self, words: Sequence[str], counts: Sequence[int]) -> None:
        """Raise ValueError unless there is a count for every word and no word comes twice."""
        self.words, self.counts = tuple(words), tuple(map(int, counts))
        self._ids: dict[str | None, int] = {word: i for i, word in enumerate(self.words)}
        if len(self.counts) != len(self.words):
            raise ValueError(
                f"Vocabulary: there are {len(self.counts)} counts, but there must be one for each of {len(words)} words"
            )
        if len(self._ids) != len(self.words):
            twice = next(word for i, word in enumerate(self.words) if self._ids[word] != i)
            raise ValueError(f"Vocabulary: words has {twice!r} twice, but every id needs its own word")
        self._ids[None] = BORDER
        self._table: WordTable | None = None
        self._table_is_whole = False

    @classmethod
    def build(
        cls, blocks: Iterable[Block], *, min_count: int = 5, max_size: int | None = None, progress: bool = True
    ) -> Vocabulary:
        """Count the words of blocks (see `WordBlocks`), keep those that occur min_count times, at most max_size of them.

        The most frequent come first; equal counts are ordered by code points. progress: words per second on stderr.
        Raises UserError if no word is left.
        """
        if min_count < 1 or (max_size is not None and max_size < 1):
            raise ValueError(f"Vocabulary: min_count is {min_count} and max_size {max_size}, but both must be positive")
        shown = WordProgress("counting words") if progress else None
        counts, most = (_count_bytes if _splits_bytes(blocks) else _count)(blocks, min_count, shown)
        if shown:
            shown.end()
        if most == 0:
            raise UserError("the text has no words, so there is no vocabulary")
        kept = sorted((-count, word) for word, count in counts.items())[:max_size]
        if not kept:
            raise UserError(f"no word occurs {min_count} times, the most frequent one {most}: lower min_count")
        return cls([word for _, word in kept], [-count for count, _ in kept])

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word is not None and word in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and (other.words, other.counts) == (self.words, self.counts)

    def __hash__(self) -> int:
        return hash((self.words, self.counts))

    def __repr__(self) -> str:
        return f"<Vocabulary of {len(self)} words, {sum(self.counts)} in the text>"

    def id(self, word: str) -> int:
        """Return the id of a word; KeyError if it has none."""
        return self._ids[word]

    def encode(self, block: Block) -> Ids:
        """Return the ids int32 (N,) of a block: unknown words are dropped, the end of a document gives -1."""
        found = map(self._ids.get, block)
        return np.fromiter((i for i in found if i is not None), np.int32)

    def encode_blocks(self, blocks: Iterable[Block]) -> Iterator[Ids]:
        """Yield the ids of each block; where words stand between blanks in files, many times as fast as `encode`."""
        if isinstance(blocks, WordBlocks) and _splits_bytes(blocks) and (table := self._bytes_table()):
            for piece in blocks.pieces():
                yield table.encode(
                    b"\n" if piece is None else piece, lines=piece is None or blocks.documents == "lines"
                )
        else:
            yield from map(self.encode, blocks)

    def save(self, path: StrPath) -> None:
        """Write one line `word count` for each word, as Stanford's vocab_count does; UserError for words with blanks."""
        for word in self.words:
            if not word or re.search(r"\s", word):
                raise UserError(
                    f"cannot save {word!r} to {path}: a word in a vocabulary file must be without white space"
                )

        def write(file: BinaryIO) -> None:
            for word, count in zip(self.words, self.counts, strict=True):
                file.write(f"{word} {count}\n".encode())

        write_atomically(path, write)

    @classmethod
    def load(cls, path: StrPath) -> Vocabulary:
        """Read what `save` or vocab_count wrote, in the order of the file; UserError names a broken line."""
        words: list[str] = []
        counts: list[int] = []
        try:
            lines = Path(path).read_bytes().decode("utf-8").split("\n")
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise UserError(f"{path} is not UTF-8, but a vocabulary must be UTF-8 text") from None
        for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines, start=1):
            word, _, count = line.rpartition(" ")
            if not word or not (count.isascii() and count.isdigit() and len(count) <= _LONGEST_COUNT):
                raise UserError(f"line {number} of {path} is {line!r}, but it must be a word, a space and its count")
            words.append(word)
            counts.append(int(count))
        if not words:
            raise UserError(f"{path} is empty, but a vocabulary must have at least one word")
        try:
            return cls(words, counts)
        except ValueError as error:
            raise UserError(f"{path} is not a vocabulary: {error}") from error

    def _bytes_table(self) -> WordTable | None:
        """The words as a table of bytes, made once; None if one of them could not stand between blanks."""
        if self._table is None:
            self._table = WordTable()
            self._table.count("\n".join(self.words).encode("utf-8", "surrogatepass"))
            found, _ = self._table.counts()
            self._table_is_whole = tuple(found) == self.words
        return self._table if self._table_is_whole else None


def _splits_bytes(blocks: Iterable[Block]) -> bool:
    """Whether these words can be found among the bytes of the files, without making Python strings of them."""
    return isinstance(blocks, WordBlocks) and blocks.tokenizer is whitespace


def _count(blocks: Iterable[Block], least: int, progress: WordProgress | None) -> tuple[dict[str, int], int]:
    """The words that occur at least so often with their counts, and the highest count of any word."""
    counts: Counter[str | None] = Counter()
    read = 0
    for block in blocks:
        counts.update(block)
        read += len(block)
        if progress:
            progress.say(read - counts[None])
    del counts[None]
    kept = {word: count for word, count in counts.items() if word is not None and count >= least}
    return kept, max(counts.values(), default=0)


def _count_bytes(blocks: Any, least: int, progress: WordProgress | None) -> tuple[dict[str, int], int]:
    """The same for words that stand between blanks: only those that are kept become Python strings."""
    table = WordTable()
    for piece in blocks.pieces():
        if piece is not None:
            table.count(piece)
        if progress and progress.due():
            progress.say(table.total())
    return table.counts(least)
