"""What every kernel test shares: frozen inputs, inputs without data, and one check of the whole contract of a pair."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest


@dataclass(frozen=True)
class Spec:
    """What a vjp gets for an input that its row does not read: everything but the data."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


def freeze(array: np.ndarray) -> np.ndarray:
    """The array as the engine hands it in: read-only (so that Numba compiles the version that production uses)."""
    array = np.asarray(array)
    array.flags.writeable = False
    return array


def close(got: Any, want: Any, dtype: Any, length: float, what: str = "") -> None:
    """got has the dtype and shape, the same NaN and infinities as want, and errors within 2 eps length (1 + max
    |want|).
    """
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == dtype, f"{what}: dtype {got.dtype}, not {dtype}"
    assert got.shape == want.shape, f"{what}: shape {got.shape}, not {want.shape}"
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want), err_msg=f"{what}: where NaN is")
    finite = np.isfinite(want)
    np.testing.assert_array_equal(np.isfinite(got), finite, err_msg=f"{what}: where it is finite")
    infinite = np.isinf(want)
    np.testing.assert_array_equal(got[infinite], want[infinite].astype(got.dtype), err_msg=f"{what}: infinities")
    if finite.any():
        bound = 2 * np.finfo(dtype).eps * length * (1 + np.abs(want[finite]).max())
        error = np.abs(got[finite].astype(np.float64) - want[finite].astype(np.float64)).max()
        assert error <= bound, f"{what}: error {error:.3g}, bound {bound:.3g}"


def check(
    module: Any,
    arrays: tuple,
    oracle: Callable[..., tuple],
    *,
    reads: str,
    inputs: str,
    length: float,
    rng: np.random.Generator,
    **params: Any,
) -> tuple:
    """Forward and vjp of a pair against the oracle, and every law of the contract. Returns (y, gradients).

    oracle(dy, *arrays, **params) -> (y, gradients) in float64; inputs, reads: names as in the row.
    """
    names, read = inputs.split(), reads.split()
    arrays = tuple(freeze(a) for a in arrays)
    dtype = arrays[0].dtype
    assert module.accepts(*arrays, **params)
    y, residuals = module.forward(*arrays, **params)
    dy = rng.standard_normal(y.shape).astype(dtype)
    exact = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    want_y, want = oracle(dy.astype(np.float64), *exact, **params)
    close(y, want_y, dtype, length, "y")
    y = freeze(y)

    handed = [a if n in read else Spec(a.shape, a.dtype) for n, a in zip(names, arrays, strict=False)]
    handed_y = y if "y" in read else Spec(y.shape, y.dtype)

    def vjp(dy: np.ndarray, wanted: tuple, into: tuple) -> tuple:
        return module.vjp(dy, handed_y, *handed, residuals=residuals, wanted=wanted, into=into, **params)

    wanted = tuple(w is not None for w in want)
    nothing = (None,) * len(arrays)
    gradients = vjp(freeze(dy), wanted, nothing)
    assert len(gradients) == len(arrays)
    for name, got, exact_gradient in zip(names, gradients, want, strict=False):
        if exact_gradient is None:
            assert got is None
        else:
            close(got, exact_gradient, dtype, length, f"d{name}")

    before = [None if g is None else g.copy() for g in gradients]
    spread = np.empty((*dy.shape, 2), dtype)[..., 0]
    if dy.ndim:
        spread[...] = dy
    else:
        spread = dy
    again = vjp(freeze(spread), wanted, nothing)  # strided cotangent, retained graph
    for first, second in zip(before, again, strict=True):
        assert (first is None) == (second is None)
        if first is not None:
            np.testing.assert_array_equal(first, second)

    for i in range(len(arrays)):
        if not wanted[i]:
            continue
        only = tuple(j == i for j in range(len(arrays)))
        alone = vjp(freeze(dy), only, nothing)
        assert all((g is not None) == o for g, o in zip(alone, only, strict=True))
        close(alone[i], want[i], dtype, length, f"d{names[i]} alone")
        for add in (False, True):
            start = rng.standard_normal(arrays[i].shape).astype(dtype)
            buffer = start.copy()
            if not add:
                buffer.fill(np.nan)
            offers = tuple((buffer, add) if j == i else None for j in range(len(arrays)))
            result = vjp(freeze(dy), wanted, offers)[i]
            if result is buffer:
                close(buffer, want[i] + (start if add else 0), dtype, length, f"d{names[i]} into, add={add}")
            else:
                close(result, want[i], dtype, length, f"d{names[i]} beside the buffer")
                np.testing.assert_array_equal(buffer, start if add else np.full_like(start, np.nan))
        strided = np.zeros((*arrays[i].shape, 2), dtype)[..., 0]
        offers = tuple((strided, False) if j == i else None for j in range(len(arrays)))
        result = vjp(freeze(dy), wanted, offers)[i]
        close(result, want[i], dtype, length, f"d{names[i]} with a strided buffer")

    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        y_1, residuals = module.forward(*arrays, **params)
        gradients_1 = vjp(freeze(dy), wanted, nothing)
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(y, y_1)
    for many, one in zip(before, gradients_1, strict=True):
        if many is not None:
            np.testing.assert_array_equal(many, one)
    return y, gradients


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260729)


@pytest.fixture
def kit() -> SimpleNamespace:
    return SimpleNamespace(freeze=freeze, close=close, check=check, Spec=Spec)
