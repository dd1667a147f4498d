"""Launches embedding_02_sorted.cu: 4 warps a block, a warp for each row; sorts the ids for the way back."""

from typing import Any

import numpy as np

from .embeddings import Embedding
from .launch import Kernel, blocks, namespace
from .pairs import warp_per_row

COLUMNS = 128
"""What a warp adds; the constant of the same name in the `.cu`."""

_runs = Kernel(__file__, "embedding_vjp_02_sorted")


def add_rows(dweight: Any, dy: Any, ids: Any, padding: int) -> None:
    """dweight (V, C) of dy (R, C) and ids (R,)."""
    R, C = dy.shape
    order = namespace(ids).argsort(ids, kind="stable")
    grid = blocks(R, 4), blocks(C, COLUMNS)
    _runs(grid, (128,), (dweight, dy, ids[order], order, np.int32(padding), np.int32(R), np.int32(C)))


production = Embedding(Kernel(__file__, "embedding_forward_02_sorted"), warp_per_row(4), add_rows)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
