"""Cross entropy of a linear map's outputs: the logits live for a few rows at a time and are never stored as a whole.

    z = x W + b,    loss = 1/R sum_i (log sum_j e^(z_ij) - sum_j q_ij z_ij),    dz_ij = (softmax(z_i)_j - q_ij) / R
    dx = dz W^T,    dW = x^T dz,    db = sum of the rows of dz

A block of rows of z is computed and turned into dz in place by the kernel of cross_entropy. A block has as many rows as make
W, which is read once a block, worth reading. What is kept until the way back depends on the shape:

    R <= C, or one block    dz (R, V), which is no larger than the dW that the way back makes anyway. Three products.
    more rows               nothing: the way back computes z again, block by block. Four products, but memory for one block
                            whatever R is, and an evaluation pays for no gradient.

float32, both ways, 2 cores, and what the process grew by: R 256, C 768, V 50257 kept 282 ms, computed again 380 (274 MB
both: a block is all rows); R 1024 kept 1093 ms and 376 MB, again 1505 ms and 275 MB. PyTorch's two operations: 668 ms and
606 MB; 2800 ms and 1981 MB. Summing dx and dW up in the forward pass needs three products for any R, but two of them in every
evaluation, and dW (V C) a second time until the leaf has it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from . import linear
from .cross_entropy import counted_targets, cross_entropy_forward_01_fused, cross_entropy_forward_02_threads, scaled
from .jit import frozen, lent
from .threads import PARALLEL_WORK, row_block

# Letters: R rows, C features, V classes.
BLOCK = 1 << 20  # logits at a time, at least: 4 MB in float32, what a product is worth starting for
ROWS = 256  # rows at a time, at least: fewer, and reading W takes longer than the product


def accepts(
    x: Any, weight: Any, targets: Any, bias: Any = None, *,
    ignore_index: int | None = None, label_smoothing: float = 0.0, transposed: bool = False,
) -> bool:  # fmt: skip
    return (
        linear.accepts(x, weight, bias, transposed=transposed)
        and weight.shape[0 if transposed else 1] > 0
        and targets.dtype.kind in "iu"
        and targets.shape == x.shape[:-1]
    )


def forward(
    x: np.ndarray, weight: np.ndarray, targets: np.ndarray, bias: np.ndarray | None = None, *,
    ignore_index: int | None = None, label_smoothing: float = 0.0, transposed: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:  # fmt: skip
    """Mean loss (0-d) of x (..., C), weight (C, V) or transposed (V, C), targets (...,) and bias (V,); NaN for no rows
    at all, 0 where every row is ignored. residual: dz (R, V), or None where the way back computes it again.

    IndexError when a target is neither a class nor ignore_index.
    """
    blocks = _Blocks(x, weight, targets, bias, ignore_index, label_smoothing, transposed)
    R, V = blocks.ids.size, blocks.matrix.shape[1]
    dz = np.empty((R if blocks.keep else blocks.step, V), x.dtype)
    if not R:
        return np.array(np.nan, x.dtype), dz
    losses = np.empty(R, np.float64)
    for rows in blocks.rows():
        blocks.slope(rows, dz[rows] if blocks.keep else dz[: rows.stop - rows.start], losses[rows])
    return np.array(losses.sum() / blocks.count, x.dtype), dz if blocks.keep else None


class _Blocks:
    """The arguments of a call, laid out, and how its rows are cut."""

    def __init__(
        self, x: np.ndarray, weight: np.ndarray, targets: np.ndarray, bias: np.ndarray | None,
        ignore_index: int | None, label_smoothing: float, transposed: bool,
    ) -> None:  # fmt: skip
        self.matrix, self.bias = weight.T if transposed else weight, bias
        C, V = self.matrix.shape
        self.ids, count = counted_targets("linear_cross_entropy", targets, V, "weight", ignore_index)
        self.count, self.smoothing = max(count, 1), float(label_smoothing)
        self.x = frozen(x).reshape(self.ids.size, C)
        self.step = max(ROWS, BLOCK // V)
        self.keep = self.ids.size <= max(self.step, C)

    def rows(self) -> Iterator[slice]:
        """The blocks, in order."""
        for start in range(0, self.ids.size, self.step):
            yield slice(start, min(self.ids.size, start + self.step))

    def slope(self, rows: slice, z: np.ndarray, losses: np.ndarray) -> None:
        """Fills z with dz of these rows, for a cotangent of 1, and losses with theirs."""
        linear.affine(self.x[rows], self.matrix, self.bias, z)
        arguments = frozen(z), self.ids[rows], losses, z, self.count, self.smoothing
        if z.size < PARALLEL_WORK:
            cross_entropy_forward_01_fused(*arguments, 0, z.shape[0])
        else:
            cross_entropy_forward_02_threads(*arguments, row_block(*z.shape))


def vjp(
    dy: np.ndarray, y: Any, x: np.ndarray, weight: np.ndarray, targets: Any, *bias: Any,
    residuals: np.ndarray | None, wanted: Any, into: Any,
    ignore_index: int | None = None, label_smoothing: float = 0.0, transposed: bool = False,
) -> tuple[Any, ...]:  # fmt: skip
    """dx, dweight, None[, dbias]; every one may be written to, or added to, the buffer lent for it."""
    wanted, into = (*wanted[:2], *wanted[3:]), (*into[:2], *into[3:])  # as linear counts its inputs
    if residuals is not None:
        dx, *rest = linear.vjp(
            scaled(residuals, dy, None), None, x, weight, *bias,
            residuals=None, wanted=wanted, into=into, transposed=transposed,
        )  # fmt: skip
        return (dx, rest[0], None, *rest[1:])
    blocks = _Blocks(x, weight, targets, bias[0] if bias else None, ignore_index, label_smoothing, transposed)
    shapes = x.shape, weight.shape, *(b.shape for b in bias if b is not None)
    offers = [
        (lent(offer) or (np.empty(shape, x.dtype), False)) if want else None
        for want, offer, shape in zip(wanted, into, shapes, strict=False)
    ]
    dz = np.empty((blocks.step, blocks.matrix.shape[1]), x.dtype)
    ignored = np.empty(blocks.step, np.float64)
    for rows in blocks.rows():
        n = rows.stop - rows.start
        blocks.slope(rows, dz[:n], ignored[:n])
        if dy != 1:
            scaled(dz[:n], dy, (dz[:n], False))
        here = [offers[0] and (offers[0][0].reshape(blocks.x.shape)[rows], offers[0][1])]
        here += [offer and (offer[0], offer[1] or rows.start > 0) for offer in offers[1:]]
        linear.vjp(
            dz[:n], None, blocks.x[rows], weight, *bias, residuals=None, wanted=wanted, into=here, transposed=transposed
        )
    dx, dweight, *dbias = [offer and offer[0] for offer in offers]
    return (dx, dweight, None, *(dbias or [None] * len(bias)))
