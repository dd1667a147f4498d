"""Launches attention_01_three_kernels.cu: a thread for each number of a product, a warp for each row of scores."""

import math
from typing import Any

from . import attentions
from .attentions import Problem, problem
from .launch import Kernel, blocks, empty, laid
from .pairs import FLOAT32

_scores = Kernel(__file__, "attention_01_scores")
_softmax = Kernel(__file__, "attention_forward_01_softmax")
_softmax_vjp = Kernel(__file__, "attention_vjp_01_softmax")
_sum_over_keys = Kernel(__file__, "attention_01_sum_over_keys")
_sum_over_queries = Kernel(__file__, "attention_01_sum_over_queries")
THREADS = 128


def accepts(q: Any, *others: Any, **params: Any) -> bool:
    return q.dtype == FLOAT32 and attentions.accepts(q, *others, **params)


def _products(q: Any, k: Any, scale: Any, of: Problem) -> Any:
    """scale q k^T: (B, H, T, S)."""
    s = empty((of.B, of.H, of.T, of.S), q)
    if s.size:
        _scores((blocks(s.size, THREADS),), (THREADS,), (s, q, k, *of.lengths("BHGTSD"), scale))
    return s


def _rows(kernel: Kernel, s: Any, *given: Any, of: Problem) -> None:
    if s.size:
        args = (s, *given, *of.mask, *of.lengths("BHTS"), *of.reach)
        kernel((blocks(32 * of.B * of.H * of.T, THREADS),), (THREADS,), args)


def _sums(kernel: Kernel, like: Any, weights: Any, values: Any, scale: Any, of: Problem) -> Any:
    result = empty(like.shape, values)
    if result.size:
        args = (result, weights, values, *of.mask, *of.lengths("BHGTSD"), *of.reach, scale)
        kernel((blocks(math.prod(like.shape), THREADS),), (THREADS,), args)
    return result


def forward(q: Any, k: Any, v: Any, mask: Any = None, bias: None = None, **params: Any) -> tuple[Any, Any]:
    """y (..., H, T, D) of q (..., H, T, D), k and v (..., G, S, D); residual: the weights p (B, H, T, S)."""
    of = problem(q, k, mask, **params)
    p = _products(laid(q), laid(k), of.scale, of)
    _rows(_softmax, p, of=of)
    return _sums(_sum_over_keys, q, p, laid(v), FLOAT32.type(1), of), p


def vjp(
    dy: Any, y: Any, q: Any, k: Any, v: Any, *mask_and_bias: Any, residuals: Any, wanted: Any, into: Any, **params: Any
) -> tuple:
    """(dq, dk, dv), and None for mask and bias where given."""
    of = problem(q, k, *mask_and_bias[:1], **params)
    p, dy, dq, dk, dv = residuals, laid(dy), None, None, None
    if wanted[0] or wanted[1]:
        ds = _products(dy, laid(v), FLOAT32.type(1), of)
        _rows(_softmax_vjp, ds, p, of=of)
        dq = _sums(_sum_over_keys, q, ds, laid(k), of.scale, of) if wanted[0] else None
        dk = _sums(_sum_over_queries, k, ds, laid(q), of.scale, of) if wanted[1] else None
    if wanted[2]:
        dv = _sums(_sum_over_queries, v, p, dy, FLOAT32.type(1), of)
    return dq, dk, dv, *(None for _ in mask_and_bias)
