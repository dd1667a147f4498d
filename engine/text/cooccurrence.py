"""The result of counting co-occurrences: exact, sorted, on disk, and readable by Stanford's GloVe programs.

A file is a line of JSON, filled up with spaces to 256 bytes, and then the records (i, j, count), 16 bytes each, little
endian. It is mapped into memory, not read: a table larger than memory can be used.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from ..errors import UserError
from ..files import StrPath, write_atomically

__all__ = ["HEADER", "RECORD", "STANFORD", "Cooccurrences", "Weighting", "unit_of", "write_header"]

Array = np.ndarray[Any, np.dtype[Any]]
Weighting = Literal["harmonic", "flat"]

RECORD = np.dtype([("i", "<i4"), ("j", "<i4"), ("count", "<i8")])
STANFORD = np.dtype([("word1", "<i4"), ("word2", "<i4"), ("val", "<f8")])
"""The record of Stanford's cooccur and glove, ids from 1."""

HEADER = 256  # bytes
_FORMAT = "handgrad co-occurrences 1"
_BLOCK = 1 << 16  # records converted at a time


def unit_of(window: int, weighting: Weighting) -> int:
    """Counts are multiples of 1 / unit: every weight 1 / d up to the window is, if unit is their least common multiple."""
    if window < 1:
        raise UserError(f"window is {window}, but it must be at least 1")
    if weighting not in ("harmonic", "flat"):
        raise UserError(f"weighting is {weighting!r}, but it must be 'harmonic' (1 / distance) or 'flat' (1)")
    unit = math.lcm(*range(1, window + 1)) if weighting == "harmonic" else 1
    if unit >= 1 << 62:
        raise UserError(f"window is {window}, but harmonic weights are exact up to 42 only: take 'flat'")
    return unit


