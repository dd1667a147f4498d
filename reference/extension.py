r"""What the array API standard lacks, as functions of it: the transposes of reading.

Reading copies numbers, so its transpose adds cotangents up where they were read:

    y_r = x_{ids_r}        has the transpose    out_v = sum over {r: ids_r = v} of y_r      (scatter_rows)
    y   = x[key]           has the transpose    out[key] = y, zero elsewhere                (scatter_slice)

and each is the other's transpose again: <scatter_rows(y), x> = sum_r <y_r, x_{ids_r}>. So the backward pass of one is
the forward pass of the other, to any order. Rule of this file: the namespace's own version if it has one (that of the
engine's Tensors has them all, which keeps the tape), else the standard's functions. The rows stand in `embedding.py`
(SCATTER_ROWS) and `indexing.py` (SCATTER_SLICE).
"""

from __future__ import annotations

from typing import Any

from .namespace import Array, array_namespace, swap

Key = tuple[int | slice, ...]
"""A canonical index: one int or slice an axis, ints non-negative. Steps may be negative where the library can."""


def selected_shape(key: Key, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of x[key] for an x of `shape`: a slice keeps its axis, an int drops it."""
    return tuple(len(range(n)[k]) for k, n in zip(key, shape, strict=True) if isinstance(k, slice))


def scatter_rows(x: Array, ids: Array, *, n: int) -> Array:
    """out_v = sum over {r: ids_r = v} of x_r. Shapes: x (R, C), ids (R,) of integers in [0, n) -> (n, C).

    As a product with the one-hot matrix of `ids`. (Zero times infinity: here one infinite entry of x spoils its whole
    column; a namespace's own version and the kernels add only what belongs together.)
    """
    xp: Any = array_namespace(x)
    own = getattr(xp, "scatter_rows", None)
    if own is not None:
        return own(x, ids, n=n)
    onehot = xp.expand_dims(ids, axis=1) == xp.expand_dims(xp.arange(n, dtype=ids.dtype), axis=0)  # (R, n)
    return xp.matmul(swap(xp.astype(onehot, x.dtype)), x)  # (n, C)


def scatter_slice(x: Array, *, key: Key, shape: tuple[int, ...]) -> Array:
    """Zeros of `shape` with x at [key]. Shapes: selected_shape(key, shape) -> shape.

    One axis after the other: what an int dropped comes back with length 1, then every axis is filled up with zeros.
    """
    xp: Any = array_namespace(x)
    own = getattr(xp, "scatter_slice", None)
    if own is not None:
        return own(x, key=key, shape=shape)
    places = [range(n)[k] if isinstance(k, slice) else range(k, k + 1) for k, n in zip(key, shape, strict=True)]
    out = xp.reshape(x, tuple(len(p) for p in places))  # an axis for every entry of `shape`
    for axis, n in enumerate(shape):
        out = _spread(out, axis, places[axis], n)
    return out


def _spread(x: Array, axis: int, places: range, n: int) -> Array:
    """Entry i of `axis` moves to places[i] of an axis of length n; zeros elsewhere. (.., m, ..) -> (.., n, ..)."""
    if places == range(n):
        return x
    if len(places) == 0:
        return _zeros(x, axis, n)
    xp: Any = array_namespace(x)
    if places.step < 0:
        x, places = xp.flip(x, axis=axis), places[::-1]
    if places.step > 1:  # zeros between: every entry becomes a group of `step`, headed by itself
        before, m, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
        groups = xp.expand_dims(x, axis=axis + 1)  # (.., m, 1, ..)
        groups = xp.concat([groups, _zeros(groups, axis + 1, places.step - 1)], axis=axis + 1)  # (.., m, step, ..)
        x = xp.reshape(groups, (*before, m * places.step, *after))
        x = x[(*[slice(None)] * axis, slice(0, places[-1] - places[0] + 1), ...)]  # no zeros after the last
    front, back = places[0], n - 1 - places[-1]
    return xp.concat([_zeros(x, axis, front), x, _zeros(x, axis, back)], axis=axis)


def _zeros(x: Array, axis: int, n: int) -> Array:
    """Zeros like x, but of length n along `axis`."""
    return array_namespace(x).zeros((*x.shape[:axis], n, *x.shape[axis + 1 :]), dtype=x.dtype)
