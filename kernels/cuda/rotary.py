"""From kernels to the pair of rotary_embedding: what is kept, a turn, and the turn back."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .launch import empty, laid
from .pairs import FLOAT32


def rate(base: float, H: int) -> float:
    """The logarithm of how much slower a pair turns than the pair before it."""
    return -math.log(base) / H


@dataclass(frozen=True)
class Rotary:
    """keep(x, base, offset) makes the residuals, and turn(y, x, kept, direction, base, offset, interleaved) fills y; x and y
    (R, T, D) are not empty.
    """

    keep: Callable[[Any, float, int], Any]
    turn: Callable[..., None]

    def accepts(self, x: Any, *, base: float = 10000.0, offset: int = 0, interleaved: bool = False) -> bool:
        return x.dtype == FLOAT32 and x.ndim >= 2 and x.shape[-1] % 2 == 0

    def forward(
        self, x: Any, *, base: float = 10000.0, offset: int = 0, interleaved: bool = False
    ) -> tuple[Any, Any]:
        """y (..., T, D) of x (..., T, D)."""
        y, kept = empty(x.shape, x), None
        if x.size:
            rows = laid(x).reshape(-1, *x.shape[-2:])  # (R, T, D)
            kept = self.keep(rows, base, offset)
            self.turn(y.reshape(rows.shape), rows, kept, 1.0, base, offset, interleaved)
        return y, kept

    def vjp(
        self, dy: Any, y: Any, x: Any, *, residuals: Any, wanted: Any, into: Any,
        base: float = 10000.0, offset: int = 0, interleaved: bool = False,
    ) -> tuple:  # fmt: skip
        """(dx,)."""
        if not wanted[0]:
            return (None,)
        dx = empty(dy.shape, dy)
        if dy.size:
            rows = laid(dy).reshape(-1, *dy.shape[-2:])  # (R, T, D)
            self.turn(dx.reshape(rows.shape), rows, residuals, -1.0, base, offset, interleaved)
        return (dx,)
