"""`handgrad train lstm`: its options. Imports nothing that loads NumPy at the top."""

from __future__ import annotations

from typing import Annotated

import typer

from . import train_options as options

EXAMPLE = "Example: handgrad train lstm --text books/*.txt --out runs/lstm --level bpe"


def command(
    out: options.OUT,
    text: options.TEXT = None,
    level: options.LEVEL = None,
    vocab_size: options.VOCAB_SIZE = None,
    steps: options.STEPS = None,
    layers: Annotated[int | None, typer.Option(help="LSTM layers, one on the other.  [2]")] = None,
    hidden: Annotated[int | None, typer.Option(help="Hidden units of a layer.  [128]")] = None,
    embed: Annotated[int | None, typer.Option(help="Numbers that stand for a token.  [as --hidden]")] = None,
    tie_weights: Annotated[
        bool | None, typer.Option("--tie-weights/--no-tie-weights", help="The output shares the embedding.  [no]")
    ] = None,
    context: Annotated[int | None, typer.Option(help="Steps that a gradient goes back.  [64]")] = None,
    dropout: options.DROPOUT = None,
    batch: options.BATCH = None,
    lr: options.LR = None,
    min_lr: options.MIN_LR = None,
    warmup: options.WARMUP = None,
    weight_decay: options.WEIGHT_DECAY = None,
    clip: options.CLIP = None,
    seed: options.SEED = None,
    eval_every: options.EVAL_EVERY = None,
    device: options.DEVICE = "cpu",
    resume: options.RESUME = False,
    overwrite: options.OVERWRITE = False,
) -> None:
    """Train an LSTM on text; 9/10 of it for training, the rest for validation.

    The text is read in order, in --batch streams whose state is carried from step to step (truncated backpropagation
    through time). Ctrl-C ends the step, keeps a checkpoint, and --resume goes on as if nothing had happened.
    """
    from . import train

    model = options.given(
        num_layers=layers, hidden_size=hidden, embed_size=embed, tie_weights=tie_weights, block_size=context,
        dropout=dropout,
    )  # fmt: skip
    options.ended(train.command(
        train.LSTM_KIND, out, text or [], options.given(level=level, vocab_size=vocab_size), model=model,
        training=options.given(
            steps=steps, batch_size=batch, lr=lr, min_lr=min_lr, warmup=warmup, weight_decay=weight_decay, clip=clip,
            seed=seed, eval_every=eval_every,
        ),
        device=device, resume=resume, overwrite=overwrite,
    ))  # fmt: skip
