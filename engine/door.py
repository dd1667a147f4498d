"""The door: what operations, backward and copy_ accept, and whether shapes and dtypes go together. The mathematics is bare."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..reference.op import Op

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
    raise TypeError(f"{op}: got a {type(x).__name__}, but it takes Tensors, NumPy arrays and Python numbers")


def cotangent(y: np.ndarray, dy: Any) -> np.ndarray:
    """What backward starts from: `dy` (an array, a number or None) if it fits y; ones where y is one number and dy None."""
    if dy is None:
        if y.size != 1:
            raise ValueError(
                f"backward: y has shape {y.shape}; give a cotangent of that shape, or reduce y to one number"
            )
        return np.ones(y.shape, y.dtype)
    if not isinstance(dy, np.ndarray):
        dy = np.asarray(dy, y.dtype)
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
        kinds = [(a.shape, a.dtype) if type(a) is np.ndarray else type(a) for a in arrays]
        key = (op, *kinds, *params.items()) if params else (op, *kinds)
        if key in _validated:
            return
    except TypeError:  # a parameter that has no hash: a slice, before Python 3.12
        key = None
    op.validate(*arrays, **params)
    differentiable = op.differentiable * len(arrays) if op.variadic else op.differentiable
    dtypes = {a.dtype for a, d in zip(arrays, differentiable, strict=False) if d and isinstance(a, np.ndarray)}
    if len(dtypes) > 1:
        names = " and ".join(sorted(dtype.name for dtype in dtypes))
        raise TypeError(
            f"{op.name}: got {names} together; handgrad casts nothing silently, so use x.astype(...) on one"
        )
    if key is not None:
        if len(_validated) > 20_000:
            _validated.clear()
        _validated.add(key)
