"""Launches dropout_02_vector_loads.cu: 1024 numbers a block."""

from .dropouts import Dropout
from .launch import Kernel

production = Dropout(Kernel(__file__, "dropout_02_vector_loads"), each=4)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
