"""Launches dropout_add_01_word_per_thread.cu: 256 numbers a block."""

from .dropouts import DropoutAdd
from .launch import Kernel

production = DropoutAdd(
    Kernel(__file__, "dropout_add_forward_01_word_per_thread"), Kernel(__file__, "dropout_add_vjp_01_word_per_thread")
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
