"""Searching, sorting, sets: places and counts have no derivative; sorted numbers keep theirs."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..device import library, own
from ..tensor import Tensor, wrap
from .elementwise import Operand, with_axes
from .manipulation import common_shape
from .reductions import normal_axis, one_axis
from .shape import broadcast_to, constant, reshape, take

__all__ = [
    "all",
    "any",
    "argmax",
    "argmin",
    "argsort",
    "count_nonzero",
    "nonzero",
    "searchsorted",
    "sort",
    "take_along_axis",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
]


def argsort(x: Operand, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The places in x of its numbers in order along `axis`. NaN counts as the largest.

    Equal numbers keep their order, whether `stable` asks for it or not.
    """
    x = with_axes("argsort", x)
    axis = one_axis("argsort", axis, x.ndim)
    a = x.data if isinstance(x, Tensor) else x
    xp = library(a)
    if not descending:
        return wrap(xp.argsort(a, axis=axis, kind="stable"))
    backwards = xp.argsort(xp.flip(a, axis), axis=axis, kind="stable")  # of equal ones, the last one first
    return wrap(a.shape[axis] - 1 - xp.flip(backwards, axis))


def sort(x: Operand, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The numbers of x in order along `axis`; each takes its gradient with it."""
    x = with_axes("sort", x)
    axis = one_axis("sort", axis, x.ndim)
    return take_along_axis(x, argsort(x, axis=axis, descending=descending, stable=stable), axis=axis)


def take_along_axis(x: Operand, indices: Operand, /, *, axis: int = -1) -> Tensor:
    """y[.., i, ..] = x[.., indices[.., i, ..], ..]: along `axis` each line of x is read at its own line of `indices`.

    indices: integers, with as many axes as x; the other axes broadcast. IndexError where one is not a place of x.
    """
    x = with_axes("take_along_axis", x)
    ids = constant(indices, x).data
    axis = one_axis("take_along_axis", axis, x.ndim)
    if ids.ndim != x.ndim or ids.dtype.kind not in "iu":
        raise ValueError(
            f"take_along_axis: indices is {ids.dtype.name} {ids.shape}, but it must hold integers in as many axes as x "
            f"{tuple(x.shape)} has"
        )
    rest = [(*s[:axis], 1, *s[axis + 1 :]) for s in (x.shape, ids.shape)]
    lead = common_shape("take_along_axis", [np.broadcast_to(0, s) for s in rest])
    x = broadcast_to(x, (*lead[:axis], x.shape[axis], *lead[axis + 1 :]))
    n, shape, xp = x.shape[axis], (*lead[:axis], ids.shape[axis], *lead[axis + 1 :]), library(ids)
    if ids.size and (ids.min() < 0 or ids.max() >= n):
        wrong = ids.max() if ids.max() >= n else ids.min()
        raise IndexError(f"take_along_axis: indices holds {wrong}, but axis {axis} of x has length {n}")
    flat, step = xp.zeros(shape, np.int64), 1  # places in the flattened x
    for a in reversed(range(x.ndim)):
        along = (*(1,) * a, shape[a], *(1,) * (x.ndim - 1 - a))
        flat = flat + step * (ids.astype(np.int64) if a == axis else xp.arange(shape[a]).reshape(along))
        step *= x.shape[a]
    return reshape(take(reshape(x, (x.size,)), flat.reshape(-1), axis=0), shape)


def argmax(x: Operand, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The place of the largest number along `axis` (in the flattened x where None), the first one at a tie."""
    return _placed("argmax", np.argmax, x, axis, keepdims)


def argmin(x: Operand, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The place of the smallest number along `axis` (in the flattened x where None), the first one at a tie."""
    return _placed("argmin", np.argmin, x, axis, keepdims)


def _placed(op: str, function: Any, x: Operand, axis: int | None, keepdims: bool) -> Tensor:
    a = constant(x).data
    axis = None if axis is None else one_axis(op, axis, a.ndim)
    if a.size == 0 and (axis is None or a.shape[axis] == 0):
        raise ValueError(f"{op}: x has shape {a.shape}, but a place needs at least one number")
    return wrap(own(function, [a])(a, axis=axis, keepdims=keepdims))


def all(x: Operand, /, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """Whether every entry along `axis` is true (not zero)."""
    a = constant(x).data
    return wrap(own(np.all, [a])(a, axis=normal_axis("all", axis, a.ndim), keepdims=keepdims))


def any(x: Operand, /, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """Whether some entry along `axis` is true (not zero)."""
    a = constant(x).data
    return wrap(own(np.any, [a])(a, axis=normal_axis("any", axis, a.ndim), keepdims=keepdims))


def count_nonzero(x: Operand, /, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """How many entries along `axis` are not zero."""
    a = constant(x).data
    return wrap(own(np.count_nonzero, [a])(a, axis=normal_axis("count_nonzero", axis, a.ndim), keepdims=keepdims))


def searchsorted(x1: Operand, x2: Operand, /, *, side: str = "left", sorter: Operand | None = None) -> Tensor:
    """Where each number of x2 would have to stand in x1, which is sorted, or becomes so by `sorter` (as argsort gives it).

    side: "left" for the place in front of equal numbers, "right" for the one behind them.
    """
    a = constant(x1).data
    order = None if sorter is None else constant(sorter, a).data
    if a.ndim != 1:
        raise ValueError(f"searchsorted: x1 has shape {a.shape}, but it must have one axis")
    if side not in ("left", "right"):
        raise ValueError(f"searchsorted: side is {side!r}, but it must be 'left' or 'right'")
    if order is not None and (order.dtype.kind not in "iu" or order.shape != a.shape):
        raise ValueError(f"searchsorted: sorter is {order.dtype.name} {order.shape}, but x1 needs {a.size} integers")
    values = constant(x2, a).data
    return wrap(own(np.searchsorted, [a, values])(a, values, side=side, sorter=order))


def nonzero(x: Operand, /) -> tuple[Tensor, ...]:
    """The places where x is not zero, one array of indices an axis."""
    x = with_axes("nonzero", x)
    if x.ndim == 0:
        raise ValueError("nonzero: x has no axes, but a place needs at least one")
    return tuple(wrap(places) for places in _own(np.nonzero, x))


def unique_all(x: Operand, /) -> Any:
    """Named tuple (values, indices, inverse_indices, counts) of the different numbers of x, sorted."""
    return _wrapped(_own(np.unique_all, x))


def unique_counts(x: Operand, /) -> Any:
    """Named tuple (values, counts) of the different numbers of x, sorted."""
    return _wrapped(_own(np.unique_counts, x))


def unique_inverse(x: Operand, /) -> Any:
    """Named tuple (values, inverse_indices): x is values[inverse_indices]."""
    return _wrapped(_own(np.unique_inverse, x))


def unique_values(x: Operand, /) -> Tensor:
    """The different numbers of x, sorted."""
    return wrap(_own(np.sort, _own(np.unique_values, x)))


def _own(function: Any, x: Operand) -> Any:
    """NumPy's or CuPy's function, on the array of x."""
    a = constant(x).data
    return own(function, [a])(a)


def _wrapped(found: Any) -> Any:
    return type(found)(*(wrap(a) for a in found))
