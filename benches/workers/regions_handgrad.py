"""handgrad's side of regions.py: a pass over n numbers by its serial rung and by its threaded one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from serve import serve

from handgrad.engine import process

CALLS, CALLS_AFTER_A_REST = 400, 100


class Side:
    """The passes."""

    def start(self, threads: int) -> dict[str, Any]:
        """Settle the process, then load NumPy and Numba."""
        process.settle(threads)
        process.join_pools()
        return {"threads": threads, "process": process.describe(), **process.settings()}

    def point(self, name: str, size: int, rest: float) -> list[float]:
        """[us of the serial call, us of the region], each with `rest` seconds before it."""
        return [microseconds(call, rest) for call in passes(name, size)]


def passes(name: str, size: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The serial and the threaded call of a pass over arrays of this size."""
    import numpy as np

    from handgrad.kernels.cpu import adamw, add, gelu
    from handgrad.kernels.cpu.jit import frozen
    from handgrad.kernels.cpu.threads import chunks

    a, b, c, d = (np.full(size, 0.5, np.float32) for _ in range(4))
    x1, x2, blocks = frozen(a), frozen(b), chunks(size)
    rates = (0.99, 0.9, 0.99, 1e-3, 1.0, 1e-8, 1.0)
    return {
        "add": (
            lambda: add.add_forward_01_pass(x1, x2, c, 0, size),
            lambda: add.add_forward_02_threads(x1, x2, c, blocks),
        ),
        "adamw": (
            lambda: adamw.adamw_update_01_fused(a, b, c, d, rates, 0, size),
            lambda: adamw.adamw_update_02_threads(a, b, c, d, rates, blocks),
        ),
        "gelu": (
            lambda: gelu.gelu_forward_01_sigmoid(x1, c, 0, size),
            lambda: gelu.gelu_forward_02_threads(x1, c, blocks),
        ),
    }[name]


def microseconds(call: Callable[[], Any], rest: float) -> float:
    """The 20th percentile of many calls."""
    for _ in range(3):
        call()
    found = []
    for _ in range(CALLS_AFTER_A_REST if rest else CALLS):
        end = time.perf_counter() + rest
        while time.perf_counter() < end:
            pass  # this thread stays awake, as Python's does in a step
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return round(statistics.quantiles(found, n=5)[0] * 1e6, 3)


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "point")})
