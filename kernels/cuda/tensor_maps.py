"""How NVIDIA's driver encodes a tensor map, from which TMA loads: cuTensorMapEncodeTiled of the CUDA Driver API."""

import ctypes

import numpy as np

from .on_cpu.tensor_map import TensorMap

BFLOAT16_IN_A_MAP, SWIZZLE_128, PROMOTE_256 = 9, 3, 3
"""Numbers of the driver's enumerations (cuda.h): CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_SWIZZLE_128B,
CU_TENSOR_MAP_L2_PROMOTION_L2_256B. No interleaving and zeros beyond the edges are 0."""


def encoded(tensor_map: TensorMap) -> np.ndarray:
    """The driver's 128 bytes, as the one value that CuPy passes to a kernel.

    Raises TypeError for another type than bfloat16, RuntimeError where the driver refuses.
    """
    matrix = tensor_map.array
    if matrix.dtype.name != "bfloat16":
        raise TypeError(f"a tensor map is of bfloat16 on a GPU, but this matrix is of {matrix.dtype.name}")
    room = np.zeros(192, np.uint8)
    words = room[-room.ctypes.data % 64 :][:128].view(np.dtype((np.void, 128))).reshape(())  # at a multiple of 64
    rank = matrix.ndim
    error = ctypes.CDLL("libcuda.so.1").cuTensorMapEncodeTiled(
        ctypes.c_void_p(words.ctypes.data),
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
    return words
