"""Launches bias_gelu_01_slabs.cu: 256 numbers a block forward; back, 32 columns of 64 rows."""

from typing import Any

import numpy as np

from .launch import Kernel, blocks, empty, laid, namespace
from .norms import SLAB
from .pairs import FLOAT32

_forward = Kernel(__file__, "bias_gelu_forward_01_slabs")
_vjp = Kernel(__file__, "bias_gelu_vjp_01_slabs")
_add_slabs = Kernel(__file__, "bias_gelu_vjp_01_add_slabs")


def accepts(x: Any, bias: Any) -> bool:
    return x.dtype == bias.dtype == FLOAT32 and x.ndim >= 1 and bias.shape == x.shape[-1:]


def forward(x: Any, bias: Any) -> tuple[Any, None]:
    """y (..., C) of x (..., C) and bias (C,)."""
    y = empty(x.shape, x)
    if y.size:
        C = x.shape[-1]
        numbers = np.int32(x.size // C), np.int32(C)
        _forward((blocks(y.size, 256),), (256,), (y, laid(x), laid(bias), *numbers))
    return y, None


def vjp(dy: Any, y: Any, x: Any, bias: Any, *, residuals: None, wanted: Any, into: Any) -> tuple:
    """(dx, dbias)."""
    if not any(wanted):
        return None, None
    dx, dbias = empty(x.shape, x), namespace(x).zeros(bias.shape, x.dtype)
    if x.size:
        C = x.shape[-1]
        R = x.size // C
        slabs = blocks(R, SLAB)
        parts = empty((slabs, C), x)
        given = laid(dy), laid(x), laid(bias), np.int32(R), np.int32(C)
        _vjp((blocks(C, 32), slabs), (32, 8), (dx, parts, *given))
        _add_slabs((blocks(C, 128),), (128,), (dbias, parts, np.int32(slabs), np.int32(C)))
    return dx if wanted[0] else None, dbias if wanted[1] else None
