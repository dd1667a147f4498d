"""The library's settings under the names that the command line has for them: batch_size is --batch there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import UserError

T = TypeVar("T")

_SAME = ("steps", "lr", "min_lr", "warmup", "weight_decay", "clip", "seed", "eval_every", "dropout", "bias",
         "level", "vocab_size", "tie_weights", "separator", "held_back", "attention")  # fmt: skip
_GENERATE = ("temperature", "top_k", "top_p", "weights")
OPTIONS = {name: "--" + name.replace("_", "-") for name in _SAME + _GENERATE} | {
    "batch_size": "--batch",
    "n_layer": "--layers",
    "n_head": "--heads",
    "n_embd": "--width",
    "block_size": "--context",
    "num_layers": "--layers",
    "hidden_size": "--hidden",
    "embed_size": "--embed",
}
_WHO = re.compile(r"^(GPT|LSTMLanguageModel|Seq2SeqLSTM|generate): ")
_NAME = re.compile(r"\b(" + "|".join(OPTIONS) + r")\b")


def from_options(make: Callable[..., T], /, **given: Any) -> T:
    """make(**given); a UserError of it names options instead of settings, and not the function that found them wrong."""
    try:
        return make(**given)
    except UserError as error:
        sentence = _WHO.sub("", str(error))
        raise UserError(_NAME.sub(lambda match: OPTIONS[match[0]], sentence)) from None
