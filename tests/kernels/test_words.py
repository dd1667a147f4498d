"""The hash table of words against Python's own split and dictionary."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from handgrad.kernels.cpu import words as kernels


class Table:
    """Arrays with room for so many words and letters."""

    def __init__(self, words: int, letters: int, slots: int) -> None:
        self.slots = np.full(slots, -1, np.int32)
        self.hashes, self.counts = np.empty(words, np.uint64), np.empty(words, np.int64)
        self.begins, self.letters = np.zeros(words + 1, np.int64), np.empty(letters, np.uint8)
        self.known = 0

    def count(self, text: bytes, place: int = 0) -> int:
        array = np.frombuffer(text, np.uint8)
        place, self.known = kernels.words_count_01_hash(
            array, place, self.slots, self.hashes, self.begins, self.letters, self.counts, self.known
        )
        return place

    def encode(self, text: bytes, lines: bool) -> list[int]:
        ids = np.empty(len(text), np.int32)
        arrays = (self.slots, self.hashes, self.begins, self.letters)
        return ids[: kernels.words_encode_01_hash(np.frombuffer(text, np.uint8), lines, *arrays, ids)].tolist()


@pytest.mark.parametrize("slots", [512, 4096])  # the first is nearly half full: long chains
def test_count_and_encode_are_split_and_a_dictionary(rng: np.random.Generator, slots: int) -> None:
    alphabet = [b"a", b"b", "é".encode(), b" ", b"\t", b"\n"]
    text = b"".join(alphabet[k] for k in rng.choice(6, 4000, p=[0.2, 0.2, 0.1, 0.2, 0.1, 0.2])) + b"end"
    want = Counter(text.split())
    table = Table(255, 5000, slots)
    assert table.count(text) == len(text)  # there was room for all
    spans = zip(table.begins[: table.known], table.begins[1 : table.known + 1], strict=True)
    words = [table.letters[begin:end].tobytes() for begin, end in spans]
    assert words == list(want)  # by first appearance
    assert table.counts[: table.known].tolist() == list(want.values())
    ids = {word: i for i, word in enumerate(words)}
    assert table.encode(text, False) == [ids[word] for word in text.split()]
    want_lines = [[ids[word] for word in line.split()] for line in text.split(b"\n")]
    got = " ".join("|" if k < 0 else str(k) for k in table.encode(text, True)).split("|")
    assert [list(map(int, line.split())) for line in got if line.strip()] == [line for line in want_lines if line]


def test_borders_stand_at_newlines_once_each_gap() -> None:
    table = Table(4, 16, 8)
    assert table.count(b"a b") == 3
    assert table.encode(b"a\n\n \nb a x\nx\n", True) == [0, -1, 1, 0, -1]
    assert table.encode(b"\na", True) == [-1, 0]  # at the beginning of a piece: it may end the line before


@pytest.mark.parametrize(("words", "letters", "slots"), [(2, 100, 64), (50, 2, 64), (50, 100, 4)])
def test_a_full_table_stops_before_the_word_that_found_no_room(words: int, letters: int, slots: int) -> None:
    table = Table(words, letters, slots)
    assert table.count(b"a b a ccc") == 6
    assert table.known == 2
    assert table.counts[:2].tolist() == [2, 1]


def test_equal_hashes_are_told_apart_by_their_letters() -> None:
    table = Table(4, 16, 8)
    table.count(b"b")
    table.letters[0] = ord("a")  # another word with b's hash and length
    assert table.encode(b"b", False) == []
