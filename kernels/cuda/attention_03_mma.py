"""Launches attention_03_mma.cu: 4 warps for 64 queries, or keys. bfloat16 and float16, head_dim up to 256, for which the way
back takes 132 KB of shared memory a block (compute capability 8.0 has them, 8.6 and 8.9 have not).
"""

from typing import Any

import numpy as np

from . import attentions
from .attentions import Problem, problem
from .launch import Kernel, blocks, empty, laid

THREADS, OWNED, WALKED, WIDTHS = 128, 64, 32, (64, 128, 256)
TYPES = ("bfloat16", "float16")
CHECKED = np.float16
"""The type in which `handgrad check` holds it to the formula."""


def _kernels(what: str) -> dict[tuple[str, int], Kernel]:
    """By type and head_dim, to which smaller ones are filled up with zeros."""
    return {(t, n): Kernel(__file__, f"attention_{what}_{t}_{n}") for t in TYPES for n in WIDTHS}


_forward, _keys, _queries = map(_kernels, ("forward_03_mma", "vjp_03_mma_keys", "vjp_03_mma_queries"))
_inner = {t: Kernel(__file__, f"attention_vjp_03_inner_{t}") for t in TYPES}


def accepts(q: Any, *others: Any, **params: Any) -> bool:
    return q.dtype.name in TYPES and 1 <= q.shape[-1] <= 256 and attentions.accepts(q, *others, **params)


def _launch(
    kernels: dict[tuple[str, int], Kernel], args: tuple[Any, ...], heads: int, length: int, owned: int, of: Problem,
    parts: bool = False,
) -> None:  # fmt: skip
    """A block for each 64 of `length` rows. owned: tiles of these; of the walked rows there are two, each in two stages.
    parts: a block for each 128 columns.
    """
    width = next(n for n in WIDTHS if n >= of.D)
    shared = 2 * (owned * OWNED + 4 * WALKED) * (width + 8)
    grid = heads * blocks(length, OWNED), blocks(width, 128) if parts else 1
    everything = (*args, *of.mask, *of.lengths("HGTSD"), *of.reach, of.scale)
    kernels[args[0].dtype.name, width](grid, (THREADS,), everything, shared_mem=shared)


def forward(q: Any, k: Any, v: Any, mask: Any = None, bias: None = None, **params: Any) -> tuple[Any, Any]:
    """y (..., H, T, D) of q (..., H, T, D), k and v (..., G, S, D); residual: the logsumexp of each row (B H, T) in float32."""
    of = problem(q, k, mask, **params)
    y, lse = empty(q.shape, q), empty((of.B * of.H, of.T), q, np.float32)
    if y.size:
        _launch(_forward, (y, lse, laid(q), laid(k), laid(v)), of.B * of.H, of.T, 1, of)
    return y, lse


def vjp(
    dy: Any, y: Any, q: Any, k: Any, v: Any, *mask_and_bias: Any, residuals: Any, wanted: Any, into: Any, **params: Any
) -> tuple:
    """(dq, dk, dv), and None for mask and bias where given. dk and dv are made by one kernel, whichever is wanted."""
    of = problem(q, k, *mask_and_bias[:1], **params)
    dy, q, k, v = map(laid, (dy, q, k, v))
    inner = empty(residuals.shape, residuals)
    if inner.size:
        lengths = np.int32(inner.size), np.int32(of.D)
        _inner[q.dtype.name]((blocks(32 * inner.size, THREADS),), (THREADS,), (inner, dy, laid(y), *lengths))
    given, dq, dk, dv = (dy, q, k, v, residuals, inner), None, None, None
    if wanted[0]:
        dq = empty(q.shape, q)
        if dq.size:
            _launch(_queries, (dq, *given), of.B * of.H, of.T, 2, of)
    if wanted[1] or wanted[2]:
        dk, dv = empty(k.shape, k), empty(v.shape, v)
        if dk.size:
            _launch(_keys, (dk, dv, *given), of.B * of.G, of.S, 2, of, parts=True)
    return dq, dk if wanted[1] else None, dv if wanted[2] else None, *(None for _ in mask_and_bias)
