"""Launches rotary_embedding_01_thread_per_pair.cu: 256 pairs a block."""

from typing import Any

import numpy as np

from .launch import Kernel, blocks
from .rotary import Rotary, rate

_pairs = Kernel(__file__, "rotary_embedding_01_thread_per_pair")


def turn(y: Any, x: Any, kept: Any, direction: float, base: float, offset: int, interleaved: bool) -> None:
    """y (R, T, D) of x; nothing is kept."""
    R, T, H = x.shape[0] * x.shape[1], x.shape[1], x.shape[2] // 2
    angles = np.float64(rate(base, H)), np.float64(offset), np.int32(interleaved), np.float32(direction)
    _pairs((blocks(R * H, 256),), (256,), (y, x, *angles, np.int32(R), np.int32(T), np.int32(H)))


production = Rotary(lambda x, base, offset: None, turn)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
