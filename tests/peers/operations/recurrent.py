"""Recurrent networks as PyTorch has them: row name -> function of torch tensors and the row's own parameters.

Lengths go through packed sequences. Two things PyTorch has not: a sequence of length 0 (its state stays and its outputs
are zero, put in by hand) and a direction of its own for `reverse` (each sequence turned around before and after).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def run(mode: str, x: Any, state: tuple[Any, ...], weights: tuple[Any, ...], lengths: Any, reverse: bool) -> Any:
    """(ys, last states) of torch's `mode` (lstm, gru, rnn_tanh, rnn_relu). weights: as PyTorch stores them."""
    steps, rows = x.shape[:2]
    whole = torch.full((rows,), steps) if lengths is None else lengths.long()
    flat = [w.contiguous() for w in weights]
    options = (True, 1, 0.0, False, False)  # biases, layers, dropout, training, bidirectional
    some = whole > 0
    if not steps or not bool(some.any()):
        return torch.zeros(steps, rows, state[0].shape[1], dtype=x.dtype) + 0.0 * x.sum(), *(s + 0.0 for s in state)
    own = whole[some]
    turned = flipped(x[:, some], own) if reverse else x[:, some]
    packed = pack_padded_sequence(turned, own, enforce_sorted=False)
    assert packed.sorted_indices is not None and packed.unsorted_indices is not None
    start = [s[some][packed.sorted_indices][None] for s in state]
    hx = start if mode == "lstm" else start[0]
    data, *last = getattr(torch, mode)(packed.data, packed.batch_sizes, hx, flat, *options)
    outputs, _ = pad_packed_sequence(packed._replace(data=data), total_length=steps)
    outputs = flipped(outputs, own) if reverse else outputs
    ys = torch.zeros(steps, rows, outputs.shape[2], dtype=x.dtype).index_copy(1, some.nonzero()[:, 0], outputs)
    ends = [
        s.index_copy(0, some.nonzero()[:, 0], e[0][packed.unsorted_indices]) for s, e in zip(state, last, strict=True)
    ]
    return ys, *ends


def flipped(x: Any, lengths: Any) -> Any:
    """Every sequence of x (T, B, n) turned around within its length."""
    time = torch.arange(x.shape[0])[:, None]
    source = torch.where(time < lengths, lengths - 1 - time, time)
    return torch.gather(x, 0, source[:, :, None].expand(x.shape))


def t_lstm(x: Any, h: Any, c: Any, w: Any, u: Any, b: Any, lengths: Any = None, *, reverse: bool = False) -> Any:
    return run("lstm", x, (h, c), (w.T, u.T, b, torch.zeros_like(b)), lengths, reverse)


def t_gru(x: Any, h: Any, w: Any, u: Any, b: Any, b_u: Any, lengths: Any = None, *, reverse: bool = False) -> Any:
    return run("gru", x, (h,), (w.T, u.T, b, b_u), lengths, reverse)


def t_rnn(
    x: Any, h: Any, w: Any, u: Any, b: Any, lengths: Any = None, *, nonlinearity: str = "tanh", reverse: bool = False
) -> Any:
    return run(f"rnn_{nonlinearity}", x, (h,), (w.T, u.T, b, torch.zeros_like(b)), lengths, reverse)


PEERS: dict[str, Callable[..., Any]] = {"lstm": t_lstm, "gru": t_gru, "rnn": t_rnn}
