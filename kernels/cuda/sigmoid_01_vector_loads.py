"""Launches sigmoid_01_vector_loads.cu: 1024 numbers a block."""

from .launch import Kernel
from .pairs import Elementwise

production = Elementwise(
    Kernel(__file__, "sigmoid_forward_01_vector_loads"), Kernel(__file__, "sigmoid_vjp_01_vector_loads"), each=4, reads="y"
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
