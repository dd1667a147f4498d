"""Co-occurrence kernels: every rung against the definition in fractions, and the merge against plain addition."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from handgrad.kernels.cpu import cooccurrence as kernels

WORDS = 150  # more than two groups of 64 cells


def random_text(rng: np.random.Generator, length: int, window: int) -> np.ndarray:
    """A text with borders at both ends and here and there; few words are frequent, most are rare."""
    ids = (WORDS * rng.random(length) ** 3).astype(np.int32)
    ids[rng.random(length) < 0.05] = kernels.BORDER
    ids[:window] = ids[-window:] = kernels.BORDER
    return ids


def definition(ids: np.ndarray, window: int, symmetric: bool, first: int, last: int) -> dict[tuple[int, int], Fraction]:
    """The double loop of the textbook, in fractions."""
    text, found = ids.tolist(), {}
    for p in range(first, last):
        for step in (1, -1) if symmetric else (1,):
            for d in range(1, window + 1):
                if text[p] < 0 or not 0 <= p + step * d < len(text) or text[p + step * d] < 0:
                    break
                key = (text[p], text[p + step * d])
                found[key] = found.get(key, Fraction(0)) + Fraction(1, d)
    return found


def table_of(records: np.ndarray, unit: int) -> dict[tuple[int, int], Fraction]:
    keys = list(zip(records["i"].tolist(), records["j"].tolist(), strict=True))
    assert keys == sorted(set(keys))  # in order, each once
    return dict(zip(keys, [Fraction(c, unit) for c in records["count"].tolist()], strict=True))


def scratch(parts: int) -> tuple[np.ndarray, np.ndarray]:
    length = kernels.row_length(WORDS)
    return np.zeros((parts, length), np.int64), np.zeros((parts, length // 8), np.uint8)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("window", [1, 4, 15])
@pytest.mark.parametrize("length", [40, 600])
def test_every_rung_is_the_definition(rng: np.random.Generator, length: int, window: int, symmetric: bool) -> None:
    ids = random_text(rng, length, window)
    unit = math.lcm(*range(1, window + 1))
    weights = np.array([0] + [unit // d for d in range(1, window + 1)])
    first, last = window, length - window
    want = definition(ids, window, symmetric, first, last)

    table = np.zeros((WORDS, WORDS), np.int64)
    kernels.cooccurrence_count_01_table(ids, first, last, weights, symmetric, table)
    i, j = np.nonzero(table)
    dense = zip(i.tolist(), j.tolist(), table[i, j].tolist(), strict=True)
    assert {(a, b): Fraction(c, unit) for a, b, c in dense} == want

    starts, order = np.empty(WORDS + 1, np.int64), np.empty(length, np.int32)
    kernels.group_places(ids, first, last, starts, order)
    records = np.empty(len(want) + 1, kernels.RECORD)
    text = (ids, order, starts, weights, symmetric)
    n = kernels.cooccurrence_count_02_rows(*text, 0, WORDS, np.zeros(WORDS, np.int64), records)
    assert table_of(records[:n], unit) == want

    rows, lines = scratch(3)
    n = kernels.cooccurrence_count_03_lines(*text, 0, WORDS, rows[0], lines[0], records)
    assert table_of(records[:n], unit) == want
    assert not rows.any() and not lines.any()  # as they were

    room = WORDS * WORDS + 1
    records, written = np.empty(3 * room, kernels.RECORD), np.empty(3, np.int64)
    cuts, places = np.array([0, 1, 1, WORDS]), room * np.arange(3)  # the second thread has nothing to do
    kernels.cooccurrence_count_04_threads(*text, cuts, rows, lines, places, records, written)
    parts = [records[place : place + n] for place, n in zip(places, written, strict=True)]
    assert table_of(np.concatenate(parts), unit) == want
    assert not rows.any() and not lines.any()


def test_group_places_lists_each_word_in_order_of_the_text() -> None:
    ids = np.array([2, 0, -1, 2, 0, 0, 1], np.int32)
    starts, order = np.empty(5, np.int64), np.empty(7, np.int32)
    kernels.group_places(ids, 1, 6, starts, order)  # neither the first 2 nor the 1
    assert starts.tolist() == [0, 3, 3, 4, 4]
    assert order[:4].tolist() == [1, 4, 5, 3]


def test_merge_adds_equal_cells_and_keeps_the_order(rng: np.random.Generator) -> None:
    tables = [rng.integers(0, 1 << 40, (WORDS, WORDS)) * (rng.random((WORDS, WORDS)) < 0.2) for _ in range(3)]
    ends = np.array([np.count_nonzero(t) for t in tables])
    runs = np.zeros((3, ends.max()), kernels.RECORD)
    for run, table in zip(runs, tables, strict=True):
        i, j = np.nonzero(table)
        run["i"][: i.size], run["j"][: i.size], run["count"][: i.size] = i, j, table[i, j]
    nexts, records = np.zeros(3, np.int64), np.empty(WORDS * WORDS + 1, kernels.RECORD)
    rows, lines = scratch(1)
    n = kernels.cooccurrence_merge_01_rows(runs, nexts, ends, 0, 60, rows[0], lines[0], records)
    n += kernels.cooccurrence_merge_01_rows(runs, nexts, ends, 60, WORDS, rows[0], lines[0], records[n:])
    assert nexts.tolist() == ends.tolist()
    total = sum(tables)
    assert table_of(records[:n], 1) == {(i, j): total[i, j] for i, j in np.argwhere(total).tolist()}
