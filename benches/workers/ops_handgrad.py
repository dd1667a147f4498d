"""handgrad's side of ops.py: one version of a row (a rung, production's pair, the formula), called through the engine."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from rotation import Rotation, poison
from serve import serve

from handgrad.engine import process


class Side(Rotation):
    """A row at one size and its inputs, between requests."""

    def start(self, threads: int, installed: bool = False) -> dict[str, Any]:
        """Settle the process, then load NumPy and handgrad; installed: in the order of a program that knows nothing of that."""
        if not installed:
            process.settle(threads)
            process.join_pools()
        import cases

        import handgrad as hg
        from handgrad.engine import kernel_table
        from handgrad.engine.tensor import KERNELS, apply
        from handgrad.reference.table import ROWS

        hg.Tensor  # noqa: B018  the engine, which settles what it can, loads when it is first touched
        self.hg, self.cases, self.table, self.kernels = hg, cases, kernel_table, KERNELS
        self.apply, self.rows = apply, {op.name: op for op in ROWS}
        self.users: dict[str, Any] = {}
        return {"threads": threads, "process": process.describe(), **process.settings()}

    def versions(self, op: str) -> list[str]:
        """The names of what can be timed of a row: the ladder from below, the formula, and production's last."""
        if op in self.cases.UPDATES:
            return ["numba"]
        found = self.table.versions(self.rows[op])
        return ["formula", *(name for name in found if name != "numba"), *(["numba"] if "numba" in found else [])]

    def own(self, name: str, path: str, forward: str, vjp: tuple[str, str] | None, op: str) -> None:
        """A user's functions become the version `name` of a row. vjp: (file, function), or None where there is none."""
        import own

        self.users[name] = own.Pair(path, forward, vjp, self.rows[op])

    def prepare(
        self, case: str, version: str, direction: str, copies: int, shape: list[int] | None, path: str
    ) -> dict[str, Any] | None:
        """Make the inputs, and leave what a pass over poisoned memory gives (y, or the gradients) in an npz file; None where
        the version does not accept.
        """
        import numpy as np

        this = self.cases.case(case)
        if this.op in self.cases.UPDATES:
            return self.update(this, path)
        op = self.rows[this.op]
        self.kernels.clear()
        if version in self.users:
            self.kernels[op] = pair = self.users[version]
            pair.try_once(this.arrays(), this.params, shape, self.cases.cotangent, direction)
        elif version != "formula":
            pair = self.table.versions(op).get(version)
            if pair is None or not pair.accepts(*this.arrays(), **this.params):
                return None
            self.kernels[op] = pair
        backward = direction == "backward"
        runs = [self.run(this, copy, backward, shape) for copy in range(copies)]
        self.run(this, 0, backward, shape)[0]()  # compiles
        results = [a.shape for a in runs[0][1]] if backward else [tuple(shape or ())]
        poisoned = poison(results)
        y = runs[0][0]()
        if backward:
            np.savez(path, *(leaf.grad.numpy() for leaf in runs[0][1]), dy=self.cases.cotangent(shape))
        else:
            np.savez(path, y.numpy())
        self.turn_to([run for run, _ in runs])
        poison(results)
        return {"poisoned": poisoned}

    def run(self, this: Any, copy: int, backward: bool, shape: Any) -> tuple[Any, list[Any]]:
        """(a pass over fresh inputs, the leaves that it leaves gradients in)."""
        op, Tensor = self.rows[this.op], self.hg.Tensor
        inputs = [Tensor(a, copy=False, requires_grad=backward and a.dtype.kind == "f") for a in this.arrays(copy)]

        def forward() -> Any:
            y = self.apply(op, *inputs, **this.params)
            return y[0] if isinstance(y, tuple) else y

        if not backward:
            return forward, []
        y, dy, leaves = forward(), self.cases.cotangent(shape, copy), [t for t in inputs if t.requires_grad]

        def backwards() -> None:
            for leaf in leaves:
                leaf.grad = None
            y.backward(dy, retain_graph=True)

        return backwards, leaves

    def update(self, this: Any, path: str) -> dict[str, Any]:
        """The public function of an update, on parameters whose gradients backward left."""
        import numpy as np

        hg: ModuleType = self.hg
        arrays, params = this.arrays(), this.params
        if this.op == "adamw":
            p = hg.Tensor(arrays[0], requires_grad=True)
            optimizer = hg.optim.AdamW([p], **params)
            (p * hg.Tensor(arrays[1])).backward(np.ones(p.shape, np.float32))
            optimizer.step()
            np.savez(path, optimizer.flat, optimizer.m, optimizer.v)
            self.turn_to([optimizer.step])
        else:
            parameters, bounds = (
                [hg.Tensor(np.zeros_like(a), requires_grad=True) for a in arrays],
                self.cases.tighter(**params),
            )
            for p, a in zip(parameters, arrays, strict=True):
                (p * hg.Tensor(a)).backward(np.ones(a.shape, np.float32))
            hg.optim.clip_grad_norm_(parameters, next(bounds))
            np.savez(path, *(p.grad.numpy() for p in parameters))
            self.turn_to([lambda: hg.optim.clip_grad_norm_(parameters, next(bounds))])
        return {"poisoned": False}  # it allocates nothing that could be


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "versions", "own", "prepare", "block")})
