"""Recurrent layers with PyTorch's names, shapes and order of gates. Derived in reference/lstm.py, gru.py and rnn.py.

T: steps, B: sequences, I: input_size, H: hidden_size, L: num_layers, D: directions (2 where bidirectional, else 1).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from .. import random
from ..device import library
from ..ops import concat, gru, lstm, lstm_cell, rnn, stack
from ..tensor import Tensor
from .layers import Dropout, positive
from .module import Module, Parameter

State = tuple[Tensor, ...]


def _parameters(module: Module, suffix: str, parts: int, width: int, hidden_size: int, bias: bool) -> None:
    """weight_ih (parts H, I), weight_hh (parts H, H), bias_ih, bias_hh (parts H): uniform in +-1/sqrt(H), as in PyTorch."""
    rows, bound = parts * hidden_size, 1.0 / math.sqrt(hidden_size)
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, width), "weight_hh": (rows, hidden_size)}
    if bias:
        shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
    for name, shape in shapes.items():
        uniform = random.default.uniform(shape)
        setattr(module, name + suffix, Parameter((2.0 * uniform - 1.0) * np.float32(bound)))


def _weights(module: Module, suffix: str, *, one_bias: bool) -> list[Any]:
    """w (I, parts H), u (H, parts H) and the biases, as the rows take them; one_bias: those of both products as a sum."""
    w, u = (getattr(module, f"weight_{part}{suffix}").mT for part in ("ih", "hh"))
    if hasattr(module, f"bias_ih{suffix}"):
        b, b_u = (getattr(module, f"bias_{part}{suffix}") for part in ("ih", "hh"))
        return [w, u, b + b_u] if one_bias else [w, u, b, b_u]
    zeros = library(w.data).zeros(w.shape[1], w.dtype)
    return [w, u, zeros] if one_bias else [w, u, zeros, zeros]


class _Recurrent(Module):
    """What LSTM, GRU and RNN share: layers, directions, dropout between the layers, where the time axis is."""

    PARTS: ClassVar[int]  # rows of a weight, in hidden sizes
    STATES: ClassVar[int] = 1  # arrays of a state: h, and the c of an LSTM

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        positive(type(self).__name__, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.bidirectional = bias, batch_first, bidirectional
        self._suffixes = [
            [f"_l{layer}", f"_l{layer}_reverse"] if bidirectional else [f"_l{layer}"] for layer in range(num_layers)
        ]
        for layer, suffixes in enumerate(self._suffixes):
            width = input_size if layer == 0 else hidden_size * len(suffixes)
            for suffix in suffixes:
                _parameters(self, suffix, self.PARTS, width, hidden_size, bias)
        self.dropout = Dropout(dropout)

    def _walk(self, x: Tensor, state: Any, suffix: str, lengths: Any, reverse: bool) -> tuple[Tensor, ...]:
        """(ys, the last state) of one layer in one direction: x (T, B, ..), a state of arrays (B, H)."""
        raise NotImplementedError

    def _run(self, x: Tensor, hx: State | None, lengths: Any) -> tuple[Tensor, State]:
        """All layers; x as the user gave it, hx and the last state of arrays (L D, B, H)."""
        x = self._time_first(x)
        states = self._first_states(x) if hx is None else self._rows_of(hx, x.shape[1])
        ends: list[State] = []
        for layer, suffixes in enumerate(self._suffixes):
            if layer:
                x = self.dropout(x)
            outputs = []
            for suffix in suffixes:
                ys, *end = self._walk(x, states[len(ends)], suffix, lengths, suffix.endswith("_reverse"))
                outputs.append(ys)
                ends.append(tuple(end))
            x = outputs[0] if len(outputs) == 1 else concat(outputs, axis=-1)  # (T, B, D H)
        last = tuple(stack([end[i] for end in ends]) for i in range(self.STATES))  # (L D, B, H)
        return (x.namespace.permute_dims(x, (1, 0, 2)) if self.batch_first else x), last

    def _time_first(self, x: Tensor) -> Tensor:
        if x.ndim != 3 or x.shape[2] != self.input_size:
            axes = "(batch, steps, " if self.batch_first else "(steps, batch, "
            raise ValueError(
                f"{type(self).__name__}: x has shape {tuple(x.shape)}, but it must be {axes}{self.input_size})"
            )
        return x.namespace.permute_dims(x, (1, 0, 2)) if self.batch_first else x

    def _first_states(self, x: Tensor) -> list[State]:
        """Zeros, for each layer and direction."""
        zeros = Tensor(library(x.data).zeros((x.shape[1], self.hidden_size), x.dtype), copy=False)
        return [(zeros,) * self.STATES] * self._states()

    def _rows_of(self, hx: State, batch: int) -> list[State]:
        want = (self._states(), batch, self.hidden_size)
        for name, s in zip(("h", "c"), hx, strict=False):
            if tuple(s.shape) != want:
                raise ValueError(
                    f"{type(self).__name__}: the first {name} has shape {tuple(s.shape)}, but it must be {want}: "
                    "(layers times directions, batch, hidden_size)"
                )
        return [tuple(s[k] for s in hx) for k in range(self._states())]

    def _states(self) -> int:
        """L D."""
        return self.num_layers * len(self._suffixes[0])

    def extra_repr(self) -> str:
        options = {
            "num_layers": (self.num_layers, 1),
            "bias": (self.bias, True),
            "batch_first": (self.batch_first, False),
            "bidirectional": (self.bidirectional, False),
        }
        said = [f"{name}={value}" for name, (value, default) in options.items() if value != default]
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *said])


class LSTM(_Recurrent):
    """torch.nn.LSTM: x (T, B, I), or (B, T, I) where batch_first -> ys (T, B, D H) likewise, and (h_n, c_n) (L D, B, H).

    dropout: of the outputs of each layer but the last, in training. Of proj_size and unbatched inputs there is nothing.
    """

    PARTS, STATES = 4, 2

    def forward(
        self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None, *, lengths: Any = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """hx: the first (h, c), zeros where left out. lengths: integers (B), what packed sequences are for in PyTorch:
        a sequence stops at its length, later outputs are zero, and its last state is its own.
        """
        if hx is not None and (not isinstance(hx, tuple) or len(hx) != 2):
            raise TypeError(f"LSTM: hx is a {type(hx).__name__}, but it must be a pair (h, c)")
        y, (h, c) = self._run(x, hx, lengths)
        return y, (h, c)

    def _walk(self, x: Tensor, state: Any, suffix: str, lengths: Any, reverse: bool) -> tuple[Tensor, ...]:
        return lstm(x, *state, *_weights(self, suffix, one_bias=True), lengths=lengths, reverse=reverse)


class _OneState(_Recurrent):
    """A state of h alone goes in and out as the bare Tensor."""

    def forward(self, x: Tensor, hx: Tensor | None = None, *, lengths: Any = None) -> tuple[Tensor, Tensor]:
        """hx: the first h, zeros where left out. lengths: integers (B); see LSTM."""
        y, (h,) = self._run(x, None if hx is None else (hx,), lengths)
        return y, h


class GRU(_OneState):
    """torch.nn.GRU: x (T, B, I), or (B, T, I) where batch_first -> ys (T, B, D H) likewise, and h_n (L D, B, H)."""

    PARTS = 3

    def _walk(self, x: Tensor, state: Any, suffix: str, lengths: Any, reverse: bool) -> tuple[Tensor, ...]:
        return gru(x, *state, *_weights(self, suffix, one_bias=False), lengths=lengths, reverse=reverse)


class RNN(_OneState):
    """torch.nn.RNN: x (T, B, I), or (B, T, I) where batch_first -> ys (T, B, D H) likewise, and h_n (L D, B, H).

    nonlinearity: "tanh" or "relu".
    """

    PARTS = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        _check_nonlinearity("RNN", nonlinearity)
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)
        self.nonlinearity = nonlinearity

    def _walk(self, x: Tensor, state: Any, suffix: str, lengths: Any, reverse: bool) -> tuple[Tensor, ...]:
        weights = _weights(self, suffix, one_bias=True)
        return rnn(x, *state, *weights, lengths=lengths, nonlinearity=self.nonlinearity, reverse=reverse)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, nonlinearity={self.nonlinearity!r}"


def _check_nonlinearity(layer: str, nonlinearity: str) -> None:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"{layer}: nonlinearity is {nonlinearity!r}, but it must be 'tanh' or 'relu'")


# ---- one step at a time


class _Cell(Module):
    """One step: x (B, I) and a state of arrays (B, H) -> the next state."""

    PARTS: ClassVar[int]

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        positive(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        _parameters(self, "", self.PARTS, input_size, hidden_size, bias)

    def _zeros(self, x: Tensor) -> Tensor:
        return Tensor(library(x.data).zeros((x.shape[0], self.hidden_size), x.dtype), copy=False)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, bias={self.bias}"


class LSTMCell(_Cell):
    """torch.nn.LSTMCell: x (B, I), (h, c) (B, H) -> the next (h, c)."""

    PARTS = 4

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """hx: zeros where left out."""
        h, c = hx or (self._zeros(x),) * 2
        return lstm_cell(x, h, c, *_weights(self, "", one_bias=True))


class GRUCell(_Cell):
    """torch.nn.GRUCell: x (B, I), h (B, H) -> the next h. It is a sequence of one step."""

    PARTS = 3

    def forward(self, x: Tensor, hx: Tensor | None = None) -> Tensor:
        """hx: zeros where left out."""
        h = self._zeros(x) if hx is None else hx
        return gru(x[None, ...], h, *_weights(self, "", one_bias=False))[1]


class RNNCell(_Cell):
    """torch.nn.RNNCell: x (B, I), h (B, H) -> the next h. It is a sequence of one step. nonlinearity: "tanh" or "relu"."""

    PARTS = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh") -> None:
        _check_nonlinearity("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias)
        self.nonlinearity = nonlinearity

    def forward(self, x: Tensor, hx: Tensor | None = None) -> Tensor:
        """hx: zeros where left out."""
        h = self._zeros(x) if hx is None else hx
        return rnn(x[None, ...], h, *_weights(self, "", one_bias=True), nonlinearity=self.nonlinearity)[1]
