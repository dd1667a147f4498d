"""Layers."""

from .attention import MultiheadAttention
from .encoder_decoder import TransformerDecoder, TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer
from .layers import GELU, Dropout, Embedding, LayerNorm, Linear, ReLU, SiLU
from .module import Module, ModuleList, Parameter, Sequential
from .norms import RMSNorm
from .transformer import MLP, SelfAttention, TransformerBlock

__all__ = [
    "GELU", "MLP", "Dropout", "Embedding", "LayerNorm", "Linear", "Module", "ModuleList", "MultiheadAttention",
    "Parameter", "RMSNorm", "ReLU", "SelfAttention", "Sequential", "SiLU", "TransformerBlock", "TransformerDecoder",
    "TransformerDecoderLayer", "TransformerEncoder", "TransformerEncoderLayer",
]  # fmt: skip
