"""From rungs to a pair: what runs between the engine's arrays and the compiled loops, for ladders that look alike.

    Elementwise   y_i = f(x_i): gelu, gelu_erf, silu, sigmoid, relu. The rungs see all elements in one line, (n,).
    Rows          each row of the last axis by itself: softmax, log_softmax. The rungs see R rows of length N, (R, N).
    Naive         rung 01 of either ladder: one call for the whole array.
    Rows.on_one_thread    the serial rungs between that and production's.

Each is a pair as kernels/README.md describes it. Its forward and vjp allocate the result, lay the arrays out, and call a
rung: below PARALLEL_WORK elements the serial one, on this thread; from there on the threaded one, which cuts the array
into blocks and calls the serial one for each. So both give the same bits. They are called as

    forward_serial(x, y, first, last)             elements, or rows, first to last
    forward_threaded(x, y, work)                  work: the number of CHUNK-sized blocks (Elementwise),
                                                  or how many rows make one block (Rows)
    vjp_serial(dy, read, dx, first, last, add)    read: x or y, whichever the vjp reads; add: add to dx, not overwrite
    vjp_threaded(dy, read, dx, work, add)

and those of Naive as forward_rung(x, y) and vjp_rung(dy, read, dx). Nothing here is compiled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .jit import FLOATS, frozen, lent
from .threads import PARALLEL_WORK, chunks, row_block

Rung = Callable[..., None]


@dataclass(frozen=True)
class Elementwise:
    """The pair of y_i = f(x_i) for x of any shape; reads: whether the vjp is computed from x or from y."""

    forward_serial: Rung
    forward_threaded: Rung
    vjp_serial: Rung
    vjp_threaded: Rung
    reads: Literal["x", "y"]

    def accepts(self, x: Any) -> bool:
        return x.dtype in FLOATS

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, None]:
        """y of x, any shape."""
        x, y, size = frozen(x), np.empty(x.shape, x.dtype), x.size
        if size < PARALLEL_WORK:
            self.forward_serial(x.reshape(-1), y.reshape(-1), 0, size)
        else:
            self.forward_threaded(x.reshape(-1), y.reshape(-1), chunks(size))
        return y, None

    def vjp(self, dy: np.ndarray, y: Any, x: Any, *, residuals: None, wanted: Any, into: Any) -> tuple:
        """dx from dy and what is read; into[0] may be written or added to."""
        if not wanted[0]:
            return (None,)
        read = x if self.reads == "x" else y
        dx, add = lent(into[0]) or (np.empty(read.shape, read.dtype), False)
        dy, read, flat, size = frozen(dy).reshape(-1), frozen(read).reshape(-1), dx.reshape(-1), read.size
        if size < PARALLEL_WORK:
            self.vjp_serial(dy, read, flat, 0, size, add)
        else:
            self.vjp_threaded(dy, read, flat, chunks(size), add)
        return (dx,)


@dataclass(frozen=True)
class Rows:
    """The pair of an operation on each row (N,) of the last axis, whose vjp reads y."""

    forward_serial: Rung
    forward_threaded: Rung
    vjp_serial: Rung
    vjp_threaded: Rung

    @classmethod
    def on_one_thread(cls, forward_rung: Rung, vjp_rung: Rung) -> "Rows":
        """The pair of serial rungs below production's: all rows on this thread, whatever their number."""
        return cls(
            forward_rung, lambda x, y, block: forward_rung(x, y, 0, x.shape[0]),
            vjp_rung, lambda dy, y, dx, block, add: vjp_rung(dy, y, dx, 0, y.shape[0], add),
        )  # fmt: skip

    def accepts(self, x: Any, *, axis: int = -1) -> bool:
        return x.dtype in FLOATS and x.ndim >= 1 and (axis == -1 or axis == x.ndim - 1)

    def forward(self, x: np.ndarray, *, axis: int = -1) -> tuple[np.ndarray, None]:
        """y (..., N) of x (..., N); axis is the last one."""
        x, y, size = frozen(x), np.empty(x.shape, x.dtype), x.size
        if size:
            N = x.shape[-1]
            R = size // N
            x2, y2 = x.reshape(R, N), y.reshape(R, N)
            if size < PARALLEL_WORK:
                self.forward_serial(x2, y2, 0, R)
            else:
                self.forward_threaded(x2, y2, row_block(R, N))
        return y, None

    def vjp(
        self, dy: np.ndarray, y: np.ndarray, x: Any, *, residuals: None, wanted: Any, into: Any, axis: int = -1
    ) -> tuple:
        """dx (..., N) from dy and y; into[0] may be written or added to."""
        if not wanted[0]:
            return (None,)
        dx, add = lent(into[0]) or (np.empty(y.shape, y.dtype), False)
        size = y.size
        if size:
            N = y.shape[-1]
            R = size // N
            dy2, y2, dx2 = frozen(dy).reshape(R, N), frozen(y).reshape(R, N), dx.reshape(R, N)
            if size < PARALLEL_WORK:
                self.vjp_serial(dy2, y2, dx2, 0, R, add)
            else:
                self.vjp_threaded(dy2, y2, dx2, row_block(R, N), add)
        return (dx,)


@dataclass(frozen=True)
class Naive:
    """Rung 01 as a pair: the whole array on this thread, whatever its size. It takes no offer of `into`.

    production: the pair of the same ladder, which says what is accepted, what the vjp reads and how arrays are laid out.
    """

    forward_rung: Rung
    vjp_rung: Rung
    production: Elementwise | Rows

    def accepts(self, x: Any, **params: Any) -> bool:
        return self.production.accepts(x, **params)

    def forward(self, x: np.ndarray, **params: Any) -> tuple[np.ndarray, None]:
        """y of x, of the same shape."""
        y = np.empty(x.shape, x.dtype)
        if x.size:
            self.forward_rung(self._laid(frozen(x)), self._laid(y))
        return y, None

    def vjp(self, dy: np.ndarray, y: Any, x: Any, *, residuals: None, wanted: Any, into: Any, **params: Any) -> tuple:
        """dx from dy and what is read."""
        if not wanted[0]:
            return (None,)
        read = y if isinstance(self.production, Rows) or self.production.reads == "y" else x
        dx = np.empty(read.shape, read.dtype)
        if read.size:
            self.vjp_rung(self._laid(frozen(dy)), self._laid(frozen(read)), self._laid(dx))
        return (dx,)

    def _laid(self, array: np.ndarray) -> np.ndarray:
        """The array, which is not empty, as the rungs see it: (R, N) or (n,)."""
        return array.reshape(-1, array.shape[-1]) if isinstance(self.production, Rows) else array.reshape(-1)
