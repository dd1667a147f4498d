"""`handgrad train gpt`: its options. Imports nothing that loads NumPy at the top."""

from __future__ import annotations

from typing import Annotated

import typer

from . import train_options as options

EXAMPLE = "Example: handgrad train gpt --text books/*.txt --out runs/books --steps 2000"


def command(
    out: options.OUT,
    text: options.TEXT = None,
    level: options.LEVEL = None,
    vocab_size: options.VOCAB_SIZE = None,
    steps: options.STEPS = None,
    layers: Annotated[int | None, typer.Option(help="Transformer blocks.  [4]")] = None,
    heads: Annotated[int | None, typer.Option(help="Attention heads.  [4]")] = None,
    width: Annotated[int | None, typer.Option(help="Numbers that stand for a token, n_embd.  [128]")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens that the model sees, block_size.  [64]")] = None,
    dropout: options.DROPOUT = None,
    bias: Annotated[
        bool | None, typer.Option("--bias/--no-bias", help="Biases in linear layers and norms.  [no]")
    ] = None,
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
    """Train a GPT on text; 9/10 of it for training, the rest for validation.

    Ctrl-C ends the step, keeps a checkpoint, and --resume goes on as if nothing had happened.
    """
    from . import train

    options.ended(train.command(
        train.GPT_KIND, out, text or [], options.given(level=level, vocab_size=vocab_size),
        model=options.given(n_layer=layers, n_head=heads, n_embd=width, block_size=context, dropout=dropout, bias=bias),
        training=options.given(
            steps=steps, batch_size=batch, lr=lr, min_lr=min_lr, warmup=warmup, weight_decay=weight_decay, clip=clip,
            seed=seed, eval_every=eval_every,
        ),
        device=device, resume=resume, overwrite=overwrite,
    ))  # fmt: skip
