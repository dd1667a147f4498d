"""Layers and stacks of the encoder-decoder Transformer (Vaswani et al. 2017), with PyTorch's names.

Derived by hand in reference/encoder_block.py and decoder_block.py. B: batch, T: positions (of the target, in a decoder),
S: positions of the source, C: d_model. The batch is always the first axis, as with PyTorch's batch_first=True. Masks are
boolean and say True for what takes part, where PyTorch's say True for what is ignored; a padding mask is (B, 1, 1, S).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

from ..ops import gelu, relu
from ..tensor import Tensor
from .attention import MultiheadAttention
from .layers import Dropout, LayerNorm, Linear, positive
from .module import Module, ModuleList

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": relu, "gelu": partial(gelu, approximate="none")}


class _Layer(Module):
    """What both layers share: self-attention, the feed-forward net, and where the norms stand."""

    CROSS: ClassVar[bool] = False  # whether there is attention to a memory

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        *,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        positive(type(self).__name__, d_model=d_model, dim_feedforward=dim_feedforward)
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"{type(self).__name__}: activation is {activation!r}, but it must be one of {', '.join(ACTIVATIONS)}"
            )
        self.activation, self.norm_first = activation, norm_first
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias)
        if self.CROSS:
            self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias)
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias)
        if self.CROSS:
            self.norm3 = LayerNorm(d_model, layer_norm_eps, bias)
        self.dropout = Dropout(dropout)

    def _residual(self, x: Tensor, norm: LayerNorm, branch: Callable[[Tensor], Tensor]) -> Tensor:
        """norm(x + branch(x)), or x + branch(norm(x)) with norm_first."""
        if self.norm_first:
            return self.dropout.add(branch(norm(x)), x)
        return norm(self.dropout.add(branch(x), x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(ACTIVATIONS[self.activation](self.linear1(x))))

    def extra_repr(self) -> str:
        return f"activation={self.activation!r}, norm_first={self.norm_first}"


class TransformerEncoderLayer(_Layer):
    """Self-attention, then a feed-forward net, each a residual branch with a norm: (B, T, C) -> (B, T, C).

    The arguments are torch.nn.TransformerEncoderLayer's. norm_first: norms inside of the branches (pre-norm) instead of
    behind them. activation: "relu", or "gelu" (the exact one). dropout: of the attention's weights, of the hidden
    layer, and of both branches.
    """

    def forward(self, src: Tensor, *, mask: Any = None, causal: bool = False) -> Tensor:
        """mask: boolean, broadcasts to (B, nhead, T, T), True takes part. causal: see no later position."""
        x = self._residual(src, self.norm1, lambda a: self.self_attn(a, mask=mask, causal=causal))
        return self._residual(x, self.norm2, self._feed_forward)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to a memory, a feed-forward net: (B, T, C), (B, S, C) -> (B, T, C).

    The arguments are torch.nn.TransformerDecoderLayer's, and mean what they mean in TransformerEncoderLayer.
    """

    CROSS = True

    def forward(
        self, tgt: Tensor, memory: Tensor, *, mask: Any = None, memory_mask: Any = None, causal: bool = True
    ) -> Tensor:
        """mask broadcasts to (B, nhead, T, T), memory_mask to (B, nhead, T, S); boolean, True takes part.

        causal: the self-attention sees no later position. True unless you say otherwise (PyTorch: False), since a
        decoder must not see what it is to predict.
        """
        x = self._residual(tgt, self.norm1, lambda a: self.self_attn(a, mask=mask, causal=causal))
        x = self._residual(x, self.norm2, lambda a: self.multihead_attn(a, memory, mask=memory_mask))
        return self._residual(x, self.norm3, self._feed_forward)


class TransformerEncoder(Module):
    """Encoder layers in a row, then `norm` if there is one (pre-norm stacks need it).

    It takes the layers themselves: PyTorch copies one, so that all start out alike; these have their own initial values.
    """

    def __init__(self, layers: Iterable[TransformerEncoderLayer], norm: LayerNorm | None = None) -> None:
        self.layers = ModuleList(layers)
        self.norm = norm

    def forward(self, src: Tensor, *, mask: Any = None, causal: bool = False) -> Tensor:
        """mask and causal go to every layer."""
        for layer in self.layers:
            src = layer(src, mask=mask, causal=causal)
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """Decoder layers in a row, all with the same memory, then `norm` if there is one; see TransformerEncoder."""

    def __init__(self, layers: Iterable[TransformerDecoderLayer], norm: LayerNorm | None = None) -> None:
        self.layers = ModuleList(layers)
        self.norm = norm

    def forward(
        self, tgt: Tensor, memory: Tensor, *, mask: Any = None, memory_mask: Any = None, causal: bool = True
    ) -> Tensor:
        """masks and causal go to every layer."""
        for layer in self.layers:
            tgt = layer(tgt, memory, mask=mask, memory_mask=memory_mask, causal=causal)
        return tgt if self.norm is None else self.norm(tgt)
