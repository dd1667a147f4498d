"""Optimizers."""

from .adagrad import Adagrad
from .adam import Adam
from .adamw import AdamW
from .clip import clip_grad_norm_
from .sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "clip_grad_norm_"]
