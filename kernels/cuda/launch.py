"""One call for both machines: a kernel of a `.cu` beside its launcher, on CuPy arrays by the GPU, on NumPy arrays by on_cpu."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .device import cupy
from .on_cpu.kernel import SHARED_WITHOUT_ASKING
from .on_cpu.kernel import Kernel as OnCpu
from .on_gpu import Kernel as OnGpu


@cache
def on_cpu(path: Path, name: str) -> OnCpu:
    """The kernel for NumPy arrays, compiled once."""
    return OnCpu(path, name)


@cache
def _on_gpu(path: Path, name: str) -> OnGpu:
    """The kernel for CuPy arrays."""
    return OnGpu(path, name)


class Kernel:
    """The kernel `name` of the `.cu` that has the stem of `file` (a launcher passes its own __file__)."""

    def __init__(self, file: str, name: str) -> None:
        self.path, self.name = Path(file).with_suffix(".cu"), name

    def __repr__(self) -> str:
        return f"Kernel({str(self.path)!r}, {self.name!r})"

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], *, shared_mem: int = 0) -> None:
        """Runs on the machine where the arrays are. Raises TypeError or ValueError for what a kernel would misread, OSError
        where a compiler, a driver or a GPU is missing.
        """
        here = [k for k, a in enumerate(args) if isinstance(a, np.ndarray)]
        there = [k for k, a in enumerate(args) if on_a_gpu(a)]
        if here and there:
            raise ValueError(
                f"{self.name}: argument {here[0]} lies on the CPU, but argument {there[0]} on a GPU: bring all arrays to one "
                "of them (cupy.asarray, cupy.asnumpy)"
            )
        if there:
            self.on_gpu(grid, block, args, shared_mem)
            return
        kernel = on_cpu(self.path, self.name)
        if shared_mem > SHARED_WITHOUT_ASKING:
            kernel.max_dynamic_shared_size_bytes = shared_mem
        kernel(grid, block, args, shared_mem=shared_mem)

    def on_gpu(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], shared_mem: int) -> None:
        """Runs on arrays of CuPy."""
        _on_gpu(self.path, self.name)(grid, block, args, shared_mem=shared_mem)


def on_a_gpu(array: Any) -> bool:
    """Whether it is an array of CuPy, or of another library for GPUs."""
    return hasattr(type(array), "__cuda_array_interface__")


def namespace(array: Any) -> Any:
    """NumPy, or CuPy for its arrays. Raises TypeError for anything else."""
    if isinstance(array, (np.ndarray, np.generic)):
        return np
    if not on_a_gpu(array):
        raise TypeError(f"kernels take arrays of NumPy or CuPy, but got a {type(array).__name__}")
    return cupy()


def aligned(*arrays: Any) -> bool:
    """Whether all begin at a multiple of 16 bytes, where a float4 may be read. A slice of an array need not."""
    return all((a.ctypes.data if isinstance(a, np.ndarray) else a.data.ptr) % 16 == 0 for a in arrays)


def laid(array: Any) -> Any:
    """The array as a kernel sees memory: C-contiguous, from a multiple of 16 bytes on; itself if it is that already."""
    contiguous = _made(lambda: namespace(array).ascontiguousarray(array), array.shape, array)
    return contiguous if aligned(contiguous) else _made(contiguous.copy, array.shape, array)


def empty(shape: Sequence[int], like: Any, dtype: Any = None) -> Any:
    """Room for a result on the machine of `like`. On the CPU it is full of NaN, so that what is never written shows."""
    dtype = like.dtype if dtype is None else dtype
    if namespace(like) is np:
        return np.full(shape, np.nan, dtype)
    return _made(lambda: namespace(like).empty(shape, dtype), shape, like)


def zeros(shape: Sequence[int], like: Any) -> Any:
    """Zeros on the machine of `like`, in its type."""
    return _made(lambda: namespace(like).zeros(shape, like.dtype), shape, like)


def _made(make: Callable[[], Any], shape: Sequence[int], like: Any) -> Any:
    """What `make` returns, on the GPU of `like`. Raises MemoryError with a sentence where that has no room for it."""
    if namespace(like) is np:
        return make()
    try:
        with like.device:
            return make()
    except MemoryError as error:
        free, total = (n / 1e9 for n in namespace(like).cuda.runtime.memGetInfo())
        raise MemoryError(
            f"the GPU has no room for an array of shape {tuple(shape)}: {free:.2f} of its {total:.2f} GB are free; take a "
            "smaller batch, or let go of arrays that are no longer needed"
        ) from error


def blocks(work: int, each: int) -> int:
    """How many blocks of `each` cover `work`."""
    return -(-work // each)


def multiprocessors(like: Any) -> int:
    """How many blocks that stay find room on the GPU of `like`. On the CPU few, so that each has several things to do."""
    return 2 if namespace(like) is np else int(like.device.attributes["MultiProcessorCount"])


def hopper(array: Any) -> bool:
    """Whether a kernel for sm_90a runs where the array is: on a GPU of that kind, and on the CPU, which knows it too."""
    return not on_a_gpu(array) or str(array.device.compute_capability) == "90"
