"""Stochastic gradient descent over flat memory. The update formula is derived in reference/sgd.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Any

import numpy as np

from .flat import FlatOptimizer, not_negative


class SGD(FlatOptimizer):
    """Gradient descent with momentum (Polyak's, or Nesterov's) and L2 decay. PyTorch's arguments and result.

    params, max_norm and memory are as in AdamW. Without momentum the velocity is never written.
    """

    STATE = ("velocity",)
    velocity: np.ndarray

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        max_norm: float | None = None,
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
        }  # fmt: skip
        super().__init__(params, defaults, max_norm)

    def _limits(self, group: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
        yield from super()._limits(group)
        yield from not_negative(group, "momentum")
        yield "dampening", isinstance(group["dampening"], Real), "a number"
        plain = group["momentum"] > 0 and group["dampening"] == 0
        yield "nesterov", not group["nesterov"] or plain, "False without momentum or with dampening"

    def _update(self, group: Mapping[str, Any], step: int, scale: float, start: int, stop: int) -> None:
        lr, momentum, decay = (float(group[name]) for name in ("lr", "momentum", "weight_decay"))
        fresh = 1.0 - float(group["dampening"])
        for i, j in self._blocks(start, stop):
            param, grad = self.flat[i:j], self.flat_grad[i:j] * scale
            if decay:
                grad += decay * param
            if momentum:
                velocity = self.velocity[i:j]
                if step == 1:
                    velocity[:] = grad
                else:
                    velocity *= momentum
                    velocity += fresh * grad
                grad = grad + momentum * velocity if group["nesterov"] else velocity
            param -= lr * grad
