"""The same numbers in other memory: what a formula or a kernel must not notice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def permuted(a: np.ndarray) -> np.ndarray:
    """The axes lie in memory in the opposite order (Fortran's)."""
    return np.array(a.T, order="C").T


def sliced(a: np.ndarray) -> np.ndarray:
    """Every second entry of a larger array along every axis; what lies between is NaN (or the opposite, for ids)."""
    if a.ndim == 0:
        return a
    filler = np.nan if a.dtype.kind == "f" else (np.logical_not(a.flat[0]) if a.dtype.kind == "b" and a.size else 0)
    wide = np.full(tuple(2 * n + 1 for n in a.shape), filler, a.dtype)
    view = wide[tuple(slice(1, 2 * n, 2) for n in a.shape)]
    view[...] = a
    return view


def reversed_(a: np.ndarray) -> np.ndarray:
    """Negative strides along every axis."""
    if a.ndim == 0:
        return a
    flip = (slice(None, None, -1),) * a.ndim
    return np.array(a[flip], order="C")[flip]


def unaligned(a: np.ndarray) -> np.ndarray:
    """Starts one byte after an address that the machine likes."""
    memory = np.zeros(a.nbytes + 1, np.uint8)
    view = np.ndarray(a.shape, a.dtype, buffer=memory.data, offset=1)
    view[...] = a
    return view


def stretched(a: np.ndarray) -> np.ndarray:
    """The first entry of the last axis everywhere along it, with stride zero (other numbers than before)."""
    if a.ndim == 0 or a.size == 0:
        return a
    return np.broadcast_to(a[..., :1], a.shape)


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "permuted strides": permuted,
    "sliced strides": sliced,
    "negative strides": reversed_,
    "unaligned memory": unaligned,
    "zero strides": stretched,
}
