"""Small things that every check shares: other libraries' arrays as NumPy's, random directions, honest differences."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from ..device import host, is_array
from ..tensor import Tensor

JITTERS = 5
"""How often inputs are rounded differently to see what that does: so often that not every time errors cancel by luck."""


def as_array(a: Any) -> np.ndarray:
    """Anything that holds numbers (a CuPy, PyTorch, JAX or handgrad array, a list, a number) as a NumPy array."""
    if isinstance(a, Tensor):
        a = a.data
    if is_array(a):
        return host(a)
    if hasattr(a, "detach"):
        a = a.detach()
    if hasattr(a, "cpu"):
        a = a.cpu()
    return np.asarray(a)


def is_float_type(dtype: Any) -> bool:
    """bfloat16 too, which NumPy knows as bytes without a meaning."""
    return np.dtype(dtype).kind == "f" or dtype == ml_dtypes.bfloat16


def eps_of(dtype: Any) -> float:
    """The distance from 1 to the next number of that type."""
    return float(ml_dtypes.finfo(dtype).eps)


def is_float(a: Any) -> bool:
    """Whether `a` is a floating point array: what a derivative can be taken by (a Python number is not)."""
    return isinstance(a, (np.ndarray, np.floating)) and is_float_type(a.dtype)


def cast(a: Any, dtype: Any) -> Any:
    """Floating point arrays in `dtype`; everything else (ids, masks, Python numbers, None) as it is."""
    return np.asarray(a).astype(dtype) if is_float(a) else a


def random_like(a: Any, rng: np.random.Generator) -> np.ndarray:
    """A random direction: every entry between 0.5 and 1.5 or their negatives, so that none is silent and none dominates.

    The numbers are float64 even where `a` is longdouble: the same point can then be visited in both precisions.
    """
    shape = np.shape(a)
    return rng.uniform(0.5, 1.5, shape) * rng.choice((-1.0, 1.0), shape)


def difference(got: Any, want: Any) -> np.ndarray:
    """|got - want| entry by entry; infinite where only one is finite, or where NaN and infinities are not the same.

    Finite masks are compared first, because NaN > tolerance is False and a plain comparison lets NaN pass.
    """
    got, want = as_array(got), as_array(want)
    if got.shape != want.shape:
        raise ValueError(f"the shapes {got.shape} and {want.shape} differ")
    wide = np.result_type(got.dtype, want.dtype, np.float64)
    with np.errstate(all="ignore"):
        error = np.abs(got.astype(wide) - want.astype(wide))
    same = (got == want) | ((got != got) & (want != want))
    finite = np.isfinite(got) & np.isfinite(want)
    return np.where(finite, error, np.where(same, np.zeros((), wide), np.inf))


def largest(*arrays: Any) -> float:
    """The largest finite magnitude among all entries; 0.0 where there is none."""
    best = 0.0
    for a in arrays:
        a = np.abs(as_array(a))
        best = max(best, float(np.max(a, initial=0.0, where=np.isfinite(a))))
    return best


def unseen(xs: Any) -> float:
    """The size of intermediate numbers that a function does not show: that of its inputs, but not above 1.

    (A gate that is nearly shut, 0.5 + 0.5 tanh(z), is as inexact as an open one, however small the result.)
    """
    return min(1.0, largest(*(x for x in xs if is_float(x))))


def inner(left: Any, right: Any) -> tuple[Any, Any]:
    """(sum_i <left_i, right_i>, the same sum of magnitudes) over pairs of arrays; None counts as zero."""
    total, size = np.longdouble(0), np.longdouble(0)
    for a, b in zip(left, right, strict=True):
        if a is None or b is None:
            continue
        product = np.asarray(a, np.longdouble) * np.asarray(b, np.longdouble)
        total, size = total + np.sum(product), size + np.sum(np.abs(product))
    return total, size


def jitter(a: Any, eps: float, rng: np.random.Generator) -> Any:
    """The array with every entry moved by half an `eps` of its own size, up or down: another rounding of the same data."""
    if not is_float(a):
        return a
    return a * (1 + np.asarray(eps, a.dtype) * rng.choice((-0.5, 0.5), np.shape(a)))
