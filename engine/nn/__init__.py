"""Layers."""

from .attention import MultiheadAttention
from .cache import KeyValueCache
from .encoder_decoder import TransformerDecoder, TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer
from .layers import GELU, Dropout, Embedding, LayerNorm, Linear, ReLU, SiLU
from .module import Module, ModuleList, Parameter, Sequential
from .norms import RMSNorm
from .recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from .seq2seq_attention import AdditiveAttention, MultiplicativeAttention
from .transformer import MLP, SelfAttention, SwiGLU, TransformerBlock

__all__ = [
    "GELU", "GRU", "LSTM", "MLP", "RNN", "AdditiveAttention", "Dropout", "Embedding", "GRUCell", "KeyValueCache",
    "LSTMCell", "LayerNorm", "Linear", "Module", "ModuleList", "MultiheadAttention", "MultiplicativeAttention", "Parameter",
    "RMSNorm", "RNNCell", "ReLU", "SelfAttention", "Sequential", "SiLU", "SwiGLU", "TransformerBlock",
    "TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder", "TransformerEncoderLayer",
]  # fmt: skip
