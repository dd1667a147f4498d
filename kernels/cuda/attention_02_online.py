"""Launches attention_02_online.cu: 128 threads for each tile of queries, or of keys. head_dim up to 256."""

from typing import Any

import numpy as np

from . import attentions
from .attentions import Problem
from .launch import Kernel, blocks
from .pairs import FLOAT32

THREADS, DOWN, WALKED = 128, 16, 32
FORWARD_ROWS = {64: 4, 128: 4, 256: 2}
"""head_dim, to which smaller ones are filled up with zeros -> rows of the owned tile for each thread."""
VJP_ROWS = {64: 4, 128: 2, 256: 1}

_forward = {n: Kernel(__file__, f"attention_forward_02_online_{n}") for n in FORWARD_ROWS}
_inner = Kernel(__file__, "attention_vjp_02_inner")
_keys = {n: Kernel(__file__, f"attention_vjp_02_online_keys_{n}") for n in VJP_ROWS}
_queries = {n: Kernel(__file__, f"attention_vjp_02_online_queries_{n}") for n in VJP_ROWS}


def accepts(q: Any, *others: Any, **params: Any) -> bool:
    return q.dtype == FLOAT32 and 1 <= q.shape[-1] <= 256 and attentions.accepts(q, *others, **params)


def _width(D: int) -> int:
    return 64 if D <= 64 else 128 if D <= 128 else 256


def _launch(
    kernels: dict[int, Kernel], args: tuple[Any, ...], heads: int, length: int, rows: dict[int, int],
    tiles: tuple[int, int, int], of: Problem,
) -> None:  # fmt: skip
    """A block for each owned tile of `length` rows. tiles: of the owned rows, of the walked rows, and of weights, which lie in
    shared memory: rows of head_dim + 4 numbers, of weights 34.
    """
    width = _width(of.D)
    owned = DOWN * rows[width]
    shared = 4 * ((tiles[0] * owned + tiles[1] * WALKED) * (width + 4) + tiles[2] * owned * (WALKED + 2))
    everything = (*args, *of.mask, *of.lengths("HGTSD"), *of.reach, of.scale)
    kernels[width]((heads * blocks(length, owned),), (THREADS,), everything, shared_mem=shared)


def _inner_products(args: tuple[Any, ...], of: Problem) -> None:
    rows = np.int32(args[0].size)
    _inner((blocks(32 * args[0].size, THREADS),), (THREADS,), (*args, rows, np.int32(of.D)))


production = attentions.Online(
    lambda args, of: _launch(_forward, args, of.B * of.H, of.T, FORWARD_ROWS, (1, 2, 1), of),
    _inner_products,
    lambda args, of: _launch(_queries, args, of.B * of.H, of.T, VJP_ROWS, (2, 2, 1), of),
    lambda args, of: _launch(_keys, args, of.B * of.G, of.S, VJP_ROWS, (2, 2, 2), of),
)
forward, vjp = production.forward, production.vjp
