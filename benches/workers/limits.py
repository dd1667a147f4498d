"""What this machine can do at most: multiply-adds a second, and bytes a second from each level of memory.

Peak: a block of C that stays in registers (kernels/cpu/tile.py) over operands that stay in the first cache. Bandwidth: the
better of one array summed up and of one copied to another; a copy of n bytes counts as 2 n (what a cache fetches of the target
before it writes is not counted, as in STREAM; targets of 32 MB and more are written around the caches, as kernels do it).
"""

from __future__ import annotations

import time
from typing import Any

from serve import serve

from handgrad.engine import process


class Side:
    """The measurements, each the best of the repetitions in so many seconds."""

    def start(self, threads: int) -> dict[str, Any]:
        """Settle the process, then load NumPy and Numba."""
        process.settle(threads)
        process.join_pools()
        import limits_kernels

        self.kernels, self.threads = limits_kernels, threads
        return {"threads": threads, **process.settings()}

    def peak(self, seconds: float) -> float:
        """GFLOP/s of all threads, float32."""
        return self.best(lambda: self.kernels.peak(self.threads), seconds)

    def bandwidth(self, size: int, seconds: float) -> float:
        """GB/s of all threads together, each within `size` bytes of its own."""
        import numpy as np

        count = max(1024, size // 8) // 1024 * 1024
        a, b = both = np.ones((2, self.threads, count), np.float32)  # zeros would all be one page
        repeat = max(1, (1 << 25) // (4 * count))  # so that starting the threads costs nothing
        copied = self.best(lambda: self.kernels.copies(a, b, repeat), seconds)
        return max(copied, self.best(lambda: self.kernels.reads(both.reshape(self.threads, 2 * count), repeat), seconds))

    def best(self, measure: Any, seconds: float) -> float:
        """The largest of what `measure` returns, (work in units, seconds), in units a nanosecond."""
        measure()
        found, end = 0.0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            work = measure()
            found = max(found, work / (time.perf_counter() - start) * 1e-9)
        return found


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "peak", "bandwidth")})
