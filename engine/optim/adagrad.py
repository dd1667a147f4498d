"""AdaGrad over flat memory. The update formula is derived in reference/adagrad.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..device import library
from .flat import FlatOptimizer, not_negative


class Adagrad(FlatOptimizer):
    """Steps that shrink with the gradients seen so far (Duchi, Hazan and Singer 2011). PyTorch's arguments and result.

    params, max_norm and memory are as in AdamW. `squares`, the sums of squared gradients, start at
    initial_accumulator_value.
    """

    STATE = ("squares",)
    squares: np.ndarray

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        max_norm: float | None = None,
    ) -> None:
        defaults = {
            "lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "eps": eps,
        }  # fmt: skip
        super().__init__(params, defaults, max_norm)
        i = 0
        for group in self.param_groups:
            n = len(group["params"])
            self.squares[self.offsets[i] : self.offsets[i + n]] = group["initial_accumulator_value"]
            i += n

    def _limits(self, group: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
        yield from super()._limits(group)
        yield from not_negative(group, "lr_decay", "initial_accumulator_value", "eps")

    def _update(self, group: Mapping[str, Any], step: int, scale: float, start: int, stop: int) -> None:
        rate = float(group["lr"]) / (1.0 + (step - 1) * float(group["lr_decay"]))
        eps, decay = float(group["eps"]), float(group["weight_decay"])
        for i, j in self._blocks(start, stop):
            param, grad, squares = self.flat[i:j], self.flat_grad[i:j] * scale, self.squares[i:j]
            if decay:
                grad += decay * param
            squares += grad * grad
            grad /= library(squares).sqrt(squares) + eps
            param -= rate * grad
