"""Launches layer_norm_02_warp_per_row.cu: 4 rows a block; weight and bias get their gradients in slabs of 64 rows."""

from typing import Any

import numpy as np

from .launch import Kernel, blocks, empty
from .norms import SLAB, LayerNorm
from .pairs import warp_per_row

_slabs = Kernel(__file__, "layer_norm_vjp_02_slabs")
_add_slabs = Kernel(__file__, "layer_norm_vjp_02_add_slabs")


def columns(dweight: Any, dbias: Any, dy: Any, x: Any, means: Any, scales: Any) -> None:
    """dweight, dbias (C,) of dy, x (R, C)."""
    R, C = x.shape
    slabs = blocks(R, SLAB)
    parts = empty((slabs, C), x), empty((slabs, C), x)
    _slabs((blocks(C, 32), slabs), (32, 8), (*parts, dy, x, means, scales, np.int32(R), np.int32(C)))
    _add_slabs((blocks(C, 128),), (128,), (dweight, dbias, *parts, np.int32(slabs), np.int32(C)))


production = LayerNorm(
    Kernel(__file__, "layer_norm_forward_02_warp_per_row"),
    Kernel(__file__, "layer_norm_vjp_02_warp_per_row"),
    warp_per_row(4),
    columns,
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
