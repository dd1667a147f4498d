"""Launches attention_05_warp_specialised.cu: a producer and two consumers for 128 queries. What it takes, and the way back, are
rung 04's.
"""

from typing import Any

from .attention_04_wgmma import CHECKED, TYPES, accepts, forward_by, kernels, vjp

__all__ = ["CHECKED", "TYPES", "accepts", "forward", "vjp"]

THREADS = 384

_forward = kernels(__file__, "forward_05_warp_specialised")


def forward(q: Any, k: Any, v: Any, mask: Any = None, bias: None = None, **params: Any) -> tuple[Any, Any]:
    """y (..., H, T, D) of q (..., H, T, D), k and v (..., G, S, D); residual: as of rung 04."""
    return forward_by(_forward, THREADS, q, k, v, mask, bias, **params)
