"""Adam over flat memory. The update formula is derived in reference/adam.py; the pass is AdamW's, without its decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .adamw import AdamW


class Adam(AdamW):
    """Adam (Kingma and Ba 2015) whose weight decay is L2: a part of the gradient. PyTorch's arguments and result.

    params, max_norm and memory are as in AdamW. Clipping comes before the decay, which `.grad` never shows.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        max_norm: float | None = None,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, max_norm=max_norm)

    def _update(self, group: Mapping[str, Any], step: int, scale: float, start: int, stop: int) -> None:
        decay = float(group["weight_decay"])
        if decay == 0.0:
            self._pass(group, step, scale, self.flat_grad[start:stop], 0.0, start, stop)
            return
        for i, j in self._blocks(start, stop):
            self._pass(group, step, 1.0, self.flat_grad[i:j] * scale + decay * self.flat[i:j], 0.0, i, j)
