"""How good word vectors are: analogies answered (Mikolov et al. 2013), and agreement with people on what is similar."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files import StrPath, read_text
from .vectors import WordVectors

__all__ = ["Analogies", "analogies", "read_analogies", "read_similarities", "similarity", "spearman"]

Array = np.ndarray[Any, np.dtype[Any]]
_BATCH = 256  # questions at once


@dataclass(frozen=True)
class Analogies:
    """How a section of questions was answered."""

    section: str
    right: int
    asked: int  # those all of whose words have a vector
    total: int


def read_analogies(path: StrPath) -> dict[str, list[tuple[str, ...]]]:
    """Section -> questions (a, b, c, d): a is to b as c is to d. Four words a line; `: name` begins a section, and without
    one the file's name is it. UserError names a broken line.
    """
    sections: dict[str, list[tuple[str, ...]]] = {}
    name = Path(path).stem
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.startswith(":"):
            name = line[1:].strip()
        elif line.strip():
            question = tuple(line.split())
            if len(question) != 4:
                raise UserError(f"{path}, line {number}: it has {len(question)} words, but a question has 4")
            sections.setdefault(name, []).append(question)
    return sections


def read_similarities(path: StrPath) -> list[tuple[str, str, float]]:
    """(word, word, how similar people say they are), one a line, with tabs, commas or spaces between. UserError names a
    broken line.
    """
    found: list[tuple[str, str, float]] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        parts = line.replace(",", " ").split()
        if not parts or line.startswith("#"):
            continue
        try:
            a, b, score = parts
            found.append((a, b, float(score)))
        except ValueError:
            raise UserError(f"{path}, line {number}: it must hold two words and a number") from None
    return found


def _known(vectors: WordVectors, word: str) -> str | None:
    """The word as the vectors spell it: as it is, or in lower case."""
    return next((w for w in (word, word.lower()) if w in vectors), None)


def analogies(vectors: WordVectors, section: str, questions: list[tuple[str, ...]]) -> Analogies:
    """Answers each question with the word nearest to b - a + c that is none of the three (3CosAdd)."""
    known = [[_known(vectors, word) for word in question] for question in questions]
    ids = np.array([[vectors.id(w) for w in q if w] for q in known if all(q)], np.int64).reshape(-1, 4)
    right = 0
    for batch in (ids[first : first + _BATCH] for first in range(0, len(ids), _BATCH)):
        a, b, c = (vectors.directions[batch[:, n]] for n in range(3))
        scores = (b - a + c) @ vectors.directions.T  # (questions, V)
        np.put_along_axis(scores, batch[:, :3], -np.inf, axis=1)
        right += int(np.sum(np.argmax(scores, axis=1) == batch[:, 3]))
    return Analogies(section, right, len(ids), len(questions))


def similarity(vectors: WordVectors, pairs: list[tuple[str, str, float]]) -> tuple[float, int]:
    """(Spearman's correlation of cosines with people's scores, how many pairs have vectors); NaN for fewer than two."""
    known = [(_known(vectors, a), _known(vectors, b), score) for a, b, score in pairs]
    found = [(vectors.similarity(a, b), score) for a, b, score in known if a and b]
    if len(found) < 2:
        return float("nan"), len(found)
    cosines, scores = np.array(found).T
    return spearman(cosines, scores), len(found)


def spearman(x: Array, y: Array) -> float:
    """Pearson's correlation of the ranks of x and y (N,); equal numbers share the mean of their ranks. NaN where all are."""
    ranks = [_ranks(np.asarray(a, np.float64)) for a in (x, y)]
    a, b = (r - np.mean(r) for r in ranks)
    length = float(np.sqrt(np.sum(a * a) * np.sum(b * b)))
    return float(np.sum(a * b)) / length if length else float("nan")


def _ranks(x: Array) -> Array:
    """1 for the smallest. The numbers equal to x lie on the places from `below` + 1 to `up to`."""
    ordered = np.sort(x)
    below, up_to = np.searchsorted(ordered, x, "left"), np.searchsorted(ordered, x, "right")
    return (below + 1 + up_to) / 2
