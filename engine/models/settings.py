"""What models share: checks of their settings, loading of their weights, and which of them decay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from ..errors import UserError
from ..nn import Module

M = TypeVar("M", bound=Module)

_MOST = 1 << 20


def check_sizes(model: str, sizes: Mapping[Any, Any]) -> None:
    """UserError unless every size is a positive integer, and small enough for its square to be a matrix."""
    for name, size in sizes.items():
        if type(size) is not int or size < 1:
            raise UserError(f"{model}: {name} is {size!r}, but it must be a positive integer")
        if size > _MOST:
            raise UserError(f"{model}: {name} is {size}, but it must be at most {_MOST:,}")


def check_dropout(model: str, dropout: Any) -> None:
    """UserError unless it is a share below 1."""
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise UserError(f"{model}: dropout is {json.dumps(dropout)}, but it must be at least 0 and below 1")


def selected(config: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Those settings of a config.json; UserError where one is missing."""
    if missing := [name for name in names if name not in config]:
        raise UserError(f"config.json lacks {', '.join(missing)}")
    return {name: config[name] for name in names}


def loaded(model: M, arrays: Mapping[str, np.ndarray]) -> M:
    """The model with the weights of model.safetensors; UserError where they do not fit."""
    try:
        model.load_state_dict(dict(arrays))
    except (KeyError, ValueError, TypeError) as error:
        sentence = str(error.args[0]).removeprefix("load_state_dict: ")
        raise UserError(f"model.safetensors does not fit config.json: {sentence}") from error
    return model


def decay_groups(model: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices, which decay, and vectors (biases and norms), which do not: what AdamW takes."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
