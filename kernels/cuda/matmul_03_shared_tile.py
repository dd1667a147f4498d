"""Launches matmul_03_shared_tile.cu: a block of 32 x 32 threads for each tile."""

from .launch import Kernel
from .pairs import Product

production = Product(Kernel(__file__, "matmul_forward_03_shared_tile"), tile=(32, 32), block=(32, 32))
forward, vjp, accepts = production.forward, production.vjp, production.accepts
