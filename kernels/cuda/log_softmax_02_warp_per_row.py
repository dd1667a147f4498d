"""Launches log_softmax_02_warp_per_row.cu: 4 rows a block."""

from .launch import Kernel
from .pairs import Rows, warp_per_row

production = Rows(
    Kernel(__file__, "log_softmax_forward_02_warp_per_row"),
    Kernel(__file__, "log_softmax_vjp_02_warp_per_row"),
    warp_per_row(4),
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
