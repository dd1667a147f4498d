"""Counting co-occurrences: against fractions in a double loop, and the same bits whatever the machine."""

from __future__ import annotations

import gc
import json
import math
import tracemalloc
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handgrad.engine.errors import UserError
from handgrad.engine.text import counting
from handgrad.engine.text.cooccurrence import HEADER, RECORD, STANFORD, Cooccurrences, unit_of
from handgrad.engine.text.counting import count_cooccurrences
from handgrad.engine.text.vocabulary import Vocabulary
from handgrad.engine.text.word_progress import WordProgress
from handgrad.engine.text.words import WordBlocks

SMALL = 60_000
"""Bytes: for 20 words, pieces of about 1,700 places."""

texts = st.lists(st.integers(-1, 6), max_size=60)


def definition(ids: Iterable[int], window: int, symmetric: bool, flat: bool) -> dict[tuple[int, int], Fraction]:
    """X as the double loop over the places of each document."""
    found: dict[tuple[int, int], Fraction] = {}
    document: list[int] = []
    for j in ids:
        if j < 0:
            document = []
            continue
        for distance, i in enumerate(reversed(document[-window:]), start=1):
            weight = Fraction(1) if flat else Fraction(1, distance)
            found[i, j] = found.get((i, j), Fraction(0)) + weight
            if symmetric:
                found[j, i] = found.get((j, i), Fraction(0)) + weight
        document.append(j)
    return found


def table(made: Cooccurrences) -> dict[tuple[int, int], Fraction]:
    keys = list(zip(made.i.tolist(), made.j.tolist(), strict=True))
    assert keys == sorted(set(keys))
    return dict(zip(keys, [Fraction(c, made.unit) for c in made.count.tolist()], strict=True))


def count(ids: Any, words: int = 7, **settings: Any) -> Cooccurrences:
    return count_cooccurrences([np.asarray(ids, np.int32)], words, **{"progress": False, **settings})


def random_ids(length: int, words: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ids = (words * rng.random(length) ** 2).astype(np.int32)
    ids[rng.random(length) < 0.03] = -1
    return ids


# ---- the definition and its properties


@given(ids=texts, window=st.integers(1, 20), symmetric=st.booleans(), flat=st.booleans())
def test_counts_are_the_definition(ids: list[int], window: int, symmetric: bool, flat: bool) -> None:
    made = count(ids, window=window, symmetric=symmetric, weighting="flat" if flat else "harmonic")
    want = definition(ids, window, symmetric, flat)
    assert table(made) == want
    assert made.total() == sum(want.values())
    np.testing.assert_allclose(made.values(), [float(want[key]) for key in sorted(want)], rtol=1e-15)
    assert (made.i.dtype, made.j.dtype, made.count.dtype) == (np.int32, np.int32, np.int64)


@given(ids=texts, window=st.integers(1, 20))
def test_symmetric_is_left_plus_its_transpose(ids: list[int], window: int) -> None:
    left = table(count(ids, window=window, symmetric=False))
    want = dict(left)
    for (i, j), x in left.items():
        want[j, i] = want.get((j, i), Fraction(0)) + x
    assert table(count(ids, window=window)) == want


@given(lengths=st.lists(st.integers(0, 30), max_size=6), window=st.integers(1, 20))
def test_total_mass_depends_on_the_lengths_of_the_documents_alone(lengths: list[int], window: int) -> None:
    ids = [word for n in lengths for word in [*(k * k % 7 for k in range(n)), -1]]
    want = sum((Fraction(2 * (n - d), d) for n in lengths for d in range(1, min(window, n - 1) + 1)), Fraction(0))
    assert count(ids, window=window).total() == want


def test_documents_are_worlds_of_their_own() -> None:
    assert table(count([0, 1, -1, 2], window=5)) == {(0, 1): 1, (1, 0): 1}
    assert table(count([0, 0, 0], window=9)) == {(0, 0): Fraction(5)}  # 2 (1 + 1 + 1/2)


@pytest.mark.parametrize("blocks", [[], [[]], [[-1, -1]], [[3]], [[3, -1], [3]]])
def test_texts_without_a_pair_give_nothing(tmp_path: Path, blocks: list[list[int]]) -> None:
    made = count_cooccurrences([np.array(b, np.int32) for b in blocks], 7, path=tmp_path / "x", progress=False)
    assert (len(made), made.total(), made.values().shape) == (0, 0, (0,))
    assert len(Cooccurrences.load(tmp_path / "x")) == 0


# ---- the same bits


@given(data=st.data(), threads=st.integers(1, 5), window=st.integers(1, 12), symmetric=st.booleans())
def test_threads_limits_and_blocks_change_nothing(data: Any, threads: int, window: int, symmetric: bool) -> None:
    ids = random_ids(data.draw(st.integers(0, 4000)), 20, data.draw(st.integers(0, 9)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=6)))
    want = count(ids, 20, window=window, symmetric=symmetric, threads=1)
    made = count_cooccurrences(
        np.split(ids, cuts), 20, window=window, symmetric=symmetric, threads=threads,
        memory=SMALL + data.draw(st.integers(0, 20_000)), progress=False,
    )  # fmt: skip
    np.testing.assert_array_equal(made.records, want.records)


