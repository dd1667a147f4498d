"""Launches log_softmax_04_online.cu: 256 threads for each row."""

from .launch import Kernel
from .pairs import Rows, block_per_row

production = Rows(
    Kernel(__file__, "log_softmax_forward_04_online"),
    Kernel(__file__, "log_softmax_vjp_04_online"),
    block_per_row(256),
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
