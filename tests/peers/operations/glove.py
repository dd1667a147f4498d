"""GloVe's objective in PyTorch's own operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def t_glove(
    w: Any, w_context: Any, b: Any, b_context: Any, i: Any, j: Any, x: Any, *, x_max: float = 100.0, alpha: float = 0.75
) -> Any:
    """Pairs that met, weighted; log 0 is kept out before it can make a NaN."""
    met = x != 0
    i, j, x = i[met].long(), j[met].long(), x[met]
    errors = torch.einsum("nd,nd->n", w[i], w_context[j]) + b[i] + b_context[j] - torch.log(x)
    return torch.sum(torch.clamp((x / x_max) ** alpha, max=1.0) * errors**2)


PEERS: dict[str, Callable[..., Any]] = {"glove": t_glove}
