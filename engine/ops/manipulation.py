"""The array API's ways to move numbers about. All are made of rows, so that all can be differentiated."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..device import host
from ..tensor import Tensor, plain
from .elementwise import Operand, subtract, where, with_axes
from .reductions import normal_axis, one_axis
from .shape import broadcast_to, concat, constant, getitem, integer, permute_dims, reshape, take

__all__ = ["broadcast_arrays", "diff", "meshgrid", "moveaxis", "repeat", "roll", "tile", "tril", "triu", "unstack"]


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
    for by, a in zip(shifts, (one_axis("roll", a, x.ndim) for a in axes), strict=True):
        at = x.shape[a] - integer("roll", "shift", by) % max(x.shape[a], 1)
        before = (slice(None),) * a
        x = concat([getitem(x, (*before, slice(at, None))), getitem(x, (*before, slice(0, at)))], axis=a)
    return x if isinstance(x, Tensor) else Tensor(x)


def repeat(x: Operand, repeats: Any, /, *, axis: int | None = None) -> Tensor:
    """Each entry of x along `axis` (of all of x, flattened, where None) `repeats` times; an integer, or one an entry."""
    x = with_axes("repeat", x)
    if axis is None:
        return repeat(reshape(x, (x.size,)), repeats, axis=0)
    axis = one_axis("repeat", axis, x.ndim)
    times = np.asarray(host(repeats.data if isinstance(repeats, Tensor) else repeats))
    if times.dtype.kind not in "iu" or times.ndim > 1 or times.size not in (1, x.shape[axis]) or np.any(times < 0):
        raise ValueError(
            f"repeat: repeats is {repeats!r}, but it must be an integer of at least 0, or {x.shape[axis]} of them"
        )
    return take(x, np.repeat(np.arange(x.shape[axis]), times), axis=axis)


def tile(x: Operand, repetitions: tuple[int, ...], /) -> Tensor:
    """Copies of x laid side by side, repetitions[i] of them along axis i; axes are counted from the last."""
    x = with_axes("tile", x)
    if not isinstance(repetitions, (tuple, list)):
        raise TypeError(f"tile: repetitions is {repetitions!r}, but it must be a tuple of integers")
    ndim = max(x.ndim, len(repetitions))
    shape = (*(1,) * (ndim - x.ndim), *x.shape)
    times = (*(1,) * (ndim - len(repetitions)), *(integer("tile", "an entry of repetitions", n) for n in repetitions))
    if min(times, default=0) < 0:
        raise ValueError(f"tile: repetitions is {repetitions}, but none may be below 0")
    apart = reshape(x, tuple(n for length in shape for n in (1, length)))
    wide = broadcast_to(apart, tuple(n for pair in zip(times, shape, strict=True) for n in pair))
    return reshape(wide, tuple(t * n for t, n in zip(times, shape, strict=True)))


def unstack(x: Operand, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along `axis`, without that axis."""
    x = with_axes("unstack", x)
    before = (slice(None),) * one_axis("unstack", axis, x.ndim)
    return tuple(getitem(x, (*before, i)) for i in range(x.shape[len(before)]))


def broadcast_arrays(*arrays: Operand) -> list[Tensor]:
    """Each array stretched to the common shape. ValueError where there is none."""
    xs = [with_axes("broadcast_arrays", x) for x in arrays]
    shape = common_shape("broadcast_arrays", xs)
    return [broadcast_to(x, shape) for x in xs]


def common_shape(op: str, xs: list[Any]) -> tuple[int, ...]:
    """The shape to which all of xs broadcast; ValueError with one sentence where there is none."""
    try:
        return np.broadcast_shapes(*(x.shape for x in xs))
    except ValueError:
        shapes = " and ".join(str(tuple(x.shape)) for x in xs)
        raise ValueError(f"{op}: the shapes {shapes} do not broadcast against each other") from None


def meshgrid(*arrays: Operand, indexing: str = "xy") -> list[Tensor]:
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
    return [broadcast_to(x, shape) for x in laid]


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
    return where(constant(compare(j, i + integer(op, "k", k)), x), x, np.zeros((), x.dtype).item())


def diff(
    x: Operand, /, *, axis: int = -1, n: int = 1, prepend: Operand | None = None, append: Operand | None = None
) -> Tensor:
    """Differences of neighbours along `axis`, taken n times; `prepend` and `append` are put at its ends before."""
    x = with_axes("diff", x)
    axis = one_axis("diff", axis, x.ndim)
    if integer("diff", "n", n) < 0:
        raise ValueError(f"diff: n is {n}, but differences are taken at least 0 times")
    parts = [part for part in (prepend, x, append) if part is not None]
    x = concat(parts, axis=axis) if len(parts) > 1 else x
    before = (slice(None),) * axis
    for _ in range(n):
        later, earlier = getitem(x, (*before, slice(1, None))), getitem(x, (*before, slice(None, -1)))
        x = plain(np.not_equal, later, earlier) if x.dtype.kind == "b" else subtract(later, earlier)
    return x if isinstance(x, Tensor) else Tensor(x)
