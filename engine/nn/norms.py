"""Norms beside LayerNorm."""

from __future__ import annotations

import numpy as np

from ..ops import rms_norm
from ..tensor import Tensor
from .layers import positive
from .module import Module, Parameter


class RMSNorm(Module):
    """Scales the last axis to root mean square 1, then by weight (ones). No mean is subtracted and no bias added."""

    def __init__(self, normalized_shape: int, eps: float = 1e-6) -> None:
        positive("RMSNorm", normalized_shape=normalized_shape)
        self.eps = eps
        self.weight = Parameter(np.ones(normalized_shape, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.size}, eps={self.eps}"
