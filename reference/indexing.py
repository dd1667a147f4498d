r"""Indexing: reading some of the numbers of an array.

    getitem         y = x[key]                  ints drop an axis, slices take a range of it
    scatter_slice   y[key] = x, zero elsewhere  the transpose of getitem
    take            y_r = x_{indices_r}         along one axis, any number of times

Reading is linear: y = S x with a matrix S of zeros and ones, one 1 in every row. A slice reads no number twice, so S
transposed puts each cotangent back to its place and leaves zeros elsewhere; S S^T = 1, hence getitem undoes
scatter_slice, and each is the backward pass of the other. `take` may read a number twice; then its cotangents add up
(`scatter_rows`, with the axis moved to the front).

A key is canonical: a tuple with one int or slice an axis, ints non-negative; the door resolves Ellipsis, None and -1.
Steps may be negative (except on PyTorch, whose indexing has none).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .elementwise import random_shape
from .extension import Key, scatter_rows, scatter_slice, selected_shape
from .namespace import Array, array_namespace
from .op import Op, Sample
from .shape import inverse

# ---- getitem


def getitem(x: Array, *, key: Key) -> Array:
    """y = x[key]. Shapes: shape -> selected_shape(key, shape)."""
    return x[key]


def getitem_vjp(dy: Array, y: Any, x: Any, *, key: Key) -> tuple[Array]:
    """dx = zeros with dx[key] = dy."""
    return (scatter_slice(dy, key=key, shape=tuple(x.shape)),)


def getitem_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, key: Key) -> Array:
    """dy = dx[key]."""
    return dinputs[0][key]


def _places(key: Key, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Where getitem reads, in the row-major order of its result."""
    axes = [range(n)[k] if isinstance(k, slice) else [k] for k, n in zip(key, shape, strict=True)]
    places: list[tuple[int, ...]] = [()]
    for axis in axes:
        places = [(*place, i) for place in places for i in axis]
    return places


def getitem_definition(x: Array, *, key: Key) -> Array:
    """One number at a time."""
    y = np.empty(selected_shape(key, x.shape), x.dtype)
    for target, place in zip(np.ndindex(y.shape), _places(key, x.shape), strict=True):
        y[target] = x[place]
    return y


# ---- scatter_slice (the function itself is in extension.py)


def scatter_slice_vjp(dy: Array, y: Any, x: Any, *, key: Key, shape: tuple[int, ...]) -> tuple[Array]:
    """dx = dy[key]."""
    return (dy[key],)


def scatter_slice_jvp(
    dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, key: Key, shape: tuple[int, ...]
) -> Array:
    """dy = zeros with dy[key] = dx."""
    return scatter_slice(dinputs[0], key=key, shape=shape)


def scatter_slice_definition(x: Array, *, key: Key, shape: tuple[int, ...]) -> Array:
    """One number at a time."""
    y = np.zeros(shape, x.dtype)
    for origin, place in zip(np.ndindex(x.shape), _places(key, shape), strict=True):
        y[place] = x[origin]
    return y


# ---- take


def take(x: Array, indices: Array, *, axis: int) -> Array:
    """y_(.., r, ..) = x_(.., indices_r, ..). Shapes: (.., n, ..), (R,) of integers in [0, n) -> (.., R, ..)."""
    return array_namespace(x).take(x, indices, axis=axis)


def take_vjp(dy: Array, y: Any, x: Any, indices: Array, *, axis: int) -> tuple[Array, None]:
    """dx_(.., v, ..) = sum over {r: indices_r = v} of dy_(.., r, ..)."""
    xp = array_namespace(dy)
    n, axis = x.shape[axis], axis % dy.ndim
    front = (axis, *(a for a in range(dy.ndim) if a != axis))
    dy = xp.permute_dims(dy, front)  # (R, ...)
    rows = xp.reshape(dy, (dy.shape[0], math.prod(dy.shape[1:])))  # (R, C)
    dx = xp.reshape(scatter_rows(rows, indices, n=n), (n, *dy.shape[1:]))  # (n, ...)
    return xp.permute_dims(dx, inverse(front)), None


def take_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...], *, axis: int) -> Array:
    """dy_r = dx_{indices_r}."""
    return take(dinputs[0], inputs[1], axis=axis)


def take_definition(x: Array, indices: Array, *, axis: int) -> Array:
    """One number at a time."""
    axis = axis % x.ndim
    shape = (*x.shape[:axis], indices.shape[0], *x.shape[axis + 1 :])
    y = np.empty(shape, x.dtype)
    for place in np.ndindex(shape):
        y[place] = x[(*place[:axis], int(indices[place[axis]]), *place[axis + 1 :])]
    return y


# ---- checks: what a signature cannot say


