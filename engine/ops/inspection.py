"""What can be asked of dtypes, and of the namespace itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..device import devices, is_array
from ..tensor import Tensor

__all__ = ["can_cast", "finfo", "iinfo", "isdtype", "result_type"]


def result_type(*arrays_and_dtypes: Any) -> Any:
    """The dtype that the standard's promotion rules give; operations do not promote, they raise."""
    return np.result_type(*(_dtype(x) for x in arrays_and_dtypes))


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is of a kind ("bool", "integral", "real floating" ...), or of one in a tuple of kinds."""
    return bool(np.isdtype(np.dtype(dtype), kind))


def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether the standard's rules cast the dtype (or array) `from_` to `to` without losing anything."""
    return bool(np.can_cast(_dtype(from_), to))


def finfo(type: Any, /) -> Any:
    """Limits of a floating point dtype, or of an array's. TypeError for another dtype."""
    dtype = np.dtype(_dtype(type))
    if dtype.kind != "f":
        raise TypeError(f"finfo: got {dtype.name}, but it must be a floating point dtype; see iinfo")
    return np.finfo(dtype)


def iinfo(type: Any, /) -> Any:
    """Limits of an integer dtype, or of an array's. TypeError for another dtype."""
    dtype = np.dtype(_dtype(type))
    if dtype.kind not in "iu":
        raise TypeError(f"iinfo: got {dtype.name}, but it must be an integer dtype; see finfo")
    return np.iinfo(dtype)


def _dtype(x: Any) -> Any:
    return x.dtype if isinstance(x, Tensor) or is_array(x) else x


_DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64",
)  # fmt: skip


class Info:
    """What the standard's inspection functions report about a Namespace."""

    def __init__(self, namespace: Any) -> None:
        self._namespace = namespace

    def capabilities(self) -> dict[str, Any]:
        """Boolean masks cannot index (use `where`); shapes may depend on values (nonzero, unique_values)."""
        return {"boolean indexing": False, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """The device of an array for which none was asked."""
        return self._namespace.device

    def devices(self) -> list[str]:
        """The devices on which an array can be."""
        return devices()

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
