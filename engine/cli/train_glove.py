"""`handgrad train glove`: from text files to word vectors.

A run folder holds vocabulary.txt, cooccurrences.bin, vectors.safetensors and vectors.txt (GloVe's format), metrics.jsonl,
loss.svg, run.json with the settings, and checkpoint.safetensors to go on from. Imports nothing that loads NumPy at the top.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLE = "Example: handgrad train glove --text books/*.txt --out runs/words"
DEFAULTS: dict[str, Any] = {"vector_size": 50, "window": 15, "min_count": 5, "seed": 1, "memory": 1.0,
                            "tokenizer": "words"}  # fmt: skip
_FIT = ("lr", "x_max", "alpha", "initial_accumulator", "mode")
TOKENIZERS = ("words", "chinese", "characters", "whitespace")


def command(
    out: Annotated[Path, typer.Option(help="Run folder: vectors, vocabulary, metrics.jsonl, loss.svg, checkpoint.")],
    text: Annotated[list[Path] | None, typer.Option(help="UTF-8 text files; no window reaches across two.")] = None,
    vector_size: Annotated[int | None, typer.Option(help="Numbers of a vector.  [50]")] = None,
    window: Annotated[int | None, typer.Option(help="Words to each side that count as context.  [15]")] = None,
    min_count: Annotated[int | None, typer.Option(help="Rarer words are left out.  [5]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over all pairs of words.  [15]")] = None,
    lr: Annotated[float | None, typer.Option(help="AdaGrad's learning rate.  [0.05]")] = None,
    x_max: Annotated[float | None, typer.Option(help="Counts from here on weigh the same.  [100]")] = None,
    alpha: Annotated[float | None, typer.Option(help="Exponent of the weights below.  [0.75]")] = None,
    initial_accumulator: Annotated[
        float | None, typer.Option(help="AdaGrad's sum of squares at the start; --lr 1 with 400: as Stanford's.  [0.1]")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="words, chinese (needs jieba), characters or whitespace.  [words]")
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="deterministic (same bits for any threads) or hogwild.  [deterministic]")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="At most this many.  [all]")] = None,
    memory: Annotated[float | None, typer.Option(help="GiB for counting.  [1]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of initial vectors and the order of pairs.  [1]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out; --epochs may grow.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
) -> None:
    """Fit word vectors to the words that stand together in text.

    Words are made of letters, digits and apostrophes, in lower case; for Chinese take --tokenizer chinese. Ctrl-C keeps a
    checkpoint; --resume goes on.
    """
    options = {
        "vector_size": vector_size, "window": window, "min_count": min_count, "lr": lr, "x_max": x_max, "alpha": alpha,
        "initial_accumulator": initial_accumulator, "tokenizer": tokenizer, "mode": mode, "memory": memory, "seed": seed,
    }  # fmt: skip
    given = {name: value for name, value in options.items() if value is not None}
    code = run(out, text or [], given, epochs, threads, resume=resume, overwrite=overwrite)
    if code:
        raise typer.Exit(code)


def run(
    out: Path, texts: list[Path], options: dict[str, Any], epochs: int | None, threads: int | None,
    *, resume: bool, overwrite: bool,
) -> int:  # fmt: skip
    """Runs the command; returns its exit code. `options` holds those that were given."""
    from ..errors import UserError
    from ..models.glove import GloVe, GloVeConfig
    from ..text.cooccurrence import Cooccurrences
    from ..text.vocabulary import Vocabulary
    from ..training.loop import open_run, read_run

    for name, value in (("threads", threads), ("epochs", epochs)):
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}, but it must be at least 1")
    if resume:
        if overwrite:
            raise UserError("--resume and --overwrite contradict each other; say one")
        if options or texts:
            names = ", ".join(["--text"] * bool(texts) + sorted("--" + name.replace("_", "-") for name in options))
            raise UserError(f"--resume goes on with the run's own settings, so leave out {names}")
        open_run(out, resume=True, overwrite=False)
        settings = read_run(out)
        vocabulary = Vocabulary.load(out / "vocabulary.txt")
        table = Cooccurrences.load(out / "cooccurrences.bin")
        model = GloVe.load_checkpoint(out / "checkpoint.safetensors", vocabulary.words)
        config = model.config or GloVeConfig()
        epochs = epochs or int(settings["training"].get("epochs", 15))
    else:
        if not texts:
            raise UserError("--text is missing: name at least one text file, such as --text book.txt")
        config = GloVeConfig(**{name: options[name] for name in _FIT if name in options})
        settings = DEFAULTS | options
        epochs = epochs or 15
        vocabulary, table = _count(out, texts, settings, threads, overwrite=overwrite)
        model = GloVe(vocabulary.words, settings["vector_size"], seed=settings["seed"])
        description = {
            "text": [str(path.resolve()) for path in texts],
            "sha256": _digest(texts),
            "model": {"model_type": "glove", "vector_size": settings["vector_size"], "words": len(vocabulary)},
            "training": {
                "epochs": epochs,
                **asdict(config),
                **{n: settings[n] for n in ("window", "min_count", "seed", "tokenizer")},
            },
        }
        _write(out / "run.json", json.dumps(description, indent=2) + "\n")
    return _fit(out, model, table, epochs, config, threads)


def _write(path: Path, text: str) -> None:
    from ..files import write_text_atomically

    write_text_atomically(path, text)


def _digest(paths: list[Path]) -> str:
    """SHA-256 of the files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _count(out: Path, texts: list[Path], settings: dict[str, Any], threads: int | None, *, overwrite: bool) -> Any:
    """(Vocabulary, Cooccurrences) of the texts, in the folder of a new run. An older run stays until all is counted."""
    from ..errors import UserError
    from ..text.cooccurrence import Cooccurrences, unit_of
    from ..text.counting import count_cooccurrences
    from ..text.vocabulary import Vocabulary
    from ..text.words import WordBlocks, characters, chinese, unicode_words, whitespace
    from ..training.loop import check_folder, open_run

    for name in ("vector_size", "window", "min_count", "memory"):
        if not settings[name] > 0:
            raise UserError(f"--{name.replace('_', '-')} is {settings[name]}, but it must be positive")
    if not 0 <= settings["seed"] < 2**64:
        raise UserError(f"--seed is {settings['seed']}, but it must be at least 0 and below 2**64")
    tokenizers = dict(zip(TOKENIZERS, (unicode_words, chinese, characters, whitespace), strict=True))
    if settings["tokenizer"] not in tokenizers:
        raise UserError(f"--tokenizer is {settings['tokenizer']!r}, but it must be one of {', '.join(TOKENIZERS)}")
    unit_of(settings["window"], "harmonic")  # raises where the window is too wide
    check_folder(out, overwrite=overwrite)
    blocks = WordBlocks(texts, tokenizers[settings["tokenizer"]], documents="files")
    vocabulary = Vocabulary.build(blocks, min_count=settings["min_count"])
    table_path, counted, fresh = out / "cooccurrences.bin", out / "counted.bin", not (out / "run.json").exists()
    out.mkdir(parents=True, exist_ok=True)
    if fresh:
        _write(out / "run.json", "{}\n")  # so that the folder is a run's from now on
    try:
        found = count_cooccurrences(
            vocabulary.encode_blocks(blocks), len(vocabulary), window=settings["window"],
            memory=int(settings["memory"] * 2**30), threads=threads, path=counted,
        )  # fmt: skip
        if not len(found):
            raise UserError(
                "no two words of the vocabulary stand together: the text is too short, or --min-count too high"
            )
    except BaseException:
        counted.unlink(missing_ok=True)
        if fresh:
            (out / "run.json").unlink()
        raise
    del found  # a mapped file cannot be renamed everywhere
    open_run(out, resume=False, overwrite=True)
    for name in ("vectors.safetensors", "vectors.txt", table_path.name):
        (out / name).unlink(missing_ok=True)
    vocabulary.save(out / "vocabulary.txt")
    counted.replace(table_path)
    table = Cooccurrences.load(table_path)
    print(f"handgrad: {len(vocabulary):,} words, {len(table):,} pairs that stand together", file=sys.stderr)
    return vocabulary, table


