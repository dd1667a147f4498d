"""Recurrent networks, a whole sequence at a time. Formulas: reference/lstm.py, gru.py, rnn.py.

T steps, B sequences, I input features, H hidden units; time is the first axis. `lengths` (B) are integers from 0 to T: a
sequence rests behind its length, where its outputs are zero, and its last state is its own. `reverse` reads every
sequence from its own last element to its first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...reference import table as t
from ..device import host
from ..tensor import Tensor, apply
from .elementwise import Operand, with_axes
from .shape import constant

__all__ = ["gru", "lstm", "rnn"]


def lstm(
    x: Operand,
    h: Operand,
    c: Operand,
    w: Operand,
    u: Operand,
    b: Operand,
    lengths: Any = None,
    *,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """(ys, the last h, the last c): an LSTM from the state (h, c).

    x (T, B, I), h and c (B, H), w (I, 4H), u (H, 4H), b (4H) -> ys (T, B, H), (B, H), (B, H). Gates in the order i, f, g, o.
    """
    return apply(t.LSTM, *_inputs("lstm", x, h, c, w, u, b, lengths=lengths), reverse=bool(reverse))


def gru(
    x: Operand,
    h: Operand,
    w: Operand,
    u: Operand,
    b: Operand,
    b_u: Operand,
    lengths: Any = None,
    *,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """(ys, the last h): a GRU from the state h.

    x (T, B, I), h (B, H), w (I, 3H), u (H, 3H), b and b_u (3H) -> ys (T, B, H), (B, H). Parts in the order r, z, n; the
    reset gate r acts on h u + b_u, after the product.
    """
    return apply(t.GRU, *_inputs("gru", x, h, w, u, b, b_u, lengths=lengths), reverse=bool(reverse))


def rnn(
    x: Operand, h: Operand, w: Operand, u: Operand, b: Operand, lengths: Any = None, *,
    nonlinearity: str = "tanh", reverse: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(ys, the last h): h_t = phi(x_t w + h u + b) from the state h; phi is "tanh" or "relu".

    x (T, B, I), h (B, H), w (I, H), u (H, H), b (H) -> ys (T, B, H), (B, H).
    """
    inputs = _inputs("rnn", x, h, w, u, b, lengths=lengths)
    return apply(t.RNN, *inputs, nonlinearity=nonlinearity, reverse=bool(reverse))


def _inputs(op: str, x: Operand, *others: Operand, lengths: Any) -> tuple[Any, ...]:
    """The inputs of the row; ValueError with one sentence where a length is none of a sequence of x."""
    if lengths is None:
        return (x, *others)
    x = with_axes(op, x)
    a = lengths.data if isinstance(lengths, Tensor) else np.asarray(host(lengths))
    if x.ndim and a.dtype.kind in "iu" and a.size and not 0 <= a.min() <= a.max() <= x.shape[0]:
        wrong = int(a.min() if a.min() < 0 else a.max())
        raise ValueError(f"{op}: lengths holds {wrong}, but x has shape {tuple(x.shape)}, that is {x.shape[0]} steps")
    return (x, *others, constant(lengths, x))
