"""Reading with a GPT, one piece of a text after the other: the model written down once more, on arrays, for generation.

A token costs a few milliseconds, in which a few hundred operations run. So there are no Tensors here: arrays, the rows'
kernels (or formulas, as HANDGRAD_KERNELS says), keys and values of all positions so far, and weights in whatever form is
wanted. tests/engine/test_cache.py holds it to the model's own logits, for any cuts of a text.

T: new positions, C: n_embd, H: n_head, D = C / H, V: vocab_size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...reference import table as t
from ..device import host, library
from ..kernel_table import on_arrays
from ..nn import LayerNorm, Linear
from .matrix import Matrix, check_form

if TYPE_CHECKING:
    from .gpt import GPT


class _Linear:
    """x W^T + b: (T, in) -> (T, out)."""

    def __init__(self, layer: Linear, form: str | None) -> None:
        self.matrix = Matrix(layer.weight.data, form)
        self.bias = None if layer.bias is None else _vector(layer.bias.data, form)

    @property
    def nbytes(self) -> int:
        return self.matrix.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.matrix.linear(x, self.bias)


class _LayerNorm:
    """(T, C) -> (T, C)."""

    def __init__(self, layer: LayerNorm, form: str | None) -> None:
        vectors = (layer.weight,) if layer.bias is None else (layer.weight, layer.bias)
        self.vectors, self.eps = [_vector(v.data, form) for v in vectors], layer.eps

    @property
    def nbytes(self) -> int:
        return sum(v.nbytes for v in self.vectors)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return on_arrays(t.LAYER_NORM, x, *self.vectors, eps=self.eps)


def _vector(array: np.ndarray, form: str | None) -> np.ndarray:
    """Vectors are never rounded to fewer bits: the model's own, or float32 of our own where the matrices have another form."""
    return array if form in (None, array.dtype.name) else array.astype(np.float32)


class _Block:
    """A TransformerBlock, with the keys and values of what was read."""

    def __init__(self, block: Any, room: int, form: str | None) -> None:
        self.ln_1, self.ln_2 = _LayerNorm(block.ln_1, form), _LayerNorm(block.ln_2, form)
        self.c_attn, self.c_proj = _Linear(block.attn.c_attn, form), _Linear(block.attn.c_proj, form)
        self.c_fc, self.down = _Linear(block.mlp.c_fc, form), _Linear(block.mlp.c_proj, form)
        C, self.n_head = block.ln_1.weight.size, block.attn.n_head
        first = self.ln_1.vectors[0]
        self.keys, self.values = (
            library(first).empty((self.n_head, room, C // self.n_head), first.dtype) for _ in range(2)
        )

    @property
    def nbytes(self) -> int:
        layers = self.ln_1, self.ln_2, self.c_attn, self.c_proj, self.c_fc, self.down
        return sum(layer.nbytes for layer in layers)

    def read(self, x: np.ndarray, start: int) -> np.ndarray:
        """x (T, C) of the positions from `start` on -> (T, C). Keys and values of those before are kept."""
        (T, C), end = x.shape, start + len(x)
        heads = self.c_attn(self.ln_1(x)).reshape(T, 3, self.n_head, -1).transpose(1, 2, 0, 3)  # (3, H, T, D)
        self.keys[:, start:end], self.values[:, start:end] = heads[1], heads[2]
        y = on_arrays(t.ATTENTION, heads[0], self.keys[:, :end], self.values[:, :end], causal=True)  # (H, T, D)
        x = x + self.c_proj(y.transpose(1, 0, 2).reshape(T, C))
        return x + self.down(on_arrays(t.GELU, self.c_fc(self.ln_2(x))))


class Reader:
    """Reads a text piece by piece with a model, on the model's device.

    Pieces that fit into the model's context cost what they are long.

    Once the text is longer than the context, its window moves on with every token; then every position in it is another
    one and the whole window is computed anew, as `next_logits` does.

    weights: what the matrices are stored as, "float32", "bfloat16", "float16" or "int8" (one scale a row); the rest is float32
        then, and the model itself is not needed any more. None: all is as in the model, whose memory is shared.
    """

    def __init__(self, model: GPT, weights: str | None = None) -> None:
        check_form(weights)
        body = model.transformer
        self._room, self._ids = model.config.block_size, np.zeros(0, np.int64)
        self._tokens, self._positions = Matrix(body.wte.weight.data, weights), Matrix(body.wpe.weight.data, weights)
        blocks: Any = body.h  # a ModuleList says no more than Module of what it holds
        self._blocks = [_Block(block, self._room, weights) for block in blocks]
        self._ln_f = _LayerNorm(body.ln_f, weights)

    def forget(self) -> None:
        """From here on another text."""
        self._ids = self._ids[:0]

    @property
    def nbytes(self) -> int:
        """Of all weights, as they are stored here."""
        parts: list[Any] = [self._tokens, self._positions, self._ln_f, *self._blocks]
        return sum(part.nbytes for part in parts)

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Logits (V,) of the token that follows ids (T,), which follow what was read before."""
        ids, V = np.asarray(ids), len(self._tokens.array)
        if not ids.size:
            raise ValueError("GPT: there are no ids to read")
        if not 0 <= ids.min() <= ids.max() < V:
            raise IndexError(f"GPT: ids hold {ids.min()} to {ids.max()}, but there are {V} tokens")
        start = len(self._ids)
        self._ids = np.append(self._ids, ids)
        if len(self._ids) > self._room:
            start, ids = 0, self._ids[-self._room :]
        x = self._tokens.rows(ids) + self._positions.rows(np.arange(start, start + len(ids)))  # (T, C)
        for block in self._blocks:
            x = block.read(x, start)
        return host(self._tokens.linear(self._ln_f(x[-1:]))[0])
