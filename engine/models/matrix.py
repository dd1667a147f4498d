"""A weight matrix of a model that is only read, in float32 or in fewer bits: half the bytes are half the time a token.

The rounding and its error bounds: reference/quantization.py; the products: kernels/cpu/quantization.py and matvec.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...reference import table as t
from ...reference.quantization import bfloat16_bits, dequantize, from_bfloat16_bits, quantize
from ..device import device_of, moved
from ..errors import UserError
from ..kernel_table import announce_compilation, on_arrays
from ..tensor import KERNELS

FORMS = ("float32", "bfloat16", "float16", "int8")
"""What the weights of a reader may be stored as; None: as they are."""

_ROWS = 1 << 10  # of the matrix at a time, so that rounding it needs no second copy


def check_form(form: str | None) -> None:
    """UserError unless it is one of FORMS, or None."""
    if form is not None and form not in FORMS:
        raise UserError(f"generate: weights is {form!r}, but it must be one of {', '.join(FORMS)}")


class Matrix:
    """A weight (out, in) as `form` says. Where that is None or the weight's own dtype, its memory is shared."""

    def __init__(self, weight: np.ndarray, form: str | None = None) -> None:
        self.scale: np.ndarray | None = None  # (out,), of int8
        if form not in (None, weight.dtype.name) and device_of(weight) != "cpu":
            raise UserError(f"generate: weights is {form!r}, but a model on {device_of(weight)} reads its own as they are")
        if form in (None, weight.dtype.name):
            self.array = weight
        elif form == "int8":
            self.array, self.scale = np.empty(weight.shape, np.int8), np.empty(len(weight), np.float32)
            for rows in _blocks(len(weight)):
                self.array[rows], self.scale[rows] = quantize(weight[rows].astype(np.float32))
        elif form == "bfloat16":
            self.array = _rounded(weight, np.uint16, bfloat16_bits)
        else:
            self.array = _rounded(weight, np.dtype(form), lambda block: block)
            if form == "float16" and not (np.isfinite(self.array) | ~np.isfinite(weight)).all():
                raise UserError(
                    f"generate: weights is 'float16', but one of them is {np.nanmax(np.abs(weight)):.3g}, and the largest "
                    "float16 65504; bfloat16 reaches further"
                )
        self.plain = self.array.dtype in (np.float32, np.float64)

    @property
    def nbytes(self) -> int:
        """Bytes that a product reads."""
        return self.array.nbytes + (0 if self.scale is None else self.scale.nbytes)

    def linear(self, x: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        """x W^T + bias: (T, in) -> (T, out)."""
        if not self.plain and KERNELS:
            return _kernels().linear(x, self.array, self.scale, bias)
        arguments = (x, self._widened(self.array, self.scale))
        return on_arrays(t.LINEAR, *arguments, *(() if bias is None else (bias,)), transposed=True)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Rows of the matrix: ids (T) -> (T, in), in the dtype in which products are."""
        ids = moved(ids, device_of(self.array))
        return self._widened(self.array[ids], None if self.scale is None else self.scale[ids])

    def _widened(self, array: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
        if self.plain:
            return array
        if scale is not None:
            return dequantize(array, scale)
        return from_bfloat16_bits(array) if array.dtype == np.uint16 else array.astype(np.float32)


def _blocks(rows: int) -> list[slice]:
    return [slice(first, first + _ROWS) for first in range(0, rows, _ROWS)]


def _rounded(weight: np.ndarray, dtype: Any, bits: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """bits(weight as float32) as an array of dtype."""
    found = np.empty(weight.shape, dtype)
    with np.errstate(over="ignore"):
        for rows in _blocks(len(weight)):
            found[rows] = bits(weight[rows].astype(np.float32))
    return found


def _kernels() -> Any:
    """kernels/cpu/quantization.py, which is loaded for the first product."""
    announce_compilation()
    from ...kernels.cpu import quantization

    return quantization
