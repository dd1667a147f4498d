"""What all tokenizers can do, which there are, and how one is chosen, learned and found again in a model folder.

character   every character of the text is a token: the smallest vocabulary, the longest sequences
bpe         pieces of words, learned from the text (bpe.py): what GPT-2 and its successors use
word        whole words, signs and line breaks (word_tokenizer.py): the shortest sequences; rare words are lost
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from numpy.typing import ArrayLike

from ..errors import UserError
from ..files import StrPath
from .bpe import BytePairTokenizer
from .tokenizer import CharacterTokenizer, Ids, read_model
from .word_tokenizer import WordTokenizer

__all__ = ["LEVELS", "Tokenizer", "load_tokenizer", "train_tokenizer"]

LEVELS = ("character", "bpe", "word")
_TYPES: dict[str, Any] = {"character": CharacterTokenizer, "BPE": BytePairTokenizer, "WordLevel": WordTokenizer}


class Tokenizer(Protocol):
    """Text to ids and back."""

    def __len__(self) -> int:
        """How many tokens there are; ids go from 0 to one less."""
        ...

    def encode(self, text: str) -> Ids:
        """Return the ids (T,) of a text."""
        ...

    def decode(self, ids: ArrayLike) -> str:
        """Return the text of ids (T,)."""
        ...

    def stream(self, ids: Iterable[int], after: ArrayLike = ()) -> Iterator[str]:
        """Yield text as ids come; decode(after) and all of it together are decode of all ids, after and these."""
        ...

    @property
    def default_prompt(self) -> str:
        """What a text is begun with where nothing is said."""
        ...

    def save(self, folder: StrPath) -> None:
        """Write the folder's tokenizer.json."""
        ...


def train_tokenizer(text: str, level: str = "character", vocab_size: int | None = None) -> Tokenizer:
    """Learn the tokenizer of a level from a text. vocab_size: how many tokens at most (bpe: 1,000 where left out; word: all
    words; characters are always all). UserError where the level is unknown or the size is of no use.
    """
    if level not in LEVELS:
        raise UserError(f"level is {level!r}, but it must be one of {', '.join(LEVELS)}")
    if level == "character":
        if vocab_size is not None:
            raise UserError(
                "vocab_size is for the levels bpe and word: a character tokenizer has all characters of the text"
            )
        return CharacterTokenizer.train(text)
    if level == "bpe":
        return BytePairTokenizer.train(text, 1000 if vocab_size is None else vocab_size)
    return WordTokenizer.train(text, vocab_size)


def load_tokenizer(folder: StrPath) -> Tokenizer:
    """Read the tokenizer of a model folder, whatever its type; UserError where it is missing, broken or unknown."""
    path, content = read_model(folder)
    kind = content["model"]["type"]
    if not isinstance(kind, str) or kind not in _TYPES:
        raise UserError(f"{path} holds a tokenizer of type {kind!r}, but known are {', '.join(_TYPES)}")
    return _TYPES[kind].load(folder)
