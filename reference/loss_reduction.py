"""From a loss for every entry to one number: what the parameter `reduction` of a loss means.

    none        y_i = l_i
    sum         y = sum_i l_i
    mean        y = sum_i l_i / n,    n entries
    batchmean   y = sum_i l_i / b,    b the length of the first axis

Each is a linear map with one weight 1/divisor, so dl_i = dy / divisor for cotangents (for "none" dy has the shape of l;
otherwise it is one number, and broadcasting brings it to every entry), and directions are reduced as losses are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .namespace import Array, array_namespace

REDUCTIONS = ("mean", "sum", "none")


def divisor(shape: tuple[int, ...], reduction: str) -> int:
    """What the sum of losses of this shape is divided by."""
    if reduction == "mean":
        return math.prod(shape)
    return shape[0] if reduction == "batchmean" else 1


def reduced(losses: Array, reduction: str) -> Array:
    """Shapes: (...) -> (...) for "none", (...) -> () for the others."""
    if reduction == "none":
        return losses
    return array_namespace(losses).sum(losses) / divisor(losses.shape, reduction)


def reduced_definition(losses: Array, reduction: str) -> Array:
    """One number at a time."""
    if reduction == "none":
        return losses
    return np.asarray(math.fsum(float(loss) for loss in np.ravel(losses)) / divisor(losses.shape, reduction))


def loss_signature(*, reduction: str = "mean", **params: Any) -> str:
    """Two arrays, and their shape or one number."""
    return "(...),(...)->(...)" if reduction == "none" else "(...),(...)->()"


def check_loss(op: str, names: tuple[str, str], a: Any, b: Any, reduction: Any, known: tuple[str, ...]) -> None:
    """ValueError or TypeError with one sentence unless a and b are arrays of one shape that `reduction` can reduce."""
    if reduction not in known:
        words = ", ".join(repr(word) for word in known[:-1])
        raise ValueError(f"{op}: reduction is {reduction!r}, but it must be {words} or {known[-1]!r}")
    for name, x in zip(names, (a, b), strict=True):
        if not hasattr(x, "shape"):
            raise TypeError(f"{op}: {name} is {x!r}, but it must be an array")
    if tuple(a.shape) != tuple(b.shape):
        raise ValueError(
            f"{op}: {names[1]} has shape {tuple(b.shape)}, but {names[0]} {tuple(a.shape)} needs the same: "
            "nothing is broadcast in a loss"
        )
    if reduction == "batchmean" and not a.shape:
        raise ValueError(f"{op}: {names[0]} has shape (), but reduction='batchmean' needs an axis of examples")
    if reduction in ("mean", "batchmean") and divisor(a.shape, reduction) == 0:
        raise ValueError(f"{op}: {names[0]} has shape {tuple(a.shape)}, but a mean needs at least one entry")


def loss_cost(flops: int) -> Any:
    """A row's `cost` for so many operations an entry, the sum among them."""

    def cost(a: Any, b: Any, *, reduction: str = "mean", **params: Any) -> tuple[int, int]:
        return flops * a.size, 2 * a.size + (a.size if reduction == "none" else 1)

    return cost
