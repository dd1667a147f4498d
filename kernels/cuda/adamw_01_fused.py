"""Launches adamw_01_fused.cu, in the calls of kernels/cpu/adamw.py: 256 numbers a block, 4096 where squares are summed."""

from .launch import Kernel
from .updates import AdamW

production = AdamW(
    Kernel(__file__, "adamw_update_01_fused"),
    Kernel(__file__, "squared_norm_01_slabs"),
    Kernel(__file__, "squared_norm_01_total"),
    Kernel(__file__, "scale_01_in_place"),
)
adamw_update, squared_norm, scale_in_place = production.adamw_update, production.squared_norm, production.scale_in_place
