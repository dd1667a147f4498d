"""Launches matmul_01_naive.cu: a thread for each number, rows along threadIdx.x."""

from .launch import Kernel
from .pairs import Product

production = Product(Kernel(__file__, "matmul_forward_01_naive"), tile=(32, 8), block=(32, 8), rows_first=True)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
