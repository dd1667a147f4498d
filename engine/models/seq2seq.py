"""Sequence to sequence with LSTMs and attention: an encoder reads one text, a decoder writes another.

B: batch, S: source positions, T: target positions, V: vocab_size, H: hidden_size, L: num_layers.

    encoder      a bidirectional LSTM; its outputs are the states h_s (B, S, 2H) that the decoder looks at
    bridge       the decoder's first state: tanh(W [forward; backward]) of the encoder's last h, and of its last c
    bahdanau     s_t = LSTM([y_{t-1}; c_t], s_{t-1}) with c_t = attention(s_{t-1}): it looks, then writes, step by step
    luong        s_t = LSTM(y_{t-1}, s_{t-1}), then c_t = attention(s_t): in training all steps at once
    output       logits = W_o tanh(W_c [s_t; c_t])

Training feeds the true previous token (teacher forcing). Ids V, V + 1 and V + 2 are padding, begin and end: a tokenizer
needs to know nothing of them.
Sources: Sutskever, Vinyals and Le 2014; Bahdanau, Cho and Bengio 2015; Luong, Pham and Manning 2015 (no input feeding).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..device import host
from ..errors import UserError
from ..nn import LSTM, AdditiveAttention, Dropout, Embedding, Linear, Module, MultiplicativeAttention
from ..ops import concat, cross_entropy, log_softmax, reshape, take, tanh
from ..recording import no_grad
from ..tensor import Tensor
from .beam import Hypothesis, beam_search
from .settings import check_dropout, check_sizes, decay_groups, loaded, selected

ATTENTIONS = ("bahdanau", "luong")
_SIZES = ("vocab_size", "hidden_size", "embed_size", "num_layers")
State = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Memory:
    """What the decoder knows of its source: states (B, S, 2H), keys of the attention, mask (B, S)."""

    states: Tensor
    keys: Tensor
    mask: np.ndarray

    def rows(self, index: np.ndarray) -> Memory:
        """Those entries of the batch."""
        return Memory(take(self.states, index, axis=0), take(self.keys, index, axis=0), self.mask[index])


class Seq2SeqLSTM(Module):
    """model.loss(source, lengths, target); model.greedy(source, lengths); model.beam(source, width).

    Sources and targets share a vocabulary of V tokens. attention: "bahdanau" or "luong".
    """

    def __init__(
        self,
        vocab_size: int,
        embed_size: int,
        hidden_size: int,
        num_layers: int = 1,
        attention: str = "bahdanau",
        dropout: float = 0.0,
    ) -> None:
        self.config = _checked(vocab_size, hidden_size, embed_size, num_layers, attention, dropout)
        self.pad, self.begin, self.end = vocab_size, vocab_size + 1, vocab_size + 2
        self.embedding = Embedding(vocab_size + 3, embed_size)
        self.encoder = LSTM(embed_size, hidden_size, num_layers, batch_first=True, dropout=dropout, bidirectional=True)
        self.bridge_h, self.bridge_c = Linear(2 * hidden_size, hidden_size), Linear(2 * hidden_size, hidden_size)
        looks_first = attention == "bahdanau"
        width = embed_size + 2 * hidden_size if looks_first else embed_size
        self.decoder = LSTM(width, hidden_size, num_layers, batch_first=True, dropout=dropout)
        self.attention = (
            AdditiveAttention(hidden_size, 2 * hidden_size, hidden_size)
            if looks_first
            else MultiplicativeAttention(hidden_size, 2 * hidden_size)
        )
        self.combine = Linear(3 * hidden_size, hidden_size)
        self.output = Linear(hidden_size, vocab_size + 3)
        self.dropout = Dropout(dropout)

    # ---- the two halves

    def encode(self, source: np.ndarray, lengths: Any = None) -> tuple[Memory, State]:
        """(memory, the decoder's first state (L, B, H) twice) of source (B, S), of which lengths (B,) are real."""
        source = np.asarray(source)
        lengths = np.full(len(source), source.shape[1]) if lengths is None else np.asarray(lengths)
        if (
            source.ndim != 2
            or lengths.shape != (len(source),)
            or np.any(lengths < 1)
            or np.any(lengths > source.shape[1])
        ):
            raise ValueError(
                f"Seq2SeqLSTM: source has shape {source.shape} and lengths {lengths.tolist()}, but lengths must be "
                "one for each source, from 1 to the number of positions"
            )
        mask = np.arange(source.shape[1]) < lengths[:, None]  # (B, S)
        states, (h, c) = self.encoder(self.dropout(self.embedding(source)), lengths=lengths)
        L, B, H = self.config["num_layers"], len(source), self.config["hidden_size"]

        def joined(last: Tensor, bridge: Linear) -> Tensor:
            ends = reshape(last, (L, 2, B, H))
            return tanh(bridge(concat([ends[:, 0], ends[:, 1]], axis=-1)))  # (L, B, H)

        return Memory(states, self.attention.keys(states), mask), (joined(h, self.bridge_h), joined(c, self.bridge_c))

    def decode(self, tokens: np.ndarray, state: State, memory: Memory) -> tuple[Tensor, State, Tensor]:
        """(logits (B, T, V + 3), the last state, attention's weights (B, T, S)) for the tokens (B, T) before each."""
        embedded = self.dropout(self.embedding(np.asarray(tokens)))  # (B, T, E)
        if self.config["attention"] == "luong":
            outputs, state = self.decoder(embedded, state)
            contexts, weights = self.attention(outputs, memory.keys, memory.states, memory.mask)
        else:
            outputs, contexts, weights, state = self._look_then_write(embedded, state, memory)
        mixed = tanh(self.combine(concat([outputs, contexts], axis=-1)))  # (B, T, H)
        return self.output(self.dropout(mixed)), state, weights

    def _look_then_write(self, embedded: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, Tensor, State]:
        """(outputs (B, T, H), contexts (B, T, 2H), weights (B, T, S), state): each step looks with the state before it."""
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for t in range(embedded.shape[1]):
            query = state[0][-1][:, None, :]  # the top layer's h, (B, 1, H)
            context, weights = self.attention(query, memory.keys, memory.states, memory.mask)
            output, state = self.decoder(concat([embedded[:, t : t + 1], context], axis=-1), state)
            found.append((output, context, weights))
        outputs, contexts, weights = (concat(list(parts), axis=1) for parts in zip(*found, strict=True))
        return outputs, contexts, weights, state

    # ---- what it is for

    def loss(self, source: np.ndarray, lengths: Any, target: np.ndarray) -> Tensor:
        """Mean cross entropy of the target's tokens in nats. target (B, T): begin, tokens, end, then padding."""
        memory, state = self.encode(source, lengths)
        logits, _, _ = self.decode(target[:, :-1], state, memory)
        return cross_entropy(logits, target[:, 1:], ignore_index=self.pad)

    @no_grad()
    def greedy(self, source: np.ndarray, lengths: Any = None, most: int = 100) -> tuple[list[list[int]], np.ndarray]:
        """(the likeliest token after each other, until the end or `most` of them; attention's weights (B, T, S))."""
        memory, state = self.encode(source, lengths)
        tokens, looks = [np.full((len(memory.mask), 1), self.begin)], []
        ended = np.zeros(len(memory.mask), bool)
        for _ in range(most):
            logits, state, weights = self.decode(tokens[-1], state, memory)
            tokens.append(self._writable(logits[:, -1].to("cpu").numpy()).argmax(axis=-1)[:, None])
            looks.append(weights.to("cpu").numpy())
            ended |= tokens[-1][:, 0] == self.end
            if ended.all():
                break
        return [self.until_end(row) for row in np.hstack(tokens[1:])], np.concatenate(looks, axis=1)

    @no_grad()
    def beam(self, source: np.ndarray, width: int, *, length_penalty: float = 0.6, most: int = 100) -> list[Hypothesis]:
        """The best translations of one source (S,), the best first; see beam_search."""
        memory, (h, c) = self.encode(np.asarray(source)[None, :])

        def step(tokens: np.ndarray, state: State) -> tuple[np.ndarray, State]:
            logits, state, _ = self.decode(tokens[:, None], state, memory.rows(np.zeros(len(tokens), np.int64)))
            return log_softmax(Tensor(self._writable(logits[:, -1].to("cpu").numpy()))).numpy(), state

        def rows(state: State, index: np.ndarray) -> State:
            return take(state[0], index, axis=1), take(state[1], index, axis=1)

        return beam_search(
            step, rows, (h, c), begin=self.begin, end=self.end, width=width, length_penalty=length_penalty, most=most
        )

    def until_end(self, row: Sequence[int]) -> list[int]:
        """The tokens in front of the end."""
        tokens = [int(token) for token in row]
        return tokens[: tokens.index(self.end)] if self.end in tokens else tokens

    def _writable(self, logits: np.ndarray) -> np.ndarray:
        """Logits (.., V + 3) without padding and begin, which are never written."""
        logits = logits.copy()
        logits[..., [self.pad, self.begin]] = -np.inf
        return logits

    # ---- training and files

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """What AdamW takes."""
        return decay_groups(self, weight_decay)

    def to_files(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """(content of config.json, arrays of model.safetensors) under the module's own names."""
        config = {"architectures": ["Seq2SeqLSTM"], "model_type": "seq2seq-lstm", **self.config}
        return config, {name: host(parameter.data) for name, parameter in self.named_parameters()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Seq2SeqLSTM:
        """A new model of the sizes in a config.json; UserError where it is not one of these."""
        return cls(**selected(config, (*_SIZES, "attention", "dropout")))

    @classmethod
    def from_files(cls, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Seq2SeqLSTM:
        """The reverse of `to_files`; UserError where the two do not fit."""
        return loaded(cls.from_config(config), arrays)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.config.items())


def _checked(
    vocab_size: Any, hidden_size: Any, embed_size: Any, num_layers: Any, attention: Any, dropout: Any
) -> dict[str, Any]:
    """The settings by name; UserError unless they make a model."""
    sizes = dict(zip(_SIZES, (vocab_size, hidden_size, embed_size, num_layers), strict=True))
    check_sizes("Seq2SeqLSTM", sizes)
    check_dropout("Seq2SeqLSTM", dropout)
    if attention not in ATTENTIONS:
        raise UserError(f"Seq2SeqLSTM: attention is {attention!r}, but it must be {' or '.join(ATTENTIONS)}")
    return {**sizes, "attention": attention, "dropout": dropout}
