"""Launches matmul_02_coalesced.cu: a thread for each number, columns along threadIdx.x."""

from .launch import Kernel
from .pairs import Product

production = Product(Kernel(__file__, "matmul_forward_02_coalesced"), tile=(8, 32), block=(32, 8))
forward, vjp, accepts = production.forward, production.vjp, production.accepts
