"""Where arrays are: "cpu", as NumPy arrays, or "cuda", as CuPy arrays. CuPy is imported late, by kernels/cuda/device.py.

A Tensor holds either kind; its array's type says where it is. Nothing moves by itself: `t.to("cuda")` copies. CuPy is
imported, and the GPU looked for, when the first array goes there. Memory comes from CuPy's pool, and work is put on CuPy's
current stream, in order; so reading a number (`item`, `numpy`) waits for what was asked before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

from ..reference.namespace import array_namespace
from .errors import UserError

DEVICES = ("cpu", "cuda")

ARRAYS: set[type] = {np.ndarray}
"""The types of arrays that a Tensor may hold: CuPy's is among them once CuPy was loaded."""


@cache
def cupy() -> Any:
    """CuPy, once it has found a GPU that the kernels run on. UserError with one sentence where it is not installed, or finds
    none.
    """
    from ..kernels.cuda import device as gpu

    try:
        gpu.architecture()
        found = gpu.cupy()
    except OSError as missing:
        raise UserError(f"cuda: {missing}") from missing
    ARRAYS.add(found.ndarray)
    return found


def checked_device(op: str, device: Any) -> str:
    """The name of a device; UserError with one sentence where there is none of that name."""
    if not isinstance(device, str) or device not in DEVICES:
        raise UserError(f"{op}: device is {device!r}, but it must be 'cpu' or 'cuda'")
    return device


def devices() -> list[str]:
    """Those that are there: "cpu", and "cuda" where CuPy is installed and finds a GPU."""
    try:
        cupy()
    except UserError:
        return ["cpu"]
    return list(DEVICES)


def is_array(x: Any) -> bool:
    """Whether x is an array that a Tensor may hold; a CuPy array that the user made loads CuPy for us too."""
    if isinstance(x, np.ndarray) or type(x) in ARRAYS:
        return True
    return type(x).__module__ == "cupy" and isinstance(x, cupy().ndarray)


def device_of(array: Any) -> str:
    """Of an array or a Tensor's array; what is no array counts as on the CPU."""
    return "cpu" if type(array) is np.ndarray or type(array) not in ARRAYS else "cuda"


def library(array: Any) -> Any:
    """NumPy, or CuPy for its arrays."""
    return np if device_of(array) == "cpu" else cupy()


def moved(array: Any, device: str) -> Any:
    """The array on `device`: itself where it is there, else a copy."""
    if device_of(array) == device:
        return array
    return array.get() if device == "cpu" else cupy().array(array, blocking=True)  # else the caller could overwrite it


def host(array: Any) -> Any:
    """The numbers as a NumPy array, wherever they are."""
    return moved(array, "cpu")


def together(op: str, names: Sequence[str], arrays: Iterable[Any]) -> None:
    """ValueError with one sentence unless all arrays are on one device. names: as in a row, a last one may begin with "*"."""
    seen: dict[str, str] = {}
    for k, a in enumerate(arrays):
        if type(a) in ARRAYS:
            name = names[k] if k < len(names) and not names[k].startswith("*") else f"input {k}"
            seen.setdefault(device_of(a), name)
    if len(seen) > 1:
        (one, first), (other, second) = seen.items()
        raise ValueError(f"{op}: {first} is on {one} and {second} on {other}; move one of them with x.to({one!r})")


def own(function: Any, arrays: Sequence[Any]) -> Any:
    """NumPy's `function`, or CuPy's of that name where the arrays are CuPy's. ValueError where both kinds are there."""
    if len(ARRAYS) == 1 or all(device_of(a) == "cpu" for a in arrays):
        return function
    together(function.__name__, (), arrays)
    return getattr(array_namespace(next(a for a in arrays if device_of(a) != "cpu")), function.__name__)
