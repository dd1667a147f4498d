"""Sums of products: where a network's arithmetic is. Formulas: reference/linear.py, embedding.py, attention.py ..."""

from __future__ import annotations

from typing import Any

from ...reference import table as t
from ..tensor import Tensor, apply
from .elementwise import Operand, with_axes
from .shape import checked, constant, integer, number, optional_integer, reshape

__all__ = ["attention", "embedding", "linear", "lstm_cell", "matmul", "packed_attention", "scatter_rows"]


def matmul(x1: Operand, x2: Operand, /) -> Tensor:
    """Matrix product of the last two axes; (..., m, k) @ (..., k, n) -> (..., m, n). A vector counts as a row or a column."""
    x1, x2 = with_axes("matmul", x1), with_axes("matmul", x2)
    if min(x1.ndim, x2.ndim) < 1:
        raise ValueError(f"matmul: x1 has shape {tuple(x1.shape)} and x2 {tuple(x2.shape)}, but both need an axis")
    a = reshape(x1, (1, *x1.shape)) if x1.ndim == 1 else x1
    b = reshape(x2, (*x2.shape, 1)) if x2.ndim == 1 else x2
    y = apply(t.MATMUL, a, b)
    if x1.ndim == 1:
        y = reshape(y, (*y.shape[:-2], y.shape[-1]))
    return reshape(y, y.shape[:-1]) if x2.ndim == 1 else y


def linear(x: Operand, weight: Operand, bias: Operand | None = None, *, transposed: bool = False) -> Tensor:
    """x W + b. x (..., in), weight (in, out), or (out, in) where `transposed`, bias (out) -> (..., out)."""
    arguments = (x, weight) if bias is None else (x, weight, bias)
    return apply(t.LINEAR, *arguments, transposed=transposed)


def embedding(weight: Operand, ids: Operand, *, padding_idx: int | None = None) -> Tensor:
    """The rows of `weight` (v, c) at the integers `ids` (...) -> (..., c). IndexError where an id is not a row.

    padding_idx: a row that is read as it is, but gets no gradient; a negative one counts from the end.
    """
    weight = with_axes("embedding", weight)
    rows = weight.shape[0] if weight.ndim else 0
    padding = optional_integer("embedding", "padding_idx", padding_idx)
    if padding is not None and -rows <= padding < 0:
        padding += rows
    ids = checked("embedding", "ids", ids, "weight", rows, "rows", like=weight)
    return apply(t.EMBEDDING, weight, ids, padding_idx=padding)


def scatter_rows(x: Operand, ids: Operand, *, n: int) -> Tensor:
    """(n, c) whose row v is the sum of the rows r of x (R, c) with ids[r] == v: the transpose of embedding."""
    n = integer("scatter_rows", "n", n)
    if n < 0:
        raise ValueError(f"scatter_rows: n is {n}, but it must be at least 0")
    return apply(t.SCATTER_ROWS, x, checked("scatter_rows", "ids", ids, "the result", n, "rows", like=x), n=n)


def attention(
    q: Operand,
    k: Operand,
    v: Operand,
    mask: Operand | None = None,
    bias: Operand | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    window: int | None = None,
    grouped: bool = False,
) -> Tensor:
    """softmax(q k^T scale + bias) v. q (..., t, d), k (..., s, d), v (..., s, e) -> (..., t, e).

    mask: boolean, broadcasts to (..., t, s); True takes part. bias: floating point, likewise; -inf takes no part.
    Query i stands at the position i + s - t, among keys 0 to s - 1. causal: it sees keys up to there. window: it sees keys
    less than `window` positions away. A query that may see nothing gives zeros.
    scale: a number, 1/sqrt(d) where None.
    grouped: q (..., H, t, d) has a multiple of the G heads of k and v (..., G, s, d); head h reads key head h // (H // G).
    """
    scale = None if scale is None else number("attention", "scale", scale, "a number or None")
    given: tuple[Any, ...] = (q, k, v)
    if mask is not None or bias is not None:
        given = (*given, None if mask is None else constant(mask, q))
    if bias is not None:
        given = (*given, with_axes("attention", bias))
    return apply(t.ATTENTION, *given, causal=causal, scale=scale, window=window, grouped=grouped)


def packed_attention(qkv: Operand, *, n_head: int, causal: bool = True) -> Tensor:
    """Self-attention of n_head heads on queries, keys and values that lie side by side: (B, T, 3C) -> (B, T, C)."""
    return apply(t.PACKED_ATTENTION, qkv, n_head=integer("packed_attention", "n_head", n_head), causal=causal)


def lstm_cell(x: Operand, h: Operand, c: Operand, w: Operand, u: Operand, b: Operand) -> tuple[Tensor, Tensor]:
    """One step of an LSTM: (h_new, c_new). x (b, i), h and c (b, h), w (i, 4h), u (h, 4h), b (4h)."""
    return apply(t.LSTM_CELL, x, h, c, w, u, b)
