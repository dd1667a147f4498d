"""Reductions, scans, shapes and einsum as PyTorch has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F


def every_axis(x: Any, axis: Any) -> tuple[int, ...]:
    """`axis` as a tuple; None means all."""
    return tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)


def t_min(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    axis = every_axis(x, axis)
    return torch.amin(x, dim=axis, keepdim=keepdims) if axis else x


def t_var(x: Any, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    axis = every_axis(x, axis)
    if not axis:  # to PyTorch no axis means all of them
        return torch.var(x[..., None], dim=-1, correction=correction)
    return torch.var(x, dim=axis, correction=correction, keepdim=keepdims)


def t_prod(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    """PyTorch takes one axis at a time."""
    axis = {a % x.ndim for a in every_axis(x, axis)}
    for a in sorted(axis, reverse=True):
        x = torch.prod(x, dim=a, keepdim=keepdims)
    return x


def t_logsumexp(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    """PyTorch's gradient for nothing but -inf is NaN, ours is zero: such numbers are kept away from its formula."""
    axis = every_axis(x, axis)
    if not axis:
        return x
    nothing = torch.isneginf(torch.logsumexp(x.detach(), dim=axis, keepdim=True))
    y = torch.logsumexp(torch.where(nothing, 0.0, x), dim=axis, keepdim=True).masked_fill(nothing, -torch.inf)
    return y if keepdims else torch.squeeze(y, dim=axis)


def t_masked_softmax(x: Any, mask: Any, *, axis: int = -1) -> Any:
    """As PyTorch's users write it; a row of which nothing is left is NaN there and zero here, gradient included."""
    scores = torch.where(mask, x, -torch.inf)
    nothing = torch.isneginf(torch.amax(scores, dim=axis, keepdim=True))
    return torch.where(nothing, 0.0, torch.softmax(torch.where(nothing, 0.0, scores), dim=axis))


def with_initial(scan: Callable[..., Any], first: float) -> Callable[..., Any]:
    """A scan that can start with a number of its own, which PyTorch's cannot."""

    def scanned(x: Any, *, axis: int, include_initial: bool = False) -> Any:
        y = scan(x, dim=axis)
        if not include_initial:
            return y
        shape = list(x.shape)
        shape[axis] = 1
        return torch.cat([torch.full(shape, first, dtype=y.dtype), y], dim=axis)

    return scanned


def t_pad(x: Any, *, widths: tuple[tuple[int, int], ...], value: float = 0.0) -> Any:
    """PyTorch lists the last axis first."""
    return F.pad(x, [n for pair in reversed(widths) for n in pair], value=value)


def t_flip(x: Any, *, axis: Any) -> Any:
    return torch.flip(x, every_axis(x, axis))


PEERS: dict[str, Callable[..., Any]] = {
    "min": t_min,
    "var": t_var,
    "prod": t_prod,
    "cumulative_sum": with_initial(torch.cumsum, 0.0),
    "cumulative_prod": with_initial(torch.cumprod, 1.0),
    "logsumexp": t_logsumexp,
    "log_softmax": lambda x, *, axis=-1: torch.log_softmax(x, dim=axis),
    "masked_softmax": t_masked_softmax,
    "stack": lambda *xs, axis: torch.stack(xs, dim=axis),
    "split": lambda x, *, sections, axis: torch.split(x, list(sections), dim=axis),
    "expand_dims": lambda x, *, axis: torch.unsqueeze(x, axis),
    "squeeze": lambda x, *, axis: torch.squeeze(x, axis),
    "flip": t_flip,
    "pad": t_pad,
    "einsum": lambda *xs, equation: torch.einsum(equation, *xs),
}