def test_many_runs_merge_in_several_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    merges: list[int] = []
    merge = counting._Counter._merge
    monkeypatch.setattr(
        counting._Counter, "_merge", lambda self, runs, file: merges.append(len(runs)) or merge(self, runs, file)
    )
    monkeypatch.setattr(counting, "_MOST_RUNS", 3)
    ids = random_ids(80_000, 20)
    made = count(ids, 20, memory=SMALL, folder=tmp_path)
    assert max(merges) == 3 and len(merges) > 5
    np.testing.assert_array_equal(made.records, count(ids, 20).records)
    assert not list(tmp_path.iterdir())  # runs have no names


def test_a_row_that_fills_its_buffer_is_merged_whole() -> None:
    words = 300  # each with each: rows as long as they can be, while a run's buffer holds few of them
    ids = np.random.default_rng(0).integers(0, words, 60_000).astype(np.int32)
    made = count(ids, words, window=5, memory=120_000)
    np.testing.assert_array_equal(made.records, count(ids, words, window=5).records)


def test_bands_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = random_ids(3000, 200)
    want = count(ids, 200)
    monkeypatch.setattr(counting, "_BUFFER", 1)  # one row at a time
    np.testing.assert_array_equal(count(ids, 200, threads=3).records, want.records)


# ---- limits


