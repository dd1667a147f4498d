"""Launches softmax_06_cluster.cu: eight blocks for each row of more than 32768 numbers. Shorter rows, those that are longer
than eight blocks can hold, and all rows on another GPU than Hopper are rung 05's.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import softmax_05_registers
from .launch import Kernel, blocks, hopper, laid
from .pairs import Rows

BLOCKS, THREADS = 8, 512
SHORTEST, LONGEST = 32769, BLOCKS * 28 * 1024
"""The vjp holds 8 bytes for each number of the row: at most 224 KB a block."""
OFFER = 128
"""Bytes of shared memory before the part of the row."""


@dataclass(frozen=True)
class Clusters(Rows):
    """Rows whose blocks hold their part of the row in shared memory, 4 bytes a number in forward and 8 in the vjp."""

    def _run(self, kernel: Any, result: Any, *given: Any) -> None:
        if result.size:
            N = result.shape[-1]
            R = result.size // N
            held = 4 * len(given) * 4 * blocks(blocks(N, BLOCKS), 4)
            args = (result, *map(laid, given), np.int32(R), np.int32(N))
            kernel(*self.launch(R, N), args, shared_mem=OFFER + held)


production = Clusters(
    Kernel(__file__, "softmax_forward_06_cluster"),
    Kernel(__file__, "softmax_vjp_06_cluster"),
    lambda R, N: ((BLOCKS * R,), (THREADS,)),
)
accepts = production.accepts


def _pair(x: Any) -> Any:
    return production if SHORTEST <= x.shape[-1] <= LONGEST and hopper(x) else softmax_05_registers


def forward(x: Any, *, axis: int = -1) -> tuple[Any, None]:
    """y (..., N) of x (..., N)."""
    return _pair(x).forward(x, axis=axis)


def vjp(dy: Any, y: Any, x: Any, *, residuals: None, wanted: Any, into: Any, axis: int = -1) -> tuple:
    """dx (..., N) from dy and y."""
    return _pair(y).vjp(dy, y, x, residuals=residuals, wanted=wanted, into=into, axis=axis)
