"""LSTM language model: embedding, LSTM, linear. It reads a text of any length piece by piece and carries its state along.

B: batch, T: steps, V: vocab_size, H: hidden_size, L: num_layers.
Source: Zaremba, Sutskever and Vinyals 2014, "Recurrent Neural Network Regularization", whose model PyTorch's example
word_language_model follows; weight tying: Press and Wolf 2017, "Using the Output Embedding to Improve Language Models".

Truncated backpropagation through time: the text is cut into chunks; every chunk begins in the state where the one before
it ended, but the gradient stops there.

    hidden = model.init_hidden(batch_size)
    for x, y in carried_blocks(ids, block_size, batch_size):
        loss, hidden = model.loss(x, y, hidden)              # hidden comes back detached
        loss.backward()
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import random
from ..device import host, library
from ..errors import UserError
from ..nn import LSTM, Dropout, Embedding, Linear, Module
from ..ops import cross_entropy
from ..recording import no_grad
from ..tensor import Tensor
from .settings import check_dropout, check_sizes, decay_groups, loaded, selected

Hidden = tuple[Tensor, Tensor]
_SIZES = ("vocab_size", "hidden_size", "embed_size", "num_layers")


class LSTMLanguageModel(Module):
    """A language model; model(ids, hidden) -> (logits, hidden): ids (B, T) integers below vocab_size, logits (B, T, V).

    Logits at position t are for the token at t + 1. hidden: the state (h, c), both (L, B, H), to begin in (zeros where left
    out), and the one to go on from. dropout: of the embedding, between the layers and before the output.
    tie_weights: the output layer shares the embedding's weight, for which both sizes must be the same.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: float = 0.0,
        tie_weights: bool = False,
    ) -> None:
        self.config = _checked(vocab_size, hidden_size, embed_size, num_layers, dropout, tie_weights)
        self.embedding = Embedding(vocab_size, embed_size)
        self.lstm = LSTM(embed_size, hidden_size, num_layers, batch_first=True, dropout=dropout)
        self.dropout = Dropout(dropout)
        self.output = Linear(hidden_size, vocab_size)
        self.embedding.weight.copy_(0.1 * (2.0 * random.default.uniform((vocab_size, embed_size)) - 1.0))
        if tie_weights:
            self.output.weight = self.embedding.weight

    def init_hidden(self, batch_size: int) -> Hidden:
        """The state in front of a text: zeros (L, B, H), in the dtype and on the device of the parameters."""
        shape = (self.lstm.num_layers, batch_size, self.lstm.hidden_size)
        weight = self.embedding.weight.data
        h, c = (Tensor(library(weight).zeros(shape, weight.dtype), copy=False) for _ in range(2))
        return h, c

    def forward(self, ids: Any, hidden: Hidden | None = None) -> tuple[Tensor, Hidden]:
        y, end = self.lstm(self.dropout(self.embedding(ids)), hidden)  # (B, T, H)
        return self.output(self.dropout(y)), end

    def loss(self, ids: Any, targets: Any, hidden: Hidden | None = None) -> tuple[Tensor, Hidden]:
        """(mean cross entropy of the next tokens in nats, the last state, detached). ids and targets (B, T)."""
        logits, (h, c) = self(ids, hidden)
        return cross_entropy(logits, targets), (h.detach(), c.detach())

    def reader(self, weights: str | None = None) -> Reader:
        """What `generate` asks: it reads a text piece by piece. weights: None, or what they are anyway."""
        own = self.embedding.weight.dtype.name
        if weights not in (None, own):
            raise UserError(
                f"generate: weights is {weights!r}, but an LSTMLanguageModel reads its own as they are, {own}"
            )
        return Reader(self)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """What AdamW takes."""
        return decay_groups(self, weight_decay)

    def to_files(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """(content of config.json, arrays of model.safetensors) under the module's own names; a tied weight once."""
        config = {"architectures": ["LSTMLanguageModel"], "model_type": "lstm", **self.config}
        return config, {name: host(parameter.data) for name, parameter in self.named_parameters()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LSTMLanguageModel:
        """A new model of the sizes in a config.json; UserError where it is not one of these."""
        return cls(**selected(config, (*_SIZES, "dropout", "tie_weights")))

    @classmethod
    def from_files(cls, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> LSTMLanguageModel:
        """The reverse of `to_files`; UserError where the two do not fit."""
        model = cls.from_config(config)
        tied = model.config["tie_weights"] and "embedding.weight" in arrays
        return loaded(model, {**arrays, "output.weight": arrays["embedding.weight"]} if tied else arrays)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.config.items())


class Reader:
    """Reads a text piece by piece with a model and keeps the state between the pieces."""

    def __init__(self, model: LSTMLanguageModel) -> None:
        self._model, self._hidden = model, model.init_hidden(1)

    @no_grad()
    def read(self, ids: np.ndarray) -> np.ndarray:
        """Logits (V,) of the token that follows ids (T,), which follow what was read before."""
        y, self._hidden = self._model.lstm(self._model.embedding(np.asarray(ids)[None, :]), self._hidden)  # (1, T, H)
        return self._model.output(y[:, -1]).to("cpu").numpy()[0]


def _checked(
    vocab_size: Any, hidden_size: Any, embed_size: Any, num_layers: Any, dropout: Any, tie_weights: Any
) -> dict[str, Any]:
    """The settings by name; UserError unless they make a model."""
    sizes = dict(zip(_SIZES, (vocab_size, hidden_size, embed_size, num_layers), strict=True))
    check_sizes("LSTMLanguageModel", sizes)
    check_dropout("LSTMLanguageModel", dropout)
    if type(tie_weights) is not bool:
        raise UserError(f"LSTMLanguageModel: tie_weights is {tie_weights!r}, but it must be true or false")
    if tie_weights and embed_size != hidden_size:
        raise UserError(
            f"LSTMLanguageModel: tie_weights needs equal sizes, but embed_size is {embed_size} "
            f"and hidden_size {hidden_size}"
        )
    return {**sizes, "dropout": dropout, "tie_weights": tie_weights}