def _check_key(op: str, name: str, key: Key, shape: tuple[int, ...]) -> None:
    if len(key) != len(shape):
        raise ValueError(f"{op}: key has {len(key)} entries, but {name} {shape} needs one an axis")
    for axis, (k, n) in enumerate(zip(key, shape, strict=True)):
        if not isinstance(k, slice) and not 0 <= k < n:
            raise IndexError(f"{op}: key asks for entry {k} of axis {axis}, but {name} {shape} has 0 to {n - 1} there")


def _check_getitem(x: Any, *, key: Key) -> None:
    _check_key("getitem", "x", key, tuple(x.shape))


def _check_scatter_slice(x: Any, *, key: Key, shape: tuple[int, ...]) -> None:
    _check_key("scatter_slice", "shape", key, shape)
    wanted = selected_shape(key, shape)
    if tuple(x.shape) != wanted:
        raise ValueError(f"scatter_slice: x has shape {tuple(x.shape)}, but key selects {wanted} of shape {shape}")


def _check_take(x: Any, indices: Any, *, axis: int) -> None:
    shape = tuple(x.shape)
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"take: axis is {axis}, but x has shape {shape} and so no such axis")
    if len(indices.shape) != 1:
        raise ValueError(f"take: indices has shape {tuple(indices.shape)}, but it needs exactly one axis")
    if np.dtype(indices.dtype).kind not in "iu":
        raise TypeError(f"take: indices is {np.dtype(indices.dtype).name}, but it must be an integer array")


# ---- draws, and what goes wrong


def _draw_key(rng: np.random.Generator, shape: tuple[int, ...]) -> Key:
    """Positive steps only, so that PyTorch can follow; negative ones are among the samples."""
    key: list[int | slice] = []
    for n in shape:
        start, kind = int(rng.integers(n)), int(rng.integers(4))
        stop = int(rng.integers(start + 1, n + 1))
        key.append((start, slice(None), slice(start, stop), slice(start, stop, int(rng.integers(1, 4))))[kind])
    return tuple(key)


def _draw_getitem(rng: np.random.Generator) -> Sample:
    shape = tuple(n + 1 for n in random_shape(rng))
    return Sample((rng.standard_normal(shape),), {"key": _draw_key(rng, shape)}, "random")


def _draw_scatter_slice(rng: np.random.Generator) -> Sample:
    shape = tuple(n + 1 for n in random_shape(rng))
    key = _draw_key(rng, shape)
    return Sample((rng.standard_normal(selected_shape(key, shape)),), {"key": key, "shape": shape}, "random")


def _draw_take(rng: np.random.Generator) -> Sample:
    shape = (int(rng.integers(1, 5)), *random_shape(rng))
    axis = int(rng.integers(-len(shape), len(shape)))
    indices = rng.integers(0, shape[axis], size=rng.integers(1, 6))
    return Sample((rng.standard_normal(shape), indices), {"axis": axis}, "random")


def _getitem_packed(dy: Array, y: Any, x: Any, *, key: Key) -> tuple[Array]:
    """Every cotangent arrives, but at the front of x."""
    dx = np.zeros(x.size, dy.dtype)
    dx[: dy.size] = np.reshape(dy, dy.size)
    return (np.reshape(dx, x.shape),)


def _take_last(dy: Array, y: Any, x: Any, indices: Array, *, axis: int) -> tuple[Array, None]:
    dx = np.zeros(x.shape, dy.dtype)
    np.moveaxis(dx, axis, 0)[indices] = np.moveaxis(dy, axis, 0)  # a repeated index is overwritten
    return dx, None


GETITEM = Op(
    "getitem",
    getitem,
    getitem_vjp,
    getitem_jvp,
    inputs=("x",),
    definition=getitem_definition,
    signature=None,
    check=_check_getitem,
    draw=_draw_getitem,
    formula=r"y = x[\mathrm{key}] = S x",
    gradient=r"\bar x = S^T \bar y",
    samples=(
        Sample((np.arange(12.0).reshape(3, 4),), {"key": (1, slice(None))}, "one row: its axis goes"),
        Sample((np.arange(12.0).reshape(3, 4),), {"key": (slice(0, 3, 2), slice(1, 4, 2))}, "steps leave gaps"),
        Sample((np.arange(12.0).reshape(3, 4),), {"key": (slice(None, None, -1), slice(3, 0, -2))}, "backwards"),
        Sample((np.arange(4.0),), {"key": (slice(2, 2),)}, "an empty slice reads nothing"),
        Sample((np.arange(4.0),), {"key": (slice(-3, -1),)}, "a slice may count from the end"),
        Sample((np.array(2.0),), {"key": ()}, "an array without axes"),
    ),
    laws=("linear_in_x",),
    wrong={
        "puts the cotangent at the front": _getitem_packed,
        "turns the slice around": lambda dy, y, x, *, key: (np.flip(getitem_vjp(dy, y, x, key=key)[0]),),
        "fills the rest with ones": lambda dy, y, x, *, key: (
            getitem_vjp(dy, y, x, key=key)[0] + 1.0 - getitem_vjp(np.ones_like(dy), y, x, key=key)[0],
        ),
        "divides by the share that was read, plus one": lambda dy, y, x, *, key: (
            getitem_vjp(dy, y, x, key=key)[0] / (1.0 + dy.size / x.size),
        ),
    },
    tolerance=lambda x, *, key: 1.0,
    cost=lambda x, *, key: (0, 2 * math.prod(selected_shape(key, x.shape))),
    source="array API standard 2024.12, section Indexing",
)

