"""Launches rms_norm_01_warp_per_row.cu: 4 rows a block; the weight gets its gradient in slabs of 64 rows."""

from typing import Any

import numpy as np

from .launch import Kernel, blocks, empty
from .norms import SLAB, RmsNorm
from .pairs import warp_per_row

_slabs = Kernel(__file__, "rms_norm_vjp_01_slabs")
_add_slabs = Kernel(__file__, "rms_norm_vjp_01_add_slabs")


def columns(dweight: Any, dy: Any, x: Any, scales: Any) -> None:
    """dweight (C,) of dy, x (R, C)."""
    R, C = x.shape
    slabs = blocks(R, SLAB)
    parts = empty((slabs, C), x)
    _slabs((blocks(C, 32), slabs), (32, 8), (parts, dy, x, scales, np.int32(R), np.int32(C)))
    _add_slabs((blocks(C, 128),), (128,), (dweight, parts, np.int32(slabs), np.int32(C)))


production = RmsNorm(
    Kernel(__file__, "rms_norm_forward_01_warp_per_row"),
    Kernel(__file__, "rms_norm_vjp_01_warp_per_row"),
    warp_per_row(4),
    columns,
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
