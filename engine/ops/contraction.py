"""Sums of products over pairs of axes, all of them by einsum. Formula: reference/einsum.py."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters

from ...reference import table as t
from ..tensor import Tensor, apply
from .elementwise import Operand, with_axes
from .reductions import normal_axis
from .shape import integer, permute_dims

__all__ = ["einsum", "tensordot", "vecdot"]


def einsum(equation: str, /, *xs: Operand) -> Tensor:
    """The sum of products that `equation` spells in letters: "ij,jk->ik" is a matrix product, "ii" a trace.

    Letters after the arrow stay, all others are summed over; "..." stands for further axes, which broadcast. Unlike
    NumPy's, a letter has one length everywhere: only "..." stretches an axis of length 1.
    """
    if not isinstance(equation, str):
        raise TypeError(f"einsum: equation is a {type(equation).__name__}, but it must be a string such as 'ij,jk->ik'")
    if not xs:
        raise TypeError("einsum: got no arrays, but it takes at least one")
    return apply(t.EINSUM, *[with_axes("einsum", x) for x in xs], equation=equation.replace(" ", ""))


def tensordot(x1: Operand, x2: Operand, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """Products of x1 and x2, summed over pairs of axes; the remaining axes of x1 come first, then those of x2.

    axes: the last n of x1 with the first n of x2, or (axes of x1, axes of x2).
    """
    x1, x2 = with_axes("tensordot", x1), with_axes("tensordot", x2)
    if isinstance(axes, int):
        if not 0 <= axes <= min(x1.ndim, x2.ndim):
            raise ValueError(f"tensordot: axes is {axes}, but x1 has {x1.ndim} axes and x2 {x2.ndim}")
        axes = tuple(range(x1.ndim - axes, x1.ndim)), tuple(range(axes))
    lists = (tuple, list)
    if not isinstance(axes, lists) or len(axes) != 2 or not all(isinstance(a, lists) for a in axes):
        raise TypeError(f"tensordot: axes is {axes!r}, but it must be a number, or axes of x1 and axes of x2")
    first = normal_axis("tensordot", tuple(axes[0]), x1.ndim, "x1")
    second = normal_axis("tensordot", tuple(axes[1]), x2.ndim, "x2")
    if [x1.shape[a] for a in first] != [x2.shape[a] for a in second]:
        shapes = f"x1 has shape {tuple(x1.shape)} and x2 {tuple(x2.shape)}"
        raise ValueError(
            f"tensordot: {shapes}, whose axes {first} and {second} must have the same lengths in this order"
        )
    letters1, spare = list(ascii_letters[: x1.ndim]), iter(ascii_letters[x1.ndim :])
    letters2 = [letters1[first[second.index(a)]] if a in second else next(spare) for a in range(x2.ndim)]
    left = [letter for letter in letters1 if letter not in letters2]
    right = [letter for letter in letters2 if letter not in letters1]
    return einsum("".join([*letters1, ",", *letters2, "->", *left, *right]), x1, x2)


def vecdot(x1: Operand, x2: Operand, /, *, axis: int = -1) -> Tensor:
    """Inner products of the vectors along `axis` (counted from the end); all other axes broadcast."""
    x1, x2 = with_axes("vecdot", x1), with_axes("vecdot", x2)
    axes = min(x1.ndim, x2.ndim)
    if not -axes <= integer("vecdot", "axis", axis) < 0:
        raise ValueError(f"vecdot: axis is {axis}, but it is counted from the end, and x1 and x2 share {axes} axes")
    if x1.shape[axis] != x2.shape[axis]:
        raise ValueError(
            f"vecdot: x1 has shape {tuple(x1.shape)} and x2 {tuple(x2.shape)}, but they must agree along axis {axis}"
        )
    x1, x2 = (permute_dims(x, (*(a for a in range(x.ndim) if a != x.ndim + axis), x.ndim + axis)) for x in (x1, x2))
    return einsum("...i,...i->...", x1, x2)
