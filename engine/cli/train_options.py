"""The options that `handgrad train gpt` and `handgrad train lstm` share. Imports nothing that loads NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

OUT = Annotated[Path, typer.Option(help="Run folder: model, metrics.jsonl, loss.svg, checkpoint.")]
TEXT = Annotated[list[Path] | None, typer.Option(help="UTF-8 text files, one after the other.")]
LEVEL = Annotated[str | None, typer.Option(help="What a token is: character, bpe or word.  [character]")]
VOCAB_SIZE = Annotated[int | None, typer.Option(help="Tokens at most.  [bpe: 1000; word: all]")]
STEPS = Annotated[int | None, typer.Option(help="Updates of the weights.  [2000]")]
DROPOUT = Annotated[float | None, typer.Option(help="Share of activations dropped in training.  [0]")]
BATCH = Annotated[int | None, typer.Option(help="Sequences in a batch.  [12]")]
LR = Annotated[float | None, typer.Option(help="Highest learning rate.  [gpt: 0.001; lstm: 0.005]")]
MIN_LR = Annotated[float | None, typer.Option(help="Learning rate at the end of the cosine.  [a tenth of that]")]
WARMUP = Annotated[int | None, typer.Option(help="Steps of linear warm-up.  [100, at most steps/10]")]
WEIGHT_DECAY = Annotated[float | None, typer.Option(help="Decoupled decay of matrices.  [0.1]")]
CLIP = Annotated[float | None, typer.Option(help="Largest norm of the gradients.  [1]")]
SEED = Annotated[int | None, typer.Option(help="Of weights, batches and dropout.  [1]")]
EVAL_EVERY = Annotated[int | None, typer.Option(help="Steps between validations.  [250]")]
DEVICE = Annotated[str, typer.Option(help="Where to compute: cpu, or cuda, which needs CuPy and a GPU.")]
RESUME = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, with its own settings.")]
OVERWRITE = Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")]


def given(**options: Any) -> dict[str, Any]:
    """Those that were given."""
    return {name: value for name, value in options.items() if value is not None}


def ended(code: int) -> None:
    """Leaves with the exit code, if it is not 0."""
    if code:
        raise typer.Exit(code)
