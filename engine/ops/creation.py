"""Tensors from nothing: leaves, as the constructor makes them. Python's numbers become float32 and int64, as there."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..device import checked_device, cupy, device_of, is_array
from ..tensor import Tensor
from .elementwise import astype

DLPACK_CUDA = 2  # kDLCUDA of dlpack.h


class Creation:
    """The creation functions of the array API standard; on the Tensor's device in the `..._like` ones, else on `device`."""

    device: str

    def arange(
        self, start: float, /, stop: float | None = None, step: float = 1, *, dtype: Any = None, device: Any = None
    ) -> Tensor:
        """start, start + step, ... as far as stop, which is left out; from 0 as far as start where stop is None."""
        if step == 0:
            raise ValueError("arange: step is 0, but it must lead from start to stop")
        if stop is None:
            start, stop = 0, start
        return self._new(self._on(device).arange(start, stop, step, dtype=dtype), dtype)

    def asarray(self, obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Tensor:
        """A Tensor of the given numbers: `obj` itself where it is one of that dtype and copy is not True."""
        if device is None:
            device = obj.device if isinstance(obj, Tensor) else self.device
            if device == "cpu" and is_array(obj):
                device = device_of(obj)
        checked_device("asarray", device)
        if isinstance(obj, Tensor) and obj.device != device and copy is not False:
            obj, copy = obj.to(device), None
        if isinstance(obj, Tensor) and not copy:
            if dtype is None or obj.dtype == dtype:
                return obj
            if copy is False:
                raise ValueError(
                    f"asarray: copy is False, but {obj.dtype.name} becomes {np.dtype(dtype).name} only by a copy"
                )
            return astype(obj, dtype)
        return Tensor(obj, dtype=dtype, copy=copy is not False).to(device)

    def empty(self, shape: int | tuple[int, ...], *, dtype: Any = None, device: Any = None) -> Tensor:
        """An array of `shape` with whatever numbers the memory held."""
        return self._new(self._on(device).empty(shape, dtype=dtype), dtype)

    def empty_like(self, x: Any, /, *, dtype: Any = None, device: Any = None) -> Tensor:
        """`empty` in the shape, and if none is given the dtype, of x."""
        return self._new(self._on(device, x).empty(x.shape, dtype=dtype or x.dtype), x.dtype)

    def eye(
        self, n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None
    ) -> Tensor:
        """Ones on diagonal k, zeros elsewhere."""
        return self._new(self._on(device).eye(n_rows, n_cols, k=k, dtype=dtype), dtype)

    def from_dlpack(self, x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
        """A Tensor that shares the memory of another library's array, unless copy is True."""
        xp = np if device == "cpu" or x.__dlpack_device__()[0] != DLPACK_CUDA else cupy()
        return Tensor(xp.from_dlpack(x, device=device, copy=copy), copy=False)

    def full(self, shape: int | tuple[int, ...], fill_value: float, *, dtype: Any = None, device: Any = None) -> Tensor:
        """An array of `shape` that holds one number everywhere."""
        return self._new(self._on(device).full(shape, fill_value, dtype=dtype), dtype)

    def full_like(self, x: Any, /, fill_value: float, *, dtype: Any = None, device: Any = None) -> Tensor:
        """`full` in the shape, and if none is given the dtype, of x."""
        return self._new(self._on(device, x).full(x.shape, fill_value, dtype=dtype or x.dtype), x.dtype)

    def linspace(
        self, start: float, stop: float, /, num: int, *, dtype: Any = None, device: Any = None, endpoint: bool = True
    ) -> Tensor:
        """`num` numbers at equal distances from start to stop, which is one of them if `endpoint`."""
        return self._new(self._on(device).linspace(start, stop, num, dtype=dtype, endpoint=endpoint), dtype)

    def ones(self, shape: int | tuple[int, ...], *, dtype: Any = None, device: Any = None) -> Tensor:
        """An array of `shape` that holds 1 everywhere."""
        return self._new(self._on(device).ones(shape, dtype=dtype), dtype)

    def ones_like(self, x: Any, /, *, dtype: Any = None, device: Any = None) -> Tensor:
        """`ones` in the shape, and if none is given the dtype, of x."""
        return self.full_like(x, 1, dtype=dtype, device=device)

    def zeros(self, shape: int | tuple[int, ...], *, dtype: Any = None, device: Any = None) -> Tensor:
        """An array of `shape` that holds 0 everywhere."""
        return self._new(self._on(device).zeros(shape, dtype=dtype), dtype)

    def zeros_like(self, x: Any, /, *, dtype: Any = None, device: Any = None) -> Tensor:
        """`zeros` in the shape, and if none is given the dtype, of x."""
        return self._new(self._on(device, x).zeros(x.shape, dtype=dtype or x.dtype), x.dtype)

    def _on(self, device: Any, like: Any = None) -> Any:
        """The library that creates there; where nobody says, where `like` is, or on our own device."""
        if device is None:
            device = self.device if like is None else device_of(like.data if isinstance(like, Tensor) else like)
        return np if checked_device("Tensor", device) == "cpu" else cupy()

    def _new(self, array: Any, dtype: Any) -> Tensor:
        """A leaf around it, in the default dtype where nobody asked for one."""
        if dtype is None and array.dtype == np.float64:
            array = array.astype(np.float32)
        return Tensor(array, copy=False)
