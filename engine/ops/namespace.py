"""The array API namespace of Tensor: what a formula finds when it asks a Tensor for its library.

Differentiable functions come from the rows; those without a derivative run on the arrays and return Tensors without a
history; creation functions return leaves, as the constructor does. There is one Namespace for each device, because `arange`
has no array to see it from.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..tensor import Tensor, plain
from . import (
    activations,
    contraction,
    elementary,
    elementwise,
    inspection,
    losses,
    manipulation,
    products,
    recurrent,
    reductions,
    searching,
    shape,
    transformer,
)
from .creation import Creation
from .inspection import Info

_PLAIN = (
    "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_or",
    "bitwise_right_shift", "bitwise_xor", "ceil", "equal", "floor", "floor_divide", "greater",
    "greater_equal", "isfinite", "isinf", "isnan", "less", "less_equal", "logical_and", "logical_not", "logical_or",
    "logical_xor", "nextafter", "not_equal", "round", "sign", "signbit", "trunc",
)  # fmt: skip
_CONSTANTS = (
    "bool", "e", "float32", "float64", "inf", "int16", "int32", "int64", "int8", "nan", "newaxis", "pi", "uint16", "uint32",
    "uint64", "uint8",
)  # fmt: skip
_MODULES = (
    activations, contraction, elementary, elementwise, losses, products, inspection, manipulation,
    recurrent, reductions, searching, shape, transformer,
)  # fmt: skip


class Namespace(Creation):
    """Functions of the array API standard on Tensors, and our rows beside them; creates on `device` unless told otherwise."""

    __array_api_version__ = "2024.12"

    def __init__(self, device: str) -> None:
        self.device = device
        for module in _MODULES:
            for name in module.__all__:
                setattr(self, name, getattr(module, name))
        for name in _CONSTANTS:
            setattr(self, name, getattr(np, name))
        for name in _PLAIN:
            setattr(self, name, _plain(getattr(np, name)))

    @staticmethod
    @cache
    def on(device: str) -> Namespace:
        """The one that creates on `device`."""
        return NUMPY if device == "cpu" else Namespace(device)

    def __array_namespace_info__(self) -> Info:
        """What this namespace can do."""
        return Info(self)


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


NUMPY = Tensor.namespace = Namespace("cpu")
