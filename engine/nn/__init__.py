"""Layers."""

from .layers import GELU, Dropout, Embedding, LayerNorm, Linear
from .module import Module, ModuleList, Parameter, Sequential
from .transformer import MLP, MultiHeadAttention, TransformerBlock

__all__ = [
    "GELU", "MLP", "Dropout", "Embedding", "LayerNorm", "Linear", "Module", "ModuleList", "MultiHeadAttention", "Parameter",
    "Sequential", "TransformerBlock",
]  # fmt: skip
