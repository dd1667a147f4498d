"""docs/semantics.md, Words and word vectors: what is counted, what is fitted to it, what the nearest words are."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from handgrad.engine.models.glove import GloVe, GloVeConfig
from handgrad.engine.text.cooccurrence import Cooccurrences
from handgrad.engine.text.counting import count_cooccurrences
from handgrad.engine.text.vectors import WordVectors
from handgrad.engine.text.vocabulary import Vocabulary
from handgrad.engine.text.words import WordBlocks, unicode_words, whitespace

answers = pytest.mark.answers


def counted(ids: list[int], words: int, window: int) -> dict[tuple[int, int], Fraction]:
    """(i, j) -> X, exactly, of one document."""
    table = count_cooccurrences([np.array(ids, np.int32)], words, window=window, progress=False)
    return {
        (int(i), int(j)): Fraction(int(n), table.unit) for i, j, n in zip(table.i, table.j, table.count, strict=True)
    }


@answers("what a word is in `train glove`")
def test_what_a_word_is() -> None:
    assert unicode_words("Don\u2019t stop: 2nd_try, caf\u00e9!") == ["don't", "stop", "2nd", "try", "caf\u00e9"]
    assert whitespace("Don't stop: 2nd_try") == ["Don't", "stop:", "2nd_try"]


@answers("words below `min_count`")
def test_rare_words_are_dropped_before_windows_are_laid(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a rare b a b")
    blocks = WordBlocks(tmp_path / "text", whitespace, "files")
    vocabulary = Vocabulary.build(blocks, min_count=2)
    assert vocabulary.words == ("a", "b")
    ids = np.concatenate(list(vocabulary.encode_blocks(blocks)))
    assert ids.tolist() == [0, 1, 0, 1, -1]  # a and b have become neighbours


@answers("distance in a window of co-occurrences")
def test_a_word_counts_one_over_its_distance() -> None:
    found = counted([0, 1, 2, 0], 3, 2)
    by_hand = {(0, 1): 1 + Fraction(1, 2), (1, 2): Fraction(1), (0, 2): Fraction(1, 2) + 1}
    assert found == by_hand | {(j, i): x for (i, j), x in by_hand.items()}


@answers("exactness of co-occurrence counts")
def test_counts_are_exact() -> None:
    """The harmonic sum 1 + 1/2 + ... + 1/15, which no float holds, and again whatever the number of threads."""
    ids = [0] + [1] * 15
    assert counted(ids, 2, 15)[0, 1] == sum(Fraction(1, d) for d in range(1, 16))
    text = np.random.default_rng(1).integers(0, 9, 5000).astype(np.int32)
    one, two = (count_cooccurrences([text], 9, window=15, threads=n, progress=False) for n in (1, 2))
    assert np.array_equal(one.records, two.records)


@answers("end of a document")
def test_no_window_reaches_over_the_end_of_a_document() -> None:
    assert counted([0, 1, -1, 2], 3, 15).keys() == {(0, 1), (1, 0)}


@answers("training GloVe twice")
def test_training_is_deterministic() -> None:
    i, j = np.divmod(np.arange(60 * 60), 60)
    runs = []
    for threads in (1, 2):
        model = GloVe([f"w{n}" for n in range(60)], 5)
        model.fit((i, j, 1.0 + (i * j) % 7), 2, threads=threads)
        runs.append((model.costs, model.vectors.tobytes()))
    assert runs[0] == runs[1]


@answers("cost of an epoch of GloVe")
def test_the_cost_is_half_the_mean_weighted_square() -> None:
    model = GloVe(["a", "b"], 2)
    model.parameters = {name: np.zeros_like(array) for name, array in model.parameters.items()}
    (cost,) = model.fit((np.array([0]), np.array([1]), np.array([16.0])), 1, GloVeConfig(x_max=256.0))
    assert cost == pytest.approx(0.5 * (16 / 256) ** 0.75 * np.log(16.0) ** 2, rel=1e-6)


@answers("the vector of a word in GloVe")
def test_a_vector_is_the_sum_of_both() -> None:
    model = GloVe(["a", "b"], 3)
    np.testing.assert_array_equal(model.vectors, model.parameters["w"] + model.parameters["w_context"])


@answers("what `nearest` measures")
def test_nearest_is_by_the_cosine() -> None:
    vectors = WordVectors(["here", "far but the same way", "near by", "zero"], [[1, 0], [9, 0], [1, 0.5], [0, 0]])
    assert [word for word, _ in vectors.nearest("here")] == ["far but the same way", "near by", "zero"]
    assert vectors.nearest("here")[0][1] == 1.0 and vectors.similarity("here", "zero") == 0.0


@answers("`analogy`")
def test_the_words_of_an_analogy_are_no_answers() -> None:
    vectors = WordVectors(["a", "b", "c", "d"], [[1, 0], [1, 0.01], [0, 1], [0.1, -1]])
    assert [word for word, _ in vectors.analogy("a", "b", "c", 4)] == ["d"]


@answers("files of Stanford's GloVe")
def test_tables_of_stanford_are_read_and_written(tmp_path: Path) -> None:
    table = count_cooccurrences([np.array([0, 1, 2, 0], np.int32)], 3, window=15, progress=False)
    table.save_stanford(tmp_path / "cooccurrence.bin")
    again = Cooccurrences.load_stanford(tmp_path / "cooccurrence.bin", 3, window=15)
    assert np.array_equal(again.records, table.records)
    (tmp_path / "vocab.txt").write_text("the 7\ncat 2\n")
    vocabulary = Vocabulary.load(tmp_path / "vocab.txt")
    vocabulary.save(tmp_path / "again.txt")
    assert (tmp_path / "again.txt").read_text() == "the 7\ncat 2\n" and vocabulary.id("cat") == 1
    WordVectors(["the", "cat"], [[1.0, -0.5], [0.25, 2.0]]).save(tmp_path / "vectors.txt")
    assert (tmp_path / "vectors.txt").read_text() == "the 1 -0.5\ncat 0.25 2\n"
    assert WordVectors.load(tmp_path / "vectors.txt")["cat"].tolist() == [0.25, 2.0]
