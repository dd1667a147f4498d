"""Where the time of a training step goes: by operation, forward and backward, the optimizer's passes, and what is left.

What is left is the time outside kernels: Python, the graph, the loss as a number. The clock's own calls count there too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


class Clock:
    """An observer of operations that times each call."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self.calls = 0

    def add(self, name: str, since: float) -> None:
        """Books the time from `since` until now under this name."""
        self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - since
        self.calls += 1

    def forward(self, run: Any, op: Any, arrays: list[Any], params: dict[str, Any]) -> Any:
        """Called in the place of run(op, arrays, params)."""
        start = time.perf_counter()
        found = run(op, arrays, params)
        self.add(f"{op.name} forward", start)
        return found

    def backward(self, run: Any, node: Any, dys: Any, wanted: Any, lent: Any) -> Any:
        """Called in the place of run(node, dys, wanted, lent)."""
        name, start = f"{node.op.name} backward", time.perf_counter()
        found = run(node, dys, wanted, lent)
        self.add(name, start)
        return found

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed under this name."""

        def timed(*args: Any) -> Any:
            start = time.perf_counter()
            found = function(*args)
            self.add(name, start)
            return found

        return timed


def profile(step: Callable[[], Any], optimizer: Any, steps: int) -> dict[str, Any]:
    """Medians over `steps` steps: ms of each operation, ms outside kernels and their share; kernel calls of a step."""
    from handgrad.engine.tensor import OBSERVER

    every: list[tuple[float, dict[str, float]]] = []
    clock = Clock()
    OBSERVER.append(clock)
    optimizer._update = clock.around("optimizer update", optimizer._update)
    optimizer._squared_norm = clock.around("optimizer norm", optimizer._squared_norm)
    try:
        for _ in range(steps):
            clock.spent, clock.calls, start = {}, 0, time.perf_counter()
            step()
            every.append((time.perf_counter() - start, clock.spent))
    finally:
        OBSERVER.clear()
        del optimizer._update, optimizer._squared_norm  # the class's own are behind them
    parts = {name: round(statistics.median(spent[name] for _, spent in every) * 1e3, 4) for name in every[-1][1]}
    outside = [total - sum(spent.values()) for total, spent in every]
    return {
        "ms": round(statistics.median(total for total, _ in every) * 1e3, 4),
        "outside_ms": round(statistics.median(outside) * 1e3, 4),
        "outside_share": round(statistics.median(o / total for o, (total, _) in zip(outside, every, strict=True)), 4),
        "calls": clock.calls,
        "parts_ms": dict(sorted(parts.items(), key=lambda item: -item[1])),
    }
