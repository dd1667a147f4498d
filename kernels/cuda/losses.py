"""From kernels to pairs for cross entropy: targets are checked and counted here, losses a row are made and averaged by kernels.

Residuals: the targets as the kernels want them, how many of them count, and for each row its largest logit m and
sum e^(x - m).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .launch import Kernel, empty, laid, namespace
from .pairs import FLOAT32, Launch

IGNORED = -1
"""The target of a row that does not count; the constant of the same name in the `.cu` files."""


def counted_targets(operation: str, targets: Any, V: int, ignore_index: int | None) -> tuple[Any, int]:
    """(targets (R,) as int32, IGNORED where they do not count; how many do, but at least 1).

    IndexError where one is neither a class nor ignore_index. The host waits for both answers.
    """
    xp, ids = namespace(targets), targets.reshape(-1).astype(np.int64)
    ignored = xp.zeros(ids.shape, bool) if ignore_index is None else ids == ignore_index
    wrong = ~ignored & ((ids < 0) | (ids >= V))
    if bool(wrong.any()):
        raise IndexError(f"{operation}: targets holds {int(ids[wrong][0])}, but there are {V} classes, 0 to {V - 1}")
    count = ids.size - int(xp.count_nonzero(ignored))
    return xp.where(ignored, IGNORED, ids).astype(np.int32), max(count, 1)


def takes_targets(targets: Any, rows: tuple[int, ...]) -> bool:
    """Whether these are integers of that shape."""
    return targets.dtype.kind in "iu" and targets.shape == rows


@dataclass(frozen=True)
class CrossEntropy:
    """forward_kernel(losses, maxima, totals, logits, targets, smoothing, R, V), mean_kernel(loss, losses, count, R), a
    single block of 256 threads, and vjp_kernel(dx, dy, logits, targets, maxima, totals, count, smoothing, R, V).
    """

    forward_kernel: Kernel
    mean_kernel: Kernel
    vjp_kernel: Kernel
    launch: Launch

    def accepts(
        self, logits: Any, targets: Any, *, ignore_index: int | None = None, label_smoothing: float = 0.0
    ) -> bool:
        return (
            logits.dtype == FLOAT32
            and logits.ndim >= 1
            and logits.shape[-1] > 0
            and takes_targets(targets, logits.shape[:-1])
        )

    def forward(
        self, logits: Any, targets: Any, *, ignore_index: int | None = None, label_smoothing: float = 0.0
    ) -> tuple[Any, tuple[Any, int, Any, Any]]:
        """Mean loss (0-d) of logits (..., V) and targets (...); NaN for no rows at all, 0 where all are ignored."""
        V = logits.shape[-1]
        ids, count = counted_targets("cross_entropy", targets, V, ignore_index)
        R = ids.size
        loss, losses, maxima, totals = (empty(shape, logits) for shape in ((), (R,), (R,), (R,)))
        if R:
            numbers = np.float32(label_smoothing), np.int32(R), np.int32(V)
            self.forward_kernel(*self.launch(R, V), (losses, maxima, totals, laid(logits), ids, *numbers))
            self.mean_kernel((1,), (256,), (loss, losses, np.int32(count), np.int32(R)))
        else:
            loss.fill(np.nan)
        return loss, (ids, count, maxima, totals)

    def vjp(
        self, dy: Any, y: Any, logits: Any, targets: Any, *, residuals: tuple[Any, int, Any, Any], wanted: Any, into: Any,
        ignore_index: int | None = None, label_smoothing: float = 0.0,
    ) -> tuple:  # fmt: skip
        """(dlogits, None)."""
        if not wanted[0]:
            return None, None
        ids, count, maxima, totals = residuals
        dx = empty(logits.shape, logits)
        if dx.size:
            R, V = ids.size, logits.shape[-1]
            numbers = np.int32(count), np.float32(label_smoothing), np.int32(R), np.int32(V)
            self.vjp_kernel(*self.launch(R, V), (dx, laid(dy), laid(logits), ids, maxima, totals, *numbers))
        return dx, None
