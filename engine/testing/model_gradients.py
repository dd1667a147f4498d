"""One batch through a whole model, twice: by its kernels, and by the hand-derived formulas in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernel_table import use_kernels


@dataclass(frozen=True)
class GradientComparison:
    """The worst parameter: max |kernels - formulas| over its elements, relative to its largest gradient."""

    worst: float
    parameter: str
    calls: int  # kernels, forward and backward
    dtype: str  # of the kernels' side


def compare_gradients(model: Any, x: np.ndarray, y: np.ndarray, dtype: Any = np.float32) -> GradientComparison:
    """Gradients of model.loss(x, y): kernels forced on in `dtype`, against formulas alone in float64.

    model: has to_files/from_files as GPT has; it is left as it was. x, y: ids (B, T).
    """
    with use_kernels("force") as calls:
        found = _gradients(model, x, y, dtype)
    with use_kernels("off"):
        wanted = _gradients(model, x, y, np.float64)
    worst, name = 0.0, ""
    for parameter, want in wanted.items():
        difference = float(np.max(np.abs(found[parameter] - want)))
        relative = difference / float(np.max(np.abs(want)))
        if not relative <= worst:  # NaN counts as worst
            worst, name = relative, parameter
    return GradientComparison(worst, name, sum(calls.values()), np.dtype(dtype).name)


def _gradients(model: Any, x: np.ndarray, y: np.ndarray, dtype: Any) -> dict[str, np.ndarray]:
    copy = type(model).from_files(*model.to_files()).astype(dtype).eval()
    copy.loss(x, y).backward()
    return {name: p.grad.numpy().astype(np.float64) for name, p in copy.named_parameters()}
