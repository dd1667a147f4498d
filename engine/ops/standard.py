"""What else the array API standard names. What can be differentiated is made of rows and stays in the graph; what cannot
(searching, sorting orders, sets) runs on the arrays and returns Tensors without one.
"""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

from ..tensor import Tensor, plain, wrap
from .elementwise import Operand, power, subtract, where, with_axes
from .reductions import normal_axis
from .shape import broadcast_to, concat, constant, getitem, permute_dims, reshape, take

__all__ = [
    "argsort", "broadcast_arrays", "can_cast", "diff", "finfo", "iinfo", "meshgrid", "moveaxis", "nonzero", "pow", "repeat",
    "roll", "searchsorted", "sort", "take_along_axis", "tile", "tril", "triu", "unique_all", "unique_counts",
    "unique_inverse", "unique_values", "unstack",
]  # fmt: skip


def pow(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 ** x2; `power` under the standard's name."""
    return power(x1, x2)


# ---- moving numbers


def moveaxis(x: Operand, source: int | tuple[int, ...], destination: int | tuple[int, ...], /) -> Tensor:
    """Axes `source` of x go to the positions `destination`; the others keep their order."""
    x = with_axes("moveaxis", x)
    old = normal_axis("moveaxis", source if isinstance(source, tuple) else (source,), x.ndim)
    new = normal_axis("moveaxis", destination if isinstance(destination, tuple) else (destination,), x.ndim)
    if len(old) != len(new):
        raise ValueError(f"moveaxis: source is {source}, but destination {destination} names {len(new)} axes")
    axes = [a for a in range(x.ndim) if a not in old]
    for to, a in sorted(zip(new, old, strict=True)):
        axes.insert(to, a)
    return permute_dims(x, tuple(axes))


def roll(x: Operand, /, shift: int | tuple[int, ...], *, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """Entries move by `shift` places along `axis`; what falls off the end comes back at the front."""
    x = with_axes("roll", x)
    if axis is None:
        return reshape(roll(reshape(x, (x.size,)), shift, axis=0), x.shape)
    axes = axis if isinstance(axis, tuple) else (axis,)
    shifts = shift if isinstance(shift, tuple) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise ValueError(f"roll: shift is {shift}, but axis {axis} names {len(axes)} axes")
    for by, a in zip(shifts, (normal_axis("roll", a, x.ndim) for a in axes), strict=True):
        at = x.shape[a] - by % max(x.shape[a], 1)
        before = (slice(None),) * a
        x = concat([getitem(x, (*before, slice(at, None))), getitem(x, (*before, slice(0, at)))], axis=a)
    return x if isinstance(x, Tensor) else Tensor(x)


def repeat(x: Operand, repeats: Any, /, *, axis: int | None = None) -> Tensor:
    """Each entry of x along `axis` (of all of x, flattened, where None) `repeats` times; an integer, or one an entry."""
    x = with_axes("repeat", x)
    if axis is None:
        return repeat(reshape(x, (x.size,)), repeats, axis=0)
    axis = normal_axis("repeat", axis, x.ndim)
    times = np.asarray(repeats.data if isinstance(repeats, Tensor) else repeats)
    if times.dtype.kind not in "iu" or times.ndim > 1 or times.size not in (1, x.shape[axis]) or np.any(times < 0):
        raise ValueError(
            f"repeat: repeats is {repeats!r}, but it must be an integer of at least 0, or {x.shape[axis]} of them"
        )
    return take(x, np.repeat(np.arange(x.shape[axis]), times), axis=axis)


def tile(x: Operand, repetitions: tuple[int, ...], /) -> Tensor:
    """Copies of x laid side by side, repetitions[i] of them along axis i; axes are counted from the last."""
    x = with_axes("tile", x)
    ndim = max(x.ndim, len(repetitions))
    shape = (*(1,) * (ndim - x.ndim), *x.shape)
    times = (*(1,) * (ndim - len(repetitions)), *map(index, repetitions))
    if min(times, default=0) < 0:
        raise ValueError(f"tile: repetitions is {repetitions}, but none may be below 0")
    apart = reshape(x, tuple(n for length in shape for n in (1, length)))
    wide = broadcast_to(apart, tuple(n for pair in zip(times, shape, strict=True) for n in pair))
    return reshape(wide, tuple(t * n for t, n in zip(times, shape, strict=True)))


def unstack(x: Operand, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along `axis`, without that axis."""
    x = with_axes("unstack", x)
    before = (slice(None),) * normal_axis("unstack", axis, x.ndim)
    return tuple(getitem(x, (*before, i)) for i in range(x.shape[len(before)]))


def broadcast_arrays(*arrays: Operand) -> tuple[Tensor, ...]:
    """Each array stretched to the common shape. ValueError where there is none."""
    xs = [with_axes("broadcast_arrays", x) for x in arrays]
    shape = _common("broadcast_arrays", xs)
    return tuple(broadcast_to(x, shape) for x in xs)


def _common(op: str, xs: list[Any]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*(x.shape for x in xs))
    except ValueError:
        shapes = " and ".join(str(tuple(x.shape)) for x in xs)
        raise ValueError(f"{op}: the shapes {shapes} do not broadcast against each other") from None


def meshgrid(*arrays: Operand, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Coordinates of a grid from those of its axes: array i varies along axis i ("ij"), the first two exchanged ("xy")."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing is {indexing!r}, but it must be 'xy' or 'ij'")
    xs = [with_axes("meshgrid", x) for x in arrays]
    for i, x in enumerate(xs):
        if x.ndim != 1:
            raise ValueError(f"meshgrid: array {i} has shape {tuple(x.shape)}, but it must have one axis")
    order = [1, 0, *range(2, len(xs))] if indexing == "xy" and len(xs) > 1 else list(range(len(xs)))
    axes = [order.index(i) for i in range(len(xs))]  # where array i varies
    shape = tuple(xs[i].shape[0] for i in order)
    laid = (
        reshape(x, tuple(x.shape[0] if a == axis else 1 for a in range(len(xs))))
        for x, axis in zip(xs, axes, strict=True)
    )
    return tuple(broadcast_to(x, shape) for x in laid)


def tril(x: Operand, /, *, k: int = 0) -> Tensor:
    """x on and below diagonal k of its last two axes, zero above."""
    return _triangle("tril", x, k, np.less_equal)


def triu(x: Operand, /, *, k: int = 0) -> Tensor:
    """x on and above diagonal k of its last two axes, zero below."""
    return _triangle("triu", x, k, np.greater_equal)


def _triangle(op: str, x: Operand, k: int, compare: Any) -> Tensor:
    x = with_axes(op, x)
    if x.ndim < 2:
        raise ValueError(f"{op}: x has shape {tuple(x.shape)}, but it needs two axes")
    i, j = np.arange(x.shape[-2])[:, None], np.arange(x.shape[-1])[None, :]
    return where(Tensor(compare(j, i + k), copy=False), x, np.zeros((), x.dtype).item())


def diff(
    x: Operand, /, *, axis: int = -1, n: int = 1, prepend: Operand | None = None, append: Operand | None = None
) -> Tensor:
    """Differences of neighbours along `axis`, taken n times; `prepend` and `append` are put at its ends before."""
    x = with_axes("diff", x)
    axis = normal_axis("diff", axis, x.ndim)
    if index(n) < 0:
        raise ValueError(f"diff: n is {n}, but differences are taken at least 0 times")
    parts = [part for part in (prepend, x, append) if part is not None]
    x = concat(parts, axis=axis) if len(parts) > 1 else x
    before = (slice(None),) * axis
    for _ in range(n):
        later, earlier = getitem(x, (*before, slice(1, None))), getitem(x, (*before, slice(None, -1)))
        x = plain(np.not_equal, later, earlier) if x.dtype.kind == "b" else subtract(later, earlier)
    return x if isinstance(x, Tensor) else Tensor(x)


# ---- searching and sorting


def argsort(x: Operand, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The places in x of its numbers in order along `axis`; equal ones keep their order. NaN counts as the largest."""
    x = with_axes("argsort", x)
    axis = normal_axis("argsort", axis, x.ndim)
    a = x.data if isinstance(x, Tensor) else x
    if not descending:
        return wrap(np.argsort(a, axis=axis, kind="stable"))
    backwards = np.argsort(np.flip(a, axis), axis=axis, kind="stable")  # of equal ones, the last one first
    return wrap(a.shape[axis] - 1 - np.flip(backwards, axis))


def sort(x: Operand, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The numbers of x in order along `axis`; each takes its gradient with it."""
    return take_along_axis(x, argsort(x, axis=axis, descending=descending, stable=stable), axis=axis)


def take_along_axis(x: Operand, indices: Operand, /, *, axis: int = -1) -> Tensor:
    """y[.., i, ..] = x[.., indices[.., i, ..], ..]: along `axis` each line of x is read at its own line of `indices`.

    indices: integers, with as many axes as x; the other axes broadcast. IndexError where one is not a place of x.
    """
    x, ids = with_axes("take_along_axis", x), constant(indices).data
    axis = normal_axis("take_along_axis", axis, x.ndim)
    if ids.ndim != x.ndim or ids.dtype.kind not in "iu":
        raise ValueError(
            f"take_along_axis: indices is {ids.dtype.name} {ids.shape}, but it must hold integers in as many axes as x "
            f"{tuple(x.shape)} has"
        )
    rest = [(*s[:axis], 1, *s[axis + 1 :]) for s in (x.shape, ids.shape)]
    lead = _common("take_along_axis", [np.broadcast_to(0, s) for s in rest])
    x = broadcast_to(x, (*lead[:axis], x.shape[axis], *lead[axis + 1 :]))
    ids = np.broadcast_to(ids, (*lead[:axis], ids.shape[axis], *lead[axis + 1 :]))
    n = x.shape[axis]
    if ids.size and (ids.min() < 0 or ids.max() >= n):
        wrong = ids.max() if ids.max() >= n else ids.min()
        raise IndexError(f"take_along_axis: indices holds {wrong}, but axis {axis} of x has length {n}")
    places: list[Any] = list(np.indices(ids.shape, sparse=True))
    places[axis] = ids
    flat = np.ravel_multi_index(np.broadcast_arrays(*places), x.shape) if ids.size else np.zeros(ids.shape, np.int64)
    return reshape(take(reshape(x, (x.size,)), flat.reshape(-1), axis=0), ids.shape)


def searchsorted(x1: Operand, x2: Operand, /, *, side: str = "left", sorter: Operand | None = None) -> Tensor:
    """Where each number of x2 would have to stand in the sorted x1 (or in x1[sorter])."""
    order = None if sorter is None else constant(sorter).data
    return wrap(np.searchsorted(constant(x1).data, constant(x2).data, side=side, sorter=order))  # type: ignore[call-overload]


def nonzero(x: Operand, /) -> tuple[Tensor, ...]:
    """The places where x is not zero, one array of indices an axis."""
    x = with_axes("nonzero", x)
    if x.ndim == 0:
        raise ValueError("nonzero: x has no axes, but a place needs at least one")
    return tuple(wrap(places) for places in np.nonzero(constant(x).data))


def unique_all(x: Operand, /) -> Any:
    """Named tuple (values, indices, inverse_indices, counts) of the different numbers of x, sorted."""
    return _wrapped(np.unique_all(constant(x).data))


def unique_counts(x: Operand, /) -> Any:
    """Named tuple (values, counts) of the different numbers of x, sorted."""
    return _wrapped(np.unique_counts(constant(x).data))


def unique_inverse(x: Operand, /) -> Any:
    """Named tuple (values, inverse_indices): x is values[inverse_indices]."""
    return _wrapped(np.unique_inverse(constant(x).data))


def unique_values(x: Operand, /) -> Tensor:
    """The different numbers of x, sorted."""
    return wrap(np.sort(np.unique_values(constant(x).data)))


def _wrapped(found: Any) -> Any:
    return type(found)(*(wrap(a) for a in found))


# ---- dtypes


def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether the standard's rules cast the dtype (or array) `from_` to `to` without losing anything."""
    return bool(np.can_cast(_dtype(from_), to))


def finfo(type: Any, /) -> Any:
    """Limits of a floating point dtype, or of an array's."""
    return np.finfo(_dtype(type))


def iinfo(type: Any, /) -> Any:
    """Limits of an integer dtype, or of an array's."""
    return np.iinfo(_dtype(type))


def _dtype(x: Any) -> Any:
    return x.dtype if isinstance(x, (Tensor, np.ndarray)) else x
