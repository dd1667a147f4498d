"""Launches matmul_12_clusters.cu: pairs of blocks that stay, which make tiles of 256 x 256."""

from .hopper import Panels

CHECKED = "bfloat16"
"""The only type that it takes."""
SHARED = 4 * (2 + 4) * 8192 + 64 + 1024
"""Bytes: four stages of 2 + 4 panels of 8 KB, two mbarriers each; 1024 to begin at a multiple of as many."""
PRODUCTS = {"bfloat16": Panels(__file__, "12_clusters", (128, 256), 384, SHARED, persistent=True, together=2)}
MULTIPLE = 8
"""Of K and N."""

accepts, forward, vjp = PRODUCTS["bfloat16"].accepts, PRODUCTS["bfloat16"].forward, PRODUCTS["bfloat16"].vjp
