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

from typing import Any

import numpy as np

from .. import random
from ..nn import LSTM, Dropout, Embedding, Linear, Module
from ..nn.layers import positive
from ..ops import cross_entropy
from ..recording import no_grad
from ..tensor import Tensor

Hidden = tuple[Tensor, Tensor]


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
        positive("LSTMLanguageModel", vocab_size=vocab_size, embed_size=embed_size)
        if tie_weights and embed_size != hidden_size:
            raise ValueError(
                f"LSTMLanguageModel: tie_weights needs equal sizes, but embed_size is {embed_size} "
                f"and hidden_size {hidden_size}"
            )
        self.vocab_size, self.tie_weights = vocab_size, tie_weights
        self.embedding = Embedding(vocab_size, embed_size)
        self.lstm = LSTM(embed_size, hidden_size, num_layers, batch_first=True, dropout=dropout)
        self.dropout = Dropout(dropout)
        self.output = Linear(hidden_size, vocab_size)
        self.embedding.weight.copy_(0.1 * (2.0 * random.default.uniform((vocab_size, embed_size)) - 1.0))
        if tie_weights:
            self.output.weight = self.embedding.weight

    def init_hidden(self, batch_size: int) -> Hidden:
        """The state in front of a text: zeros (L, B, H), in the dtype of the parameters."""
        shape = (self.lstm.num_layers, batch_size, self.lstm.hidden_size)
        h, c = (Tensor(np.zeros(shape, self.embedding.weight.dtype), copy=False) for _ in range(2))
        return h, c

    def forward(self, ids: Any, hidden: Hidden | None = None) -> tuple[Tensor, Hidden]:
        y, end = self.lstm(self.dropout(self.embedding(ids)), hidden)  # (B, T, H)
        return self.output(self.dropout(y)), end

    def loss(self, ids: Any, targets: Any, hidden: Hidden | None = None) -> tuple[Tensor, Hidden]:
        """(mean cross entropy of the next tokens in nats, the last state, detached). ids and targets (B, T)."""
        logits, (h, c) = self(ids, hidden)
        return cross_entropy(logits, targets), (h.detach(), c.detach())

    @no_grad()
    def next_logits(self, ids: np.ndarray) -> np.ndarray:
        """Logits (V,) of the token that follows ids (T,); what `generate` asks for."""
        y, _ = self.lstm(self.embedding(np.asarray(ids)[None, :]))  # (1, T, H)
        return self.output(y[:, -1]).numpy()[0]

    def extra_repr(self) -> str:
        return f"vocab_size={self.vocab_size}, tie_weights={self.tie_weights}"
