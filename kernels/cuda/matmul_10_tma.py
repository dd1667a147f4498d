"""Launches matmul_10_tma.cu: two warpgroups for each tile of 128 x 128, tensor maps of both operands."""

from .hopper import Panels

CHECKED = "bfloat16"
"""The only type that it takes."""
PRODUCTS = {"bfloat16": Panels(__file__, "10_tma", (128, 128), 256, 4 * 4 * 8192 + 64 + 1024)}
"""shared_mem: four stages of 2 + 2 panels of 8 KB, two mbarriers each; 1024 bytes to begin at a multiple of as many."""
MULTIPLE = 8
"""Of K and N."""

accepts, forward, vjp = PRODUCTS["bfloat16"].accepts, PRODUCTS["bfloat16"].forward, PRODUCTS["bfloat16"].vjp
