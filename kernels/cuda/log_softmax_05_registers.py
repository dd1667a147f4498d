"""Launches log_softmax_05_registers.cu: 256 threads for each row of up to 4096 numbers; longer rows are rung 04's."""

from . import log_softmax_04_online
from .launch import Kernel
from .pairs import Rows, UpTo, block_per_row

LONGEST = 4096
"""256 threads x 4 float4: what a block holds in registers."""

production = UpTo(
    LONGEST,
    Rows(
        Kernel(__file__, "log_softmax_forward_05_registers"),
        Kernel(__file__, "log_softmax_vjp_05_registers"),
        block_per_row(256),
    ),
    log_softmax_04_online.production,
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
