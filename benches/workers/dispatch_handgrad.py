"""handgrad's side of dispatch.py: y = a + b on 4 float32 elements, and where its microseconds go."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from serve import serve, timed_block

from handgrad.engine import process

INNER = 500
"""Calls a sample: about 10 ms."""


class Side:
    """Two leaves, a cotangent, and the three things that are timed."""

    def start(self, threads: int) -> dict[str, Any]:
        """Settle, load, make the Tensors."""
        process.settle(threads)
        import handgrad as hg

        self.a = hg.Tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
        self.b = hg.Tensor([5.0, 6.0, 7.0, 8.0], requires_grad=True)
        self.dy = hg.Tensor([1.0, -1.0, 0.5, 2.0])
        return process.settings()

    def check(self) -> list[list[float]]:
        """y and both gradients of one round."""
        self.a.grad = self.b.grad = None
        y = self.a + self.b
        y.backward(self.dy)
        assert self.a.grad is not None and self.b.grad is not None
        return [t.tolist() for t in (y.detach().numpy(), self.a.grad.numpy(), self.b.grad.numpy())]

    def block(self, seconds: float, what: str) -> list[tuple[float, float]]:
        """Samples of INNER calls: "forward", "accumulate" (gradients add up) or "fresh" (.grad is None before each)."""
        a, b, dy = self.a, self.b, self.dy

        def forward() -> None:
            a + b

        def accumulate() -> None:
            y = a + b
            y.backward(dy)

        def fresh() -> None:
            a.grad = None
            b.grad = None
            y = a + b
            y.backward(dy)

        return timed_block({"forward": forward, "accumulate": accumulate, "fresh": fresh}[what], seconds, inner=INNER)

    def profile(self) -> dict[str, float]:
        """Microseconds of each part alone, the least of several repeats; parts do not add up exactly."""
        import numpy as np

        from handgrad.engine import autograd, door, tensor
        from handgrad.reference.table import ADD

        a, b, dy = self.a, self.b, self.dy
        x, z, d = a.data, b.data, dy.data
        y = a + b
        node: Any = y.node
        outputs, empty = (y,), {}
        y.backward(dy)  # the gradients are there
        y = a + b
        node = y.node
        lent = autograd._lend(node, {}, set())
        forward = {
            "forward: a + b in NumPy": lambda: x + z,
            "forward: validate (dictionary look-up of shapes)": lambda: door.validate(ADD, [x, z], empty),
            "forward: run (kernel or formula)": lambda: tensor.run(ADD, [x, z], empty),
            "forward: wrap": lambda: tensor.wrap(x),
            "forward: _record (the node)": lambda: tensor._record(ADD, (a, b), [x, z], empty, outputs, None, None),
            "forward: whole": lambda: a + b,
        }
        backward = {
            "backward: two NumPy additions in place": lambda: (np.add(x, z, out=scratch), np.add(x, z, out=scratch)),
            "backward: the cotangent at the door": lambda: door.cotangent(y.data, d),
            "backward: _nodes and _validate": lambda: autograd._validate(autograd._nodes(node)),
            "backward: _vjp": lambda: autograd._vjp(node, [d], node.wanted, lent),
            "backward: _accumulate into both leaves": lambda: (
                autograd._accumulate(a, d, False),
                autograd._accumulate(b, d, False),
            ),
            "backward: whole (graph retained)": lambda: y.backward(dy, retain_graph=True),
        }
        scratch = np.empty_like(x)
        return {name: round(_microseconds(part), 3) for name, part in (forward | backward).items()}


def _microseconds(function: Callable[[], Any], calls: int = 2000, repeats: int = 15) -> float:
    """Of one call: the least mean among the repeats."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        best = min(best, (time.perf_counter() - start) / calls)
    return best * 1e6


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "check", "block", "profile")})
