"""handgrad's side of glove_counts.py: the vocabulary of a file and its co-occurrence counts, whole runs."""

from __future__ import annotations

import time
from typing import Any

from serve import run_queue_wait, serve

from handgrad.engine import process


class Side:
    """One text, one vocabulary file, one limit of memory."""

    def start(
        self, threads: int, text: str, vocabulary: str, min_count: int, window: int, memory: int
    ) -> dict[str, Any]:
        """Settle, load, run everything once (kernels compile) and return the settings."""
        process.settle(threads)
        from handgrad.engine.text.counting import count_cooccurrences
        from handgrad.engine.text.vocabulary import Vocabulary
        from handgrad.engine.text.words import WordBlocks

        self.count, self.vocabularies, self.blocks = count_cooccurrences, Vocabulary, WordBlocks(text)
        self.file, self.min_count = vocabulary, min_count
        self.settings = {"window": window, "memory": memory, "threads": threads, "progress": False}
        self.vocabularies.build(self.blocks, min_count=min_count).save(vocabulary)
        self.run(False)
        return process.settings()

    def run(self, with_vocabulary: bool) -> tuple[float, float]:
        """Seconds, and seconds on the run queue, of one run from the text to a file of counts."""
        before, start = run_queue_wait(), time.perf_counter()
        if with_vocabulary:
            vocabulary = self.vocabularies.build(self.blocks, min_count=self.min_count)
        else:
            vocabulary = self.vocabularies.load(self.file)
        self.made = self.count(vocabulary.encode_blocks(self.blocks), len(vocabulary), **self.settings)
        return time.perf_counter() - start, max(0.0, run_queue_wait() - before)

    def compare(self, theirs: str) -> dict[str, Any]:
        """Our counts beside the file that Stanford's cooccur made of the same vocabulary."""
        import numpy as np

        from handgrad.engine.text.cooccurrence import STANFORD

        records = np.fromfile(theirs, STANFORD)
        same = len(records) == len(self.made) and bool(
            (records["word1"] - 1 == self.made.i).all() and (records["word2"] - 1 == self.made.j).all()
        )
        values = self.made.values()
        return {
            "pairs": len(self.made),
            "same_pairs": same,
            "largest_relative_difference": float(np.abs(records["val"] / values - 1).max()) if same else None,
            "nearest_integers_equal": same
            and bool((np.rint(records["val"] * self.made.unit) == self.made.count).all()),
        }

    def words(self) -> dict[str, int]:
        """Words of the text that the vocabulary knows, and the size of the vocabulary."""
        vocabulary = self.vocabularies.load(self.file)
        return {"known": sum(vocabulary.counts), "vocabulary": len(vocabulary)}


if __name__ == "__main__":
    side = Side()
    serve({"start": side.start, "run": side.run, "compare": side.compare, "words": side.words})
