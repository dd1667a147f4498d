"""A model folder: config.json, model.safetensors, tokenizer.json, in the Hugging Face layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import load_tensors, read_text, save_tensors, write_text_atomically
from ..text.tokenizers import Tokenizer, load_tokenizer
from .gpt import GPT
from .lstm import LSTMLanguageModel
from .seq2seq import Seq2SeqLSTM

_MODELS: dict[str, Any] = {"gpt2": GPT, "lstm": LSTMLanguageModel, "seq2seq-lstm": Seq2SeqLSTM}


def save_model(folder: str | Path, model: Any, tokenizer: Any = None) -> None:
    """Writes the model (and its tokenizer), each file atomically, the weights last; the folder is made if need be."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config, arrays = model.to_files()
    write_text_atomically(folder / "config.json", json.dumps(config, indent=2) + "\n")
    if tokenizer is not None:
        tokenizer.save(folder)
    save_tensors(folder / "model.safetensors", arrays, {"format": "np"})


def read_config(folder: str | Path) -> dict[str, Any]:
    """The content of config.json. UserError where the folder or the file is missing or broken."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a model folder: {'it is a file' if folder.exists() else 'there is no such folder'}"
        )
    path = folder / "config.json"
    if not path.exists():
        raise UserError(f"{folder} is not a model folder: it has no config.json")
    text = read_text(path)
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is broken: it is not JSON ({error})") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} is broken: it holds a {type(config).__name__}, but it must be an object")
    return config


def load_model(folder: str | Path) -> tuple[Any, Tokenizer]:
    """(model, tokenizer) of a folder that `save_model` wrote, the model in eval mode. UserError where something is off."""
    config = read_config(folder)
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in _MODELS:
        raise UserError(f"{Path(folder) / 'config.json'} says model_type {kind!r}, but known are {', '.join(_MODELS)}")
    arrays, _ = load_tensors(Path(folder) / "model.safetensors")
    tokenizer = load_tokenizer(folder)
    try:
        model = _MODELS[kind].from_files(config, arrays).eval()
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error
    if len(tokenizer) != config["vocab_size"]:
        raise UserError(
            f"{folder}: tokenizer.json knows {len(tokenizer)} tokens, but config.json says vocab_size "
            f"{config['vocab_size']}"
        )
    return model, tokenizer
