"""Launches matmul_04_register_column.cu: a block of 512 threads for each tile of 64 x 64."""

from .launch import Kernel
from .pairs import Product

production = Product(Kernel(__file__, "matmul_forward_04_register_column"), tile=(64, 64), block=(512,))
forward, vjp, accepts = production.forward, production.vjp, production.accepts
