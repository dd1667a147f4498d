"""Words and their vectors: neighbours, analogies, and the files that GloVe's and word2vec's programs read and write.

GloVe text       apple 0.1 -0.2 ...            one word a line
word2vec text    2 3                           first how many words and numbers, then as GloVe's
word2vec binary  the same first line, then for each word its name, a space and float32 numbers, little-endian
safetensors      "vectors" (V, d), and the words as JSON in the metadata
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from ..errors import UserError
from ..files import StrPath, load_tensors, save_tensors, write_atomically

__all__ = ["FORMATS", "WordVectors"]

Array = np.ndarray[Any, np.dtype[Any]]
Format = Literal["glove", "word2vec", "word2vec-binary", "safetensors"]
FORMATS: tuple[Format, ...] = ("glove", "word2vec", "word2vec-binary", "safetensors")
_FREQUENT = 100_000  # words that are searched for one of similar spelling: a fraction of a second


class WordVectors:
    """A word for each row of a float32 array (V, d). Similarity is the cosine of the angle between two vectors."""

    def __init__(self, words: Sequence[str], array: Any) -> None:
        self.words, self.array = tuple(words), np.asarray(array, np.float32)
        if self.array.ndim != 2 or len(self.array) != len(self.words):
            raise UserError(f"vectors have shape {self.array.shape}, but {len(self.words)} words need as many rows")
        self._ids = {word: i for i, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            twice = next(word for i, word in enumerate(self.words) if self._ids[word] != i)
            raise UserError(f"the word {twice!r} stands twice among the words of the vectors")
        lengths = np.sqrt(np.sum(self.array.astype(np.float64) ** 2, axis=1, keepdims=True))  # float32 could overflow
        self.directions = (self.array / np.where(lengths == 0, 1.0, lengths)).astype(np.float32)
        """Every vector with length 1 (a vector of zeros stays: it has no direction)."""

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __getitem__(self, word: str) -> Array:
        """The vector (d,) of a word; UserError if it has none."""
        return self.array[self.id(word)]

    def __repr__(self) -> str:
        return f"<WordVectors of {len(self)} words, size {self.array.shape[1]}>"

    def id(self, word: str) -> int:
        """The row of a word; UserError if it has none."""
        if word not in self._ids:
            raise UserError(f"{word!r} is none of the {len(self)} words that have a vector{self._hint(word)}")
        return self._ids[word]

    def _hint(self, word: str) -> str:
        """What may have been meant: the word in lower case, or those of the frequent words that are spelled nearly so."""
        lower = word.lower()
        if lower in self._ids:
            return f"; {lower!r} has one"
        near = get_close_matches(lower, self.words[:_FREQUENT], n=3, cutoff=0.5 if len(lower) < 4 else 0.75)
        return f"; spelled nearly so: {', '.join(near)}" if near else ""

    def similarity(self, a: str, b: str) -> float:
        """Cosine of the angle between two words: 1 the same direction, 0 none in common, -1 opposite."""
        return float(self.directions[self.id(a)] @ self.directions[self.id(b)])

    def nearest(self, word: str | Array, k: int = 10) -> list[tuple[str, float]]:
        """The k words with the largest cosine, best first, without the word itself; or those nearest to a vector (d,)."""
        if isinstance(word, str):
            return self._best(self.directions[self.id(word)], {self.id(word)}, k)
        vector = np.asarray(word, np.float32)
        if vector.shape != self.array.shape[1:]:
            raise UserError(f"the vector has shape {vector.shape}, but these words need {self.array.shape[1:]}")
        return self._best(vector / (np.linalg.norm(vector) or 1.0), set(), k)

    def analogy(self, a: str, b: str, c: str, k: int = 1) -> list[tuple[str, float]]:
        """a is to b as c is to ...: the words nearest to b - a + c (3CosAdd: Mikolov, Yih, Zweig 2013), none of the three.

        Returns k pairs (word, cos(word, b) - cos(word, a) + cos(word, c)), the largest first.
        """
        ids = [self.id(word) for word in (a, b, c)]
        first, second, third = self.directions[ids]
        return self._best(second - first + third, set(ids), k)

    def _best(self, direction: Array, without: set[int], k: int) -> list[tuple[str, float]]:
        scores = self.directions @ direction
        scores[list(without)] = -np.inf
        k = min(k, len(self) - len(without))
        order = np.argsort(-scores, kind="stable")[:k]  # ties in the order of the words
        return [(self.words[i], float(scores[i])) for i in order]

    # ---- files

    def save(self, path: StrPath, format: Format | None = None) -> None:
        """Write the vectors, atomically. format: one of FORMATS; by the name (.safetensors, .bin, else GloVe text)."""
        format = format or _format_of_name(path)
        if format == "safetensors":
            return save_tensors(path, {"vectors": self.array}, {"words": json.dumps(self.words, ensure_ascii=False)})
        for word in self.words:
            if not word or any(blank in word for blank in " \n\t\r"):
                raise UserError(f"cannot save {word!r} to {path}: in this format a word must be without white space")

        def write(file: BinaryIO) -> None:
            if format != "glove":
                file.write(f"{len(self)} {self.array.shape[1]}\n".encode())
            for word, vector in zip(self.words, self.array, strict=True):
                if format == "word2vec-binary":
                    file.write(word.encode() + b" " + vector.astype("<f4").tobytes() + b"\n")
                else:  # nine digits give a float32 back exactly
                    file.write(f"{word} {' '.join(f'{v:.9g}' for v in vector.tolist())}\n".encode())

        write_atomically(path, write)

    @classmethod
    def load(cls, path: StrPath, format: Format | None = None) -> WordVectors:
        """Read any of FORMATS, found out from name and content unless given. UserError names a broken line."""
        if not os.path.isfile(path):
            raise UserError(f"{path} does not exist or is not a file")
        format = format or _format_of_file(path)
        if format == "safetensors":
            return cls._load_safetensors(path)
        with open(path, "rb") as file:
            shape = None if format == "glove" else _header(path, file.readline())
            if format == "word2vec-binary":
                assert shape is not None
                return cls(*_read_binary(path, file, shape))
            return cls(*_read_text(path, file, shape))

    @classmethod
    def _load_safetensors(cls, path: StrPath) -> WordVectors:
        arrays, metadata = load_tensors(path)
        try:
            words = json.loads(metadata["words"])
            vectors = arrays["vectors"]
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{path} holds no word vectors: it needs the tensor 'vectors' and the words ({error})"
            ) from error
        return cls(words, vectors)


def _format_of_name(path: StrPath) -> Format:
    names: dict[str, Format] = {".safetensors": "safetensors", ".bin": "word2vec-binary"}
    return names.get(Path(path).suffix, "glove")


def _format_of_file(path: StrPath) -> Format:
    """By the name; text is word2vec's where it begins with two whole numbers V and d, and the next line is no such pair
    (or a word and a number, if d says that)."""
    format = _format_of_name(path)
    if format == "glove":
        with open(path, "rb") as file:
            first, second = file.readline().split(), file.readline().split()
        if len(first) == 2 and all(part.isdigit() for part in first) and (len(second) != 2 or int(first[1]) == 1):
            return "word2vec"
    return format


def _header(path: StrPath, line: bytes) -> tuple[int, int]:
    parts = line.split()
    if len(parts) != 2 or not all(part.isdigit() and len(part) < 12 for part in parts) or int(parts[1]) == 0:
        raise UserError(f"{path}, line 1: it must say how many words and numbers a word there are, such as 400000 50")
    return int(parts[0]), int(parts[1])


def _lines(file: BinaryIO, path: StrPath, first: int) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(file, first):
        try:
            yield number, line.decode("utf-8").rstrip("\n").rstrip("\r").rstrip(" ")
        except UnicodeDecodeError:
            raise UserError(f"{path}, line {number}: it is not UTF-8") from None


def _read_text(path: StrPath, file: BinaryIO, shape: tuple[int, int] | None) -> tuple[list[str], Array]:
    """(words, array); the size of a vector is that of the first line, or the header's."""
    words: list[str] = []
    rows: list[Array] = []
    size = None if shape is None else shape[1]
    for number, line in _lines(file, path, 1 if shape is None else 2):
        parts = line.split(" ")
        size = len(parts) - 1 if size is None else size
        word = " ".join(parts[:-size]) if size > 0 else ""  # some published files have words with spaces
        if size < 1 or not word or (len(parts) != size + 1 and _is_number(parts[-size - 1])):
            raise UserError(
                f"{path}, line {number}: it must be a word and {_numbers(size)}, but has {len(parts)} parts"
            )
        try:
            rows.append(np.array(parts[-size:], np.float32))
        except ValueError:
            wrong = next(part for part in parts[-size:] if not _is_number(part))
            raise UserError(f"{path}, line {number}: {wrong!r} is not a number") from None
        words.append(word)
    if not words:
        raise UserError(f"{path} holds no word vectors: it is empty")
    if shape is not None and len(words) != shape[0]:
        raise UserError(f"{path}, line 1: it promises {shape[0]} words, but {len(words)} follow")
    return words, np.stack(rows)


def _numbers(size: int) -> str:
    return f"{size} numbers" if size > 1 else "its numbers"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_binary(path: StrPath, file: BinaryIO, shape: tuple[int, int]) -> tuple[list[str], Array]:
    count, size = shape
    data = memoryview(file.read())
    if len(data) < count * 4 * size:  # before memory is asked for
        raise UserError(f"{path} promises {count} words of size {size}, but ends after {len(data)} bytes of them")
    words: list[str] = []
    array, at, raw = np.empty(shape, np.float32), 0, data.obj
    assert isinstance(raw, bytes)
    for number in range(count):
        end = raw.find(b" ", at)
        if end < 0 or end + 1 + 4 * size > len(raw):
            raise UserError(f"{path}: word number {number + 1} of {count} is cut off")
        try:
            words.append(raw[at:end].lstrip(b"\n").decode("utf-8"))
        except UnicodeDecodeError:
            raise UserError(f"{path}: word number {number + 1} of {count} is not UTF-8") from None
        at = end + 1 + 4 * size
        array[number] = np.frombuffer(raw, "<f4", size, end + 1)
    return words, array
