"""The array API namespace of Tensor: what a formula finds when it asks a Tensor for its library.

Differentiable functions come from the rows; those without a derivative run on the arrays and return Tensors without a
history; creation functions return leaves, as the constructor does. There is one Namespace for each array library, because
`arange` has no array to see it from.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..tensor import Tensor, plain
from . import (
    activations,
    contraction,
    elementary,
    elementwise,
    losses,
    products,
    reductions,
    shape,
    standard,
    transformer,
)

_CREATION = ("arange", "empty", "eye", "full", "linspace", "ones", "zeros")
_LIKE = ("empty_like", "full_like", "ones_like", "zeros_like")
_PLAIN = (
    "all", "any", "argmax", "argmin", "argsort", "bitwise_and", "bitwise_invert", "bitwise_or", "bitwise_xor", "ceil",
    "equal", "floor", "floor_divide", "greater", "greater_equal", "isfinite", "isinf", "isnan", "less", "less_equal",
    "logical_and", "logical_not", "logical_or", "logical_xor", "not_equal", "remainder", "round", "sign",
    "signbit", "trunc",
)  # fmt: skip
_CONSTANTS = (
    "bool", "e", "finfo", "float32", "float64", "iinfo", "inf", "int16", "int32", "int64", "int8", "nan", "newaxis", "pi",
    "uint16", "uint32", "uint64", "uint8",
)  # fmt: skip
_MODULES = (
    activations, contraction, elementary, elementwise, losses, products, reductions, shape, standard, transformer,
)  # fmt: skip


class Namespace:
    """Functions of the array API standard on Tensors whose arrays belong to the library `xp`, and our rows beside them."""

    __array_api_version__ = "2024.12"

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        for module in _MODULES:
            for name in module.__all__:
                setattr(self, name, getattr(module, name))
        for name in _CONSTANTS:
            setattr(self, name, getattr(xp, name))
        for name in _CREATION:
            setattr(self, name, _creation(getattr(xp, name)))
        for name in _LIKE:
            setattr(self, name, _like(getattr(xp, name)))
        for name in _PLAIN:
            setattr(self, name, _plain(getattr(xp, name)))

    def asarray(self, x: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Tensor:
        """A Tensor of the given numbers: x itself where it is one of that dtype and copy is not True."""
        if isinstance(x, Tensor) and not copy:
            return x if dtype is None or x.dtype == dtype else elementwise.astype(x, dtype)
        return Tensor(x, dtype=dtype)

    def positive(self, x: Tensor) -> Tensor:
        """x."""
        return x

    def square(self, x: Tensor) -> Tensor:
        """x * x."""
        return x * x

    def result_type(self, *xs: Any) -> Any:
        """The dtype that the standard's promotion rules give."""
        return self._xp.result_type(*[x.data if isinstance(x, Tensor) else x for x in xs])

    def isdtype(self, dtype: Any, kind: Any) -> bool:
        """Whether a dtype is of a kind, as the standard names them."""
        return self._xp.isdtype(dtype, kind)

    def from_dlpack(self, x: Any) -> Tensor:
        """A Tensor that shares the memory of another library's array on the CPU."""
        return Tensor(self._xp.from_dlpack(x), copy=False)


def _creation(function: Any) -> Any:
    def create(*args: Any, dtype: Any = None, device: Any = None, **params: Any) -> Tensor:
        array = function(*args, dtype=dtype, **params)
        if dtype is None and array.dtype == np.float64:
            array = array.astype(np.float32)  # the default dtype
        return Tensor(array, copy=False)

    create.__name__ = function.__name__
    create.__doc__ = function.__doc__
    return create


def _like(function: Any) -> Any:
    def create(x: Any, /, *args: Any, **params: Any) -> Tensor:
        return Tensor(function(x.data if isinstance(x, Tensor) else x, *args, **params), copy=False)

    create.__name__ = function.__name__
    create.__doc__ = function.__doc__
    return create


def _plain(function: Any) -> Any:
    def call(*args: Any, **params: Any) -> Any:
        return plain(function, *args, **params)

    call.__name__ = function.__name__
    call.__doc__ = function.__doc__
    return call


NUMPY = Tensor.namespace = Namespace(np)
