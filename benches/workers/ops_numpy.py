"""NumPy's side of ops.py: a row's formula on plain arrays, as one writes it without an engine; products run on OpenBLAS."""

from __future__ import annotations

import os
from typing import Any

import cases
import numpy as np
from rotation import Rotation, poison
from serve import serve

from handgrad.reference import adamw
from handgrad.reference.table import BY_NAME

VARIABLES = ("OPENBLAS_NUM_THREADS", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


class Side(Rotation):
    """A row at one size and its inputs, between requests."""

    def start(self, threads: int) -> dict[str, Any]:
        """What holds: OpenBLAS read its thread count from the environment."""
        return {"threads": threads, "environ": {name: os.environ[name] for name in VARIABLES if name in os.environ}}

    def prepare(
        self, case: str, version: str, direction: str, copies: int, shape: list[int] | None, path: str
    ) -> dict[str, Any] | None:
        """Make the inputs, and leave what a pass over poisoned memory gives (y, or the gradients) in an npz file."""
        this = cases.case(case)
        if this.op in cases.UPDATES:
            return self.update(this, path)
        runs = [self.run(this, copy, direction == "backward", shape) for copy in range(copies)]
        results = [a.shape for a in floats(runs[0]())]
        poisoned = poison(results)
        found = floats(runs[0]())
        np.savez(path, *found, **({"dy": cases.cotangent(shape)} if direction == "backward" else {}))
        self.turn_to(runs)
        poison(results)
        return {"poisoned": poisoned}

    def run(self, this: Any, copy: int, backward: bool, shape: Any) -> Any:
        """A pass over fresh inputs, which returns arrays."""
        op, arrays, params = BY_NAME[this.op], this.arrays(copy), this.params
        if not backward:
            return (lambda: op.forward(*arrays, **params)) if op.single else lambda: op.forward(*arrays, **params)[0]
        y, dy = op.forward(*arrays, **params), cases.cotangent(shape, copy)
        if isinstance(y, tuple):
            dy = (dy, *(np.zeros_like(other) for other in y[1:]))
        return lambda: op.vjp(dy, y, *arrays, **params)

    def update(self, this: Any, path: str) -> dict[str, Any]:
        """An update's formula, in place where a program would."""
        arrays = this.arrays()
        if this.op == "adamw":
            state = [arrays[0], np.zeros_like(arrays[0]), np.zeros_like(arrays[0])]
            steps = iter(range(1, 1 << 60))

            def run() -> None:
                p, m, v = state
                state[:] = adamw.adamw_update(p, arrays[1], m, v, step=next(steps), **this.params)

            run()
            np.savez(path, *state)
        else:
            bounds = cases.tighter(**this.params)

            def run() -> None:
                factor = np.float32(adamw.clip_factor(arrays, next(bounds)))
                for a in arrays:
                    a *= factor

            run()
            np.savez(path, *arrays)
        self.turn_to([run])
        return {"poisoned": False}


def floats(found: Any) -> list[np.ndarray]:
    """y, or the gradients without those of ids and masks."""
    if not isinstance(found, tuple):
        return [np.asarray(found)]
    return [np.asarray(a) for a in found if a is not None]


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "prepare", "block")})
