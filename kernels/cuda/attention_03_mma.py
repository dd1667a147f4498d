"""Launches attention_03_mma.cu: 4 warps for 64 queries, or keys. bfloat16 and float16, head_dim up to 256, for which the way
back takes 132 KB of shared memory a block (compute capability 8.0 has them, 8.6 and 8.9 have not).
"""

from typing import Any

import numpy as np

from . import attentions
from .attentions import Problem
from .launch import Kernel, blocks

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


def _inner_products(args: tuple[Any, ...], of: Problem) -> None:
    lengths = np.int32(args[0].size), np.int32(of.D)
    _inner[args[1].dtype.name]((blocks(32 * args[0].size, THREADS),), (THREADS,), (*args, *lengths))


production = attentions.Online(
    lambda args, of: _launch(_forward, args, of.B * of.H, of.T, 1, of),
    _inner_products,
    lambda args, of: _launch(_queries, args, of.B * of.H, of.T, 2, of),
    lambda args, of: _launch(_keys, args, of.B * of.G, of.S, 2, of, parts=True),
)
forward, vjp = production.forward, production.vjp
