"""Launches log_softmax_03_block_per_row.cu: 256 threads for each row."""

from .launch import Kernel
from .pairs import Rows, block_per_row

production = Rows(
    Kernel(__file__, "log_softmax_forward_03_block_per_row"),
    Kernel(__file__, "log_softmax_vjp_03_block_per_row"),
    block_per_row(256),
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
