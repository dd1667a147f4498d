"""A kernel of a `.cu`, run on a GPU. The call has the shape of cupy.RawKernel's, and says in a sentence what CuPy lets pass.

CuPy ignores strides when it passes an array to a kernel, takes a Python integer for an int64, and looks at no type at all:
a kernel would read the bits of a float64 as two float32. All of that is refused here.
"""

from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .compiler import compiled, nvrtc
from .device import architecture, cupy
from .on_cpu.kernel import SHARED_WITHOUT_ASKING
from .on_cpu.tensor_map import TensorMap
from .signatures import signatures
from .tensor_maps import encoded

TYPES = {
    "float": "float32", "double": "float64", "__half": "float16", "__nv_bfloat16": "bfloat16", "bool": "bool",
    "signed char": "int8", "unsigned char": "uint8", "short": "int16", "unsigned short": "uint16", "int": "int32",
    "unsigned": "uint32", "unsigned int": "uint32", "long long": "int64", "unsigned long long": "uint64", "size_t": "uint64",
    **{f"{sign}int{bits}_t": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip
"""What a parameter's type is called in NumPy; a type that is not here (float4, a struct) is not checked."""


@cache
def _function(path: Path, name: str, device: int) -> Any:
    """The kernel, compiled for that GPU and loaded. Raises OSError or CompileError with a sentence."""
    target = architecture(device)
    known, made_by = cupy().cuda.runtime.driverGetVersion() // 1000, nvrtc().version[0]
    if made_by > known:
        raise OSError(
            f"the driver is of CUDA {known} and cannot load what NVRTC {made_by} makes: update the driver, or install "
            f"NVRTC {known} (nvidia-cuda-nvrtc, nvidia-cuda-runtime and cuda-bindings of that version)"
        )
    return cupy().RawModule(path=str(compiled(path, target))).get_function(name)


class Kernel:
    """One `__global__` function of a `.cu` file. It is compiled at the first launch, or read from the cache."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name

    def __repr__(self) -> str:
        return f"Kernel({str(self.path)!r}, {self.name!r})"

    @cached_property
    def parameters(self) -> list[tuple[str, str]]:
        """(type, name) of each, as the source has them."""
        return signatures(self.path.read_text(encoding="utf-8"))[self.name]

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], *, shared_mem: int = 0) -> None:
        """Starts the kernel on the GPU of its arrays. Raises TypeError or ValueError for arguments that it would misread."""
        if len(args) != len(self.parameters):
            wanted = ", ".join(" ".join(parameter) for parameter in self.parameters)
            raise TypeError(f"{self.name} takes {len(self.parameters)} arguments ({wanted}), but got {len(args)}")
        first: tuple[str, Any] | None = None
        for (wanted, called), given in zip(self.parameters, args, strict=True):
            self._check(wanted, called, given)
            if wanted.endswith("*") or isinstance(given, TensorMap):
                given = given.array if isinstance(given, TensorMap) else given
                first = first or (called, given)
                if given.device.id != first[1].device.id:
                    raise ValueError(
                        f"{self.name}: {called} lies on GPU {given.device.id}, but {first[0]} on GPU {first[1].device.id}: "
                        "bring all arrays to one GPU"
                    )
        if first is None:
            raise TypeError(f"{self.name} was given no array, so nothing says which GPU runs it")
        with first[1].device:
            function = _function(self.path, self.name, first[1].device.id)
            if shared_mem > SHARED_WITHOUT_ASKING:
                function.max_dynamic_shared_size_bytes = shared_mem
            given = tuple(encoded(a) if isinstance(a, TensorMap) else a for a in args)
            function(tuple(grid), tuple(block), given, shared_mem=shared_mem)

    def _check(self, wanted: str, called: str, given: Any) -> None:
        if (wanted.removeprefix("const ") == "TensorMap") is not isinstance(given, TensorMap):
            raise TypeError(f"{self.name}: {called} is a {type(given).__name__}, but the kernel wants {wanted}")
        if isinstance(given, TensorMap):
            return
        what, dtype = f"{self.name}: {called}", TYPES.get(wanted.removeprefix("const ").removesuffix("*"))
        if not wanted.endswith("*"):
            if dtype and (not isinstance(given, np.generic) or given.dtype.name != dtype):
                got = given.dtype.name if hasattr(given, "dtype") else f"a Python {type(given).__name__}"
                raise TypeError(f"{what} is {got}, but the kernel wants {wanted}: pass np.{dtype}(...)")
            return
        if not isinstance(given, cupy().ndarray):
            raise TypeError(f"{what} is a {type(given).__name__}, but the kernel wants {wanted}: pass an array of CuPy")
        if dtype and given.dtype.name != dtype:
            raise TypeError(f"{what} is an array of {given.dtype.name}, but the kernel wants {wanted}")
        if not given.flags.c_contiguous:
            raise ValueError(
                f"{what} has strides {given.strides}, but a kernel sees memory as C-contiguous: copy it first"
            )
