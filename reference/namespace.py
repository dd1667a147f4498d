"""Which library an array belongs to, and the few helpers that every formula shares.

A formula is written once, in functions of the Python array API standard (data-apis.org/array-api, 2024.12):
`xp = array_namespace(x)`, then only what the standard has. So the same lines run on NumPy (float64 and longdouble: the
oracle for every kernel), CuPy, PyTorch, and on the engine's own Tensors, where running a vjp IS the differentiable
backward pass.
"""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np

Array = Any  # whatever speaks the array API standard

# NumPy 2 speaks the standard itself. A dictionary look-up costs 0.1 us, the library's general one 2 us.
_NAMESPACES: dict[type, Any] = dict.fromkeys((np.ndarray, *np.sctypeDict.values()), np)


def array_namespace(x: Array) -> Any:
    """The array API namespace of `x`: `numpy`, the engine's (for a Tensor), PyTorch's ..."""
    try:
        return _NAMESPACES[type(x)]
    except KeyError:
        pass
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__()
    xp = _NAMESPACES[type(x)] = array_api_compat.array_namespace(x)
    return xp


def namespace_of(*xs: Array) -> Any:
    """The namespace of the first array among `xs`; Python scalars have none."""
    for x in xs:
        if type(x) not in (float, int, bool):
            return array_namespace(x)
    raise TypeError("every argument is a Python scalar: at least one array is needed")


def swap(x: Array) -> Array:
    """Transpose of the last two axes: (..., m, n) -> (..., n, m)."""
    return array_namespace(x).matrix_transpose(x)


def unbroadcast(dy: Array, shape: tuple[int, ...]) -> Array:
    """The transpose of `broadcast_to`: sums `dy` over the axes along which an array of `shape` was stretched.

    Broadcasting reads one number in many places, so by the chain rule its cotangent is the sum over those places.
    """
    if dy.shape == shape:
        return dy
    lead = dy.ndim - len(shape)
    stretched = tuple(i for i in range(dy.ndim) if i < lead or (shape[i - lead] == 1 and dy.shape[i] != 1))
    xp = array_namespace(dy)
    if stretched:
        dy = xp.sum(dy, axis=stretched, keepdims=True)
    return xp.reshape(dy, shape)


def lines(x: Array) -> Array:
    """All leading axes as one: (..., n) -> (R, n). Spelled out, because reshape(-1) cannot guess with a zero size."""
    rows = 1
    for n in x.shape[:-1]:
        rows *= n
    return array_namespace(x).reshape(x, (rows, x.shape[-1]))
