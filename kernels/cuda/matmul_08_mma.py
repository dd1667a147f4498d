"""Launches matmul_08_mma.cu: 4 warps for each tile of 64 x 64. bfloat16, float16, and float32 that is rounded to tf32."""

from typing import Any

import numpy as np

from .launch import Kernel
from .pairs import Product

CHECKED = np.float16
"""The type in which `handgrad check` holds it to the formula: in float32 it promises tf32's 11 bits only."""


def _product(dtype: str, depth: int, bytes: int) -> Product:
    """shared_mem: two stages of 64 rows of a and `depth` rows of b, each 16 bytes longer than the tile."""
    kernel = Kernel(__file__, f"matmul_forward_08_mma_{dtype}")
    stage = 64 * (depth * bytes + 16) + depth * (64 * bytes + 16)
    return Product(kernel, tile=(64, 64), block=(128,), dtype=dtype, shared_mem=2 * stage)


PRODUCTS = {
    "bfloat16": _product("bfloat16", 32, 2),
    "float16": _product("float16", 32, 2),
    "float32": _product("float32", 16, 4),
}


def accepts(x1: Any, x2: Any) -> bool:
    return x1.dtype.name in PRODUCTS and PRODUCTS[x1.dtype.name].accepts(x1, x2)


def forward(x1: Any, x2: Any) -> tuple[Any, None]:
    """y (M, N) of x1 (M, K) and x2 (K, N), in their type; sums in float32."""
    product = PRODUCTS.get(x1.dtype.name)
    if product is None:
        raise ValueError(f"matmul_forward_08_mma takes {', '.join(PRODUCTS)}, but got {x1.dtype.name} {tuple(x1.shape)}")
    return product.forward(x1, x2)


def vjp(dy: Any, y: Any, x1: Any, x2: Any, *, residuals: None, wanted: Any, into: Any) -> tuple:
    """dx1 = dy x2^T, dx2 = x1^T dy."""
    return PRODUCTS[x1.dtype.name].vjp(dy, y, x1, x2, residuals=residuals, wanted=wanted, into=into)
