"""Launches matmul_09_wgmma.cu: two warpgroups for each tile of 128 x 128."""

from .hopper import Panels

CHECKED = "bfloat16"
"""The only type that it takes."""
PRODUCTS = {"bfloat16": Panels(__file__, "09_wgmma", (128, 128), 256, 2 * 4 * 8192 + 1024, maps=False)}
"""shared_mem: two stages of 2 + 2 panels of 8 KB; 1024 bytes to begin at a multiple of as many."""
MULTIPLE = 8
"""Of K and N."""

accepts, forward, vjp = PRODUCTS["bfloat16"].accepts, PRODUCTS["bfloat16"].forward, PRODUCTS["bfloat16"].vjp
