"""The door: what operations, backward and copy_ accept, and whether shapes and dtypes go together. The mathematics is bare."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..reference.op import Op
from .device import ARRAYS, cupy, device_of, is_array, library, moved, together

SCALARS = frozenset((float, int, bool, type(None)))
_validated: set[Any] = set()


def operand(op: str, x: Any) -> Any:
    """NumPy scalars and 0-d arrays as Python numbers (weak: they never promote), arrays as read-only views."""
    if type(x) in SCALARS:
        return x
    if isinstance(x, np.generic) or (isinstance(x, np.ndarray) and x.ndim == 0):
        return x.item()  # float64(2) * float32 stays float32
    if isinstance(x, np.ndarray):
        view = np.asarray(x).view()  # of a subclass (np.memmap, np.matrix) as the plain array that it holds
        view.setflags(write=False)
        return view
    if is_array(x):
        return x
    raise TypeError(f"{op}: got a {type(x).__name__}, but it takes Tensors, NumPy arrays and Python numbers")


def taken(data: Any, dtype: Any, copy: bool) -> Any:
    """The array of a new Tensor: on the device where `data` is, read-only where NumPy holds it.

    Python floats become float32. TypeError for what is neither floating point nor integer nor boolean.
    """
    if is_array(data) and not isinstance(data, np.ndarray):
        array = cupy().array(data, dtype=dtype, order="C", copy=copy or None)  # None: only where it must
    else:
        given = isinstance(data, (np.ndarray, np.generic))
        array = np.array(data, dtype=dtype, order="C") if copy or not given else np.asarray(data, dtype=dtype).view()
        if dtype is None and not given and array.dtype == np.float64:
            array = array.astype(np.float32)
        array.setflags(write=False)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"Tensor: data of dtype {array.dtype} is neither floating point nor integer nor boolean")
    return array


def written(leaf: Any, values: Any) -> None:
    """Overwrites the numbers of a leaf with an array of its shape, from either device, and counts up its version."""
    version = unlock(leaf)
    try:
        library(leaf.data).copyto(leaf.data, moved(values, device_of(leaf.data)), casting="same_kind")
    finally:
        lock(leaf.data)
    version[0] += 1


def room(leaf: Any) -> Any:
    """Where a leaf's first gradient may lie: where its optimizer wants it, or in memory of its own."""
    return library(leaf.data).empty(leaf.shape, leaf.dtype) if leaf.grad_home is None else leaf.grad_home


def lock(array: Any) -> Any:
    """Makes a NumPy array read-only; CuPy's cannot be."""
    if type(array) is np.ndarray:
        array.setflags(write=False)
    return array


def cotangent(y: Any, dy: Any) -> Any:
    """What backward starts from: `dy` (an array, a number or None) if it fits y; ones where y is one number and dy None."""
    if dy is None:
        if y.size != 1:
            raise ValueError(
                f"backward: y has shape {y.shape}; give a cotangent of that shape, or reduce y to one number"
            )
        return library(y).ones(y.shape, y.dtype)
    if type(dy) is not np.ndarray or type(y) is not np.ndarray:
        dy = dy if is_array(dy) else library(y).asarray(dy, y.dtype)
        together("backward", ("y", "the cotangent"), (y, dy))
    if dy.shape != y.shape:
        raise ValueError(f"backward: the cotangent has shape {dy.shape}, but y has shape {y.shape}")
    if dy.dtype != y.dtype:
        raise TypeError(f"backward: the cotangent is {dy.dtype.name}, but y is {y.dtype.name}; cast it with astype")
    return dy


def unlock(leaf: Any) -> list[int]:
    """Makes the array of a Tensor writable for a moment and returns its version, to be counted up afterwards.

    RuntimeError where the array is a result's or somebody else's: then others read it who would not notice.
    """
    try:
        if leaf.node is None and leaf.version is not None:
            if type(leaf.data) is np.ndarray:
                leaf.data.setflags(write=True)
            return leaf.version
    except ValueError:  # NumPy: it is a view of what is read-only
        pass
    raise RuntimeError(
        "copy_: this Tensor is the result of an operation or a view; only one that you made can be written"
    )


def validate(op: Op, arrays: list[Any], params: dict[str, Any]) -> None:
    """Shapes and dtypes, checked once for each combination: one sentence where they do not fit."""
    key: Any
    try:
        kinds = [
            (a.shape, a.dtype) if type(a) is np.ndarray else type(a) if type(a) in SCALARS else (type(a), a.shape, a.dtype)
            for a in arrays
        ]
        key = (op, *kinds, *params.items()) if params else (op, *kinds)
        if key in _validated:
            return
    except TypeError:  # a parameter that has no hash: a slice, before Python 3.12
        key = None
    together(op.name, op.inputs, arrays)
    op.validate(*arrays, **params)
    differentiable = op.differentiable * len(arrays) if op.variadic else op.differentiable
    dtypes = {a.dtype for a, d in zip(arrays, differentiable, strict=False) if d and type(a) in ARRAYS}
    if len(dtypes) > 1:
        names = " and ".join(sorted(dtype.name for dtype in dtypes))
        raise TypeError(
            f"{op.name}: got {names} together; handgrad casts nothing silently, so use x.astype(...) on one"
        )
    if key is not None:
        if len(_validated) > 20_000:
            _validated.clear()
        _validated.add(key)
