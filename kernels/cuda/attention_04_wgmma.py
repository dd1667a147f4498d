"""Launches attention_04_wgmma.cu: two warpgroups for 128 queries, or keys. bfloat16, head_dim up to 256 in eights; beyond 128
the way back is rung 03's: sums for dk and dv would take 256 registers of a thread, and a thread has no more than 255.
"""

import math
from typing import Any

import numpy as np

from . import attention_03_mma, attentions
from .attentions import Problem, problem
from .hopper import PANEL
from .launch import Kernel, blocks, empty, hopper, laid
from .on_cpu.tensor_map import TensorMap
from .pairs import refuse

CHECKED = "bfloat16"
"""The only type that it takes."""
TYPES = ("bfloat16",)
KEYS = {64: 128, 128: 128, 256: 64}
"""head_dim, to which smaller ones are filled up with zeros, and how many keys a tile has on the way forward."""
WIDTHS, WIDTHS_BACK = tuple(KEYS), (64, 128)
OWNED, WALKED, STAGES, THREADS = 128, 64, 2, 256


def kernels(file: str, what: str, widths: tuple[int, ...] = WIDTHS) -> dict[int, Kernel]:
    """By head_dim."""
    return {width: Kernel(file, f"attention_{what}_{width}") for width in widths}


_forward = kernels(__file__, "forward_04_wgmma")
_keys, _queries = (kernels(__file__, f"vjp_04_wgmma_{what}", WIDTHS_BACK) for what in ("keys", "queries"))
_inner = Kernel(__file__, "attention_vjp_04_inner")


def accepts(q: Any, k: Any, v: Any, mask: Any = None, bias: None = None, **params: Any) -> bool:
    """On a GPU of sm_90a or on the CPU. Rows are multiples of 16 bytes."""
    return (
        hopper(q)
        and q.dtype.name == CHECKED
        and attentions.accepts(q, k, v, mask, bias, **params)
        and q.shape[-1] in range(8, WIDTHS[-1] + 1, 8)
    )


def launch(
    by_width: dict[int, Kernel], results: tuple[Any, ...], operands: tuple[Any, ...], rows: tuple[Any, ...], heads: int,
    length: int, of: Problem, *, owned: int, walked: dict[int, int], threads: int = THREADS,
) -> None:  # fmt: skip
    """A block for each 128 of `length` rows of each head. operands: (..., rows, D), which become maps; rows: lse, inner.

    owned: how many tiles of 128 rows a block keeps beside its stages, each of two tiles of `walked` rows, by width.
    """
    width = next(n for n in by_width if n >= of.D)
    tiles = owned * OWNED + STAGES * 2 * walked[width]  # rows
    shared = 2 * width * tiles + 128 + 1024  # barriers, and to begin at a multiple of 1024
    maps = tuple(TensorMap(laid(a).reshape(-1).reshape(-1, *a.shape[-2:]), (*PANEL, 1)) for a in operands)
    args = (*results, *maps, *rows, *of.mask, of.masked, *of.lengths("HGTSD"), *of.reach, of.scale)
    by_width[width]((heads * blocks(length, OWNED),), (threads,), args, shared_mem=shared)


def forward_by(
    by_width: dict[int, Kernel], threads: int, q: Any, k: Any, v: Any, mask: Any, bias: None, **params: Any
) -> tuple[Any, Any]:
    """y and the logsumexps of a forward kernel; nothing is launched where nothing is seen."""
    if not accepts(q, k, v, mask, bias, **params):
        takes = "bfloat16 q, k and v, head_dim 8, 16, ... 256, a boolean mask, no bias"
        refuse(by_width[WIDTHS[0]], takes, q, k, v, mask, bias, **params)
    of = problem(q, k, mask, **params)
    y, lse = empty(q.shape, q), empty((of.B * of.H, blocks(of.T, OWNED) * OWNED), q, np.float32)
    if not k.size:
        y[...], lse[...] = 0, np.inf
    elif y.size:
        launch(by_width, (y, lse), (q, k, v), (), of.B * of.H, of.T, of, owned=1, walked=KEYS, threads=threads)
    return y, lse


def forward(q: Any, k: Any, v: Any, mask: Any = None, bias: None = None, **params: Any) -> tuple[Any, Any]:
    """y (..., H, T, D) of q (..., H, T, D), k and v (..., G, S, D); residual: for each query the logsumexp of its scores, in
    base 2, (B H, T rounded up to 128) in float32.
    """
    return forward_by(_forward, THREADS, q, k, v, mask, bias, **params)


def vjp(
    dy: Any, y: Any, q: Any, k: Any, v: Any, *mask_and_bias: Any, residuals: Any, wanted: Any, into: Any, **params: Any
) -> tuple:
    """(dq, dk, dv), and None for mask and bias where given. dk and dv are made by one kernel, whichever is wanted."""
    of = problem(q, k, *mask_and_bias[:1], **params)
    if WIDTHS_BACK[-1] < of.D:  # rung 03 has a natural logarithm for each query, and no more of them
        rest = {"residuals": laid(residuals[:, : of.T] * np.float32(math.log(2))), "wanted": wanted, "into": into}
        return attention_03_mma.vjp(dy, y, q, k, v, *mask_and_bias, **rest, **params)
    dq = empty(q.shape, q) if wanted[0] else None
    dk, dv = (empty(k.shape, k), empty(v.shape, v)) if wanted[1] or wanted[2] else (None, None)
    if not q.size or not k.size:
        for result in (dq, dk, dv):
            if result is not None:
                result[...] = 0
    else:
        operands, lse, inner = tuple(map(laid, (dy, q, k, v))), residuals, empty(residuals.shape, residuals)
        _inner((32 * inner.size // THREADS,), (THREADS,), (inner, operands[0], laid(y), *of.lengths("TD")))
        sizes: Any = {"owned": 2, "walked": dict.fromkeys(WIDTHS_BACK, WALKED)}
        if dq is not None:
            launch(_queries, (dq,), operands, (lse, inner), of.B * of.H, of.T, of, **sizes)
        if dk is not None:
            launch(_keys, (dk, dv), operands, (lse, inner), of.B * of.G, of.S, of, **sizes)
    return dq, dk if wanted[1] else None, dv if wanted[2] else None, *(None for _ in mask_and_bias)
