"""What the launchers of sm_90a (Hopper) products share: operands that lie in memory as they are, transposed or not."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .launch import Kernel, blocks, empty, hopper, laid, multiprocessors
from .on_cpu.tensor_map import TensorMap

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
    def kernels(self) -> tuple[Kernel, Kernel, Kernel]:
        """Forward, the gradient of the left operand, that of the right one."""
        forward, left, right = (
            Kernel(self.file, f"matmul_{what}_{self.rung}") for what in ("forward", "vjp_a", "vjp_b")
        )
        return forward, left, right

    def accepts(self, x1: Any, x2: Any) -> bool:
        """On a GPU of sm_90a or on the CPU; rows are multiples of 16 bytes, and no operand is longer than an int counts."""
        return (
            hopper(x1)
            and x1.dtype.name == x2.dtype.name == "bfloat16"
            and x1.ndim == x2.ndim == 2
            and x1.shape[1] == x2.shape[0]
            and x1.shape[1] % 8 == x2.shape[1] % 8 == 0
        )

    def multiply(self, kernel: Kernel, left: Any, right: Any, M: int, K: int, N: int) -> Any:
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
