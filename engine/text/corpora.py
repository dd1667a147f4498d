"""Text to train on that needs no download, and the split into training and validation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pydoc_data.topics import topics
from typing import Any

import numpy as np

from ..errors import UserError

__all__ = ["Corpus", "describe_text", "python_topics", "train_validation_split"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Corpus:
    """What identifies a text: its length in characters and the SHA-256 of its UTF-8 bytes, in hexadecimal."""

    characters: int
    sha256: str


def python_topics() -> str:
    """Return the English text that every Python carries: the language reference's pages behind `help("topics")`.

    About 500 to 700 kB, differing by Python version (`describe_text` tells them apart). Topics come in the sorted order
    of their keys, each under a line `# key` and as Python has it, nothing normalised, then an empty line.
    """
    return "".join(f"# {key}\n{topics[key]}\n\n" for key in sorted(topics))


def describe_text(text: str) -> Corpus:
    """Return the size in characters and the SHA-256 that identify `text`."""
    return Corpus(len(text), hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())


def train_validation_split(ids: Array, fraction: float = 0.9) -> tuple[Array, Array]:
    """Split ids (N,) into the first int(fraction * N) for training and the rest for validation, both views.

    Contiguous, as nanoGPT's data/shakespeare_char/prepare.py does it: neighbouring text must not be in both.
    Raises ValueError if fraction is not strictly between 0 and 1, UserError if a part would be empty.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"train_validation_split: fraction is {fraction}, but it must lie between 0 and 1")
    count = int(fraction * len(ids))
    if count == 0 or count == len(ids):
        raise UserError(f"the text has {len(ids)} tokens, too few to keep {fraction:g} of them for training")
    return ids[:count], ids[count:]
