"""PyTorch's side of dispatch.py: y = a + b on 4 float32 elements."""

from __future__ import annotations

from typing import Any

import torch
from serve import serve, timed_block

INNER = 500
"""Calls a sample: about 5 ms."""


class Side:
    """Two leaves, a cotangent, and the three things that are timed."""

    def start(self, threads: int) -> dict[str, Any]:
        """Make the tensors."""
        torch.set_num_threads(threads)
        self.a = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
        self.b = torch.tensor([5.0, 6.0, 7.0, 8.0], requires_grad=True)
        self.dy = torch.tensor([1.0, -1.0, 0.5, 2.0])
        return {"threads": torch.get_num_threads(), "torch": torch.__version__}

    def check(self) -> list[list[float]]:
        """y and both gradients of one round."""
        self.a.grad = self.b.grad = None
        y = self.a + self.b
        y.backward(self.dy)
        assert self.a.grad is not None and self.b.grad is not None
        return [t.tolist() for t in (y.detach(), self.a.grad, self.b.grad)]

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


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "check", "block")})
