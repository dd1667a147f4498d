"""GPT: a stack of pre-norm Transformer blocks that predicts the next token. GPT-2's architecture and names.

B: batch, T: positions, C: n_embd, V: vocab_size.
Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; initial values as in GPT-2's code:
N(0, 0.02), and N(0, 0.02 / sqrt(2 n_layer)) where a product ends in the residual stream.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .. import random
from ..device import host
from ..errors import UserError
from ..nn import Dropout, Embedding, LayerNorm, Linear, Module, ModuleList, TransformerBlock
from ..ops import cross_entropy
from ..recording import no_grad
from ..tensor import Tensor
from .gpt_reader import Reader
from .settings import decay_groups, loaded

_CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
_HUGGING_FACE = {
    "vocab_size": "vocab_size", "block_size": "n_positions", "n_layer": "n_layer", "n_head": "n_head", "n_embd": "n_embd",
}  # fmt: skip
_ARCHITECTURE = {  # what config.json may say of a model that computes as this one does; the first is what it means by silence
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "tie_word_embeddings": (True,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
}
_MOST_PARAMETERS = 1 << 40


@dataclass(frozen=True)
class GPTConfig:
    """The sizes of a GPT. `bias` False leaves out the biases of Linear and LayerNorm, as nanoGPT does."""

    vocab_size: int
    block_size: int = 64
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128
    dropout: float = 0.0
    bias: bool = True
    layer_norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UserError(f"GPT: {name} is {value!r}, but it must be a positive integer")
        if 12 * self.n_layer * self.n_embd**2 + (self.vocab_size + self.block_size) * self.n_embd > _MOST_PARAMETERS:
            sizes = (f"{name} {reprlib.repr(getattr(self, name))}" for name in _HUGGING_FACE if name != "n_head")
            raise UserError(f"GPT: {', '.join(sizes)} make more than 2**40 parameters, too many for one machine")
        if self.n_embd % self.n_head:
            raise UserError(f"GPT: n_embd is {self.n_embd}, which n_head {reprlib.repr(self.n_head)} does not divide")
        if not (_is_number(self.dropout) and 0 <= self.dropout < 1):
            raise UserError(f"GPT: dropout is {self.dropout!r}, but it must be at least 0 and below 1")
        if not (_is_number(self.layer_norm_epsilon) and 0 < self.layer_norm_epsilon < math.inf):
            raise UserError(f"GPT: layer_norm_epsilon is {self.layer_norm_epsilon!r}, but it must be above 0")
        if type(self.bias) is not bool:
            raise UserError(f"GPT: bias is {self.bias!r}, but it must be true or false")

    def to_dict(self) -> dict[str, Any]:
        """The content of config.json, in Hugging Face's terms for GPT-2."""
        names = {theirs: getattr(self, ours) for ours, theirs in _HUGGING_FACE.items()}
        return {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            **names,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "embd_pdrop": self.dropout,
            "resid_pdrop": self.dropout,
            "attn_pdrop": 0.0,
            "tie_word_embeddings": True,
            "bias": self.bias,
        }

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> GPTConfig:
        """The reverse of `to_dict`; also reads the config.json of a GPT-2 from elsewhere.

        UserError where it describes a model that would compute something else. Only the dropout of the residual stream
        is read: attn_pdrop and embd_pdrop change training alone.
        """
        if config.get("model_type") != "gpt2":
            raise UserError(f"config.json says model_type {config.get('model_type')!r}, but a GPT needs 'gpt2'")
        missing = [theirs for theirs in _HUGGING_FACE.values() if theirs not in config]
        if missing:
            raise UserError(f"config.json lacks {', '.join(missing)}")
        for name, known in _ARCHITECTURE.items():
            if (said := config.get(name, known[0])) not in known:
                wanted = " or ".join(map(json.dumps, known))
                raise UserError(f"config.json says {name} {json.dumps(said)}, but this GPT knows only {wanted}")
        dropout = config.get("resid_pdrop", 0.0)
        if not _is_number(dropout):
            raise UserError(f"config.json says resid_pdrop {json.dumps(dropout)}, but it must be a number")
        return cls(
            **{ours: config[theirs] for ours, theirs in _HUGGING_FACE.items()},
            dropout=dropout,
            bias=config.get("bias", True),
            layer_norm_epsilon=config.get("layer_norm_epsilon", 1e-5),
        )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class _Body(Module):
    """Everything under the name `transformer`."""

    def __init__(self, config: GPTConfig) -> None:
        self.wte = Embedding(config.vocab_size, config.n_embd)
        self.wpe = Embedding(config.block_size, config.n_embd)
        self.drop = Dropout(config.dropout)
        self.h = ModuleList(
            TransformerBlock(
                config.n_embd,
                config.n_head,
                bias=config.bias,
                dropout=config.dropout,
                eps=config.layer_norm_epsilon,
            )
            for _ in range(config.n_layer)
        )
        self.ln_f = LayerNorm(config.n_embd, config.layer_norm_epsilon, config.bias)

    def forward(self, ids: Any) -> Tensor:
        x = self.drop(self.wte(ids) + self.wpe(np.arange(ids.shape[-1])))  # (B, T, C)
        for block in self.h:
            x = block(x)
        return self.ln_f(x)