@pytest.mark.parametrize("memory", [300_000, 2_000_000])
def test_memory_stays_within_the_limit(memory: int, tmp_path: Path) -> None:
    ids = random_ids(memory, 500)  # several pieces
    blocks = np.array_split(ids, 300)
    count_cooccurrences(blocks, 500, memory=memory, threads=2, progress=False)  # compiles and imports
    gc.collect()
    tracemalloc.start()
    try:
        count_cooccurrences(blocks, 500, memory=memory, threads=2, path=tmp_path / "x", progress=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < memory + 100_000  # Python's own objects and one block
    assert peak > memory / 2  # and the limit is made use of


def test_too_little_memory_says_how_much_is_needed() -> None:
    with pytest.raises(UserError, match=r"memory is 1000 bytes, but 7 words on 2 threads need at least \d+$") as caught:
        count([0, 1], memory=1000, threads=2)
    least = int(str(caught.value).split()[-1])
    ids = random_ids(3000, 7)
    np.testing.assert_array_equal(count(ids, memory=least, threads=2).records, count(ids).records)
    with pytest.raises(UserError):
        count([0, 1], memory=least - 1, threads=2)


def test_a_count_that_might_not_fit_is_refused() -> None:
    assert unit_of(42, "harmonic") == math.lcm(*range(1, 43)) < 1 << 63
    assert table(count([0, 1], window=42)) == {(0, 1): 1, (1, 0): 1}
    with pytest.raises(UserError, match="a word occurs 10 times, too often to count exactly with a window of 42"):
        count([0, 1] * 10, window=42)
    with pytest.raises(UserError, match="window is 43, but harmonic weights are exact up to 42 only"):
        count([0], window=43)
    assert len(count([0, 1] * 10, window=500, weighting="flat")) == 4


@pytest.mark.parametrize(
    ("ids", "settings", "message"),
    [
        ([0, 7], {}, "ids has 7, but 7 words have ids from 0"),
        ([-2], {}, "ids has -2"),
        ([[0]], {}, r"a block of shape \(1, 1\)"),
        ([0], {"window": 0}, "window is 0, but it must be at least 1"),
        ([0], {"weighting": "linear"}, "weighting is 'linear'"),
        ([0], {"threads": 0}, "threads is 0"),
        ([0], {"words": 0}, "words is 0"),
    ],
)
def test_what_cannot_be_counted_is_refused(ids: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        count(ids, **settings)


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted() -> Any:
        yield random_ids(5000, 20)
        raise KeyboardInterrupt

    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        count_cooccurrences(interrupted(), 20, memory=SMALL, path=tmp_path / "x", folder=tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


def test_progress_is_on_stderr_and_quiet_for_quick_counts(capsys: pytest.CaptureFixture[str]) -> None:
    count([0, 1], progress=True)
    assert capsys.readouterr().err == ""
    now = [0.0]
    progress = WordProgress("counting co-occurrences", clock=lambda: now[0])
    for now[0], words in (
        (4.0, 500),
        (10.0, 1000),
        (12.0, 2000),
        (20.0, 4000),
    ):  # 4 s and 12 s are too early for a line
        progress.say(words)
    progress.end()
    lines = ["1,000 words  100 words/s", "4,000 words  200 words/s", "4,000 words  200 words/s"]
    assert capsys.readouterr().err == "".join(f"counting co-occurrences: {line}\n" for line in lines)


# ---- from files to files


def test_from_files_to_counts(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("the cat sat\nthe dog sat\nthe end\n")
    blocks = WordBlocks(tmp_path / "text")
    vocabulary = Vocabulary.build(blocks, min_count=2)
    made = count_cooccurrences(vocabulary.encode_blocks(blocks), len(vocabulary), window=2, progress=False)
    assert vocabulary.words == ("the", "sat")
    assert table(made) == {(0, 1): 2, (1, 0): 2}  # a dropped word takes up no distance


def test_save_and_load(tmp_path: Path) -> None:
    made = count(random_ids(3000, 7), window=4, symmetric=False, weighting="flat", path=tmp_path / "a")
    made.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    again = Cooccurrences.load(tmp_path / "b")
    np.testing.assert_array_equal(again.records, made.records)
    assert (again.words, again.window, again.symmetric, again.weighting) == (7, 4, False, "flat")
    assert not again.records.flags.writeable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "write it again"),
        (lambda data: data + b"x", "write it again"),
        (lambda data: data[:100], "is no file of co-occurrences"),
        (lambda data: b"", "is no file of co-occurrences"),
        (lambda data: data.replace(b"occurrences 1", b"occurrences 9"), "is no file of co-occurrences"),
        (lambda data: data.replace(b'"window"', b'"wimdow"'), "is no file of co-occurrences"),
        (None, "cannot be read: No such file"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, change: Any, message: str) -> None:
    count([0, 1, 2], path=tmp_path / "x")
    if change is None:
        (tmp_path / "x").unlink()
    else:
        (tmp_path / "x").write_bytes(change((tmp_path / "x").read_bytes()))
    with pytest.raises(UserError, match=message):
        Cooccurrences.load(tmp_path / "x")


def test_the_header_is_json(tmp_path: Path) -> None:
    made = count([0, 1, 2], path=tmp_path / "x")
    header = json.loads((tmp_path / "x").read_bytes()[:HEADER])
    assert header["records"] == len(made) == 6
    assert np.frombuffer((tmp_path / "x").read_bytes()[HEADER:], RECORD).tolist() == made.records.tolist()


# ---- Stanford's files


@pytest.mark.parametrize(("symmetric", "weighting"), [(True, "harmonic"), (False, "flat")])
def test_stanford_files_there_and_back(tmp_path: Path, symmetric: bool, weighting: Any) -> None:
    settings: dict[str, Any] = {"window": 15, "symmetric": symmetric, "weighting": weighting}
    made = count(random_ids(30_000, 50), 50, **settings)
    made.save_stanford(tmp_path / "x")
    theirs = np.fromfile(tmp_path / "x", STANFORD)
    assert theirs["word1"].min() == 1
    np.testing.assert_array_equal(theirs["val"], made.values())
    rng = np.random.default_rng(0)
    theirs["val"] *= 1 + 1e-13 * rng.standard_normal(len(theirs))  # as sums of rounded fractions are off
    rng.permutation(theirs).tofile(tmp_path / "x")
    again = Cooccurrences.load_stanford(tmp_path / "x", 50, **settings)
    np.testing.assert_array_equal(again.records, made.records)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([(1, 8, 1.0)], "words beyond the 7 of the vocabulary"),
        ([(0, 1, 1.0)], "words beyond the 7 of the vocabulary"),
        ([(1, 1, 1 / 17)], "which no window of 15 with harmonic weights gives"),
        ([(1, 1, 0.0)], "which no window of 15 with harmonic weights gives"),
        ([(1, 1, np.nan)], "which no window of 15 with harmonic weights gives"),
    ],
)
def test_foreign_stanford_files_are_refused(tmp_path: Path, records: list[Any], message: str) -> None:
    np.array(records, STANFORD).tofile(tmp_path / "x")
    with pytest.raises(UserError, match=message):
        Cooccurrences.load_stanford(tmp_path / "x", 7)


def test_half_a_stanford_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"1234")
    with pytest.raises(UserError, match="is no file of whole records"):
        Cooccurrences.load_stanford(tmp_path / "x", 7)
    (tmp_path / "x").write_bytes(b"")
    assert len(Cooccurrences.load_stanford(tmp_path / "x", 7)) == 0
    with pytest.raises(UserError, match="cannot be read"):
        Cooccurrences.load_stanford(tmp_path / "y", 7)