SCATTER_SLICE = Op(
    "scatter_slice",
    scatter_slice,
    scatter_slice_vjp,
    scatter_slice_jvp,
    inputs=("x",),
    definition=scatter_slice_definition,
    signature=None,
    check=_check_scatter_slice,
    draw=_draw_scatter_slice,
    formula=r"y = S^T x, \quad \text{where } z[\mathrm{key}] = S z",
    gradient=r"\bar x = S \bar y = \bar y[\mathrm{key}]",
    samples=(
        Sample((np.arange(1.0, 5.0),), {"key": (1, slice(None)), "shape": (3, 4)}, "one row among zeros"),
        Sample((np.ones((2, 2)),), {"key": (slice(0, 3, 2), slice(1, 4, 2)), "shape": (3, 4)}, "steps leave gaps"),
        Sample((np.arange(3.0),), {"key": (slice(5, None, -2),), "shape": (7,)}, "backwards, in steps of two"),
        Sample((np.zeros((0, 2)),), {"key": (slice(1, 1), slice(None)), "shape": (2, 2)}, "nothing: zeros alone"),
        Sample((np.array([np.inf, 1.0]),), {"key": (slice(0, 4, 2),), "shape": (4,)}, "infinity stays in its place"),
        Sample((np.array(3.0),), {"key": (1, 0), "shape": (2, 2)}, "one number among zeros"),
    ),
    laws=("linear_in_x",),
    wrong={
        "reads from the front": lambda dy, y, x, *, key, shape: (
            np.reshape(np.reshape(dy, dy.size)[: math.prod(x.shape)], x.shape),
        ),
        "turns the slice around": lambda dy, y, x, *, key, shape: (np.flip(dy)[key],),
        "adds the mean of what was not written": lambda dy, y, x, *, key, shape: (dy[key] + np.mean(dy),),
    },
    tolerance=lambda x, *, key, shape: 1.0,
    cost=lambda x, *, key, shape: (0, x.size + math.prod(shape)),
    source="the transpose of getitem, by its definition <S^T x, z> = <x, S z>",
)

TAKE = Op(
    "take",
    take,
    take_vjp,
    take_jvp,
    inputs=("x", "indices"),
    reads=("indices",),
    nondiff=("indices",),
    definition=take_definition,
    signature=None,
    check=_check_take,
    draw=_draw_take,
    formula=r"y_{\dots r \dots} = x_{\dots k_r \dots}",
    gradient=r"\bar x_{\dots v \dots} = \sum_{r : k_r = v} \bar y_{\dots r \dots}",
    samples=(
        Sample((np.arange(6.0).reshape(3, 2), np.array([2, 0, 2])), {"axis": 0}, "read twice: the cotangents add up"),
        Sample((np.arange(12.0).reshape(2, 2, 3), np.array([1])), {"axis": -2}, "an axis in the middle"),
        Sample((np.arange(6.0).reshape(3, 2), np.zeros(0, np.int64)), {"axis": 1}, "no indices"),
        Sample((np.zeros((2, 0)), np.array([1, 1])), {"axis": 0}, "rows without entries"),
    ),
    laws=("linear_in_x",),
    wrong={
        "lets the last reading win": _take_last,
        "averages repeated readings": lambda dy, y, x, indices, *, axis: (
            take_vjp(dy, y, x, indices, axis=axis)[0]
            / np.maximum(1.0, take_vjp(np.ones_like(dy), y, x, indices, axis=axis)[0]),
            None,
        ),
        "is off by one": lambda dy, y, x, indices, *, axis: take_vjp(
            dy, y, x, (indices + 1) % x.shape[axis], axis=axis
        ),
    },
    tolerance=lambda x, indices, *, axis: 8.0 + indices.size,
    cost=lambda x, indices, *, axis: (0, indices.size + 2 * indices.size * (x.size // (x.shape[axis] or 1))),
    source="array API standard 2024.12, take",
)
