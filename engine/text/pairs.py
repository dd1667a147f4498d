"""Pairs of texts, a source and its target: reading them, holding some back, and batches with padding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files import read_text
from ..random import Generator

__all__ = ["padded", "read_pairs", "split_pairs"]

Pair = tuple[str, str]


def read_pairs(path: Path, separator: str = "\t") -> list[Pair]:
    """The pairs of a UTF-8 file, one a line: source, separator, target; spaces around either are no part of it.

    Of a line with several tabs the columns after the second are ignored (as in Tatoeba's files); empty lines are too.
    UserError, with the number of the line, where a separator or a side is missing.
    """
    pairs: list[Pair] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        columns = line.split("\t") if separator == "\t" else line.split(separator, 1)
        if len(columns) < 2:
            raise UserError(f"{path}, line {number}: there is no {separator!r} between a source and a target")
        source, target = columns[0].strip(), columns[1].strip()
        if not source or not target:
            raise UserError(f"{path}, line {number}: the {'target' if source else 'source'} is empty")
        pairs.append((source, target))
    return pairs


def split_pairs(pairs: Sequence[Pair], held_back: int, seed: int) -> tuple[list[Pair], list[Pair]]:
    """(those to train on, `held_back` others), drawn by the seed. UserError unless some are left to train on."""
    if not 1 <= held_back < len(pairs):
        raise UserError(
            f"held_back is {held_back}, but it must be from 1 to {len(pairs) - 1}: there are {len(pairs)} pairs"
        )
    order = np.argsort(Generator(seed, stream=2).uniform((len(pairs),), np.float64), kind="stable")
    return [pairs[i] for i in order[held_back:]], [pairs[i] for i in order[:held_back]]


def padded(rows: Sequence[Any], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """(ids (B, S), lengths (B,)) of B sequences of ids, filled up with `pad` behind their end."""
    lengths = np.array([len(row) for row in rows])
    ids = np.full((len(rows), lengths.max()), pad, np.int64)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = tokens
    return ids, lengths
