r"""Shapes: the same numbers, arranged differently. No arithmetic, so each Jacobian is a matrix of zeros and ones.

An operation that moves every number to exactly one place is a permutation P of the entries; P transposed is its
inverse, so the cotangent simply travels back. Where one number is read in several places (broadcast_to), the transpose
adds up.

    reshape         back into x's shape
    permute_dims    by the inverse permutation
    broadcast_to    sum over the stretched axes
    concat          cut into the pieces again

All four are linear: the jvp is the operation itself, applied to the directions. Parameters are canonical (no -1 in a
shape or in `axes`); the door resolves what users write.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .elementwise import random_shape
from .namespace import Array, array_namespace, unbroadcast
from .op import Op, Sample

# ---- reshape


def reshape(x: Array, *, shape: tuple[int, ...]) -> Array:
    """The entries of x in row-major order, in another shape of the same size."""
    return array_namespace(x).reshape(x, shape)


def reshape_vjp(dy: Array, y: Any, x: Any, *, shape: tuple[int, ...]) -> tuple[Array]:
    """dx = dy, in x's shape."""
    return (array_namespace(dy).reshape(dy, x.shape),)


def reshape_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, shape: tuple[int, ...]) -> Array:
    """dy = dx, in the new shape."""
    return reshape(dinputs[0], shape=shape)


def reshape_definition(x: Array, *, shape: tuple[int, ...]) -> Array:
    """One number at a time: both shapes are walked through with the last axis fastest."""
    y = np.empty(shape, x.dtype)
    for place, origin in zip(np.ndindex(shape), np.ndindex(x.shape), strict=True):
        y[place] = x[origin]
    return y


# ---- permute_dims


def permute_dims(x: Array, *, axes: tuple[int, ...]) -> Array:
    """Axis i of y is axis axes[i] of x. Shapes: (n_0, ...) -> (n_axes[0], ...)."""
    return array_namespace(x).permute_dims(x, axes)


def inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes `axes`: inverse(axes)[axes[i]] = i."""
    return tuple(axes.index(a) for a in range(len(axes)))


def permute_dims_vjp(dy: Array, y: Any, x: Any, *, axes: tuple[int, ...]) -> tuple[Array]:
    """dx = dy, its axes put back."""
    return (array_namespace(dy).permute_dims(dy, inverse(axes)),)


def permute_dims_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, axes: tuple[int, ...]) -> Array:
    """dy = dx, its axes permuted."""
    return permute_dims(dinputs[0], axes=axes)


def permute_dims_definition(x: Array, *, axes: tuple[int, ...]) -> Array:
    """One number at a time."""
    y = np.empty(tuple(x.shape[a] for a in axes), x.dtype)
    for origin in np.ndindex(x.shape):
        y[tuple(origin[a] for a in axes)] = x[origin]
    return y


# ---- broadcast_to


def broadcast_to(x: Array, *, shape: tuple[int, ...]) -> Array:
    """x read again and again along axes where it has length 1, or none. Shapes: (..., 1, ...) -> shape."""
    return array_namespace(x).broadcast_to(x, shape)


def broadcast_to_vjp(dy: Array, y: Any, x: Any, *, shape: tuple[int, ...]) -> tuple[Array]:
    """dx = sum of dy over the stretched axes."""
    return (unbroadcast(dy, x.shape),)


def broadcast_to_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, shape: tuple[int, ...]) -> Array:
    """dy = dx, stretched."""
    return broadcast_to(dinputs[0], shape=shape)


def broadcast_to_definition(x: Array, *, shape: tuple[int, ...]) -> Array:
    """One number at a time."""
    y = np.empty(shape, x.dtype)
    for place in np.ndindex(shape):
        last = place[len(shape) - x.ndim :]
        y[place] = x[tuple(0 if n == 1 else i for n, i in zip(x.shape, last, strict=True))]
    return y


# ---- concat


def concat(*xs: Array, axis: int = 0) -> Array:
    """Several arrays, one after the other along `axis`. Shapes: (.., n_1, ..), (.., n_2, ..) -> (.., n_1 + n_2, ..)."""
    return array_namespace(xs[0]).concat(list(xs), axis=axis)


def concat_vjp(dy: Array, y: Any, *xs: Any, axis: int = 0) -> tuple[Array, ...]:
    """dx_i = dy from the end of x_(i-1) to the end of x_i."""
    before = (slice(None),) * (axis % dy.ndim)
    pieces, start = [], 0
    for x in xs:
        stop = start + x.shape[axis]
        pieces.append(dy[(*before, slice(start, stop), ...)])
        start = stop
    return tuple(pieces)


def concat_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...], *, axis: int = 0) -> Array:
    """dy = the directions, one after the other; an input that stands still has the direction None: zeros."""
    xp = array_namespace(y)
    return concat(*(xp.zeros_like(x) if dx is None else dx for dx, x in zip(dinputs, inputs, strict=True)), axis=axis)


def concat_definition(*xs: Array, axis: int = 0) -> Array:
    """One number at a time."""
    axis = axis % xs[0].ndim
    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    y = np.empty(shape, xs[0].dtype)
    offset = 0
    for x in xs:
        for origin in np.ndindex(x.shape):
            y[tuple(i + offset if a == axis else i for a, i in enumerate(origin))] = x[origin]
        offset += x.shape[axis]
    return y


# ---- checks: what a signature cannot say


def _check_reshape(x: Any, *, shape: tuple[int, ...]) -> None:
    if min(shape, default=0) < 0 or math.prod(shape) != math.prod(x.shape):
        raise ValueError(f"reshape: x has shape {tuple(x.shape)}, which does not fit into {tuple(shape)}")


def _check_permute_dims(x: Any, *, axes: tuple[int, ...]) -> None:
    if sorted(axes) != list(range(len(x.shape))):
        wanted = f"it must name each axis of x {tuple(x.shape)} once, counted from 0"
        raise ValueError(f"permute_dims: axes is {axes}, but {wanted}")


def _check_broadcast_to(x: Any, *, shape: tuple[int, ...]) -> None:
    missing = len(shape) - len(x.shape)
    if missing < 0 or any(n not in (1, m) for n, m in zip(x.shape, shape[missing:], strict=True)):
        raise ValueError(f"broadcast_to: x has shape {tuple(x.shape)}, which does not broadcast to {tuple(shape)}")


def _check_concat(*xs: Any, axis: int = 0) -> None:
    if not xs:
        raise TypeError("concat: got no arrays, but it takes at least one")
    first = tuple(xs[0].shape)
    if not -len(first) <= axis < len(first):
        raise ValueError(f"concat: axis is {axis}, but xs[0] has shape {first} and so no such axis")
    axis = axis % len(first)
    for i, x in enumerate(xs):
        shape = tuple(x.shape)
        if len(shape) != len(first) or shape[:axis] != first[:axis] or shape[axis + 1 :] != first[axis + 1 :]:
            wanted = f"xs[0] {first}, and they must agree in every axis but {axis}"
            raise ValueError(f"concat: xs[{i}] has shape {shape}, which does not continue {wanted}")


# ---- draws, and what goes wrong


def _draw_reshape(rng: np.random.Generator) -> Sample:
    a, b, c = (int(n) for n in rng.integers(1, 4, size=3))
    shapes = [(a, b, c), (a * b, c), (c, b, a), (a * b * c,), (b, 1, a * c)]
    old, new = rng.permutation(len(shapes))[:2]
    return Sample((rng.standard_normal(shapes[old]),), {"shape": shapes[new]}, "random")


def _draw_permute_dims(rng: np.random.Generator) -> Sample:
    """Half of them turn three axes of the same length in a circle, where the shape does not show a wrong order."""
    shape = random_shape(rng)
    axes = tuple(int(a) for a in rng.permutation(len(shape)))
    if rng.integers(2):
        shape, axes = (3, 3, 3), ((1, 2, 0), (2, 0, 1))[rng.integers(2)]
    return Sample((rng.standard_normal(shape),), {"axes": axes}, "random")


def _draw_broadcast_to(rng: np.random.Generator) -> Sample:
    shape = random_shape(rng)
    x_shape = tuple(1 if rng.random() < 0.5 else n for n in shape[rng.integers(0, len(shape) + 1) :])
    return Sample((rng.standard_normal(x_shape),), {"shape": shape}, "random")


def _draw_concat(rng: np.random.Generator) -> Sample:
    shape = (int(rng.integers(1, 4)), *random_shape(rng))
    axis = int(rng.integers(-len(shape), len(shape)))
    xs = []
    for _ in range(rng.integers(1, 4)):
        piece = list(shape)
        piece[axis] = int(rng.integers(1, 4))
        xs.append(rng.standard_normal(piece))
    return Sample(tuple(xs), {"axis": axis}, "random")


def _columns_first(dy: Array, y: Any, x: Any, *, shape: tuple[int, ...]) -> tuple[Array]:
    """Back into x's shape, but with the first axis fastest."""
    return (np.reshape(np.reshape(dy, dy.size), x.shape, order="F"),)


def _backwards(dy: Array, y: Any, *xs: Any, axis: int = 0) -> tuple[Array, ...]:
    """The right lengths, cut off from the wrong end."""
    return concat_vjp(np.flip(dy, axis=axis), y, *xs, axis=axis)


RESHAPE = Op(
    "reshape",
    reshape,
    reshape_vjp,
    reshape_jvp,
    inputs=("x",),
    definition=reshape_definition,
    signature=None,
    check=_check_reshape,
    draw=_draw_reshape,
    formula=r"y_{\mathrm{place}(k)} = x_{\mathrm{place}'(k)}, \quad k \text{ the row-major position}",
    gradient=r"\bar x = \mathrm{reshape}(\bar y, \mathrm{shape}(x))",
    samples=(
        Sample((np.arange(6.0).reshape(2, 3),), {"shape": (3, 2)}, "not a transposition: the order stays row-major"),
        Sample((np.zeros((0, 3)),), {"shape": (5, 0)}, "no entries fit into any shape without entries"),
        Sample((np.array(2.0),), {"shape": (1, 1)}, "an array without axes"),
    ),
    laws=("linear_in_x", "keeps_every_value"),
    wrong={
        "fills x with the first axis fastest": _columns_first,
        "turns the order around": lambda dy, y, x, *, shape: (np.reshape(np.flip(dy), x.shape),),
    },
    tolerance=lambda x, *, shape: 1.0,
    cost=lambda x, *, shape: (0, 2 * x.size),
    source="array API standard 2024.12, reshape",
)

