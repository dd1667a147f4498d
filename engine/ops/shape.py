"""The same numbers in another order or form. Formulas: reference/shape.py, axes.py, joining.py, padding.py, indexing.py."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from operator import index
from typing import Any

import numpy as np

from ...reference import table as t
from ..device import is_array
from ..moving import beside
from ..tensor import Tensor, apply
from .elementwise import Operand, with_axes
from .reductions import normal_axis, one_axis

__all__ = [
    "broadcast_to", "concat", "expand_dims", "flip", "getitem", "matrix_transpose", "pad", "permute_dims", "reshape",
    "scatter_slice", "split", "squeeze", "stack", "take",
]  # fmt: skip


def reshape(x: Operand, /, shape: Any, *, copy: bool | None = None) -> Tensor:
    """The same numbers, row by row, in `shape`; one length may be -1 and is worked out."""
    x = with_axes("reshape", x)
    lengths = tuple(index(n) for n in (shape if isinstance(shape, (tuple, list)) else (shape,)))
    if -1 in lengths:
        known = int(np.prod([n for n in lengths if n != -1], dtype=np.int64))
        if lengths.count(-1) > 1 or known == 0 or x.size % known:
            raise ValueError(f"reshape: x has shape {tuple(x.shape)}, which does not fit into {lengths}")
        lengths = tuple(x.size // known if n == -1 else n for n in lengths)
    return apply(t.RESHAPE, x, shape=lengths)


def permute_dims(x: Operand, /, axes: tuple[int, ...]) -> Tensor:
    """Axis i of the result is axis axes[i] of x."""
    x = with_axes("permute_dims", x)
    return apply(t.PERMUTE_DIMS, x, axes=normal_axis("permute_dims", tuple(axes), x.ndim))


def matrix_transpose(x: Operand, /) -> Tensor:
    """The last two axes exchanged."""
    x = with_axes("matrix_transpose", x)
    if x.ndim < 2:
        raise ValueError(f"matrix_transpose: x has shape {tuple(x.shape)}, but it needs two axes")
    return permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def broadcast_to(x: Operand, /, shape: tuple[int, ...]) -> Tensor:
    """x repeated along new axes and along axes of length 1."""
    return apply(t.BROADCAST_TO, x, shape=tuple(shape))


def expand_dims(x: Operand, /, axis: int = 0) -> Tensor:
    """A new axis of length 1 at position `axis` of the result."""
    x = with_axes("expand_dims", x)
    return apply(t.EXPAND_DIMS, x, axis=one_axis("expand_dims", axis, x.ndim + 1, "the result"))


def squeeze(x: Operand, /, axis: int | tuple[int, ...]) -> Tensor:
    """x without the axes `axis`, which must have length 1."""
    x = with_axes("squeeze", x)
    return apply(t.SQUEEZE, x, axis=normal_axis("squeeze", axis, x.ndim))


def flip(x: Operand, /, *, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """The entries in reverse order along `axis`; along all axes where it is None."""
    x = with_axes("flip", x)
    return apply(t.FLIP, x, axis=normal_axis("flip", axis, x.ndim))


def concat(arrays: Any, /, *, axis: int | None = 0) -> Tensor:
    """The arrays one after the other along `axis`; flattened first where axis is None."""
    xs = _several("concat", arrays)
    if axis is None:
        return concat([reshape(x, (x.size,)) for x in xs], axis=0)
    return apply(t.CONCAT, *xs, axis=one_axis("concat", axis, xs[0].ndim, "xs[0]"))


def stack(arrays: Any, /, *, axis: int = 0) -> Tensor:
    """The arrays, all of one shape, side by side along a new axis at position `axis` of the result."""
    xs = _several("stack", arrays)
    return apply(t.STACK, *xs, axis=one_axis("stack", axis, xs[0].ndim + 1, "the result"))


def _several(op: str, arrays: Any) -> list[Any]:
    """One operand or more, each with a shape; one sentence where `arrays` does not hold any."""
    try:
        xs = list(arrays)
    except TypeError:
        raise TypeError(
            f"{op}: arrays is of type {type(arrays).__name__}, but it must be a list or tuple of them"
        ) from None
    if not xs:
        raise ValueError(f"{op}: got no arrays, but it takes at least one")
    return [with_axes(op, x) for x in xs]


def split(x: Operand, sections: int | Sequence[int], /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """Consecutive pieces of x along `axis`: so many equal ones, or pieces of the lengths in a list."""
    x = with_axes("split", x)
    axis = one_axis("split", axis, x.ndim)
    if isinstance(sections, (int, np.integer)):
        n = x.shape[axis]
        if sections < 1 or n % sections:
            raise ValueError(f"split: x has shape {tuple(x.shape)}, whose axis {axis} is no {sections} equal pieces")
        sections = (n // sections,) * sections
    try:
        lengths = tuple(index(n) for n in sections)
    except TypeError:
        raise TypeError(f"split: sections is {sections!r}, but it must be an integer or hold integers") from None
    return apply(t.SPLIT, x, sections=lengths, axis=axis)


def pad(x: Operand, /, widths: int | Sequence[Any], *, value: float = 0.0) -> Tensor:
    """x with `value` before and after the entries of each axis.

    widths: one number for every side, one number for both sides of each axis, or one (before, after) for each axis.
    value: a constant, which has no gradient; the dtype of x must be able to hold it.
    """
    x = with_axes("pad", x)
    pairs = []
    try:
        for side in [widths] * x.ndim if isinstance(widths, (int, np.integer)) else widths:
            before, after = (side, side) if isinstance(side, (int, np.integer)) else side
            pairs.append((index(before), index(after)))
    except (TypeError, ValueError):  # not iterable, not integers, not two of them
        wanted = "each axis needs one number, or two: (before, after)"
        raise ValueError(f"pad: widths is {widths!r}, but {wanted}") from None
    if not isinstance(value, Real):
        raise TypeError(f"pad: value is {value!r}, but it must be a number")
    if x.dtype.kind != "f" and not _holds(x.dtype, value):
        raise TypeError(f"pad: value is {value!r}, which {x.dtype.name}, the dtype of x, cannot hold")
    return apply(t.PAD, x, widths=tuple(pairs), value=value)


def _holds(dtype: np.dtype[Any], value: Any) -> bool:
    """Whether an integer or boolean dtype can represent a real number."""
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return bool(low <= value <= high and value == int(value))


def getitem(x: Operand, key: Any) -> Tensor:
    """x[key] with integers, slices, None and Ellipsis; use `take` for an array of indices, `where` for a mask."""
    x = with_axes("getitem", x)
    keys = key if isinstance(key, tuple) else (key,)
    consumed = len([k for k in keys if k is not None and k is not Ellipsis])
    if consumed > x.ndim:
        raise IndexError(f"getitem: got {consumed} indices, but x has {x.ndim} axes")
    if sum(k is Ellipsis for k in keys) > 1:
        raise IndexError("getitem: got ... twice, but it can stand for the remaining axes only once")
    if not any(k is Ellipsis for k in keys):
        keys = (*keys, Ellipsis)
    at = next(i for i, k in enumerate(keys) if k is Ellipsis)
    keys = (*keys[:at], *[slice(None)] * (x.ndim - consumed), *keys[at + 1 :])
    canonical, result, new_axes = [], [], False
    for k in keys:
        if k is None:
            result.append(1)
            new_axes = True
            continue
        n = x.shape[len(canonical)]
        if isinstance(k, slice):
            bounds = (k.start, k.stop, k.step)
            k = slice(*[None if bound is None else _integer(bound) for bound in bounds])
            canonical.append(k)
            result.append(len(range(*k.indices(n))))
            continue
        i = _integer(k)
        if not -n <= i < n:
            raise IndexError(f"getitem: index {i} is out of bounds for axis {len(canonical)} with length {n}")
        canonical.append(i % n)
    y = apply(t.GETITEM, x, key=tuple(canonical))
    return reshape(y, tuple(result)) if new_axes else y


def _integer(k: Any) -> int:
    """An index, or a bound of a slice."""
    if getattr(k, "ndim", isinstance(k, (list, tuple))):
        raise TypeError("getitem: got an array as an index; use hg.take(x, indices, axis=...), or hg.where for a mask")
    try:
        if isinstance(k, bool):
            raise TypeError
        return index(k)
    except TypeError:
        raise TypeError(f"getitem: index is {k!r}, but it must be an integer, a slice, None or ...") from None


def scatter_slice(x: Operand, *, key: Any, shape: tuple[int, ...]) -> Tensor:
    """Zeros of `shape` with x at [key]: the transpose of getitem."""
    return apply(t.SCATTER_SLICE, x, key=key, shape=shape)


def take(x: Operand, indices: Operand, /, *, axis: int | None = None) -> Tensor:
    """The slices of x along `axis` at `indices` (one axis, integers); the axis may be left out where x has only one."""
    x = with_axes("take", x)
    if axis is None:
        if x.ndim != 1:
            raise ValueError(f"take: x has {x.ndim} axes, so say along which: take(x, indices, axis=...)")
        axis = 0
    axis = one_axis("take", axis, x.ndim)
    ids = checked("take", "indices", indices, "x", x.shape[axis], f"entries along axis {axis}", like=x)
    return apply(t.TAKE, x, ids, axis=axis)


def checked(
    op: str, name: str, ids: Any, what: str, n: int, unit: str, besides: int | None = None, *, like: Any = None
) -> Tensor:
    """The ids as a Tensor, beside `like` if they are none yet.

    IndexError unless each is at least 0 and below n, or equal to `besides` where that is given.

    NumPy would count negative ones from the end.
    """
    if ids is None:
        raise TypeError(f"{op}: {name} is None, but it must be an integer array")
    t = constant(ids)
    a = t.data
    if a.dtype.kind in "iu" and a.size:
        low, high = int(a.min()), int(a.max())
        if besides is not None and (low < 0 or high >= n):
            inside = a[a != besides]
            low, high = (int(inside.min()), int(inside.max())) if inside.size else (0, n - 1)
        if low < 0 or high >= n:
            raise IndexError(f"{op}: {name} holds {high if high >= n else low}, but {what} has {n} {unit}")
    return t if like is None or t is ids else beside(t, like)


def integer(op: str, name: str, value: Any, wanted: str = "an integer") -> int:
    """A parameter that is an integer; one sentence where it is anything else."""
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{op}: {name} is {value!r}, but it must be {wanted}") from None


def number(op: str, name: str, value: Any, wanted: str = "a number") -> float:
    """A parameter that is a number, as a Python float: a NumPy scalar would promote."""
    if not isinstance(value, Real):
        raise TypeError(f"{op}: {name} is {value!r}, but it must be {wanted}")
    return float(value)


def optional_integer(op: str, name: str, value: Any) -> int | None:
    """A parameter that is an integer or None."""
    return None if value is None else integer(op, name, value, "an integer or None")


def constant(x: Any, like: Any = None) -> Tensor:
    """Ids, masks and conditions as a Tensor, also where a NumPy scalar or a 0-d array would count as a Python number.

    What is no Tensor yet goes to the device of the operand `like`.
    """
    if not isinstance(x, Tensor):
        x = Tensor(x if is_array(x) else np.asarray(x), copy=False)
        return x if like is None else beside(x, like)
    return x
