"""Launches adamw_02_vector_loads.cu: 1024 numbers a block, 4096 where squares are summed. What is updated in place cannot be
moved, so that slices that begin between two multiples of 16 bytes are rung 01's.
"""

from typing import Any

from . import adamw_01_fused
from .launch import Kernel, aligned
from .updates import AdamW

production = AdamW(
    Kernel(__file__, "adamw_update_02_vector_loads"),
    Kernel(__file__, "squared_norm_02_slabs"),
    Kernel(__file__, "squared_norm_02_total"),
    Kernel(__file__, "scale_02_in_place"),
    each=4,
)


def adamw_update(param: Any, grad: Any, m: Any, v: Any, **rates: Any) -> None:
    """One step on flat contiguous float32 arrays: param, m, v change in place, grad does not. rates: those of rung 01."""
    _for(param, grad, m, v).adamw_update(param, grad, m, v, **rates)


def squared_norm(grad: Any) -> float:
    """Sum of squares of a flat contiguous array, in float64; the same bits at each run. It waits for the GPU."""
    return _for(grad).squared_norm(grad)


def scale_in_place(grad: Any, factor: float) -> None:
    """grad *= factor, for a flat contiguous array."""
    _for(grad).scale_in_place(grad, factor)


def _for(*arrays: Any) -> AdamW:
    return production if aligned(*arrays) else adamw_01_fused.production
