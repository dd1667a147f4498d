"""Counting co-occurrences within a memory limit: piece by piece of the text, sorted runs on disk, and their sum.

A piece is as much text as the limit allows. It is counted row by row (kernels/cpu/cooccurrence.py), in bands of rows whose
records fill one buffer, so the table itself is never in memory. If one piece was not enough, each becomes a run, an
anonymous temporary file that the system removes however the process ends, and runs are added up row by row. Counts are
integers, so neither the limit nor the threads nor the blocks that the text comes in can change the result.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ..errors import UserError
from ..files import StrPath, write_atomically
from ..kernel_table import announce_compilation
from .cooccurrence import RECORD, Cooccurrences, Weighting, map_records, unit_of, write_header
from .word_progress import WordProgress
from .word_table import BORDER

__all__ = ["count_cooccurrences"]

Array = np.ndarray[Any, np.dtype[Any]]

_MOST_RUNS = 64  # files open at a time
_BUFFER = 1 << 22  # records of a band at most: after each band the threads wait for each other
_LONGEST_PIECE = 1 << 30  # places are int32
_CELL = 9  # bytes of a cell of a dense row and its share of the touched lines, rounded up


def count_cooccurrences(
    ids: Iterable[Array],
    words: int,
    *,
    window: int = 15,
    symmetric: bool = True,
    weighting: Weighting = "harmonic",
    memory: int = 1 << 30,
    threads: int | None = None,
    path: StrPath | None = None,
    folder: StrPath | None = None,
    progress: bool = True,
) -> Cooccurrences:
    """Count which of `words` words stand together in ids: blocks of integers (N,), of which -1 ends a document.

    What X is, says `Cooccurrences`; words that the vocabulary dropped take up no distance. memory: bytes for the arrays
    of the count (blocks of text and the vocabulary come beside). threads: as many as Numba has. path: a file for the
    result, written atomically; without one it is mapped from a temporary file that goes with it. folder: for temporary
    files (default: the system's). progress: words per second on stderr.

    Raises UserError if memory is too small, if an id is no word's, or if a count could need more than 63 bits.
    """
    if words < 1:
        raise UserError(f"count_cooccurrences: words is {words}, but it must be at least 1")
    result = Cooccurrences(np.empty(0, RECORD), words, window, symmetric, weighting)
    shown = WordProgress("counting co-occurrences") if progress else None
    counter = _Counter(result, memory, threads, folder, shown)

    def write(file: BinaryIO) -> int:
        write_header(file, result, 0)
        records = counter.run(ids, file)
        if shown:
            shown.end()
        file.seek(0)
        write_header(file, result, records)
        return records

    if path is not None:
        write_atomically(path, write)
        return Cooccurrences.load(path)
    with tempfile.TemporaryFile(dir=folder) as file:
        records = write(file)
        file.flush()
        return Cooccurrences(map_records(file, records), words, window, symmetric, weighting)


@dataclass
class _Run:
    """Sorted records in an anonymous file; level: how many times they have been merged."""

    file: BinaryIO
    level: int


class _Counter:
    """The buffers and settings of one count."""

    def __init__(
        self,
        result: Cooccurrences,
        memory: int,
        threads: int | None,
        folder: StrPath | None,
        progress: WordProgress | None,
    ) -> None:
        from ...kernels.cpu import cooccurrence as kernels
        from ...kernels.cpu.jit import numba_settings

        announce_compilation()
        self.kernels, self.folder, self.progress = kernels, folder, progress
        self.words, self.window, self.symmetric = result.words, result.window, result.symmetric
        self.threads = threads if threads is not None else numba_settings.NUMBA_NUM_THREADS
        if self.threads < 1:
            raise UserError(f"count_cooccurrences: threads is {threads}, but it must be at least 1")
        unit = unit_of(result.window, result.weighting)
        flat = result.weighting == "flat"
        self.weights = np.array([0] + [1 if flat else unit // d for d in range(1, result.window + 1)], np.int64)
        self.seen = np.zeros(self.words, np.int64)
        self._divide(memory)
        self.rows = np.zeros((self.threads, self.cells), np.int64)
        self.lines = np.zeros((self.threads, self.cells // 8), np.uint8)

    def _divide(self, memory: int) -> None:
        """Deal the limit out: rows and offsets first, then the buffer of a band, the rest to the text."""
        size = RECORD.itemsize
        self.cells = self.kernels.row_length(self.words)
        row = self.words + self.threads  # records: the longest row, and one more for each thread
        fixed = self.threads * self.cells * _CELL + 5 * 8 * (self.words + 1) + 32 * (self.window + 1) + (1 << 12)
        least = fixed + 12 * size * (row + 1)
        if memory < least:
            raise UserError(
                f"count_cooccurrences: memory is {memory} bytes, but {self.words} words "
                f"on {self.threads} threads need at least {least}"
            )
        free = memory - fixed
        self.band = max(row, min(_BUFFER, free // 4 // size))
        self.piece = min((free - self.band * size) // 8, _LONGEST_PIECE)  # 4 bytes a place for the text, 4 for `order`
        merge = free - 4 * self.piece  # while runs are merged, the text waits
        self.fan_in = min(_MOST_RUNS, merge // (3 * size * (row + 1)))
        self.run_buffer = min(max(_BUFFER, row + 1), merge // (3 * size * self.fan_in))

    def run(self, ids: Iterable[Array], file: BinaryIO) -> int:
        """Write the records of the whole text and return their number."""
        runs: list[_Run] = []
        for text, first, last, is_last in self._pieces(ids):
            if is_last and not runs:
                return self._count(text, first, last, file)
            runs.append(_Run(self._temporary(), 0))
            self._count(text, first, last, runs[-1].file)
            while len(runs) >= self.fan_in and len({run.level for run in runs[-self.fan_in :]}) == 1:
                self._merge_last(runs, self.fan_in)
        while len(runs) > self.fan_in:
            self._merge_last(runs, self.fan_in)
        return self._merge(runs, file)

    def _pieces(self, ids: Iterable[Array]) -> Iterator[tuple[Array, int, int, bool]]:
        """(text, first, last, whether it is the end): centres are text[first:last], around them lies their context.

        A centre's window may reach `window` places into the next piece, so the last places of a piece are centres of the
        next one only; the text begins and ends behind a border.
        """
        reach = self.window
        text = np.empty(self.piece + 3 * reach + 2, np.int32)
        text[0] = BORDER
        first, end = 1, 1  # the centres begin; the text ends
        words = 0
        for block in ids:
            block = self._checked(block)
            words += int(np.count_nonzero(block >= 0))
            while block.size:
                n = min(block.size, text.size - 1 - end)
                text[end : end + n] = block[:n]
                block, end = block[n:], end + n
                if end == text.size - 1:
                    last = end - reach
                    yield text, first, last, False
                    kept = end - max(0, last - reach)
                    text[:kept] = text[end - kept : end].copy()
                    first, end = kept - (end - last), kept
            if self.progress:
                self.progress.say(words)
        text[end] = BORDER
        yield text, first, end, True

    def _checked(self, block: Array) -> Array:
        block = np.asarray(block)
        if block.ndim != 1 or (block.size and block.dtype.kind not in "iu"):
            raise UserError(
                f"count_cooccurrences: ids has a block of shape {block.shape} and dtype {block.dtype}, "
                f"but it must be integers (N,)"
            )
        if block.size and (block.min() < BORDER or block.max() >= self.words):
            wrong = block.min() if block.min() < BORDER else block.max()
            raise UserError(
                f"count_cooccurrences: ids has {wrong}, but {self.words} words have ids from 0, and -1 ends"
            )
        return block

    def _count(self, text: Array, first: int, last: int, file: BinaryIO) -> int:
        """Write the records of one piece, band by band; Ctrl-C works between bands."""
        starts, order = np.empty(self.words + 1, np.int64), np.empty(last - first, np.int32)
        self.kernels.group_places(text, first, last, starts, order)
        places = np.diff(starts)
        self.seen += places
        self._check_overflow()
        most = places * (2 * self.window if self.symmetric else self.window)
        ends = np.cumsum(np.minimum(most, self.words, out=most), out=most)  # room that the rows up to each one need
        records, written = np.empty(self.band, RECORD), np.empty(self.threads, np.int64)
        begin = total = 0
        while begin < self.words:
            before = ends[begin - 1] if begin else 0
            end = int(np.searchsorted(ends, before + self.band - self.threads, "right"))
            cuts = begin + np.searchsorted(
                starts[begin:end], np.linspace(starts[begin], starts[end], self.threads + 1)[1:-1]
            )
            cuts = np.concatenate([[begin], cuts, [end]])  # rows by thread, with about as many places each
            heads = np.where(cuts[:-1] > 0, ends[cuts[:-1] - 1], 0) - before + np.arange(self.threads)
            self.kernels.cooccurrence_count_04_threads(
                text, order, starts, self.weights, self.symmetric, cuts, self.rows, self.lines, heads, records, written
            )
            for head, n in zip(heads.tolist(), written.tolist(), strict=True):
                file.write(records[head : head + n].data)
                total += n
            begin = end
        return total

    def _check_overflow(self) -> None:
        """All that one word can have counted must fit in 63 bits: then every sum does."""
        mass = int(self.weights.sum()) * (2 if self.symmetric else 1)
        if int(self.seen.max()) * mass >= 1 << 63:
            raise UserError(
                f"count_cooccurrences: a word occurs {self.seen.max()} times, too often to count exactly "
                f"with a window of {self.window}: take a smaller one, or weighting 'flat'"
            )

    # ---- runs

    def _temporary(self) -> BinaryIO:
        return tempfile.TemporaryFile(dir=self.folder)  # without a name: nothing to remove, whatever happens

    def _merge_last(self, runs: list[_Run], n: int) -> None:
        merged = _Run(self._temporary(), runs[-n].level + 1)
        self._merge(runs[-n:], merged.file)
        runs[-n:] = [merged]

    def _merge(self, runs: list[_Run], file: BinaryIO) -> int:
        """Write the sum of sorted runs, close them, and return the number of records."""
        k, size = len(runs), RECORD.itemsize
        buffers = np.empty((k, self.run_buffer), RECORD)
        records = np.empty(buffers.size + 1, RECORD)
        nexts, ends = np.zeros(k, np.int64), np.zeros(k, np.int64)
        for run in runs:
            run.file.seek(0)
        begin = total = 0
        while begin < self.words:
            complete = self.words  # rows below are in the buffers to their last record
            for r, run in enumerate(runs):
                rest = int(ends[r] - nexts[r])
                buffers[r, :rest] = buffers[r, nexts[r] : ends[r]]
                nexts[r], ends[r] = 0, rest + _fill(run.file, buffers[r, rest:]) // size
                if ends[r] == self.run_buffer:  # there may be more; a buffer is longer than a row, so rows do get done
                    complete = min(complete, int(buffers[r, -1]["i"]))
            n = self.kernels.cooccurrence_merge_01_rows(
                buffers, nexts, ends, begin, complete, self.rows[0], self.lines[0], records
            )
            file.write(records[:n].data)
            total, begin = total + n, complete
        for run in runs:
            run.file.close()
        return total


def _fill(file: BinaryIO, records: Array) -> int:
    """Read into records until they are full or the file ends; return the bytes."""
    view, done = records.view(np.uint8), 0
    while n := file.readinto(view[done:]):  # type: ignore[attr-defined]
        done += n
    return done
