"""From kernels to the pair of linear_cross_entropy: how the vocabulary is cut, and what the kernels of a rung are given.

Letters: R rows, C features, V classes. Residuals: as cross_entropy's in losses.py, so nothing of R V numbers. On the way
forward a block owns SIDE rows and a slice of the vocabulary, of which it keeps three numbers a row. On the way back the
vocabulary goes by in chunks: besides the gradients, dz (R, CHUNK) is made, in 16 bits the sums of dx, and a copy of x or of the
weight where its rows must begin at multiples of 16 bytes and do not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .hopper import PANEL
from .launch import Kernel, blocks, empty, hopper, laid, zeros
from .losses import counted_targets, takes_targets
from .on_cpu.tensor_map import TensorMap
from .pairs import MOST, MOST_BLOCKS, refuse, rows

SIDE, THREADS = 128, 256
"""The tiles of all products are SIDE x SIDE, for a block of THREADS."""
ROWS, COLUMNS = 256, 32
"""Of a block with a thread a row, and of one that adds up columns, which has THREADS too."""
BLOCKS = 512
"""On the way forward the vocabulary is cut where rows alone make fewer blocks: by the sizes, not by the GPU, so that all GPUs
add in the same order."""
CHUNK = 2048
"""Classes at a time on the way back; a multiple of SIDE."""


@dataclass(frozen=True)
class Kernels:
    """What a rung has for one type; `transposed` says how the weight lies, as an int."""

    forward: Kernel
    """(maxima, totals, belows, of_targets, x, weight, bias, targets, R, C, V, slice, transposed): of each slice and row the
    largest logit m, sum e^(z - m) and sum (m - z); and of each row the logit of its target."""
    rows: Kernel
    """(losses, maxima, totals, those of the slices, of_targets, targets, smoothing, R, V, slice)."""
    mean: Kernel
    """(loss, losses, count, R), a single block."""
    dz: Kernel
    """(dz, x, weight, bias, targets, maxima, totals, smoothing, R, C, V, first, width, transposed): not times dy / count."""
    dx: Kernel
    """(dx[, sums], dz, dy, weight, count, R, C, V, first, width, transposed): adds to what the chunks before it made; in 16
    bits these sums are float32, and the last chunk rounds them."""
    dweight: Kernel
    """(dweight, dz, dy, x, count, R, C, V, first, width, transposed)."""
    dbias: Kernel
    """(dbias, dz, dy, count, R, first, width)."""


def kernels(file: str, rung: str, idea: str, dtype: str = "") -> Kernels:
    """Those of the `.cu` beside `file`; the names of those that differ by type end with _`dtype`."""
    end = f"_{dtype}" if dtype else ""
    forward, vjp = f"linear_cross_entropy_forward_{rung}_", f"linear_cross_entropy_vjp_{rung}_"
    names = (
        f"{forward}{idea}{end}", f"{forward}rows", f"{forward}mean{end}",
        f"{vjp}{idea}{end}", f"{vjp}dx{end}", f"{vjp}dweight{end}", f"{vjp}dbias{end}",
    )  # fmt: skip
    return Kernels(*(Kernel(file, name) for name in names))


@dataclass(frozen=True)
class LinearCrossEntropy:
    """kernels: by type. multiple: numbers that a row of x, of the weight and of dz has in memory are a multiple of it; rows of
    others are copied, and end with zeros. shared_mem: dynamic, of all kernels that multiply. maps: these get their factors as
    tensor maps, which only sm_90a has, and which are of something.
    """

    kernels: Mapping[str, Kernels]
    multiple: int = 1
    shared_mem: int = 0
    maps: bool = False

    def accepts(
        self, x: Any, weight: Any, targets: Any, bias: Any = None, *,
        ignore_index: int | None = None, label_smoothing: float = 0.0, transposed: bool = False,
    ) -> bool:  # fmt: skip
        if x.dtype.name not in self.kernels or weight.dtype != x.dtype or x.ndim < 1 or weight.ndim != 2:
            return False
        V, C = weight.shape if transposed else weight.shape[::-1]
        if self.maps and not (hopper(x) and C > 0 < rows(x)):
            return False
        return (
            x.shape[-1] == C <= SIDE * MOST_BLOCKS
            and 0 < V <= MOST >= rows(x)
            and takes_targets(targets, x.shape[:-1])
            and (bias is None or (bias.dtype == x.dtype and bias.shape == (V,)))
        )

    def forward(
        self, x: Any, weight: Any, targets: Any, bias: Any = None, *,
        ignore_index: int | None = None, label_smoothing: float = 0.0, transposed: bool = False,
    ) -> tuple[Any, tuple[Any, int, Any, Any]]:  # fmt: skip
        """Mean loss (0-d) of x (..., C), weight (C, V) or transposed (V, C), targets (...) and bias (V,); NaN for no rows at
        all, 0 where all are ignored. IndexError where a target is neither a class nor ignore_index.
        """
        if not self.accepts(x, weight, targets, bias, transposed=transposed):
            takes = f"{' or '.join(self.kernels)} features (..., C), a weight, targets (...) and a bias of matching shapes"
            refuse(next(iter(self.kernels.values())).forward, takes, x, weight, targets, bias, transposed=transposed)
        found = self.kernels[x.dtype.name]
        V = weight.shape[0 if transposed else 1]
        ids, count = counted_targets("linear_cross_entropy", targets, V, ignore_index)
        R, C = ids.size, x.shape[-1]
        loss = empty((), x)
        losses, maxima, totals, of_targets = (empty((R,), x, np.float32) for _ in range(4))
        if not R:
            loss.fill(np.nan)
            return loss, (ids, count, maxima, totals)
        slices = min(blocks(BLOCKS, blocks(R, SIDE)), blocks(V, SIDE))
        slice = SIDE * blocks(blocks(V, SIDE), slices)
        slices = blocks(V, slice)
        of_slices = tuple(empty((slices, R), x, np.float32) for _ in range(3))
        given = self._factor(x.reshape(R, C)), self._factor(weight), _bias(x, V, bias), ids
        sizes = np.int32(R), np.int32(C), np.int32(V), np.int32(slice), np.int32(transposed)
        self._multiply(found.forward, R, slices * SIDE, (*of_slices, of_targets, *given, *sizes))
        numbers = np.float32(label_smoothing), np.int32(R), np.int32(V), np.int32(slice)
        found.rows((blocks(R, ROWS),), (ROWS,), (losses, maxima, totals, *of_slices, of_targets, ids, *numbers))
        found.mean((1,), (ROWS,), (loss, losses, np.int32(count), np.int32(R)))
        return loss, (ids, count, maxima, totals)

    def vjp(
        self, dy: Any, y: Any, x: Any, weight: Any, targets: Any, *bias: Any,
        residuals: tuple[Any, int, Any, Any], wanted: Any, into: Any,
        ignore_index: int | None = None, label_smoothing: float = 0.0, transposed: bool = False,
    ) -> tuple:  # fmt: skip
        """(dx, dweight, None[, dbias])."""
        ids, count, maxima, totals = residuals
        V = weight.shape[0 if transposed else 1]
        R, C = ids.size, x.shape[-1]
        dx = empty(x.shape, x) if wanted[0] else None
        dweight = empty(weight.shape, weight) if wanted[1] else None
        dbias = empty((V,), x) if bias and bias[0] is not None and wanted[3] else None
        grads = (dx, dweight, None, *(dbias for _ in bias))
        if all(grad is None for grad in grads):
            return grads
        found, dy = self.kernels[x.dtype.name], laid(dy)
        matrix, weights, biases = self._factor(x.reshape(R, C)), self._factor(weight), _bias(x, V, *bias)
        of_dx = () if dx is None else (dx,) if dx.dtype == np.float32 else (dx, empty(dx.shape, dx, np.float32))
        for first in range(0, V, CHUNK):
            width = min(CHUNK, V - first)
            numbers = np.int32(R), np.int32(C), np.int32(V), np.int32(first), np.int32(width), np.int32(transposed)
            dz = empty((R, self._room(width)), x)
            given = matrix, weights, biases, ids, maxima, totals, np.float32(label_smoothing)
            self._multiply(found.dz, R, width, (dz, *given, *numbers))
            slopes = self._factor(dz)
            if of_dx:
                self._multiply(found.dx, R, C, (*of_dx, slopes, dy, weights, np.int32(count), *numbers))
            if dweight is not None:
                sides = (width, C) if transposed else (C, width)
                self._multiply(found.dweight, *sides, (dweight, slopes, dy, matrix, np.int32(count), *numbers))
            if dbias is not None:
                sizes = np.int32(count), np.int32(R), np.int32(first), np.int32(width)
                found.dbias((blocks(width, COLUMNS),), (THREADS,), (dbias, dz, dy, *sizes))
        return grads

    def _multiply(self, kernel: Kernel, height: int, width: int, args: tuple[Any, ...]) -> None:
        """A block for each tile of a product (height, width), if there is one."""
        grid = blocks(height, SIDE), blocks(width, SIDE)
        if all(grid):
            kernel(grid, (THREADS,), args, shared_mem=self.shared_mem)

    def _room(self, width: int) -> int:
        """How many numbers a row of `width` has in memory."""
        return blocks(width, self.multiple) * self.multiple

    def _factor(self, matrix: Any) -> Any:
        """The matrix as kernels that multiply get it."""
        height, width = matrix.shape
        if self._room(width) == width:
            stored = laid(matrix)
        else:
            stored = zeros((height, self._room(width)), matrix)
            stored[:, :width] = matrix
        return TensorMap(stored, PANEL) if self.maps else stored


def _bias(x: Any, V: int, bias: Any = None) -> Any:
    """The bias (V,), zeros where there is none."""
    return zeros((V,), x) if bias is None else laid(bias)
