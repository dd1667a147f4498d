"""Launches lstm_02_persistent.cu: 256 threads for 4 sequences. Where U does not fit into shared memory: rung 01."""

from typing import Any

import numpy as np

from . import lstm_01_steps
from .launch import Kernel, blocks
from .sequences import Lstm

ROWS = 4
"""Sequences of a block; the constant of the same name in the `.cu`."""
MOST = 163 * 1024
"""Bytes of shared memory that a block may have on sm_80, and on what came after it for data centres."""

_forward = Kernel(__file__, "lstm_forward_02_persistent")
_vjp = Kernel(__file__, "lstm_vjp_02_persistent")


def room(H: int) -> int:
    """Bytes of U, with one number more in each row, and of the gates, h and c of ROWS sequences."""
    return 4 * (H * (4 * H + 1) + ROWS * 6 * H)


def _launch(kernel: Kernel, args: tuple[Any, ...], shape: tuple[int, int, int], reverse: bool) -> None:
    T, B, H = shape
    numbers = np.int32(T), np.int32(B), np.int32(H), np.int32(reverse)
    kernel((blocks(B, ROWS),), (256,), (*args, *numbers), shared_mem=room(H))


def walk(ys: Any, gates: Any, states: Any, cells: Any, u: Any, bias: Any, ends: Any, reverse: bool) -> None:
    """As rung 01's."""
    if room(len(u)) > MOST:
        lstm_01_steps.walk(ys, gates, states, cells, u, bias, ends, reverse)
    else:
        _launch(_forward, (ys, gates, states, cells, u, bias, ends), ys.shape, reverse)


def walk_back(da: Any, dh: Any, dc: Any, dys: Any, gates: Any, cells: Any, u: Any, ends: Any, reverse: bool) -> None:
    """As rung 01's."""
    if room(len(u)) > MOST:
        lstm_01_steps.walk_back(da, dh, dc, dys, gates, cells, u, ends, reverse)
    else:
        _launch(_vjp, (da, dh, dc, dys, gates, cells, u, ends), dys.shape, reverse)


production = Lstm(walk, walk_back)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
