"""What the launchers of sm_90a (Hopper) kernels share: how CuPy gets such a kernel, how the driver encodes a tensor map, and
products whose operands lie in memory as they are, transposed or not.
"""

import ctypes
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module, util
from pathlib import Path
from typing import Any

import numpy as np

from .launch import Kernel, blocks, empty, laid, multiprocessors
from .on_cpu.tensor_map import TensorMap

BFLOAT16_IN_A_MAP, SWIZZLE_128, PROMOTE_256 = 9, 3, 3
"""Numbers of the driver's enumerations (cuda.h): CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_SWIZZLE_128B,
CU_TENSOR_MAP_L2_PROMOTION_L2_256B. No interleaving and zeros beyond the edges are 0."""


class HopperKernel(Kernel):
    """A kernel that is compiled for sm_90a (CuPy alone would say sm_90) and may take tensor maps of bfloat16 matrices."""

    @cached_property
    def _on_gpu(self) -> Any:
        cupy: Any = import_module("cupy")
        nvrtc = cupy.cuda.nvrtc
        program = nvrtc.createProgram(self.path.read_text(encoding="utf-8"), self.path.name, (), ())
        options = ["-arch=sm_90a", "-std=c++17", f"-I{self.path.parent}", *(f"-I{folder}" for folder in _headers(cupy))]
        try:
            nvrtc.compileProgram(program, options)
        except nvrtc.NVRTCError as refused:
            raise RuntimeError(f"{self.path.name}: {nvrtc.getProgramLog(program)}") from refused
        self._folder = tempfile.TemporaryDirectory()  # as long as the kernel: CuPy reads it again for another device
        binary = Path(self._folder.name, f"{self.path.stem}.cubin")
        binary.write_bytes(nvrtc.getCUBIN(program))
        return cupy.RawModule(path=str(binary)).get_function(self.name)

    def on_gpu(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], shared_mem: int) -> None:
        given = [_encoded(a) if isinstance(a, TensorMap) else a for a in args]
        super().on_gpu(grid, block, given, shared_mem)


def _headers(cupy: Any) -> list[Path]:
    """Where cuda_bf16.h may lie: in the toolkit that CuPy found, or in the package of the CUDA runtime."""
    toolkit, package = cupy.cuda.get_cuda_path(), util.find_spec("nvidia")
    found = [Path(toolkit, "include")] if toolkit else []
    for place in package.submodule_search_locations if package and package.submodule_search_locations else []:
        found += [*Path(place).glob("cuda_runtime/include"), *Path(place).glob("cu1*/include")]
    return found


def _encoded(tensor_map: TensorMap) -> np.ndarray:
    """The driver's 128 bytes, as the one value that CuPy passes to a kernel.

    Raises TypeError for another type than bfloat16, RuntimeError where the driver refuses.
    """
    matrix = tensor_map.array
    if matrix.dtype.name != "bfloat16":
        raise TypeError(f"a tensor map is of bfloat16 on a GPU, but this matrix is of {matrix.dtype.name}")
    room = np.zeros(192, np.uint8)
    encoded = room[-room.ctypes.data % 64 :][:128].view(np.dtype((np.void, 128))).reshape(())  # at a multiple of 64
    rank = matrix.ndim
    error = ctypes.CDLL("libcuda.so.1").cuTensorMapEncodeTiled(
        ctypes.c_void_p(encoded.ctypes.data),
        BFLOAT16_IN_A_MAP,
        rank,
        ctypes.c_void_p(matrix.data.ptr),
        (ctypes.c_uint64 * rank)(*matrix.shape[::-1]),
        (ctypes.c_uint64 * rank)(*matrix.strides[-2::-1]),  # all but the first, which is one number
        (ctypes.c_uint32 * rank)(*tensor_map.box),
        (ctypes.c_uint32 * rank)(*(1,) * rank),
        0,
        SWIZZLE_128 if tensor_map.swizzled else 0,
        PROMOTE_256,
        0,
    )
    if error:
        raise RuntimeError(f"cuTensorMapEncodeTiled refuses a matrix {matrix.shape} and a box {tensor_map.box}: {error}")
    return encoded


PANEL = (64, 64)
"""What one load copies of a matrix of 16-bit numbers: rows of 128 bytes, which is what is swizzled."""


@dataclass(frozen=True)
class Panels:
    """A product of bfloat16 matrices by three kernels (result, left, right, M, K, N) with a tile (rows, columns) each.

    Forward has both operands as they lie in memory; in each gradient one of them is transposed, and the kernel reads it so.
    maps: the operands are passed as tensor maps. together: blocks of a cluster, which have tiles below each other.
    persistent: blocks stay and make tiles in turn.
    """

    file: str
    rung: str
    tile: tuple[int, int]
    threads: int
    shared_mem: int
    maps: bool = True
    persistent: bool = False
    together: int = 1

    @cached_property
    def kernels(self) -> tuple[HopperKernel, HopperKernel, HopperKernel]:
        """Forward, the gradient of the left operand, that of the right one."""
        forward, left, right = (
            HopperKernel(self.file, f"matmul_{what}_{self.rung}") for what in ("forward", "vjp_a", "vjp_b")
        )
        return forward, left, right

    def accepts(self, x1: Any, x2: Any) -> bool:
        """bfloat16 matrices whose rows are multiples of 16 bytes."""
        return (
            x1.dtype.name == x2.dtype.name == "bfloat16"
            and x1.ndim == x2.ndim == 2
            and x1.shape[1] == x2.shape[0]
            and x1.shape[1] % 8 == x2.shape[1] % 8 == 0
        )

    def multiply(self, kernel: HopperKernel, left: Any, right: Any, M: int, K: int, N: int) -> Any:
        """The product (M, N) of left and right, whose shapes the kernel knows; K is what is summed over."""
        c = empty((M, N), left)
        if not K:
            c[...] = 0
        if not c.size or not K:
            return c
        operands = (laid(left), laid(right))
        down, across = blocks(M, self.tile[0] * self.together), blocks(N, self.tile[1])
        grid = (across, down)
        if self.persistent:
            grid = (self.together * min(down * across, max(1, multiprocessors(c) // self.together)),)
        given = tuple(TensorMap(x, PANEL) for x in operands) if self.maps else operands
        kernel(grid, (self.threads,), (c, *given, np.int32(M), np.int32(K), np.int32(N)), shared_mem=self.shared_mem)
        return c

    def forward(self, x1: Any, x2: Any) -> tuple[Any, None]:
        """y (M, N) of x1 (M, K) and x2 (K, N), in bfloat16; sums in float32."""
        return self.multiply(self.kernels[0], x1, x2, x1.shape[0], x1.shape[1], x2.shape[1]), None

    def vjp(self, dy: Any, y: Any, x1: Any, x2: Any, *, residuals: None, wanted: Any, into: Any) -> tuple:
        """dx1 = dy x2^T, dx2 = x1^T dy."""
        (M, K), N = x1.shape, x2.shape[1]
        return (
            self.multiply(self.kernels[1], dy, x2, M, N, K) if wanted[0] else None,
            self.multiply(self.kernels[2], x1, dy, K, M, N) if wanted[1] else None,
        )
