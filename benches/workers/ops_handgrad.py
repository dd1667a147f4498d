"""handgrad's side of ops.py: one version of a row (a rung, production's pair, the formula), called through the engine."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

from serve import serve, timed_block

from handgrad.engine import process


class Side:
    """A row at one size and its inputs, between requests."""

    def start(self, threads: int) -> dict[str, Any]:
        """Settle the process, then load NumPy and handgrad."""
        process.settle(threads)
        process.join_pools()
        import cases

        import handgrad as hg
        from handgrad.engine import kernel_table
        from handgrad.engine.tensor import KERNELS, apply
        from handgrad.reference.table import ROWS

        self.hg, self.cases, self.table, self.kernels = hg, cases, kernel_table, KERNELS
        self.apply, self.rows = apply, {op.name: op for op in ROWS}
        return {"threads": threads, "process": process.describe(), **process.settings()}

    def versions(self, op: str) -> list[str]:
        """The names of what can be timed of a row: the ladder from below, and the formula."""
        found = self.table.versions(self.rows[op])
        return ["formula", *(name for name in found if name != "numba"), *(["numba"] if "numba" in found else [])]

    def own(self, path: str, function: str, op: str) -> None:
        """A user's kernel becomes the version `function`: a function of the inputs that returns the output."""
        spec = importlib.util.spec_from_file_location("own_kernel", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if not callable(theirs := getattr(module, function, None)):
            raise ValueError(f"--kernel: {path} defines no function called {function}")
        pair = SimpleNamespace(forward=lambda *a, **p: (theirs(*a, **p), None), accepts=lambda *a, **p: True, vjp=None)
        self.mine = {op: pair}

    def prepare(self, case: str, version: str, direction: str, copies: int, path: str) -> bool:
        """Make the inputs, run once and leave y, or the gradients, in an npz file; False where the version does not accept."""
        import numpy as np

        this, copies = self.cases.case(case), max(1, copies)
        op = self.rows[this.op]
        self.kernels.clear()
        if version != "formula":
            pair = self.mine[this.op] if version not in self.versions(this.op) else self.table.versions(op)[version]
            if not pair.accepts(*this.arrays(), **this.params):
                return False
            self.kernels[op] = pair
        backward = direction == "backward"
        Tensor = self.hg.Tensor
        inputs = [
            [Tensor(a, copy=False, requires_grad=backward and a.dtype.kind == "f") for a in this.arrays(copy)]
            for copy in range(copies)
        ]

        def forward(tensors: list[Any]) -> Any:
            y = self.apply(op, *tensors, **this.params)
            return y[0] if isinstance(y, tuple) else y

        if backward:
            dy = np.random.default_rng(1).standard_normal(forward(inputs[0]).shape).astype(np.float32)
            graphs = [(forward(tensors), [t for t in tensors if t.requires_grad]) for tensors in inputs]

            def backwards(y: Any, leaves: list[Any]) -> None:
                for leaf in leaves:
                    leaf.grad = None
                y.backward(dy, retain_graph=True)

            self.steps = [lambda y=y, leaves=leaves: backwards(y, leaves) for y, leaves in graphs]
            self.steps[0]()
            np.savez(path, *(leaf.grad.numpy() for leaf in graphs[0][1]), dy=dy)
        else:
            self.steps = [lambda tensors=tensors: forward(tensors) for tensors in inputs]
            np.savez(path, self.steps[0]().numpy())
        self.turn = 0
        return True

    def step(self) -> None:
        """One pass over the next copy of the inputs."""
        self.turn = (self.turn + 1) % len(self.steps)
        self.steps[self.turn]()

    def block(self, seconds: float, inner: int = 1) -> list[tuple[float, float]]:
        """Passes for about `seconds`."""
        return timed_block(self.step, seconds, inner=inner)


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "versions", "own", "prepare", "block")})
