"""Launches matmul_07_warp_tile.cu: a block of 4 warps for each tile of 128 x 128."""

from .launch import Kernel
from .pairs import Product

production = Product(Kernel(__file__, "matmul_forward_07_warp_tile"), tile=(128, 128), block=(128,))
forward, vjp, accepts = production.forward, production.vjp, production.accepts
