"""Elementary functions and activations as PyTorch has them: row name -> function of torch tensors and the row's parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F


def both(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of two tensors, where a Python number comes as a 0-d float64 tensor."""

    def call(x1: Any, x2: Any) -> Any:
        return function(*(x if isinstance(x, torch.Tensor) else torch.tensor(x, dtype=torch.float64) for x in (x1, x2)))

    return call


def hypot(x1: Any, x2: Any) -> Any:
    """torch.hypot, but with the slopes 0 at the origin, where PyTorch's are NaN."""
    origin = (x1 == 0.0) & (x2 == 0.0)
    return torch.where(origin, 0.0, torch.hypot(torch.where(origin, 1.0, x1), x2))


PEERS: dict[str, Callable[..., Any]] = {
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "asin": torch.asin,
    "acos": torch.acos,
    "atan": torch.atan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "asinh": torch.asinh,
    "acosh": torch.acosh,
    "atanh": torch.atanh,
    "expm1": torch.expm1,
    "log1p": torch.log1p,
    "log2": torch.log2,
    "log10": torch.log10,
    "logaddexp": both(torch.logaddexp),
    "hypot": both(hypot),
    "atan2": both(torch.atan2),
    "abs": torch.abs,
    "maximum": both(torch.maximum),
    "minimum": both(torch.minimum),
    "clip": lambda x, *, min=None, max=None: x.clone() if min is max is None else torch.clip(x, min, max),
    "remainder": both(torch.remainder),
    "sigmoid": torch.sigmoid,
    "softplus": lambda x: F.softplus(x, threshold=100.0),  # beyond it PyTorch returns x; its 20 is for float32
    "silu": F.silu,
    "relu": torch.relu,
    "erf": torch.erf,
    "gelu_erf": lambda x: F.gelu(x, approximate="none"),
}
