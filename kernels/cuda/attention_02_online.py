"""Launches attention_02_online.cu: 128 threads for each tile of queries, or of keys. head_dim up to 256."""

from typing import Any

import numpy as np

from . import attentions
from .attentions import Problem, problem
from .launch import Kernel, blocks, empty, laid
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


def forward(q: Any, k: Any, v: Any, mask: Any = None, bias: None = None, **params: Any) -> tuple[Any, Any]:
    """y (..., H, T, D) of q (..., H, T, D), k and v (..., G, S, D); residual: the logsumexp of each row (B H, T)."""
    of = problem(q, k, mask, **params)
    y, lse = empty(q.shape, q), empty((of.B * of.H, of.T), q)
    if y.size:
        _launch(_forward, (y, lse, laid(q), laid(k), laid(v)), of.B * of.H, of.T, FORWARD_ROWS, (1, 2, 1), of)
    return y, lse


def vjp(
    dy: Any, y: Any, q: Any, k: Any, v: Any, *mask_and_bias: Any, residuals: Any, wanted: Any, into: Any, **params: Any
) -> tuple:
    """(dq, dk, dv), and None for mask and bias where given. dk and dv are made by one kernel, whichever is wanted."""
    of = problem(q, k, *mask_and_bias[:1], **params)
    dy, q, k, v = map(laid, (dy, q, k, v))
    inner = empty(residuals.shape, q)
    if inner.size:
        rows = np.int32(inner.size)
        _inner((blocks(32 * inner.size, THREADS),), (THREADS,), (inner, dy, laid(y), rows, np.int32(of.D)))
    given, dq, dk, dv = (dy, q, k, v, residuals, inner), None, None, None
    if wanted[0]:
        dq = empty(q.shape, q)
        if dq.size:
            _launch(_queries, (dq, *given), of.B * of.H, of.T, VJP_ROWS, (2, 2, 1), of)
    if wanted[1] or wanted[2]:
        dk, dv = empty(k.shape, k), empty(v.shape, v)
        if dk.size:
            _launch(_keys, (dk, dv, *given), of.B * of.G, of.S, VJP_ROWS, (2, 2, 2), of)
    return dq, dk if wanted[1] else None, dv if wanted[2] else None, *(None for _ in mask_and_bias)
