"""Batches of (x, y) for a language model: y is x one token later. B: batch, T: context (block_size), N: tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..errors import UserError

__all__ = [
    "CarriedBlocks",
    "ConsecutiveBlocks",
    "IntegerGenerator",
    "RandomBlocks",
    "carried_blocks",
    "consecutive_blocks",
]

Ids = np.ndarray[Any, np.dtype[Any]]
Batch = tuple[Ids, Ids]


class IntegerGenerator(Protocol):
    """A source of random integers: `engine.random.Generator`, NumPy's, or a test's own."""

    def integers(self, low: int, high: int, shape: tuple[int, ...], /) -> Ids:
        """Return integers of `shape` from low (included) to high (excluded)."""
        ...


@dataclass(frozen=True)
class RandomBlocks:
    """Blocks of ids (N,) that start anywhere, as nanoGPT's get_batch draws them: training data.

    The generator is the only state, so a run resumes exactly where the generator's saved state was.
    Raises UserError if the text is shorter than T + 1, ValueError if a size is not positive.
    """

    ids: Ids = field(repr=False)
    block_size: int
    batch_size: int
    generator: IntegerGenerator

    def __post_init__(self) -> None:
        _check("RandomBlocks", self.ids, self.block_size, self.batch_size)

    def draw(self) -> Batch:
        """Return x and y, int64 (B, T), with y[:, t] the token that follows x[:, t]."""
        starts = self.generator.integers(0, len(self.ids) - self.block_size, (self.batch_size,))  # (B,)
        places = np.asarray(starts)[:, None] + np.arange(self.block_size)  # (B, T)
        return self.ids[places].astype(np.int64, copy=False), self.ids[places + 1].astype(np.int64, copy=False)


@dataclass(frozen=True)
class ConsecutiveBlocks:
    """A text as non-overlapping blocks in order; iterate as often as you like. Made by `consecutive_blocks`."""

    ids: Ids = field(repr=False)
    block_size: int
    batch_size: int

    @property
    def blocks(self) -> int:
        """How many blocks of T predictions the text gives, one row of a batch each."""
        return (len(self.ids) - 1) // self.block_size

    @property
    def dropped(self) -> int:
        """How many tokens at the end are never predicted, because they fill no block."""
        return len(self.ids) - 1 - self.blocks * self.block_size

    def __len__(self) -> int:
        """How many batches there are."""
        return -(-self.blocks // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield x and y, int64 (B, T); the last batch may have fewer rows, so weigh a mean loss by its rows."""
        end = self.blocks * self.block_size
        x = self.ids[:end].reshape(self.blocks, self.block_size)
        y = self.ids[1 : end + 1].reshape(self.blocks, self.block_size)
        for first in range(0, self.blocks, self.batch_size):
            rows = slice(first, first + self.batch_size)
            yield x[rows].astype(np.int64), y[rows].astype(np.int64)


def consecutive_blocks(ids: Ids, block_size: int, batch_size: int) -> ConsecutiveBlocks:
    """Return every whole block of ids (N,) once and in order: the exact validation loss, the same at every call.

    Raises UserError if the text is shorter than T + 1, ValueError if a size is not positive.
    """
    _check("consecutive_blocks", ids, block_size, batch_size)
    return ConsecutiveBlocks(ids, block_size, batch_size)


@dataclass(frozen=True)
class CarriedBlocks:
    """A text as B streams in order, for a model that carries its state. Made by `carried_blocks`."""

    x: Ids = field(repr=False)  # (B, length): stream b in row b
    y: Ids = field(repr=False)  # the token that follows
    block_size: int

    def __len__(self) -> int:
        """How many batches there are."""
        return -(-self.x.shape[1] // self.block_size)

    def __getitem__(self, index: int) -> Batch:
        """Return x and y, int64 (B, T): row b goes on where row b of the batch before ended; the last T may be smaller."""
        if not 0 <= index < len(self):
            raise IndexError(f"CarriedBlocks: index is {index}, but there are {len(self)} batches")
        part = slice(index * self.block_size, (index + 1) * self.block_size)
        return self.x[:, part].astype(np.int64), self.y[:, part].astype(np.int64)

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))


def carried_blocks(ids: Ids, block_size: int, batch_size: int) -> CarriedBlocks:
    """Return the text cut into B streams of equal length, one a row, and each stream into blocks of T.

    At most B tokens at the end of the text are never predicted.
    Raises UserError if the text is shorter than B T + 1, ValueError if a size is not positive.
    """
    _check("carried_blocks", ids, block_size, batch_size)
    if len(ids) < batch_size * block_size + 1:
        raise UserError(
            f"the text has {len(ids)} tokens, but {batch_size} streams of {block_size} need "
            f"at least {batch_size * block_size + 1}"
        )
    length = (len(ids) - 1) // batch_size
    end = batch_size * length
    return CarriedBlocks(
        ids[:end].reshape(batch_size, length), ids[1 : end + 1].reshape(batch_size, length), block_size
    )


def _check(name: str, ids: Ids, block_size: int, batch_size: int) -> None:
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ValueError(f"{name}: ids has shape {ids.shape} and dtype {ids.dtype}, but it must be integers (N,)")
    for argument, size in (("block_size", block_size), ("batch_size", batch_size)):
        if size < 1:
            raise ValueError(f"{name}: {argument} is {size}, but it must be at least 1")
    if len(ids) < block_size + 1:
        raise UserError(
            f"the text has {len(ids)} tokens, but a context of {block_size} needs at least {block_size + 1}"
        )
