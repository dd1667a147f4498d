"""handgrad's side of lstm_step.py: nn.LSTM forward and backward."""

from __future__ import annotations

from typing import Any

from serve import serve, timed_block

from handgrad.engine import process


class Side:
    """A layer, its input and a cotangent, between requests."""

    def start(self, threads: int) -> dict[str, Any]:
        """Settle the process, then load NumPy and handgrad."""
        process.settle(threads)
        process.join_pools()
        import lstm_shapes

        import handgrad as hg

        self.hg, self.shapes = hg, lstm_shapes
        return {"threads": threads, "process": process.describe(), **process.settings()}

    def prepare(self, shape: str, path: str) -> None:
        """The layer of this shape; its outputs and gradients of one step go into an npz file."""
        import numpy as np

        arrays = self.shapes.numbers(shape)
        self.x, self.dy = self.hg.Tensor(arrays.pop("x"), requires_grad=True), arrays.pop("dy")
        self.layer = self.hg.nn.LSTM(self.dy.shape[2], self.dy.shape[2], self.shapes.SHAPES[shape][3])
        self.layer.load_state_dict(arrays)
        y = self.step()
        found: dict[str, Any] = {
            name: p.grad.numpy() for name, p in self.layer.named_parameters() if p.grad is not None
        }
        assert self.x.grad is not None
        np.savez(path, y=y.detach().numpy(), x=self.x.grad.numpy(), **found)

    def step(self) -> Any:
        """One forward and backward pass, with fresh gradients."""
        self.layer.zero_grad()
        self.x.grad = None
        y, _ = self.layer(self.x)
        y.backward(self.dy)
        return y

    def block(self, seconds: float) -> list[tuple[float, float]]:
        """Steps for about `seconds`."""
        return timed_block(self.step, seconds)


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "prepare", "block")})
