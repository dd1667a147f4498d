"""`handgrad train gpt`: from text files to a run folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from .. import random
from ..errors import UserError
from ..files import read_text
from ..models.gpt import GPT, GPTConfig
from ..text.corpora import describe_text, python_topics, train_validation_split
from ..text.tokenizer import CharacterTokenizer
from ..training.loop import Result, TrainingConfig, check_folder, open_run, read_run, train
from . import program
from .options import OPTIONS, from_options

MODEL_DEFAULTS: dict[str, Any] = {
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 128,
    "block_size": 64,
    "dropout": 0.0,
    "bias": False,
}


def gpt(
    out: Path, texts: list[Path], model: dict[str, Any], training: dict[str, Any], *, resume: bool, overwrite: bool
) -> int:
    """Runs the command; returns its exit code. `model` and `training` hold the options that were given."""
    if resume and overwrite:
        raise UserError("--resume and --overwrite contradict each other; say one")
    if resume:
        return _resume(out, texts, model | training)
    if not texts:
        raise UserError("--text is missing: name at least one text file, such as --text book.txt")
    training.setdefault("warmup", min(100, training.get("steps", 2000) // 10))
    training.setdefault("min_lr", min(1e-4, training.get("lr", 1e-3)))
    config = from_options(TrainingConfig, **training)
    return report(run(out, "".join(map(read_text, texts)), model, config, overwrite=overwrite, paths=texts), out)


def run(
    out: Path, text: str, model: dict[str, Any], config: TrainingConfig, *, overwrite: bool, paths: list[Path]
) -> Result:
    """Trains on `text` from the beginning. Everything is checked, and the model made, before the folder is touched."""
    tokenizer, train_ids, validation_ids = _split(text)
    shape = from_options(GPTConfig, vocab_size=len(tokenizer), **(MODEL_DEFAULTS | model))
    _check_length(train_ids, validation_ids, shape.block_size)
    check_folder(out, overwrite=overwrite)
    network = GPT(shape, generator=random.manual_seed(config.seed))
    open_run(out, resume=False, overwrite=overwrite)
    print(
        f"handgrad: {len(text):,} characters, {len(tokenizer)} different; {network.num_parameters():,} parameters",
        file=sys.stderr,
    )
    description = {"text": [str(path.resolve()) for path in paths], "sha256": describe_text(text).sha256}
    return train(network, tokenizer, train_ids, validation_ids, config, out, description=description)


def _resume(out: Path, texts: list[Path], options: dict[str, Any]) -> int:
    if options:
        names = ", ".join(sorted(OPTIONS[name] for name in options))
        raise UserError(f"--resume goes on with the run's own settings, so leave out {names}")
    open_run(out, resume=True, overwrite=False)
    settings = read_run(out)
    try:
        paths = texts or [Path(path) for path in settings["text"]]
        config = TrainingConfig(**settings["training"])
        shape = GPTConfig.from_dict(settings["model"])
    except (UserError, TypeError) as error:
        raise UserError(f"{out / 'run.json'} is broken: {error}") from error
    text = "".join(map(read_text, paths)) if paths else python_topics()  # the demo's
    if describe_text(text).sha256 != settings["sha256"]:
        raise UserError(f"--resume: the text is not the one that {out} was trained on (its SHA-256 differs)")
    tokenizer, train_ids, validation_ids = _split(text)
    network = GPT(shape)
    return report(train(network, tokenizer, train_ids, validation_ids, config, out, resume=True), out)


def _split(text: str) -> tuple[CharacterTokenizer, np.ndarray, np.ndarray]:
    tokenizer = CharacterTokenizer.train(text)
    if len(tokenizer) < 2:
        raise UserError(f"the text has no other character than {text[0]!r}, but at least 2 different ones are needed")
    return (tokenizer, *train_validation_split(tokenizer.encode(text)))


def _check_length(train_ids: np.ndarray, validation_ids: np.ndarray, block_size: int) -> None:
    for part, ids in (("training", train_ids), ("validation", validation_ids)):
        if len(ids) < block_size + 1:
            raise UserError(
                f"the {part} part of the text has {len(ids)} token{'s' * (len(ids) != 1)}, but a context of {block_size} "
                f"needs at least {block_size + 1}: give more text or a smaller --context"
            )


def report(result: Result, out: Path) -> int:
    """Says how the run ended; the exit code."""
    if not result.finished:
        print(
            f"interrupted after step {result.step}; go on with: {program()} train gpt --resume --out {out}",
            file=sys.stderr,
        )
        return 130
    if result.start == result.step:
        print(
            f"{out} is finished: all its {result.step} steps are done; to train longer, begin again with more --steps"
        )
        return 0
    print(
        f"validation loss {result.first_validation:.4f} before, {result.last_validation:.4f} after {result.step} steps"
    )
    print(f"wrote {out}/model, {out}/metrics.jsonl and {out}/loss.svg; try: {program()} generate {out}")
    return 0
