"""Translation with a sequence-to-sequence model: what it trains on, what it writes, how often that is exactly right.

B: batch, S: source positions, T: target positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import random
from ..models.seq2seq import Seq2SeqLSTM
from ..tensor import Tensor
from ..text.pairs import Pair, padded
from ..text.tokenizers import Tokenizer
from ..training.feed import evaluating

__all__ = ["PairsFeed", "exact_matches", "translate", "translate_with_weights"]

_AT_ONCE = 200  # sources in a batch of translations


class PairsFeed:
    """Random batches of pairs; validation is the loss of all held-back ones, a mean over their tokens. See training/feed."""

    def __init__(
        self, model: Seq2SeqLSTM, tokenizer: Tokenizer, train: Sequence[Pair], held: Sequence[Pair], batch_size: int,
        seed: int,
    ) -> None:  # fmt: skip
        self.generator = random.Generator(seed, stream=1)
        self.batch_size, self.pad = batch_size, model.pad
        self.train, self.held = (
            [
                (tokenizer.encode(source), [model.begin, *tokenizer.encode(target), model.end])
                for source, target in pairs
            ]
            for pairs in (train, held)
        )
        self.tokens_per_step = round(batch_size * float(np.mean([len(target) - 1 for _, target in self.train])))

    def _loss(self, model: Seq2SeqLSTM, pairs: Sequence[tuple[Any, Any]]) -> Tensor:
        sources, lengths = padded([source for source, _ in pairs], self.pad)
        targets, _ = padded([target for _, target in pairs], self.pad)
        return model.loss(sources, lengths, targets)

    def loss(self, model: Seq2SeqLSTM) -> Tensor:
        drawn = self.generator.integers(0, len(self.train), (self.batch_size,))
        return self._loss(model, [self.train[i] for i in np.asarray(drawn)])

    def validate(self, model: Seq2SeqLSTM) -> float:
        total = tokens = 0.0
        with evaluating(model):
            for first in range(0, len(self.held), _AT_ONCE):
                pairs = self.held[first : first + _AT_ONCE]
                count = sum(len(target) - 1 for _, target in pairs)
                total += self._loss(model, pairs).item() * count
                tokens += count
        return total / tokens

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {}, self.generator.state()

    def set_state(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        self.generator.set_state(state)


def translate(
    model: Seq2SeqLSTM, tokenizer: Tokenizer, texts: Sequence[str], *, beam: int = 1, most: int = 100
) -> list[str]:
    """The translations of texts, each of at most `most` tokens. beam 1: greedy. UserError names unknown characters."""
    sources = [tokenizer.encode(text) for text in texts]
    found: list[str] = []
    with evaluating(model):
        if beam > 1:
            return [tokenizer.decode(model.beam(source, beam, most=most)[0].tokens) for source in sources]
        for first in range(0, len(sources), _AT_ONCE):
            tokens, _ = model.greedy(*padded(sources[first : first + _AT_ONCE], model.pad), most=most)
            found += map(tokenizer.decode, tokens)
    return found


def translate_with_weights(
    model: Seq2SeqLSTM, tokenizer: Tokenizer, text: str, *, most: int = 100
) -> tuple[str, np.ndarray, list[str], list[str]]:
    """(the greedy translation, attention's weights (T, S), the source's and the target's tokens, the end as "end")."""
    source = tokenizer.encode(text)
    with evaluating(model):
        (tokens,), weights = model.greedy(source[None, :], most=most)
    written = [tokenizer.decode([token]) for token in tokens]
    written += ["end"] * (weights.shape[1] - len(written))
    return tokenizer.decode(tokens), weights[0], [tokenizer.decode([i]) for i in source], written


def exact_matches(model: Seq2SeqLSTM, tokenizer: Tokenizer, pairs: Sequence[Pair], *, beam: int = 1) -> list[bool]:
    """For each pair whether the translation is the target, character for character."""
    got = translate(model, tokenizer, [source for source, _ in pairs], beam=beam)
    return [text == target for text, (_, target) in zip(got, pairs, strict=True)]
