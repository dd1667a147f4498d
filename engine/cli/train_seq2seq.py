"""`handgrad train seq2seq`: from a file of pairs to a model that translates. Imports nothing that loads NumPy at the top.

A run folder holds what train gpt's does, and matches.txt, the held-back pairs beside what the model wrote, and
attention.svg, where it looked while it wrote one of them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from . import train_options as options

EXAMPLE = "Example: handgrad train seq2seq --pairs dates.txt --separator _ --out runs/dates"
PAIRS = {"separator": "\t", "held_back": 1000}
MODEL = {"embed_size": 32, "hidden_size": 64, "num_layers": 1, "attention": "bahdanau", "dropout": 0.0}
TRAINING = {"lr": 5e-3, "batch_size": 64, "weight_decay": 0.0}


def command(
    out: Annotated[Path, typer.Option(help="Run folder: model, metrics.jsonl, loss.svg, attention.svg, checkpoint.")],
    pairs: Annotated[Path | None, typer.Option(help="UTF-8 file, a source and a target on each line.")] = None,
    separator: Annotated[str | None, typer.Option(help="What stands between the two.  [a tab]")] = None,
    held_back: Annotated[int | None, typer.Option(help="Pairs to test with, not trained on.  [1000]")] = None,
    steps: options.STEPS = None,
    attention: Annotated[str | None, typer.Option(help="bahdanau or luong.  [bahdanau]")] = None,
    layers: Annotated[int | None, typer.Option(help="LSTM layers of each side.  [1]")] = None,
    hidden: Annotated[int | None, typer.Option(help="Hidden units of a layer and direction.  [64]")] = None,
    embed: Annotated[int | None, typer.Option(help="Numbers that stand for a character.  [32]")] = None,
    dropout: options.DROPOUT = None,
    batch: Annotated[int | None, typer.Option(help="Pairs in a batch.  [64]")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.  [0.005]")] = None,
    min_lr: options.MIN_LR = None,
    warmup: options.WARMUP = None,
    weight_decay: Annotated[float | None, typer.Option(help="Decoupled decay of matrices.  [0]")] = None,
    clip: options.CLIP = None,
    seed: options.SEED = None,
    eval_every: options.EVAL_EVERY = None,
    device: options.DEVICE = "cpu",
    resume: options.RESUME = False,
    overwrite: options.OVERWRITE = False,
) -> None:
    """Train LSTMs with attention to write the target of a source, character by character.

    At the end it says how many of the held-back pairs come out exactly right. Ctrl-C ends the step, keeps a checkpoint,
    and --resume goes on as if nothing had happened.
    """
    options.ended(run(
        out, pairs, options.given(separator=separator, held_back=held_back),
        options.given(num_layers=layers, hidden_size=hidden, embed_size=embed, attention=attention, dropout=dropout),
        options.given(
            steps=steps, batch_size=batch, lr=lr, min_lr=min_lr, warmup=warmup, weight_decay=weight_decay, clip=clip,
            seed=seed, eval_every=eval_every,
        ),
        device=device, resume=resume, overwrite=overwrite,
    ))  # fmt: skip


def run(
    out: Path, path: Path | None, reading: dict[str, Any], model: dict[str, Any], training: dict[str, Any],
    *, device: str, resume: bool, overwrite: bool,
) -> int:  # fmt: skip
    """Runs the command; returns its exit code. The three dicts hold the options that were given."""
    from .. import random
    from ..device import checked_device
    from ..errors import UserError
    from ..models.seq2seq import Seq2SeqLSTM
    from ..tasks.translate import PairsFeed
    from ..text.corpora import describe_text
    from ..text.pairs import read_pairs, split_pairs
    from ..text.tokenizer import CharacterTokenizer
    from ..training.loop import TrainingConfig, check_folder, open_run, read_run, train
    from .options import OPTIONS, from_options

    if resume and overwrite:
        raise UserError("--resume and --overwrite contradict each other; say one")
    if resume:
        if given := reading | model | training:
            names = ", ".join(sorted(OPTIONS[name] for name in given))
            raise UserError(f"--resume goes on with the run's own settings, so leave out {names}")
        open_run(out, resume=True, overwrite=False)
        settings = read_run(out)
        try:
            path, reading = path or Path(settings["text"][0]), {**PAIRS, **settings["pairs"]}
            config = TrainingConfig(**settings["training"])
        except (UserError, TypeError, KeyError, IndexError) as error:
            raise UserError(f"{out / 'run.json'} is broken: {error}") from error
    else:
        if path is None:
            raise UserError("--pairs is missing: name a file with a source and a target on each line")
        training = TRAINING | training
        training.setdefault("warmup", min(100, training.get("steps", 2000) // 10))
        training.setdefault("min_lr", min(5e-4, training["lr"]))
        config, reading, settings = from_options(TrainingConfig, **training), {**PAIRS, **reading}, {}
    pairs = from_options(read_pairs, path=path, separator=reading["separator"])
    learned, held = from_options(split_pairs, pairs=pairs, held_back=reading["held_back"], seed=config.seed)
    tokenizer = CharacterTokenizer.train("".join(source + target for source, target in pairs))
    digest = describe_text("\n".join("\t".join(pair) for pair in pairs)).sha256
    random.manual_seed(config.seed)
    if resume:
        if digest != settings["sha256"]:
            raise UserError(f"--resume: the pairs are not those that {out} was trained on (their SHA-256 differs)")
        try:
            network = Seq2SeqLSTM.from_config(settings["model"])
        except UserError as error:
            raise UserError(f"{out / 'run.json'} is broken: {error}") from error
    else:
        network = from_options(Seq2SeqLSTM, vocab_size=len(tokenizer), **(MODEL | model))
    network.to(checked_device("--device", device))
    data = PairsFeed(network, tokenizer, learned, held, config.batch_size, config.seed)
    if not resume:
        check_folder(out, overwrite=overwrite)
        open_run(out, resume=False, overwrite=overwrite)
        for name in ("matches.txt", "attention.svg"):
            (out / name).unlink(missing_ok=True)
        print(f"handgrad: {len(learned):,} pairs to train on, {len(held):,} held back, {len(tokenizer)} characters; "
              f"{network.num_parameters():,} parameters", file=sys.stderr)  # fmt: skip
    description = {"text": [str(path.resolve())], "sha256": digest, "pairs": reading}
    result = train(network, tokenizer, data, config, out, resume=resume, description=description)
    return _report(out, network, tokenizer, held, result)


def _report(out: Path, network: Any, tokenizer: Any, held: list[tuple[str, str]], result: Any) -> int:
    """Tries the held-back pairs, writes matches.txt and attention.svg, says how the run ended; the exit code."""
    from ..files import write_text_atomically
    from ..tasks.translate import translate, translate_with_weights
    from ..training.attention_map import attention_map_svg
    from . import program
    from .train import say_finished

    if not result.finished:
        print(f"interrupted after step {result.step}; go on with: {program()} train seq2seq --resume --out {out}",
              file=sys.stderr)  # fmt: skip
        return 130
    if result.start == result.step and (out / "matches.txt").exists():
        say_finished(result, out)
        return 0
    got = translate(network, tokenizer, [source for source, _ in held])
    right = sum(text == target for text, (_, target) in zip(got, held, strict=True))
    lines = ["right\tsource\ttarget\twritten"]
    lines += [
        f"{'yes' if text == target else 'NO'}\t{source}\t{target}\t{text}"
        for text, (source, target) in zip(got, held, strict=True)
    ]
    write_text_atomically(out / "matches.txt", "\n".join(lines) + "\n")
    _, weights, source, target = translate_with_weights(network, tokenizer, held[0][0])
    attention_map_svg(weights, source, target, out / "attention.svg")
    print(f"{right} of {len(held)} held-back pairs come out exactly right ({100 * right / len(held):.1f}%)")
    print(f"wrote {out}/model, {out}/matches.txt, {out}/attention.svg and {out}/loss.svg; "
          f'try: {program()} translate {out} "{held[0][0]}"')  # fmt: skip
    return 0
