"""PyTorch's side of lstm_step.py: torch.nn.LSTM forward and backward, eager."""

from __future__ import annotations

from typing import Any

import lstm_shapes
import numpy as np
import torch
from serve import serve, timed_block


class Side:
    """A layer, its input and a cotangent, between requests."""

    def start(self, threads: int) -> dict[str, Any]:
        """Threads."""
        torch.set_num_threads(threads)
        return {"threads": torch.get_num_threads(), "torch": torch.__version__}

    def prepare(self, shape: str, path: str) -> None:
        """The layer of this shape; its outputs and gradients of one step go into an npz file."""
        arrays = {name: torch.from_numpy(a) for name, a in lstm_shapes.numbers(shape).items()}
        self.x, self.dy = arrays.pop("x").requires_grad_(), arrays.pop("dy")
        self.layer = torch.nn.LSTM(self.dy.shape[2], self.dy.shape[2], lstm_shapes.SHAPES[shape][3])
        self.layer.load_state_dict(arrays)
        y = self.step()
        found = {name: p.grad.numpy() for name, p in self.layer.named_parameters() if p.grad is not None}
        assert self.x.grad is not None
        np.savez(path, y=y.detach().numpy(), x=self.x.grad.numpy(), **found)

    def step(self) -> Any:
        """One forward and backward pass, with fresh gradients."""
        self.layer.zero_grad(set_to_none=True)
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
