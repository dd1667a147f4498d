"""Launches swiglu_01_vector_loads.cu: 1024 numbers a block."""

import math
from typing import Any

import numpy as np

from .launch import Kernel, blocks, empty, laid
from .two import alike, combined

_forward = Kernel(__file__, "swiglu_forward_01_vector_loads")
_vjp = Kernel(__file__, "swiglu_vjp_01_vector_loads")
accepts = alike


def forward(gate: Any, up: Any) -> tuple[Any, None]:
    """y of gate and up, alike in shape."""
    return combined(_forward, gate, up), None


def vjp(dy: Any, y: Any, gate: Any, up: Any, *, residuals: None, wanted: Any, into: Any) -> tuple:
    """(dgate, dup)."""
    if not any(wanted):
        return None, None
    gradients = empty(gate.shape, gate), empty(gate.shape, gate)
    n = math.prod(gate.shape)
    if n:
        _vjp((blocks(n, 1024),), (256,), (*gradients, laid(dy), laid(gate), laid(up), np.int32(n)))
    return tuple(gradient if want else None for gradient, want in zip(gradients, wanted, strict=True))
