"""What `handgrad train gpt` and `handgrad train lstm` share: from text files to a run folder, and on from there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import random
from ..device import checked_device
from ..errors import UserError
from ..files import read_text
from ..models.gpt import GPT, GPTConfig
from ..models.lstm import LSTMLanguageModel
from ..text.corpora import describe_text, python_topics, train_validation_split
from ..text.tokenizers import Tokenizer, train_tokenizer
from ..training.feed import CarriedFeed, Feed, RandomFeed
from ..training.loop import Result, TrainingConfig, check_folder, open_run, read_run, train
from . import program
from .options import OPTIONS, from_options

CONTEXT = 64
"""Tokens that a GPT sees, or that a gradient of an LSTM goes back."""


@dataclass(frozen=True)
class Kind:
    """What differs between the two commands."""

    verb: str
    lr: float  # where none is given
    new: Callable[
        [dict[str, Any]], Any
    ]  # a model from its options, vocab_size among them; UserError in settings' names
    again: Callable[[dict[str, Any]], Any]  # a model of the sizes in a config.json
    feed: Callable[[np.ndarray, np.ndarray, int, TrainingConfig], Feed]  # training ids, validation ids, context


def _new_gpt(options: dict[str, Any]) -> GPT:
    shape = {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": CONTEXT, "dropout": 0.0, "bias": False} | options
    return GPT(GPTConfig(**shape), generator=random.default)


def _new_lstm(options: dict[str, Any]) -> LSTMLanguageModel:
    width = options.get("hidden_size", 128)
    shape = {"embed_size": width, "hidden_size": width, "num_layers": 2} | options
    del shape["block_size"]
    return LSTMLanguageModel(**shape)


GPT_KIND = Kind(
    "gpt",
    1e-3,
    _new_gpt,
    lambda config: GPT(GPTConfig.from_dict(config)),
    lambda ids, held, context, c: RandomFeed(ids, held, context, c.batch_size, c.seed),
)
LSTM_KIND = Kind(
    "lstm",
    5e-3,
    _new_lstm,
    LSTMLanguageModel.from_config,
    lambda ids, held, context, c: CarriedFeed(ids, held, context, c.batch_size),
)


def command(
    kind: Kind, out: Path, texts: list[Path], tokens: dict[str, Any], model: dict[str, Any], training: dict[str, Any],
    *, device: str, resume: bool, overwrite: bool,
) -> int:  # fmt: skip
    """Runs the command; returns its exit code. `tokens`, `model` and `training` hold the options that were given.

    device: where to compute; a run may go on on another one.
    """
    checked_device("--device", device)
    if resume and overwrite:
        raise UserError("--resume and --overwrite contradict each other; say one")
    if resume:
        return _resume(kind, out, texts, tokens | model | training, device)
    if not texts:
        raise UserError("--text is missing: name at least one text file, such as --text book.txt")
    training.setdefault("warmup", min(100, training.get("steps", 2000) // 10))
    training.setdefault("lr", kind.lr)
    training.setdefault("min_lr", min(0.1 * kind.lr, training["lr"]))
    config = from_options(TrainingConfig, **training)
    text = "".join(map(read_text, texts))
    result = run(kind, out, text, model, config, tokens=tokens, device=device, overwrite=overwrite, paths=texts)
    return report(kind, result, out)


def run(
    kind: Kind, out: Path, text: str, model: dict[str, Any], config: TrainingConfig,
    *, tokens: dict[str, Any] | None = None, device: str = "cpu", overwrite: bool, paths: list[Path],
) -> Result:  # fmt: skip
    """Trains on `text` from the beginning. Everything is checked, and the model made, before the folder is touched."""
    tokens, context = tokens or {}, model.get("block_size", CONTEXT)
    tokenizer, train_ids, validation_ids = _split(text, tokens)
    random.manual_seed(config.seed)
    network = from_options(kind.new, options={"vocab_size": len(tokenizer), "block_size": context, **model}).to(device)
    data = _feed(kind, train_ids, validation_ids, context, config)
    check_folder(out, overwrite=overwrite)
    open_run(out, resume=False, overwrite=overwrite)
    amount = f"{len(text):,} characters, "
    if tokens.get("level", "character") == "character":
        amount += f"{len(tokenizer)} different"
    else:
        amount += f"{len(train_ids) + len(validation_ids):,} tokens, {len(tokenizer):,} different"
    print(f"handgrad: {amount}; {network.num_parameters():,} parameters", file=sys.stderr)
    description = {
        "text": [str(path.resolve()) for path in paths],
        "sha256": describe_text(text).sha256,
        "tokens": tokens,
        "context": context,
    }
    return train(network, tokenizer, data, config, out, description=description)


def _resume(kind: Kind, out: Path, texts: list[Path], options: dict[str, Any], device: str) -> int:
    if options:
        names = ", ".join(sorted(OPTIONS[name] for name in options))
        raise UserError(f"--resume goes on with the run's own settings, so leave out {names}")
    open_run(out, resume=True, overwrite=False)
    settings = read_run(out)
    try:
        paths = texts or [Path(path) for path in settings["text"]]
        config = TrainingConfig(**settings["training"])
        network = kind.again(settings["model"])
        tokens = settings.get("tokens", {})
        context = settings.get("context") or network.config.block_size  # an older run has none
        if not isinstance(tokens, dict) or type(context) is not int or context < 1:
            raise TypeError("tokens must be an object and context a positive integer")
    except (UserError, TypeError, AttributeError) as error:
        raise UserError(f"{out / 'run.json'} is broken: {error}") from error
    text = "".join(map(read_text, paths)) if paths else python_topics()  # the demo's
    if describe_text(text).sha256 != settings["sha256"]:
        raise UserError(f"--resume: the text is not the one that {out} was trained on (its SHA-256 differs)")
    tokenizer, train_ids, validation_ids = _split(text, tokens)
    data = _feed(kind, train_ids, validation_ids, context, config)
    network.to(device)
    return report(kind, train(network, tokenizer, data, config, out, resume=True), out)


def _split(text: str, tokens: dict[str, Any]) -> tuple[Tokenizer, np.ndarray, np.ndarray]:
    tokenizer = from_options(train_tokenizer, text=text, **tokens)
    ids = tokenizer.encode(text)
    if (ids == ids[0]).all():
        raise UserError(f"the text has no other token than {tokenizer.decode(ids[:1])!r}, but at least 2 are needed")
    return (tokenizer, *train_validation_split(ids))


def _feed(kind: Kind, train_ids: np.ndarray, validation_ids: np.ndarray, context: int, config: TrainingConfig) -> Feed:
    """What the run trains on; UserError where a part of the text is too short for it."""
    if context < 1:
        raise UserError(f"--context is {context}, but it must be at least 1")
    streams = config.batch_size if kind is LSTM_KIND else 1
    for part, ids, count in (("training", train_ids, streams), ("validation", validation_ids, 1)):
        if len(ids) < count * context + 1:
            what = (
                f"a context of {context}" if count == 1 else f"a batch of {count} streams with a context of {context}"
            )
            raise UserError(
                f"the {part} part of the text has {len(ids)} token{'s' * (len(ids) != 1)}, but {what} needs at least "
                f"{count * context + 1}: give more text or a smaller --context{' or --batch' * (count > 1)}"
            )
    return kind.feed(train_ids, validation_ids, context, config)


def say_finished(result: Result, out: Path) -> None:
    """A finished run was resumed."""
    print(f"{out} is finished: all its {result.step} steps are done; to train longer, begin again with more --steps")


def report(kind: Kind, result: Result, out: Path) -> int:
    """Says how the run ended; the exit code."""
    if not result.finished:
        print(
            f"interrupted after step {result.step}; go on with: {program()} train {kind.verb} --resume --out {out}",
            file=sys.stderr,
        )
        return 130
    if result.start == result.step:
        say_finished(result, out)
        return 0
    print(
        f"validation loss {result.first_validation:.4f} before, {result.last_validation:.4f} after {result.step} steps"
    )
    print(f"wrote {out}/model, {out}/metrics.jsonl and {out}/loss.svg; try: {program()} generate {out}")
    return 0
