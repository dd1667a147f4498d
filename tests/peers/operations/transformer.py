"""Norms and positions as PyTorch has them: row name -> function of torch tensors and the row's own parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

import handgrad as hg


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


def t_dropout_add(x: Any, residual: Any, draw: Any, *, p: float) -> Any:
    """PyTorch cannot draw Philox words from a given counter: the mask is handgrad's, the arithmetic is PyTorch's."""
    generator = hg.Generator()
    seed, stream, counter = (int(word) % 2**64 for word in draw.to(torch.int64))
    generator.set_state({"seed": seed, "stream": stream, "counter": counter})
    mask = torch.from_numpy(np.array(generator.bernoulli(tuple(x.shape), 1.0 - p)))
    return residual + torch.where(mask, x / (1.0 - p), 0.0)


PEERS: dict[str, Callable[..., Any]] = {
    "rms_norm": lambda x, weight, *, eps=1e-6: F.rms_norm(x, weight.shape, weight, eps),
    "rotary_embedding": t_rotary_embedding,
    "add_layer_norm": t_add_layer_norm,
    "dropout_add": t_dropout_add,
    "bias_gelu": lambda x, bias: F.gelu(x + bias, approximate="tanh"),
    "bias_silu": lambda x, bias: F.silu(x + bias),
    "swiglu": lambda gate, up: F.silu(gate) * up,
}
