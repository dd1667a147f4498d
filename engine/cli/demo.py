"""`handgrad demo`: the main job from beginning to end, on text that every Python carries."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np

from ..models.folder import load_model
from ..random import Generator
from ..testing.model_gradients import compare_gradients
from ..text.batches import RandomBlocks
from ..text.corpora import describe_text, python_topics
from ..training.loop import TrainingConfig, check_folder
from . import generate, program, train
from .options import from_options

PROMPT = "The "


def run(out: Path, steps: int, *, overwrite: bool) -> int:
    """Trains, generates, checks; returns the exit code: 1 where the gradients disagree."""
    config = from_options(TrainingConfig, steps=steps, warmup=min(100, steps // 10))
    check_folder(out, overwrite=overwrite, hint="say --overwrite to replace it, or name another folder with --out")
    text = python_topics()
    corpus = describe_text(text)
    print(
        f"Text: the topics of help() in Python {platform.python_version()} (pydoc_data), "
        f"{corpus.characters:,} characters, SHA-256 {corpus.sha256}",
        flush=True,
    )
    result = train.run(train.GPT_KIND, out, text, {}, config, overwrite=overwrite, paths=[])
    if not result.finished:
        return train.report(train.GPT_KIND, result, out)
    print(
        f"\nValidation loss (nats a character): {result.first_validation:.4f} before, {result.last_validation:.4f} after"
    )
    print(f"Trained in {result.seconds:.0f} s.\n\nThe model goes on from {PROMPT!r}:\n", flush=True)
    generate.run(out, PROMPT, 400, temperature=0.8, top_k=None, top_p=None, seed=1)
    print("\nGradients of the trained model on one batch, all parameters, kernels against formulas:", flush=True)
    model, tokenizer = load_model(out / "model")
    x, y = RandomBlocks(tokenizer.encode(text), model.config.block_size, 12, Generator(2)).draw()
    agree = True
    for dtype, ceiling in ((np.float32, 1e-4), (np.float64, 1e-10)):
        found = compare_gradients(model, x, y, dtype)
        agree &= found.worst <= ceiling
        print(
            f"  {found.dtype} kernels ({found.calls} calls) against float64 formulas: "
            f"worst relative difference {found.worst:.1e} ({found.parameter})"
        )
    print(
        f"\nWrote {out}/model, {out}/metrics.jsonl and {out}/loss.svg. Next: {program()} generate {out} --prompt 'A '"
    )
    if not agree:
        print("The gradients disagree: that is a bug.")
    return 0 if agree else 1
