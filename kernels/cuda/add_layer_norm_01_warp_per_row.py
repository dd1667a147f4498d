"""Launches add_layer_norm_01_warp_per_row.cu: 4 rows a block; weight and bias get their gradients from layer_norm's rung 02."""

from typing import Any

import numpy as np

from .launch import Kernel, empty, laid, namespace
from .layer_norm_02_warp_per_row import columns
from .pairs import FLOAT32, warp_per_row

_forward = Kernel(__file__, "add_layer_norm_forward_01_warp_per_row")
_vjp = Kernel(__file__, "add_layer_norm_vjp_01_warp_per_row")
_launch = warp_per_row(4)


def accepts(x: Any, residual: Any, weight: Any, bias: Any = None, *, eps: float = 1e-5) -> bool:
    vectors = (weight,) if bias is None else (weight, bias)
    return (
        x.dtype == residual.dtype == FLOAT32
        and x.ndim >= 1
        and residual.shape == x.shape
        and all(v.dtype == x.dtype and v.shape == x.shape[-1:] for v in vectors)
    )


def forward(
    x: Any, residual: Any, weight: Any, bias: Any = None, *, eps: float = 1e-5
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """(y, s), both (..., C), of x, residual (..., C), weight and bias (C,); residuals: mean and 1/sqrt(variance + eps)."""
    R, C = _shape(x)
    y, s, means, scales = empty(x.shape, x), empty(x.shape, x), empty((R,), x), empty((R,), x)
    if R:
        given = map(laid, (x, residual, weight, weight if bias is None else bias))  # without bias that one is not read
        numbers = np.int32(bias is not None), np.int32(R), np.int32(C), np.float32(eps)
        _forward(*_launch(R, C), (y, s, means, scales, *given, *numbers))
    return (y, s), (means, scales)


def vjp(
    dy: tuple[Any, Any], y: tuple[Any, Any], x: Any, residual: Any, weight: Any, *bias: Any,
    residuals: tuple[Any, Any], wanted: Any, into: Any, eps: float = 1e-5,
) -> tuple:  # fmt: skip
    """(dx, dresidual, dweight[, dbias]); dx and dresidual are one array."""
    s = laid(y[1])
    R, C = _shape(s)
    zeros = namespace(s).zeros
    dy_norm = zeros(s.shape, s.dtype) if dy[0] is None else laid(dy[0])
    ds = dy_norm if dy[1] is None else laid(dy[1])  # without ds that one is not read
    dx = dweight = dbias = None
    if wanted[0] or wanted[1]:
        dx = empty(s.shape, s)
        if R:
            given = dy_norm, ds, np.int32(dy[1] is not None), s, laid(weight), *residuals
            _vjp(*_launch(R, C), (dx, *given, np.int32(R), np.int32(C)))
    has_bias = bool(bias) and bias[0] is not None and bool(wanted[3])
    if wanted[2] or has_bias:
        dweight, dbias = zeros(weight.shape, s.dtype), zeros(weight.shape, s.dtype)
        if R:
            columns(dweight, dbias, dy_norm.reshape(R, C), s.reshape(R, C), *residuals)
    gradients = dx if wanted[0] else None, dx if wanted[1] else None, dweight if wanted[2] else None
    return *gradients, *(dbias if has_bias else None for _ in bias)


def _shape(x: Any) -> tuple[int, int]:
    """(rows, length); no rows where there are no numbers."""
    C = x.shape[-1]
    return (x.size // C, C) if C else (0, 0)
