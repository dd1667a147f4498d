"""Small kernels for sm_90a by their bodies: what test_hopper.py and test_clusters.py share."""

from pathlib import Path
from typing import Any

import numpy as np

from handgrad.kernels.cuda.on_cpu.kernel import Kernel

HERE = Path(__file__).parent


def launch(body: str, parameters: str, grid, block, args, *, cluster: int = 1, shared: int = 64 * 1024) -> None:
    """Runs a kernel `k` of that body, whose first line is line 3; `memory` is its aligned shared memory, and `i` the thread."""
    head = "extern __shared__ unsigned char raw[]; unsigned char* memory = aligned_1024(raw); int i = threadIdx.x; (void)i;"
    text = (
        f'#include "hopper.cuh"\nextern "C" __global__ void __cluster_dims__({cluster}) k({parameters}) {{ {head}\n{body}\n}}\n'
    )
    kernel = Kernel(HERE / "k.cu", "k", text)
    kernel.max_dynamic_shared_size_bytes = shared + 1024
    kernel(grid, block, args, shared_mem=shared + 1024)


def integers(body: str, n: int, grid=(1,), **more: Any) -> np.ndarray:
    """The n numbers that a kernel with the parameter `int* y` leaves."""
    y = np.full(n, -1, np.int32)
    launch(body, "int* y", grid, (n // grid[0],), (y,), **more)
    return y


def box(x: np.ndarray, at: tuple[int, int], shape: tuple[int, int] = (64, 64)) -> np.ndarray:
    """The same from NumPy: zeros outside of x."""
    padded = np.zeros((x.shape[0] + 256, x.shape[1] + 256), x.dtype)
    padded[128:-128, 128:-128] = x
    return padded[128 + at[1] :, 128 + at[0] :][: shape[0], : shape[1]]


NUMBERS = np.arange(100 * 80, dtype=np.uint16).reshape(100, 80)