def _fit(out: Path, model: Any, table: Any, epochs: int, config: Any, threads: int | None) -> int:
    """Trains, with a line of progress (in hundredths of an epoch) and a line of metrics an epoch; the exit code."""
    from ..text.vectors import WordVectors
    from ..training.curve import loss_curve_svg
    from ..training.loop import interruptible
    from ..training.metrics import MetricsLog, read_metrics
    from ..training.progress import ProgressLine
    from . import program

    log, began, start = MetricsLog(out / "metrics.jsonl", resume_step=model.epoch), time.monotonic(), model.epoch
    parts, logged = 100, model.epoch

    def note() -> None:
        nonlocal logged
        for epoch in range(logged + 1, model.epoch + 1):
            log.append(epoch, loss=model.costs[epoch - 1], seconds=round(time.monotonic() - began, 3))
        logged = model.epoch

    def progress(model: Any, share: float) -> None:
        note()
        if model.costs:
            line.update(int((model.epoch + share) * parts), model.costs[-1])

    total = epochs * parts
    with interruptible() as asked, ProgressLine(total, tokens_per_step=len(table) // parts, unit="pairs") as line:
        model.fit(
            table, epochs, config, threads=threads, progress=progress, stop=asked.is_set,
            checkpoint=out / "checkpoint.safetensors",
        )  # fmt: skip
    note()
    if model.costs:
        loss_curve_svg(read_metrics(out / "metrics.jsonl"), out / "loss.svg", title="Cost of an epoch")
    vectors = WordVectors(model.words, model.vectors)
    vectors.save(out / "vectors.safetensors")
    vectors.save(out / "vectors.txt")
    if model.epoch < epochs:
        print(f"interrupted in epoch {model.epoch + 1}; go on with: {program()} train glove --resume --out {out}",
              file=sys.stderr)  # fmt: skip
        return 130
    if start == model.epoch:
        print(f"{out} is finished: all its {epochs} epochs are done; to train longer, say --resume with more --epochs")
        return 0
    print(f"cost {model.costs[0]:.5f} in the first epoch, {model.costs[-1]:.5f} in epoch {model.epoch}")
    print(f"wrote {out}/vectors.safetensors and {out}/vectors.txt; try: "
          f"{program()} embed nearest {model.words[0]} --vectors {out}")  # fmt: skip
    return 0