PERMUTE_DIMS = Op(
    "permute_dims",
    permute_dims,
    permute_dims_vjp,
    permute_dims_jvp,
    inputs=("x",),
    definition=permute_dims_definition,
    signature=None,
    check=_check_permute_dims,
    draw=_draw_permute_dims,
    formula=r"y_{i_{a(0)} \dots i_{a(n-1)}} = x_{i_0 \dots i_{n-1}}",
    gradient=r"\bar x = \mathrm{permute}(\bar y, a^{-1})",
    samples=(
        Sample((np.arange(6.0).reshape(2, 3),), {"axes": (1, 0)}, "a transposition undoes itself"),
        Sample((np.arange(24.0).reshape(2, 3, 4),), {"axes": (1, 2, 0)}, "a cycle of three does not undo itself"),
        Sample((np.array(2.0),), {"axes": ()}, "an array without axes"),
        Sample((np.zeros((2, 0, 3)),), {"axes": (2, 0, 1)}, "no entries at all"),
    ),
    laws=("linear_in_x", "keeps_every_value"),
    wrong={
        "permutes once more instead of back": lambda dy, y, x, *, axes: (np.permute_dims(dy, axes),),
        "reshapes instead of permuting": lambda dy, y, x, *, axes: (np.reshape(dy, x.shape),),
    },
    tolerance=lambda x, *, axes: 1.0,
    cost=lambda x, *, axes: (0, 2 * x.size),
    source="array API standard 2024.12, permute_dims",
)

BROADCAST_TO = Op(
    "broadcast_to",
    broadcast_to,
    broadcast_to_vjp,
    broadcast_to_jvp,
    inputs=("x",),
    definition=broadcast_to_definition,
    signature=None,
    check=_check_broadcast_to,
    draw=_draw_broadcast_to,
    formula=r"y_{i j} = x_j",
    gradient=r"\bar x_j = \sum_i \bar y_{i j}",
    samples=(
        Sample((np.array([1.0, 2.0, 3.0]),), {"shape": (2, 3)}, "a new axis in front"),
        Sample((np.array([[1.0], [2.0]]),), {"shape": (4, 2, 3)}, "a new axis, and one of length 1"),
        Sample((np.array(2.0),), {"shape": (2, 2)}, "one number everywhere"),
        Sample((np.array([[1.0]]),), {"shape": (0, 1)}, "read nowhere: the cotangent is zero"),
    ),
    laws=("linear_in_x",),
    wrong={
        "averages over the stretched axes": lambda dy, y, x, *, shape: (unbroadcast(dy, x.shape) * (x.size / dy.size),),
        "takes the first place that read": lambda dy, y, x, *, shape: (
            np.reshape(
                dy[(0,) * (dy.ndim - x.ndim)][tuple(slice(0, n) for n in x.shape)],
                x.shape,
            ),
        ),
    },
    tolerance=lambda x, *, shape: 8.0 + math.prod(shape) / max(1, x.size),
    cost=lambda x, *, shape: (0, x.size + math.prod(shape)),
    source="array API standard 2024.12, broadcast_to",
)

CONCAT = Op(
    "concat",
    concat,
    concat_vjp,
    concat_jvp,
    inputs=("*xs",),
    definition=concat_definition,
    signature=None,
    check=_check_concat,
    draw=_draw_concat,
    formula=r"y = (x_1, x_2, \dots)",
    gradient=r"(\bar x_1, \bar x_2, \dots) = \bar y",
    samples=(
        Sample((np.ones((2, 1)), np.zeros((2, 3))), {"axis": 1}, "different lengths along the axis"),
        Sample((np.ones((2, 2)), np.zeros((0, 2)), np.full((1, 2), 3.0)), {}, "one of them is empty"),
        Sample((np.array([1.0, 2.0]),), {"axis": -1}, "a single array stays as it is"),
    ),
    laws=("keeps_every_value",),
    wrong={
        "cuts from the wrong end": _backwards,
        "gives every input the first piece": lambda dy, y, *xs, axis=0: tuple(
            concat_vjp(dy, y, x, axis=axis)[0] for x in xs
        ),
        "divides by the number of inputs, plus one": lambda dy, y, *xs, axis=0: tuple(
            piece / (len(xs) + 1) for piece in concat_vjp(dy, y, *xs, axis=axis)
        ),
    },
    tolerance=lambda *xs, axis=0: 1.0,
    cost=lambda *xs, axis=0: (0, 2 * sum(x.size for x in xs)),
    source="array API standard 2024.12, concat",
)
