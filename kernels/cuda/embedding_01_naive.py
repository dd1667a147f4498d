"""Launches embedding_01_naive.cu: 256 numbers a block, of y or of dweight."""

from typing import Any

import numpy as np

from .embeddings import Embedding
from .launch import Kernel, blocks

_numbers = Kernel(__file__, "embedding_vjp_01_naive")


def add_rows(dweight: Any, dy: Any, ids: Any, padding: int) -> None:
    """dweight (V, C) of dy (R, C) and ids (R,)."""
    (V, C), R = dweight.shape, ids.size
    _numbers((blocks(V * C, 256),), (256,), (dweight, dy, ids, np.int32(padding), np.int32(R), np.int32(V), np.int32(C)))


production = Embedding(
    Kernel(__file__, "embedding_forward_01_naive"), lambda R, C: ((blocks(R * C, 256),), (256,)), add_rows
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
