"""What a run trains on: batches and validation, and what a checkpoint must hold so that a resumed run goes on exactly there.

RandomFeed    blocks that start anywhere in the text, each by itself: a GPT
CarriedFeed   the text in order, the model's state carried from batch to batch: an LSTM
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from .. import random
from ..device import host
from ..recording import no_grad
from ..tensor import Tensor
from ..text.batches import ConsecutiveBlocks, RandomBlocks, carried_blocks, consecutive_blocks

__all__ = ["CarriedFeed", "Feed", "RandomFeed"]

Arrays = dict[str, np.ndarray]


class Feed(Protocol):
    """What the training loop asks for."""

    @property
    def tokens_per_step(self) -> int:
        """How many tokens a step trains on; for the progress line."""
        ...

    def loss(self, model: Any) -> Tensor:
        """The loss of the next batch, a scalar in nats."""
        ...

    def validate(self, model: Any) -> float:
        """The mean loss over all of the validation part, in nats, without dropout."""
        ...

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """(arrays, what JSON can hold): all that decides which batches come."""
        ...

    def set_state(self, arrays: Arrays, state: dict[str, Any]) -> None:
        """The reverse; KeyError, ValueError or TypeError where it does not fit."""
        ...


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Within it nothing is recorded and dropout is off; then the model is as it was."""
    training = model.training
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        model.train(training)


def validation_loss(model: Any, blocks: ConsecutiveBlocks) -> float:
    """Mean loss over every block, in nats; dropout is off meanwhile."""
    total = rows = 0.0
    with evaluating(model):
        for x, y in blocks:
            total += model.loss(x, y).item() * len(x)
            rows += len(x)
    return total / rows


class RandomFeed:
    """Blocks of `block_size` tokens that start anywhere, as nanoGPT draws them; model.loss(x, y) -> loss."""

    def __init__(
        self, train_ids: np.ndarray, validation_ids: np.ndarray, block_size: int, batch_size: int, seed: int
    ) -> None:
        self.generator = random.Generator(seed, stream=1)
        self.blocks = RandomBlocks(train_ids, block_size, batch_size, self.generator)
        self.validation = consecutive_blocks(validation_ids, block_size, 4 * batch_size)
        self.tokens_per_step = batch_size * block_size

    def loss(self, model: Any) -> Tensor:
        return model.loss(*self.blocks.draw())

    def validate(self, model: Any) -> float:
        return validation_loss(model, self.validation)

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        return {}, self.generator.state()

    def set_state(self, arrays: Arrays, state: dict[str, Any]) -> None:
        self.generator.set_state(state)


class CarriedFeed:
    """The text as `batch_size` streams in order, cut into chunks of `block_size`: truncated backpropagation through time.

    model.loss(x, y, hidden) -> (loss, hidden); a chunk begins in the state in which the one before it ended, without its
    gradient. After the last chunk the streams begin again, in the state of a text's beginning.
    """

    def __init__(self, train_ids: np.ndarray, validation_ids: np.ndarray, block_size: int, batch_size: int) -> None:
        self.blocks = carried_blocks(train_ids, block_size, batch_size)
        streams = min(batch_size, max(1, (len(validation_ids) - 1) // block_size))  # a short text has fewer
        self.validation = carried_blocks(validation_ids, block_size, streams)
        self.tokens_per_step = batch_size * block_size
        self.place = 0  # the next chunk
        self.hidden: tuple[Tensor, ...] | None = None  # in front of it; None: a text's beginning

    def loss(self, model: Any) -> Tensor:
        if self.place == len(self.blocks):
            self.place, self.hidden = 0, None
        hidden = None if self.hidden is None else tuple(h.to(model.device) for h in self.hidden)
        loss, self.hidden = model.loss(*self.blocks[self.place], hidden)
        self.place += 1
        return loss

    def validate(self, model: Any) -> float:
        total, tokens, hidden = 0.0, 0, None
        with evaluating(model):
            for x, y in self.validation:
                loss, hidden = model.loss(x, y, hidden)
                total += loss.item() * x.size
                tokens += x.size
        return total / tokens

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        return {f"hidden.{i}": host(h.data) for i, h in enumerate(self.hidden or ())}, {"place": self.place}

    def set_state(self, arrays: Arrays, state: dict[str, Any]) -> None:
        place = state["place"]
        if not 0 <= place <= len(self.blocks):
            raise ValueError(f"place is {place}, but the text has {len(self.blocks)} chunks")
        self.place = place
        self.hidden = tuple(Tensor(arrays[f"hidden.{i}"]) for i in range(len(arrays))) or None
