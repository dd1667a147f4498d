"""From rungs to a pair for y = f(x + bias), x (..., C), bias (C,): bias_gelu and bias_silu.

    BiasRows      the rungs see R rows of length C: x (R, C)
    Composition   rung 01 of either ladder: NumPy's sum, the kernel of f, and a sum over rows for dbias

Each is a pair as kernels/README.md describes it. Below PARALLEL_WORK elements BiasRows calls the serial rung, on this thread;
from there on the threaded one, which cuts the rows into blocks and calls the serial one for each. They are called as

    forward_serial(x, bias, y, first, last)                          rows first to last
    forward_threaded(x, bias, y, block)                              block: how many rows make one block
    vjp_serial(dy, x, bias, dx, add, dbias, want, first, last)       want = (dx, dbias): what is not wanted is left alone;
    vjp_threaded(dy, x, bias, dx, add, dbiases, want, block)         row b of dbiases (blocks, C) gets the sum of block b

Nothing here is compiled but the sum of the blocks' rows, in their order: the same bits for any number of threads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .jit import FLOATS, frozen, lent
from .layer_norm import add_blocks
from .threads import PARALLEL_WORK, row_block


def accepts(x: Any, bias: Any) -> bool:
    return x.dtype in FLOATS and x.ndim >= 1 and bias.dtype == x.dtype and bias.shape == x.shape[-1:]


@dataclass(frozen=True)
class BiasRows:
    """The pair of a ladder whose rungs add the bias where they read x."""

    forward_serial: Callable[..., None]
    forward_threaded: Callable[..., None]
    vjp_serial: Callable[..., None]
    vjp_threaded: Callable[..., None]

    def accepts(self, x: Any, bias: Any) -> bool:
        return accepts(x, bias)

    def forward(self, x: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, None]:
        """y (..., C) of x (..., C) and bias (C,)."""
        y, C = np.empty(x.shape, x.dtype), x.shape[-1]
        if y.size:
            R = y.size // C
            arguments = frozen(x).reshape(R, C), frozen(bias), y.reshape(R, C)
            if y.size < PARALLEL_WORK:
                self.forward_serial(*arguments, 0, R)
            else:
                self.forward_threaded(*arguments, row_block(R, C))
        return y, None

    def vjp(
        self, dy: np.ndarray, y: Any, x: np.ndarray, bias: np.ndarray, *, residuals: None, wanted: Any, into: Any
    ) -> tuple:
        """(dx, dbias); both may be written to, or added to, the buffers lent for them."""
        dtype, C = x.dtype, x.shape[-1]
        R = x.size // C if C else 0
        want = bool(wanted[0]), bool(wanted[1])
        dx, add = (lent(into[0]) or (np.empty(x.shape, dtype), False)) if want[0] else (np.empty((0, 0), dtype), False)
        block = row_block(R, C) if x.size >= PARALLEL_WORK else max(R, 1)
        blocks = max(1, -(-R // block))
        parts = np.zeros((blocks, C), dtype) if want[1] else np.empty((blocks, 0), dtype)
        if R:
            dx_rows = dx.reshape(R, C) if want[0] else dx
            arguments = frozen(dy).reshape(R, C), frozen(x).reshape(R, C), frozen(bias), dx_rows, add
            if blocks == 1:
                self.vjp_serial(*arguments, parts[0], want, 0, R)
            else:
                self.vjp_threaded(*arguments, parts, want, block)
        if not want[1]:
            return dx if want[0] else None, None
        dbias, add = lent(into[1]) or (np.empty(C, dtype), False)
        add_blocks(parts, dbias, add)
        return dx if want[0] else None, dbias


@dataclass(frozen=True)
class Composition:
    """Rung 01: a sum, then the pair of f; on the way back its vjp, then a sum over rows. It keeps x + bias."""

    pair: Any

    def accepts(self, x: Any, bias: Any) -> bool:
        return accepts(x, bias)

    def forward(self, x: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """y of x and bias; residuals: x + bias."""
        total = np.asarray(x + bias)
        return self.pair.forward(total)[0], total

    def vjp(self, dy: np.ndarray, y: Any, x: Any, bias: Any, *, residuals: np.ndarray, wanted: Any, into: Any) -> tuple:
        """(dx, dbias); dx may go into the buffer lent for it, unless dbias needs it by itself."""
        offer = None if wanted[1] else into[0]
        (dx,) = self.pair.vjp(dy, None, residuals, residuals=None, wanted=(True,), into=(offer,))
        dbias = dx.sum(axis=tuple(range(dx.ndim - 1))) if wanted[1] else None
        return dx if wanted[0] else None, dbias
