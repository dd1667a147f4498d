"""One call for both machines: a kernel of a `.cu` beside its launcher, on CuPy arrays by the GPU, on NumPy arrays by on_cpu.

CuPy ignores strides when it passes an array to a kernel and takes a Python integer for an int64; both are refused here, on
either machine. CuPy compiles with -ftz=true: on a GPU, float32 numbers below 1.2e-38 are taken as zero.
"""

from collections.abc import Sequence
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from .on_cpu.kernel import SHARED_WITHOUT_ASKING
from .on_cpu.kernel import Kernel as OnCpu


@cache
def on_cpu(path: Path, name: str) -> OnCpu:
    """The kernel for NumPy arrays, compiled once."""
    return OnCpu(path, name)


class Kernel:
    """The kernel `name` of the `.cu` that has the stem of `file` (a launcher passes its own __file__)."""

    def __init__(self, file: str, name: str) -> None:
        self.path, self.name = Path(file).with_suffix(".cu"), name

    def __repr__(self) -> str:
        return f"Kernel({str(self.path)!r}, {self.name!r})"

    @cached_property
    def _on_gpu(self) -> Any:
        cupy: Any = import_module("cupy")
        options = ("--std=c++17", f"-I{self.path.parent}")
        return cupy.RawModule(code=self.path.read_text(encoding="utf-8"), options=options).get_function(self.name)

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], *, shared_mem: int = 0) -> None:
        """Runs on the machine where the arrays are. Raises ValueError for arrays that a kernel would misread."""
        if any(isinstance(a, np.ndarray) for a in args):
            kernel = on_cpu(self.path, self.name)
            if shared_mem > SHARED_WITHOUT_ASKING:
                kernel.max_dynamic_shared_size_bytes = shared_mem
            kernel(grid, block, args, shared_mem=shared_mem)
        else:
            self.on_gpu(grid, block, args, shared_mem)

    def on_gpu(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], shared_mem: int) -> None:
        """Runs on arrays of CuPy."""
        for k, a in enumerate(args):
            if not isinstance(a, np.generic) and not a.flags.c_contiguous:
                raise ValueError(
                    f"{self.name}: argument {k} has strides {a.strides}, but a kernel sees memory as C-contiguous"
                )
        if shared_mem > SHARED_WITHOUT_ASKING:
            self._on_gpu.max_dynamic_shared_size_bytes = shared_mem
        self._on_gpu(tuple(grid), tuple(block), tuple(args), shared_mem=shared_mem)


def namespace(array: Any) -> Any:
    """NumPy, or CuPy for its arrays."""
    if isinstance(array, (np.ndarray, np.generic)):
        return np
    return import_module("cupy")


def laid(array: Any) -> Any:
    """The array as a kernel sees memory: C-contiguous; itself if it is that already."""
    return namespace(array).ascontiguousarray(array)


def empty(shape: Sequence[int], like: Any, dtype: Any = None) -> Any:
    """Room for a result on the machine of `like`. On the CPU it is full of NaN, so that what is never written shows."""
    dtype = like.dtype if dtype is None else dtype
    if namespace(like) is np:
        return np.full(shape, np.nan, dtype)
    return namespace(like).empty(shape, dtype)


def blocks(work: int, each: int) -> int:
    """How many blocks of `each` cover `work`."""
    return -(-work // each)


def multiprocessors(like: Any) -> int:
    """How many blocks that stay find room on the GPU of `like`. On the CPU few, so that each has several things to do."""
    return 2 if namespace(like) is np else int(like.device.attributes["MultiProcessorCount"])