@dataclass(frozen=True)
class Cooccurrences:
    """X[i, j] for words i and j of a vocabulary of V words, where it is not zero; sorted by i, then j.

    X sums 1 / distance (harmonic; flat: 1) over the places where i stands before j, at most `window` words apart;
    symmetric: or behind it. So symmetric X = left X + its transpose, as Stanford's cooccur has it.
    records: (N,) of (i, j, count) with X = count / unit, in memory or mapped from a file.
    """

    records: Array = field(repr=False)
    words: int
    window: int
    symmetric: bool = True
    weighting: Weighting = "harmonic"

    def __len__(self) -> int:
        """How many cells are not zero."""
        return len(self.records)

    @property
    def unit(self) -> int:
        """The number that X is a whole multiple of one over."""
        return unit_of(self.window, self.weighting)

    @property
    def i(self) -> Array:
        """Rows (N,) int32, a view."""
        return self.records["i"]

    @property
    def j(self) -> Array:
        """Columns (N,) int32, a view."""
        return self.records["j"]

    @property
    def count(self) -> Array:
        """Counts (N,) int64 in units, a view."""
        return self.records["count"]

    def values(self) -> Array:
        """X (N,) float64: the count over the unit, rounded once."""
        return self.count / self.unit

    def total(self) -> Fraction:
        """The sum of X, exactly."""
        halves = ((int((c >> 32).sum()), int((c & 0xFFFFFFFF).sum())) for c in (b["count"] for b in self._blocks()))
        return Fraction(sum((high << 32) + low for high, low in halves), self.unit)

    def save(self, path: StrPath) -> None:
        """Write a file for `load`, atomically."""

        def write(file: BinaryIO) -> None:
            write_header(file, self, len(self))
            for block in self._blocks():
                file.write(block.astype(RECORD, copy=False).data)

        write_atomically(path, write)

    @classmethod
    def load(cls, path: StrPath) -> Cooccurrences:
        """Map what `save` or `count_cooccurrences` wrote; UserError if it is missing, cut short or something else."""
        try:
            with open(path, "rb") as file:
                header, size = _read_header(path, file.read(HEADER)), os.fstat(file.fileno()).st_size
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        records = header.pop("records")
        if size != HEADER + records * RECORD.itemsize:
            wanted = HEADER + records * RECORD.itemsize
            raise UserError(f"{path} has {size} bytes, but its {records} records need {wanted}: write it again")
        return cls(map_records(path, records), **header)

    def save_stanford(self, path: StrPath) -> None:
        """Write the binary file of Stanford's cooccur (int word1, int word2, double val; ids from 1), atomically."""

        def write(file: BinaryIO) -> None:
            for block in self._blocks():
                out = np.empty(len(block), STANFORD)
                out["word1"], out["word2"], out["val"] = block["i"] + 1, block["j"] + 1, block["count"] / self.unit
                file.write(out.data)

        write_atomically(path, write)

    @classmethod
    def load_stanford(
        cls, path: StrPath, words: int, *, window: int = 15, symmetric: bool = True, weighting: Weighting = "harmonic"
    ) -> Cooccurrences:
        """Read what Stanford's cooccur (or shuffle: it is sorted again) wrote, with the settings that it was run with.

        Its sums are off by their rounding alone, so the exact count is the nearest integer. Raises UserError if a value
        is none of these settings', or if a word is not among `words`.
        """
        unit = unit_of(window, weighting)
        try:
            if os.path.getsize(path) % STANFORD.itemsize:
                raise UserError(
                    f"{path} is no file of whole records (int, int, double) as Stanford's cooccur writes it"
                )
            theirs = np.memmap(path, STANFORD, "r") if os.path.getsize(path) else np.empty(0, STANFORD)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        records = np.empty(len(theirs), RECORD)
        for start in range(0, len(theirs), _BLOCK):
            block, out = theirs[start : start + _BLOCK], records[start : start + _BLOCK]
            out["i"], out["j"] = block["word1"] - 1, block["word2"] - 1
            if out["i"].min() < 0 or out["j"].min() < 0 or max(out["i"].max(), out["j"].max()) >= words:
                raise UserError(f"{path} has words beyond the {words} of the vocabulary: it belongs to another one")
            exact = block["val"] * unit
            with np.errstate(invalid="ignore"):  # NaN is near to nothing
                out["count"] = np.rint(exact)
            near = np.abs(exact - out["count"]) <= 1e-9 * exact + 1e-3
            if not near.all() or (out["count"] <= 0).any():
                odd = block["val"][np.argmin(near)]
                raise UserError(
                    f"{path} has the value {odd}, which no window of {window} with {weighting} weights gives"
                )
        key = (records["i"].astype(np.int64) << 32) | records["j"]
        if (np.diff(key) <= 0).any():
            records = records[np.argsort(key)]
        return cls(records, words, window, symmetric, weighting)

    def _blocks(self) -> Iterator[Array]:
        for start in range(0, len(self), _BLOCK):
            yield self.records[start : start + _BLOCK]


def write_header(file: BinaryIO, result: Cooccurrences, records: int) -> None:
    """Write the first HEADER bytes of a file that will hold so many records."""
    content = {
        "format": _FORMAT, "records": records, "words": result.words, "window": result.window,
        "symmetric": result.symmetric, "weighting": result.weighting,
    }  # fmt: skip
    file.write(json.dumps(content).encode().ljust(HEADER - 1) + b"\n")


def map_records(file: StrPath | BinaryIO, records: int) -> Array:
    """The records behind the header, mapped read-only."""
    if records == 0:  # nothing cannot be mapped
        return np.empty(0, RECORD)
    source: Any = Path(file) if isinstance(file, (str, os.PathLike)) else file
    return np.memmap(source, RECORD, "r", offset=HEADER, shape=(records,)).view(np.ndarray)


def _read_header(path: StrPath, data: bytes) -> dict[str, Any]:
    try:
        header = json.loads(data)
        if header.pop("format") != _FORMAT:
            raise ValueError("another format")
        kinds = {"records": int, "words": int, "window": int, "symmetric": bool, "weighting": str}
        if header.keys() != kinds.keys() or any(type(header[name]) is not kind for name, kind in kinds.items()):
            raise ValueError("other fields")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is no file of co-occurrences: it must begin with their line of JSON") from error
    return header
