"""From kernels to the pairs of dropout and dropout_add. A thread does `each` numbers; blocks have 256 threads.

The scale 1 / (1 - p) and the words' limit are made here in float64 and rounded once, as the kernels for the CPU do: so both
give the same bits.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .launch import Kernel, blocks, empty, laid
from .pairs import FLOAT32

THREADS = 256


def _limit(p: float) -> int:
    """A word of the generator that is below it keeps."""
    return math.floor((1.0 - p) * 2**32)


def _scale(p: float) -> np.float32:
    return np.float32(1.0 / (1.0 - p))


@dataclass(frozen=True)
class Dropout:
    """kernel(y, x, mask, scale, n) on the way forward, kernel(dx, dy, mask, scale, n) on the way back."""

    kernel: Kernel
    each: int = 1

    def accepts(self, x: Any, mask: Any, *, p: float) -> bool:
        return x.dtype == FLOAT32 and mask.dtype == np.bool_ and mask.shape == x.shape and 0 <= p < 1

    def forward(self, x: Any, mask: Any, *, p: float) -> tuple[Any, None]:
        """y of x and a boolean mask of its shape (True: keep); p is the share that is dropped."""
        y = empty(x.shape, x)
        n = math.prod(x.shape)
        if n:
            grid = (blocks(n, THREADS * self.each),)
            self.kernel(grid, (THREADS,), (y, laid(x), laid(mask), _scale(p), np.int32(n)))
        return y, None

    def vjp(self, dy: Any, y: Any, x: Any, mask: Any, *, residuals: None, wanted: Any, into: Any, p: float) -> tuple:
        """(dx, None)."""
        return self.forward(dy, mask, p=p)[0] if wanted[0] else None, None


@dataclass(frozen=True)
class DropoutAdd:
    """forward_kernel(y, x, residual, draw, last_kept, scale, n) and vjp_kernel(dx, dy, draw, last_kept, scale, n). No mask and
    no residuals: the way back draws the same words again. draw stays where it is: no wait for a GPU.
    """

    forward_kernel: Kernel
    vjp_kernel: Kernel
    each: int = 1

    def accepts(self, x: Any, residual: Any, draw: Any, *, p: float) -> bool:
        return (
            x.dtype == FLOAT32
            and residual.dtype == x.dtype
            and residual.shape == x.shape
            and draw.dtype.kind in "iu"
            and draw.shape == (3,)
            and 0 <= p < 1
            and _limit(p) > 0  # at p beyond 1 - 2^-32 no word keeps
        )

    def forward(self, x: Any, residual: Any, draw: Any, *, p: float) -> tuple[Any, None]:
        """y of x, residual of its shape and draw (3,): seed, stream and counter; p is the share that is dropped."""
        y = empty(x.shape, x)
        self._run(self.forward_kernel, y, (x, residual), draw, p)
        return y, None

    def vjp(
        self, dy: Any, y: Any, x: Any, residual: Any, draw: Any, *, residuals: None, wanted: Any, into: Any, p: float
    ) -> tuple:
        """(dx, dresidual, None); dresidual is dy itself."""
        dx = None
        if wanted[0]:
            dx = empty(dy.shape, dy)
            self._run(self.vjp_kernel, dx, (dy,), draw, p)
        return dx, dy if wanted[1] else None, None

    def _run(self, kernel: Kernel, result: Any, given: tuple[Any, ...], draw: Any, p: float) -> None:
        n = math.prod(result.shape)
        if n:
            words = laid(draw.astype(np.uint64))  # integers below 0 count by their bits
            numbers = np.uint32(_limit(p) - 1), _scale(p), np.int32(n)
            grid = (blocks(n, THREADS * self.each),)
            kernel(grid, (THREADS,), (result, *map(laid, given), words, *numbers))
