"""Launches log_softmax_01_thread_per_row.cu: 128 rows a block."""

from .launch import Kernel
from .pairs import Rows, thread_per_row

production = Rows(
    Kernel(__file__, "log_softmax_forward_01_thread_per_row"),
    Kernel(__file__, "log_softmax_vjp_01_thread_per_row"),
    thread_per_row(128),
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
