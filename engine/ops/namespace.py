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
    "all", "any", "argmax", "argmin", "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_or",
    "bitwise_right_shift", "bitwise_xor", "ceil", "count_nonzero", "equal", "floor", "floor_divide", "greater",
    "greater_equal", "isfinite", "isinf", "isnan", "less", "less_equal", "logical_and", "logical_not", "logical_or",
    "logical_xor", "nextafter", "not_equal", "remainder", "round", "sign", "signbit", "trunc",
)  # fmt: skip
_CONSTANTS = (
    "bool", "e", "float32", "float64", "inf", "int16", "int32", "int64", "int8", "nan", "newaxis", "pi", "uint16", "uint32",
    "uint64", "uint8",
)  # fmt: skip
_DTYPES = tuple(name for name in _CONSTANTS if name == "bool" or name[-1] in "2468")
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

    def from_dlpack(self, x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
        """A Tensor that shares the memory of another library's array on the CPU, unless copy is True."""
        return Tensor(self._xp.from_dlpack(x, device=device, copy=copy), copy=False)

    def __array_namespace_info__(self) -> Info:
        """What this namespace can do."""
        return Info(self)


class Info:
    """What the standard's inspection functions report about a Namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def capabilities(self) -> dict[str, Any]:
        """Boolean masks cannot index (use `where`); shapes may depend on values (nonzero, unique_values)."""
        return {"boolean indexing": False, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """The device of an array for which none was asked."""
        return "cpu"

    def devices(self) -> list[str]:
        """The devices on which an array can be."""
        return ["cpu"]

    def default_dtypes(self, *, device: Any = None) -> dict[str, Any]:
        """The dtypes of Python's numbers; there are no complex ones."""
        xp: Any = self._namespace
        return {
            "real floating": np.dtype(xp.float32), "integral": np.dtype(xp.int64), "indexing": np.dtype(xp.int64),
        }  # fmt: skip

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, Any]:
        """Name -> dtype of those of a kind ("bool", "integral", "real floating" ..., a tuple of them), or of all."""
        xp: Any = self._namespace
        every = {name: np.dtype(getattr(xp, name)) for name in _DTYPES}
        return {name: d for name, d in every.items() if kind is None or xp.isdtype(d, kind)}


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
    name = function.__name__

    def call(*args: Any, **params: Any) -> Any:
        try:
            return plain(function, *args, **params)
        except (TypeError, ValueError) as error:
            if str(error).startswith(name):
                raise
            raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{name}: {error}") from None

    call.__name__ = name
    call.__doc__ = function.__doc__
    return call


NUMPY = Tensor.namespace = Namespace(np)
