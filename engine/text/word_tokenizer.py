"""Words as tokens: for language models at word level.

A token is a run of letters and digits with the apostrophes inside of it (words.unicode_words), any other single character
that is not white space, or a line break; spaces are not kept. `decode` writes one space between two tokens, but none

    around a line break, and around - – — / _
    before . , ; : ! ? % ) ] } ' ’ ” … and after ( [ { “ ‘

Law: encode(decode(ids)) == ids. The reverse does not hold: "a  b" comes back with one space, and rare words as <unk>.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import UserError
from ..files import StrPath, write_text_atomically
from .tokenizer import Ids, checked_ids, read_model
from .words import word_pattern

__all__ = ["UNKNOWN", "WordTokenizer"]

UNKNOWN = "<unk>"
_CLOSING = frozenset(".,;:!?%)]}'\u2019\u201d\u2026")
_OPENING = frozenset("([{\u201c\u2018")
_TIGHT = frozenset("\n-\u2013\u2014/_")


class WordTokenizer:
    """One id a word; `unknown_id` for those that are not in `vocabulary`."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        """vocabulary: the tokens by id, <unk> among them; ValueError where a token is there twice, or is not one token."""
        self.vocabulary = list(vocabulary)
        self._ids = {token: index for index, token in enumerate(self.vocabulary)}
        if len(self._ids) != len(self.vocabulary):
            twice = next(token for token, count in Counter(self.vocabulary).items() if count > 1)
            raise ValueError(f"WordTokenizer: vocabulary has {twice!r} twice, but every id needs its own token")
        if UNKNOWN not in self._ids:
            raise ValueError(
                f"WordTokenizer: vocabulary lacks {UNKNOWN}, which stands for the words that are not in it"
            )
        if wrong := [token for token in self.vocabulary if _tokens(token) != [token]]:
            raise ValueError(f"WordTokenizer: vocabulary has {wrong[0]!r}, but that is not one token")
        self.unknown_id = self._ids[UNKNOWN]

    @classmethod
    def train(cls, text: str, max_size: int | None = None, min_count: int = 1) -> WordTokenizer:
        """Return the tokenizer of the words of `text` that stand in it at least min_count times, the most frequent first.

        Of equally frequent ones the first in the order of code points; <unk> has id 0. max_size: tokens at most, <unk>
        among them. UserError where it is below 2 or no word is left.
        """
        if max_size is not None and max_size < 2:
            raise UserError(f"vocab_size is {max_size}, but a word tokenizer needs at least 2: {UNKNOWN} and a word")
        counts = Counter(_tokens(text))
        del counts[UNKNOWN]
        kept = sorted((token for token, count in counts.items() if count >= min_count), key=lambda t: (-counts[t], t))
        if not kept:
            raise UserError(f"no word of the text stands in it at least {min_count} times: there is nothing to learn")
        return cls([UNKNOWN, *kept][:max_size])

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WordTokenizer) and other.vocabulary == self.vocabulary

    def __hash__(self) -> int:
        return hash(tuple(self.vocabulary))

    def __repr__(self) -> str:
        return f"WordTokenizer({len(self)} tokens)"

    @property
    def default_prompt(self) -> str:
        """What a text is begun with where nothing is said: a line break, or the most frequent word if that is unknown."""
        return "\n" if "\n" in self._ids else next(token for token in self.vocabulary if token != UNKNOWN)

    def encode(self, text: str) -> Ids:
        """Return the ids (T,) of the T tokens of text."""
        return np.array([self._ids.get(token, self.unknown_id) for token in _tokens(text)], np.int64)

    def decode(self, ids: ArrayLike) -> str:
        """Return the text of ids (T,), with spaces by the rule above; ValueError unless each is below len(self)."""
        return "".join(self.stream(checked_ids(ids, len(self)).tolist()))

    def stream(self, ids: Iterable[int], after: ArrayLike = ()) -> Iterator[str]:
        """Yield the text of each id as it comes, with the space before it. after: the ids in front of the first."""
        before = np.asarray(after).tolist()
        last = self.vocabulary[before[-1]] if before else None
        for index in ids:
            token = self.vocabulary[index]
            yield token if last is None or not _spaced(last, token) else " " + token
            last = token

    def save(self, folder: StrPath) -> None:
        """Write `tokenizer.json` in a model folder, laid out as Hugging Face's tokenizers lay it out."""
        vocabulary = {token: index for index, token in enumerate(self.vocabulary)}
        content = {"version": "1.0", "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": UNKNOWN}}
        write_text_atomically(Path(folder) / "tokenizer.json", json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, folder: StrPath) -> WordTokenizer:
        """Read what `save` wrote; UserError if it is missing, broken or of another type."""
        path, content = read_model(folder, "WordLevel")
        vocabulary: Any = content["model"]["vocab"]
        try:
            by_id = sorted(vocabulary, key=vocabulary.__getitem__)
            if [vocabulary[token] for token in by_id] != list(range(len(by_id))):
                raise ValueError("the ids in model.vocab must be 0, 1, 2 ... without gaps")
            return cls(by_id)
        except (AttributeError, TypeError, ValueError) as error:
            sentence = str(error).removeprefix("WordTokenizer: ")
            raise UserError(f"{path} has a broken vocabulary: {sentence}") from error


def _spaced(left: str, right: str) -> bool:
    """Whether a space stands between two tokens."""
    return not (left in _TIGHT or right in _TIGHT or right in _CLOSING or left in _OPENING)


def _tokens(text: str) -> list[str]:
    return _pattern().findall(text)


@lru_cache(1)
def _pattern() -> re.Pattern[str]:
    return re.compile(rf"{UNKNOWN}|{word_pattern().pattern}|\n|[^\s]")
