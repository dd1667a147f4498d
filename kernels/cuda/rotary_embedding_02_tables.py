"""Launches rotary_embedding_02_tables.cu: 256 angles, or pairs, a block. The tables are kept for the way back."""

from typing import Any

import numpy as np

from .launch import Kernel, blocks, empty
from .rotary import Rotary, rate

_make_tables = Kernel(__file__, "rotary_embedding_02_make_tables")
_pairs = Kernel(__file__, "rotary_embedding_02_tables")


def tables(x: Any, base: float, offset: int) -> tuple[Any, Any]:
    """Cosines and sines (T, H) for x (R, T, 2H)."""
    T, H = x.shape[1], x.shape[2] // 2
    made = empty((T, H), x), empty((T, H), x)
    numbers = np.float64(rate(base, H)), np.float64(offset), np.int32(T), np.int32(H)
    _make_tables((blocks(T * H, 256),), (256,), (*made, *numbers))
    return made


def turn(y: Any, x: Any, kept: Any, direction: float, base: float, offset: int, interleaved: bool) -> None:
    """y (R, T, D) of x and the tables."""
    R, T, H = x.shape[0] * x.shape[1], x.shape[1], x.shape[2] // 2
    numbers = np.int32(interleaved), np.float32(direction), np.int32(R), np.int32(T), np.int32(H)
    _pairs((blocks(R * H, 256),), (256,), (y, x, *kept, *numbers))


production = Rotary(tables, turn)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
