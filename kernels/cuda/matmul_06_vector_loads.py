"""Launches matmul_06_vector_loads.cu: a block of 256 threads for each tile of 128 x 128."""

from .launch import Kernel
from .pairs import Product

production = Product(Kernel(__file__, "matmul_forward_06_vector_loads"), tile=(128, 128), block=(256,))
forward, vjp, accepts = production.forward, production.vjp, production.accepts