class GPT(Module):
    """A language model; the output layer shares the embedding's weight.

    model(ids) -> logits: ids (B, T) integers below vocab_size, T <= block_size; logits (B, T, V), at position t for the
    token at t + 1.
    """

    def __init__(self, config: GPTConfig, *, generator: random.Generator | None = None) -> None:
        self.config = config
        self.transformer = _Body(config)
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.transformer.wte.weight
        self._init(generator or random.default)

    def _init(self, generator: random.Generator) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                std = 0.02 / math.sqrt(2 * self.config.n_layer) if name.endswith("c_proj.weight") else 0.02
                parameter.copy_(generator.normal(parameter.shape) * np.float32(std))
            elif name.endswith("bias"):
                parameter.copy_(np.zeros(parameter.shape, np.float32))

    def forward(self, ids: Any) -> Tensor:
        T = ids.shape[-1]
        if self.config.block_size < T:
            raise ValueError(f"GPT: ids has {T} positions, but this model's block_size is {self.config.block_size}")
        return self.lm_head(self.transformer(ids))

    def loss(self, ids: Any, targets: Any) -> Tensor:
        """Mean cross entropy of the next tokens, in nats. ids and targets (B, T)."""
        return cross_entropy(self(ids), targets)

    @no_grad()
    def next_logits(self, ids: np.ndarray) -> np.ndarray:
        """Logits (V,) of the token that follows ids (T,), of which the last block_size are seen."""
        x = self.transformer(ids[None, -self.config.block_size :])  # (1, T, C)
        return self.lm_head(x[:, -1]).to("cpu").numpy()[0]

    def reader(self, weights: str | None = None) -> Reader:
        """What `generate` asks: it reads a text piece by piece, and keeps keys and values. weights: their form; see Reader."""
        return Reader(self, weights)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Matrices, which decay, and vectors (biases and norms), which do not: what AdamW takes."""
        return decay_groups(self, weight_decay)

    def to_files(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """(content of config.json, arrays of model.safetensors) under GPT-2's names.

        GPT-2 stores the matrices of its blocks as (in, out) (its Conv1D), and the shared output weight once.
        """
        state = {name: host(parameter.data) for name, parameter in self.named_parameters()}
        return self.config.to_dict(), {n: a.T.copy() if n.endswith(_CONV1D) else a for n, a in state.items()}

    @classmethod
    def from_files(cls, config: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> GPT:
        """The reverse of `to_files`; also reads GPT-2 models from elsewhere, with or without the name `transformer.`.

        UserError where the two do not fit, or where lm_head.weight is there and is not the embedding's weight.
        """
        model = cls(GPTConfig.from_dict(config))
        prefix = "" if any(name.startswith("transformer.") for name in arrays) else "transformer."
        state = {}
        for name, array in arrays.items():
            if name.endswith((".attn.bias", ".attn.masked_bias")):
                continue  # buffers of old files: the causal mask
            full = name if name == "lm_head.weight" else prefix + name
            state[full] = array.T if full.endswith(_CONV1D) and array.ndim == 2 else array
        shared = state.get("transformer.wte.weight", np.zeros(0))
        if not np.array_equal(state.setdefault("lm_head.weight", shared), shared, equal_nan=True):
            raise UserError(
                "model.safetensors has an lm_head.weight that differs from transformer.wte.weight, but this GPT shares them"
            )
        return loaded(model, state)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in asdict(self.config).items())
