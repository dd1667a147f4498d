"""Launches multiply_01_vector_loads.cu: 1024 numbers a block. Arrays that must be stretched are the formula's."""

from typing import Any

from .launch import Kernel
from .two import alike, combined

_product = Kernel(__file__, "multiply_01_vector_loads")
accepts = alike
PARTIAL = True


def forward(x1: Any, x2: Any) -> tuple[Any, None]:
    """y = x1 x2, alike in shape."""
    return combined(_product, x1, x2), None


def vjp(dy: Any, y: Any, x1: Any, x2: Any, *, residuals: None, wanted: Any, into: Any) -> tuple:
    """dx1 = dy x2, dx2 = dy x1."""
    return combined(_product, dy, x2) if wanted[0] else None, combined(_product, dy, x1) if wanted[1] else None
