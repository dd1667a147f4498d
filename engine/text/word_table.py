"""A growing hash table of words as bytes, around kernels/cpu/words.py: counts them, and turns a text into ids."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernel_table import announce_compilation

__all__ = ["BORDER", "WordTable"]

BORDER = -1
"""In ids: here a document ends."""

Ids = np.ndarray[Any, np.dtype[np.int32]]


class WordTable:
    """Words stand between spaces, tabs and newlines; carriage returns are ignored. Ids by first appearance, from 0."""

    def __init__(self) -> None:
        from ...kernels.cpu import words as kernels

        announce_compilation()
        self._kernels = kernels
        self._known = 0
        self._slots = np.full(1 << 13, -1, np.int32)
        self._hashes = np.empty(1 << 12, np.uint64)
        self._counts = np.empty(1 << 12, np.int64)
        self._begins = np.zeros((1 << 12) + 1, np.int64)
        self._letters = np.empty(1 << 16, np.uint8)

    def __len__(self) -> int:
        return self._known

    def count(self, piece: bytes) -> None:
        """Count the words of a piece of text that begins and ends between words."""
        text, place = _letters(piece), 0
        while True:
            place, self._known = self._kernels.words_count_01_hash(
                text, place, self._slots, self._hashes, self._begins, self._letters, self._counts, self._known
            )
            if place == text.size:
                return
            self._grow(text.size - place)

    def total(self) -> int:
        """How many words have been counted."""
        return int(self._counts[: self._known].sum())

    def counts(self, least: int = 1) -> tuple[dict[str, int], int]:
        """The words that occur at least so often with their counts, by first appearance, and the highest count."""
        counts, letters = self._counts[: self._known], self._letters.tobytes()
        kept = np.flatnonzero(counts >= least)
        spans = zip(self._begins[kept].tolist(), self._begins[kept + 1].tolist(), strict=True)
        words = (letters[begin:end].decode("utf-8", "surrogatepass") for begin, end in spans)
        return dict(zip(words, counts[kept].tolist(), strict=True)), int(counts.max(initial=0))

    def encode(self, piece: bytes, *, lines: bool) -> Ids:
        """Return the ids int32 (N,) of the known words of a piece; lines: a newline gives BORDER."""
        text = _letters(piece)
        ids = np.empty(text.size, np.int32)
        n = self._kernels.words_encode_01_hash(text, lines, self._slots, self._hashes, self._begins, self._letters, ids)
        return ids[:n]

    def _grow(self, letters: int) -> None:
        """Twice the room for words, and room for that many letters more; np.resize keeps what is there in front."""
        size = 2 * self._hashes.size
        self._hashes, self._counts = np.resize(self._hashes, size), np.resize(self._counts, size)
        self._begins = np.resize(self._begins, size + 1)
        self._letters = np.resize(self._letters, 2 * self._letters.size + letters)
        self._slots = np.empty(2 * size, np.int32)
        self._kernels.words_fill(self._slots, self._hashes, self._known)


def _letters(piece: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(piece.replace(b"\r", b""), np.uint8)
