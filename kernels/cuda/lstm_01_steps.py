"""Launches lstm_01_steps.cu for each step: blocks of 32 units of 8 sequences."""

from typing import Any

import numpy as np

from .launch import Kernel, blocks, laid, namespace
from .sequences import Lstm, product

_forward = Kernel(__file__, "lstm_forward_01_steps")
_vjp = Kernel(__file__, "lstm_vjp_01_steps")


def _step(kernel: Kernel, *given: Any, t: int) -> None:
    B, H = given[1].shape if kernel is _vjp else given[0].shape
    kernel((blocks(H, 32), blocks(B, 8)), (32, 8), (*given, np.int32(t), np.int32(B), np.int32(H)))


def walk(ys: Any, gates: Any, states: Any, cells: Any, u: Any, bias: Any, ends: Any, reverse: bool) -> None:
    """Fills ys (T, B, H) and all of gates (T, B, 4H), states and cells (T + 1, B, H) but what they begin with."""
    T = len(ys)
    for t in range(T - 1, -1, -1) if reverse else range(T):
        before, after = (t + 1, t) if reverse else (t, t + 1)
        _step(_forward, ys[t], gates[t], states[after], cells[after], states[before], cells[before], u, bias, ends, t=t)


def walk_back(da: Any, dh: Any, dc: Any, dys: Any, gates: Any, cells: Any, u: Any, ends: Any, reverse: bool) -> None:
    """Fills da (T, B, 4H); dh and dc (B, H) are those of the last state before, of the first one afterwards."""
    T, transposed = len(dys), laid(u.T)
    later = namespace(da).zeros(da.shape[1:], da.dtype)
    for t in range(T) if reverse else range(T - 1, -1, -1):
        before, after = (t + 1, t) if reverse else (t, t + 1)
        _step(_vjp, da[t], dh, dc, later, dys[t], gates[t], cells[before], cells[after], transposed, ends, t=t)
        later = da[t]
    dh += product(later, transposed)


production = Lstm(walk, walk_back)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
