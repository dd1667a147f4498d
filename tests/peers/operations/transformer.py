"""Norms and positions as PyTorch has them: row name -> function of torch tensors and the row's own parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F


def t_add_layer_norm(x: Any, residual: Any, weight: Any, bias: Any = None, *, eps: float = 1e-5) -> Any:
    s = x + residual
    return F.layer_norm(s, weight.shape, weight, bias, eps), s


def t_rotary_embedding(x: Any, *, base: float = 10000.0, offset: int = 0, interleaved: bool = False) -> Any:
    """PyTorch has no function for it: pairs as complex numbers, turned by a factor of length 1."""
    t, d = x.shape[-2:]
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., : d // 2], x[..., d // 2 :])
    position = torch.arange(offset, offset + t, dtype=torch.float64)
    frequency = 1.0 / base ** (torch.arange(0, d, 2, dtype=torch.float64) / d)
    angle = torch.outer(position, frequency)
    turned = torch.complex(a, b) * torch.polar(torch.ones_like(angle), angle)
    parts = (turned.real, turned.imag)
    return torch.stack(parts, -1).reshape(x.shape) if interleaved else torch.cat(parts, -1)


PEERS: dict[str, Callable[..., Any]] = {
    "rms_norm": lambda x, weight, *, eps=1e-6: F.rms_norm(x, weight.shape, weight, eps),
    "rotary_embedding": t_rotary_embedding,
    "add_layer_norm": t_add_layer_norm,
}
