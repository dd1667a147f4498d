"""Launches layer_norm_01_thread_per_row.cu: a thread for each row, and for the gradients of weight and bias one a column."""

from typing import Any

import numpy as np

from .launch import Kernel, blocks
from .norms import LayerNorm
from .pairs import thread_per_row

_columns = Kernel(__file__, "layer_norm_vjp_01_thread_per_column")


def columns(dweight: Any, dbias: Any, dy: Any, x: Any, means: Any, scales: Any) -> None:
    """dweight, dbias (C,) of dy, x (R, C)."""
    R, C = x.shape
    _columns((blocks(C, 128),), (128,), (dweight, dbias, dy, x, means, scales, np.int32(R), np.int32(C)))


production = LayerNorm(
    Kernel(__file__, "layer_norm_forward_01_thread_per_row"),
    Kernel(__file__, "layer_norm_vjp_01_thread_per_row"),
    thread_per_row(128),
    columns,
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
