"""Launches matmul_11_warp_specialised.cu: as many blocks as there are multiprocessors, which make tiles of 128 x 256."""

from .hopper import Panels

CHECKED = "bfloat16"
"""The only type that it takes."""
SHARED = 4 * (2 + 4) * 8192 + 64 + 1024
"""Bytes: four stages of 2 + 4 panels of 8 KB, two mbarriers each; 1024 to begin at a multiple of as many."""
PRODUCTS = {"bfloat16": Panels(__file__, "11_warp_specialised", (128, 256), 384, SHARED, persistent=True)}
MULTIPLE = 8
"""Of K and N."""

accepts, forward, vjp = PRODUCTS["bfloat16"].accepts, PRODUCTS["bfloat16"].forward, PRODUCTS["bfloat16"].vjp
