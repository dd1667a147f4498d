"""Characters as tokens: the smallest tokenizer, after nanoGPT's data/shakespeare_char/prepare.py."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import UserError
from ..files import StrPath, read_text, write_text_atomically

__all__ = ["CharacterTokenizer", "Ids", "checked_ids", "read_model"]

Ids = np.ndarray[Any, np.dtype[np.int64]]


class CharacterTokenizer:
    """One id a character: the character's place in `vocabulary`.

    Laws: decode(encode(text)) == text for text over the vocabulary, and encode(decode(ids)) == ids for every ids.
    A character is one Unicode code point.
    """

    def __init__(self, vocabulary: Iterable[str]) -> None:
        """Raise ValueError unless vocabulary (a string, or single characters) is not empty and without repeats."""
        characters = list(vocabulary)
        if not characters:
            raise ValueError("CharacterTokenizer: vocabulary is empty, but it must have at least 1 character")
        if wrong := [entry for entry in characters if len(entry) != 1]:
            raise ValueError(f"CharacterTokenizer: vocabulary has {wrong[0]!r}, but every entry must be one character")
        if len(set(characters)) != len(characters):
            twice = next(entry for entry in characters if characters.count(entry) > 1)
            raise ValueError(
                f"CharacterTokenizer: vocabulary has {twice!r} twice, but every id needs its own character"
            )
        self.vocabulary = "".join(characters)
        self._points = _code_points(self.vocabulary)  # (V,), by id
        self._order = np.argsort(self._points)  # ids by rising code point
        self._sorted = self._points[self._order]

    @classmethod
    def train(cls, text: str) -> CharacterTokenizer:
        """Return the tokenizer of the distinct characters of `text`, ids in the order of their code points."""
        return cls(sorted(set(text)))

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CharacterTokenizer) and other.vocabulary == self.vocabulary

    def __hash__(self) -> int:
        return hash(self.vocabulary)

    def __repr__(self) -> str:
        return f"CharacterTokenizer({self.vocabulary!r})"

    def encode(self, text: str) -> Ids:
        """Return the ids (T,) of the T characters of `text`; UserError names characters that have none."""
        points = _code_points(text)  # (T,)
        places = np.searchsorted(self._sorted, points)  # (T,), V where beyond the last
        np.minimum(places, len(self) - 1, out=places)
        unknown = self._sorted[places] != points
        if unknown.any():
            raise UserError(self._unknown(_characters(points[unknown])))
        return self._order[places]

    def decode(self, ids: ArrayLike) -> str:
        """Return the text of ids (T,); raise ValueError unless they are integers from 0 to len(self) - 1."""
        return _characters(self._points[checked_ids(ids, len(self))])

    def stream(self, ids: Iterable[int], after: ArrayLike = ()) -> Iterator[str]:
        """Yield the text of each id as it comes. `after` may hold the ids in front, which do not matter here."""
        return (self.vocabulary[index] for index in ids)

    @property
    def default_prompt(self) -> str:
        """What a text is begun with where nothing is said: a line break, or the first character if that is unknown."""
        return "\n" if "\n" in self.vocabulary else self.vocabulary[0]

    def save(self, folder: StrPath) -> None:
        """Write `tokenizer.json` in a model folder, laid out as Hugging Face's tokenizers lay it out."""
        vocabulary = {character: index for index, character in enumerate(self.vocabulary)}
        content = {"version": "1.0", "model": {"type": "character", "vocab": vocabulary}}
        write_text_atomically(Path(folder) / "tokenizer.json", json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, folder: StrPath) -> CharacterTokenizer:
        """Read what `save` wrote; raise UserError if it is missing, broken or of another type."""
        path, content = read_model(folder, "character")
        vocabulary = content["model"]["vocab"]
        try:
            by_id = sorted(vocabulary, key=vocabulary.__getitem__)
            if [vocabulary[character] for character in by_id] != list(range(len(by_id))):
                raise ValueError("the ids in model.vocab must be 0, 1, 2 ... without gaps")
            return cls(by_id)
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"{path} has a broken vocabulary: {error}") from error

    def _unknown(self, characters: str) -> str:
        distinct = sorted(set(characters))
        named = ", ".join(map(repr, distinct[:5])) + (f" and {len(distinct) - 5} more" if len(distinct) > 5 else "")
        plural = "s" if len(distinct) > 1 else ""
        return f"the tokenizer knows {len(self)} characters, but the text has unknown character{plural} {named}"


def checked_ids(ids: ArrayLike, count: int) -> Ids:
    """ids as an array (T,); ValueError unless they are integers from 0 to count - 1."""
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"decode: ids has shape {array.shape} and dtype {array.dtype}, but it must be integers (T,)")
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.min() < 0 or array.max() >= count:
        wrong = array.min() if array.min() < 0 else array.max()
        raise ValueError(f"decode: ids has {wrong}, but the tokenizer knows {count} tokens, ids from 0")
    return array


def read_model(folder: StrPath, wanted: str | None = None) -> tuple[Path, dict[str, Any]]:
    """(path, content) of a folder's tokenizer.json, which has model.type and model.vocab; UserError where it has not.

    wanted: what model.type must be.
    """
    path = Path(folder) / "tokenizer.json"
    try:
        content = json.loads(read_text(path))
        kind, _ = content["model"]["type"], content["model"]["vocab"]
    except (json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not a tokenizer file: it must be JSON with model.type and model.vocab") from error
    if wanted is not None and kind != wanted:
        raise UserError(f"{path} holds a tokenizer of type {kind!r}, but this one needs {wanted!r}")
    return path, content


def _code_points(text: str) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _characters(points: np.ndarray[Any, np.dtype[np.uint32]]) -> str:
    return points.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
