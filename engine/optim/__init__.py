"""Optimizers."""

from .adamw import AdamW
from .clip import clip_grad_norm_

__all__ = ["AdamW", "clip_grad_norm_"]
