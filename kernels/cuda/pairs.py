"""From kernels to pairs: what the launchers of ladders that look alike have in common. The contract is kernels/README.md's.

    Product       c = a b; both gradients are products again, of transposed copies (which cost M K + K N beside M K N)
    Rows          each row of the last axis by itself
    Elementwise   y_i = f(x_i)

A gradient is always written to fresh memory: no launcher takes an offer of `into`. Arrays are NumPy's or CuPy's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .launch import Kernel, blocks, empty, laid

FLOAT32 = np.dtype(np.float32)
MOST = 2**31 - 2**16
"""Kernels count in int32, and threads of the last block beyond the end; nothing may be longer than this."""
MOST_BLOCKS = 65535
"""In the second direction of a grid."""


def refuse(kernel: Kernel, takes: str, *arrays: Any, **params: Any) -> None:
    """Raises ValueError with what the launcher got and what it takes: for a forward whose `accepts` says no."""
    got = ", ".join(f"{a.dtype} {tuple(a.shape)}" for a in arrays if a is not None)
    more = "".join(f", {name}={value}" for name, value in params.items())
    raise ValueError(f"{kernel.name} takes {takes}, but got {got}{more}")


@dataclass(frozen=True)
class Product:
    """A kernel(c, a, b, M, K, N) with a block of threads for each tile (rows, columns) of c.

    rows_first: blockIdx.x counts tiles of rows, not of columns (rung 01 does).
    """

    kernel: Kernel
    tile: tuple[int, int]
    block: tuple[int, ...]
    rows_first: bool = False
    dtype: str = "float32"
    shared_mem: int = 0

    def accepts(self, x1: Any, x2: Any) -> bool:
        fits = x1.dtype.name == x2.dtype.name == self.dtype and x1.ndim == x2.ndim == 2 and x1.shape[1] == x2.shape[0]
        lengths = (*x1.shape, x2.shape[-1])  # each is a side of c in one of the three products
        return fits and max(lengths) <= min(MOST, MOST_BLOCKS * min(self.tile))

    def multiply(self, a: Any, b: Any) -> Any:
        """c (M, N) of a (M, K) and b (K, N)."""
        (M, K), N = a.shape, b.shape[1]
        c = empty((M, N), a)
        if c.size:
            down, across = blocks(M, self.tile[0]), blocks(N, self.tile[1])
            grid = (down, across) if self.rows_first else (across, down)
            args = (c, laid(a), laid(b), np.int32(M), np.int32(K), np.int32(N))
            self.kernel(grid, self.block, args, shared_mem=self.shared_mem)
        return c

    def forward(self, x1: Any, x2: Any) -> tuple[Any, None]:
        if not self.accepts(x1, x2):
            refuse(self.kernel, f"{self.dtype} matrices (M, K) and (K, N), none longer than its grid", x1, x2)
        return self.multiply(x1, x2), None

    def vjp(self, dy: Any, y: Any, x1: Any, x2: Any, *, residuals: None, wanted: Any, into: Any) -> tuple:
        """dx1 = dy x2^T, dx2 = x1^T dy."""
        return self.multiply(dy, x2.T) if wanted[0] else None, self.multiply(x1.T, dy) if wanted[1] else None


def rows(x: Any) -> int:
    """How many rows the last axis of x makes."""
    return math.prod(x.shape[:-1])


Launch = Callable[[int, int], tuple[tuple[int, ...], tuple[int, ...]]]


def thread_per_row(threads: int) -> Launch:
    """(grid, block) of R rows of N numbers."""
    return lambda R, N: ((blocks(R, threads),), (threads,))


def warp_per_row(warps: int) -> Launch:
    return lambda R, N: ((blocks(R, warps),), (32 * warps,))


def block_per_row(threads: int) -> Launch:
    return lambda R, N: ((R,), (threads,))


@dataclass(frozen=True)
class Rows:
    """forward_kernel(y, x, R, N) and vjp_kernel(dx, dy, y, R, N), which both get the grid that `launch` says."""

    forward_kernel: Kernel
    vjp_kernel: Kernel
    launch: Launch

    def accepts(self, x: Any, *, axis: int = -1) -> bool:
        return x.dtype == FLOAT32 and x.ndim >= 1 and axis in (-1, x.ndim - 1) and rows(x) <= MOST >= x.shape[-1]

    def forward(self, x: Any, *, axis: int = -1) -> tuple[Any, None]:
        if not self.accepts(x, axis=axis):
            refuse(self.forward_kernel, f"float32 rows along the last axis, at most {MOST} of them", x, axis=axis)
        y = empty(x.shape, x)
        self._run(self.forward_kernel, y, x)
        return y, None

    def vjp(self, dy: Any, y: Any, x: Any, *, residuals: None, wanted: Any, into: Any, axis: int = -1) -> tuple:
        if not wanted[0]:
            return (None,)
        dx = empty(y.shape, y)
        self._run(self.vjp_kernel, dx, dy, y)
        return (dx,)

    def _run(self, kernel: Kernel, result: Any, *given: Any) -> None:
        if result.size:
            N = result.shape[-1]
            R = result.size // N
            kernel(*self.launch(R, N), (result, *map(laid, given), np.int32(R), np.int32(N)))


@dataclass(frozen=True)
class UpTo:
    """`short` for rows of up to `longest` numbers, `long` for the others."""

    longest: int
    short: Rows
    long: Rows

    def accepts(self, x: Any, *, axis: int = -1) -> bool:
        return self.short.accepts(x, axis=axis)

    def forward(self, x: Any, *, axis: int = -1) -> tuple[Any, None]:
        return self._pair(x).forward(x, axis=axis)

    def vjp(self, dy: Any, y: Any, x: Any, *, residuals: None, wanted: Any, into: Any, axis: int = -1) -> tuple:
        return self._pair(y).vjp(dy, y, x, residuals=residuals, wanted=wanted, into=into, axis=axis)

    def _pair(self, rows: Any) -> Rows:
        return self.short if rows.shape[-1] <= self.longest else self.long


@dataclass(frozen=True)
class Elementwise:
    """forward_kernel(y, x, n) and vjp_kernel(dx, dy, x, n), or y in place of x where `reads` says so; a block of `threads` is
    for `each` elements a thread.
    """

    forward_kernel: Kernel
    vjp_kernel: Kernel
    threads: int = 256
    each: int = 1
    reads: Literal["x", "y"] = "x"

    def accepts(self, x: Any) -> bool:
        return x.dtype == FLOAT32 and math.prod(x.shape) <= MOST

    def forward(self, x: Any) -> tuple[Any, None]:
        if not self.accepts(x):
            refuse(self.forward_kernel, f"float32 arrays of at most {MOST} numbers", x)
        y = empty(x.shape, x)
        self._run(self.forward_kernel, y, x)
        return y, None

    def vjp(self, dy: Any, y: Any, x: Any, *, residuals: None, wanted: Any, into: Any) -> tuple:
        if not wanted[0]:
            return (None,)
        read = x if self.reads == "x" else y
        dx = empty(read.shape, read)
        self._run(self.vjp_kernel, dx, dy, read)
        return (dx,)

    def _run(self, kernel: Kernel, result: Any, *given: Any) -> None:
        n = math.prod(result.shape)
        if n:
            grid = (blocks(n, self.threads * self.each),)
            kernel(grid, (self.threads,), (result, *map(laid, given), np.int32(n)))
