"""From kernels to pairs for the normalisations: rows for y and dx, columns for the gradients of weight and bias.

Residuals are one or two numbers a row: the mean, and 1 / sqrt(variance + eps).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .launch import Kernel, empty, laid, zeros
from .pairs import FLOAT32, MOST, MOST_BLOCKS, Launch, refuse, rows

SLAB = 64
"""Rows whose column sums one block adds; the constant of the same name in the `.cu` files."""
MOST_ROWS = MOST_BLOCKS * SLAB
"""A grid counts the slabs in its second direction."""
TAKES = f"at most {MOST_ROWS} rows"


@dataclass(frozen=True)
class LayerNorm:
    """forward_kernel(y, means, scales, x, weight, bias, has_bias, R, C, eps), vjp_kernel(dx, dy, x, weight, means, scales,
    R, C), and columns(dweight, dbias, dy, x, means, scales), which launches what it needs.
    """

    forward_kernel: Kernel
    vjp_kernel: Kernel
    launch: Launch
    columns: Callable[..., None]

    def accepts(self, x: Any, weight: Any, bias: Any = None, *, eps: float = 1e-5) -> bool:
        vectors = (weight,) if bias is None else (weight, bias)
        fits = (
            x.dtype == FLOAT32 and x.ndim >= 1 and all(v.dtype == x.dtype and v.shape == x.shape[-1:] for v in vectors)
        )
        return fits and rows(x) <= MOST_ROWS and x.shape[-1] <= MOST

    def forward(self, x: Any, weight: Any, bias: Any = None, *, eps: float = 1e-5) -> tuple[Any, tuple[Any, Any]]:
        """y (..., C) of x (..., C), weight (C,) and bias (C,); residuals: mean and 1/sqrt(variance + eps) of every row."""
        if not self.accepts(x, weight, bias):
            refuse(self.forward_kernel, f"float32 x (..., C), weight (C,) and bias (C,) or none; {TAKES}", x, weight, bias)
        R, C = _shape(x)
        y, means, scales = empty(x.shape, x), empty((R,), x), empty((R,), x)
        if R:
            given = laid(x), laid(weight), laid(weight if bias is None else bias)  # without bias that one is not read
            numbers = np.int32(bias is not None), np.int32(R), np.int32(C), np.float32(eps)
            self.forward_kernel(*self.launch(R, C), (y, means, scales, *given, *numbers))
        return y, (means, scales)

    def vjp(
        self, dy: Any, y: Any, x: Any, weight: Any, *bias: Any,
        residuals: tuple[Any, Any], wanted: Any, into: Any, eps: float = 1e-5,
    ) -> tuple:  # fmt: skip
        """(dx, dweight[, dbias])."""
        R, C = _shape(x)
        has_bias = bool(bias) and bias[0] is not None and bool(wanted[2])
        dy, x = laid(dy), laid(x)
        dx = None
        if wanted[0]:
            dx = empty(x.shape, x)
            if R:
                given = dy, x, laid(weight), *residuals
                self.vjp_kernel(*self.launch(R, C), (dx, *given, np.int32(R), np.int32(C)))
        dweight = dbias = None
        if wanted[1] or has_bias:
            dweight, dbias = (zeros(weight.shape, x) for _ in range(2))
            if R:
                self.columns(dweight, dbias, dy.reshape(R, C), x.reshape(R, C), *residuals)
        return (dx, dweight if wanted[1] else None, dbias if has_bias else None)[: 2 + len(bias)]


@dataclass(frozen=True)
class RmsNorm:
    """forward_kernel(y, scales, x, weight, R, C, eps), vjp_kernel(dx, dy, x, weight, scales, R, C), and
    columns(dweight, dy, x, scales), which launches what it needs.
    """

    forward_kernel: Kernel
    vjp_kernel: Kernel
    launch: Launch
    columns: Callable[..., None]

    def accepts(self, x: Any, weight: Any, *, eps: float = 1e-6) -> bool:
        fits = x.dtype == weight.dtype == FLOAT32 and x.ndim >= 1 and weight.shape == x.shape[-1:]
        return fits and rows(x) <= MOST_ROWS and x.shape[-1] <= MOST

    def forward(self, x: Any, weight: Any, *, eps: float = 1e-6) -> tuple[Any, Any]:
        """y (..., C) of x (..., C) and weight (C,); residual: 1/sqrt(mean(x^2) + eps) of every row."""
        if not self.accepts(x, weight):
            refuse(self.forward_kernel, f"float32 x (..., C) and weight (C,); {TAKES}", x, weight)
        R, C = _shape(x)
        y, scales = empty(x.shape, x), empty((R,), x)
        if R:
            numbers = np.int32(R), np.int32(C), np.float32(eps)
            self.forward_kernel(*self.launch(R, C), (y, scales, laid(x), laid(weight), *numbers))
        return y, scales

    def vjp(
        self, dy: Any, y: Any, x: Any, weight: Any, *, residuals: Any, wanted: Any, into: Any, eps: float = 1e-6
    ) -> tuple:
        """(dx, dweight)."""
        R, C = _shape(x)
        dy, x = laid(dy), laid(x)
        dx = dweight = None
        if wanted[0]:
            dx = empty(x.shape, x)
            if R:
                self.vjp_kernel(*self.launch(R, C), (dx, dy, x, laid(weight), residuals, np.int32(R), np.int32(C)))
        if wanted[1]:
            dweight = zeros(weight.shape, x)
            if R:
                self.columns(dweight, dy.reshape(R, C), x.reshape(R, C), residuals)
        return dx, dweight


def _shape(x: Any) -> tuple[int, int]:
    """(rows, length); no rows where there are no numbers."""
    C = x.shape[-1]
    return (x.size // C, C) if C else (0, 0)
