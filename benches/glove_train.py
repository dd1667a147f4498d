"""Training GloVe: handgrad against Stanford's C program, on the same vocabulary and the same pairs.

    python benches/glove_train.py --text books/*.md --stanford GloVe/build [--analogies DIR] [--similarity FILE]

--stanford is the folder with the programs vocab_count, cooccur, shuffle and glove, built with their own Makefile. Their
vocab_count and cooccur make the table that both sides train on (size 50, window 15, min-count 5). Speed: both run epochs in
turns, C H C H ..., and every epoch is timed by the moment at which its end is reported, the first of each turn left out (it
holds the reading of files). Quality: whole runs from several seeds, judged by the same code on the same questions.
The same arithmetic: glove_stanford.py says how the programs differ; with that difference patched away both go through
the same records in the same order from the same numbers, and must arrive at the same cost. --seeds 0 and --check-epochs 0
leave those parts out; --corpus is a text whose words stand between spaces already (glove_zipf.py writes one).
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import glove_stanford
import harness
import numpy as np
from harness import BenchError

SIZE, WINDOW, MIN_COUNT = 50, 15, 5
MUST, GOAL = 4.0, 10.0
SAME_COST = 1e-4  # relative: their program prints six decimals of a cost near 0.01
THEIR_ADAGRAD = {"lr": glove_stanford.LR, "initial_accumulator": glove_stanford.OF_VECTORS}
RECORD = np.dtype([("i", "i4"), ("j", "i4"), ("x", "f8")])


def main() -> None:
    arguments = parse()
    harness.require("handgrad", "numba")
    for name in ("vocab_count", "cooccur", "shuffle", "glove"):
        if not (arguments.stanford / name).exists():
            raise BenchError(
                f"--stanford {arguments.stanford} holds no program called {name}; build it there with make"
            )
    with tempfile.TemporaryDirectory() as folder:
        prepare(arguments, Path(folder))
        os.chdir(folder)
        result = measure(arguments)
    harness.write_result(arguments.out, result)


def prepare(arguments: argparse.Namespace, folder: Path) -> None:
    """vocab.txt and cooccurrence.shuf.bin, made by their programs from letters and apostrophes in lower case."""
    corpus = arguments.corpus or folder / "corpus.txt"
    if arguments.corpus is None:
        text = " ".join(path.read_text(encoding="utf-8") for path in arguments.text).lower()
        corpus.write_text(" ".join(re.findall("[a-z']+", text)))
    for command, source, target in (
        (["vocab_count", "-min-count", str(arguments.min_count), "-verbose", "0"], corpus, "vocab.txt"),
        (["cooccur", "-memory", "1", "-vocab-file", "vocab.txt", "-verbose", "0", "-window-size", str(WINDOW)],
         corpus, "cooccurrence.bin"),
        (["shuffle", "-memory", "1", "-verbose", "0", "-seed", "1"], "cooccurrence.bin", "cooccurrence.shuf.bin"),
    ):  # fmt: skip
        with open(folder / source, "rb") as read, open(folder / target, "wb") as write:
            program = str(arguments.stanford.resolve() / command[0])
            subprocess.run(
                [program, *command[1:]], stdin=read, stdout=write, stderr=subprocess.DEVNULL, cwd=folder, check=True
            )


def theirs(arguments: argparse.Namespace, epochs: int, seed: int, threads: int) -> tuple[list[float], list[float]]:
    """(seconds of each epoch but the first, cost of each); vectors.txt is written."""
    command = [str(arguments.program), "-input-file", "cooccurrence.shuf.bin", "-vocab-file", "vocab.txt", "-save-file",
               "vectors", "-vector-size", str(SIZE), "-iter", str(epochs), "-threads", str(threads), "-x-max", "100",
               "-seed", str(seed)]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    ends, costs = [], []
    for line in process.stderr:
        if found := re.search(r"iter: \d+, cost: ([\d.]+)", line):
            ends.append(time.perf_counter())
            costs.append(float(found[1]))
    if process.wait() or len(costs) != epochs:
        raise BenchError(f"Stanford's glove ended with {process.returncode} after {len(costs)} of {epochs} epochs")
    return np.diff(ends).tolist(), costs


def ours(
    words: Any, pairs: Any, epochs: int, seed: int, threads: int, of_biases: float | None = None, **config: Any
) -> tuple[list[float], Any]:
    """(seconds of each epoch but the first, the model). of_biases: another initial accumulator for the biases."""
    from handgrad.engine.models.glove import GloVe, GloVeConfig

    model, ends = GloVe(words, SIZE, seed=seed), []
    if of_biases is not None:
        start = {
            name: of_biases if name.startswith("b") else config["initial_accumulator"] for name in model.parameters
        }
        model.squares = {name: np.full_like(array, start[name]) for name, array in model.parameters.items()}
    model.fit(
        pairs, epochs, GloVeConfig(**config), threads=threads,
        progress=lambda _, share: ends.append(time.perf_counter()) if share == 1.0 else None,
    )  # fmt: skip
    return np.diff(ends).tolist(), model


def judged(arguments: argparse.Namespace, vectors: Any) -> dict[str, float]:
    """Share of analogies right, and Spearman's correlation with people."""
    from handgrad.engine.text import evaluation as e

    found: dict[str, float] = {}
    if arguments.analogies:
        parts = [
            e.analogies(vectors, section, questions)
            for path in sorted(arguments.analogies.glob("*.txt"))
            for section, questions in e.read_analogies(path).items()
        ]
        found["analogies"] = sum(p.right for p in parts) / sum(p.asked for p in parts)
    if arguments.similarity:
        found["spearman"] = e.similarity(vectors, e.read_similarities(arguments.similarity))[0]
    return {name: round(value, 4) for name, value in found.items()}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    from handgrad.engine.text.vectors import WordVectors
    from handgrad.engine.text.vocabulary import Vocabulary

    words = Vocabulary.load("vocab.txt").words
    table = np.fromfile("cooccurrence.shuf.bin", RECORD)
    pairs, threads = (table["i"] - 1, table["j"] - 1, table["x"]), arguments.threads
    print(f"{len(words):,} words, {len(table):,} pairs, {threads} threads each", file=sys.stderr)

    seconds: dict[str, list[float]] = {"stanford": [], "deterministic": [], "hogwild": []}
    ours(words, pairs, 1, 1, threads)  # compiles
    for done in range(arguments.rounds):
        seconds["stanford"] += theirs(arguments, 3, 1, threads)[0]
        for mode in ("deterministic", "hogwild"):
            seconds[mode] += ours(words, pairs, 3, 1, threads, mode=mode)[0]
        print(f"round {done + 1} of {arguments.rounds}", file=sys.stderr)
    rates = {name: len(table) / statistics.median(found) for name, found in seconds.items()}
    best = {name: len(table) / min(found) for name, found in seconds.items()}
    for name, rate in rates.items():
        print(f"{name:<14} {rate:12,.0f} pairs/s (best epoch {best[name]:,.0f})")
    ratio = rates["deterministic"] / rates["stanford"]
    verdicts = [
        harness.verdict(f"{kind}: deterministic, times Stanford's throughput", ratio, at_least=True, limit=limit)
        for kind, limit in (("MUST", arguments.must), ("GOAL", arguments.goal))
    ]

    same = None
    if arguments.check_epochs:
        same = glove_stanford.same_run(arguments.stanford, table, len(words), SIZE, arguments.check_epochs)
        for dtype in ("float64", "float32"):
            what = f"cost of an epoch in {dtype}, same records, order and start, C patched to the textbook's AdaGrad"
            verdicts.append(harness.verdict(what, same[dtype]["relative_difference_of_cost"], limit=SAME_COST))

    quality = []
    for seed in range(1, arguments.seeds + 1):
        _, their_costs = theirs(arguments, arguments.epochs, seed, threads)
        _, model = ours(words, pairs, arguments.epochs, seed, threads)
        _, alike = ours(words, pairs, arguments.epochs, seed, threads, glove_stanford.OF_BIASES, **THEIR_ADAGRAD)
        quality.append({
            "seed": seed,
            "stanford": {"costs": their_costs, **judged(arguments, WordVectors.load("vectors.txt"))},
            "handgrad": {"costs": model.costs, **judged(arguments, WordVectors(words, model.vectors))},
            "handgrad, their AdaGrad": {"costs": alike.costs, **judged(arguments, WordVectors(words, alike.vectors))},
        })  # fmt: skip
        for name, found in list(quality[-1].items())[1:]:
            print(
                f"seed {seed}, {name}: cost {found['costs'][-1]:.6f}", {k: v for k, v in found.items() if k != "costs"}
            )
    for name in ("analogies", "spearman"):
        if quality and name in quality[0]["stanford"]:
            gain = statistics.mean(q["handgrad"][name] - q["stanford"][name] for q in quality)
            verdicts.append(
                harness.verdict(f"{name}, handgrad - Stanford, mean over seeds", gain, at_least=True, limit=-0.02)
            )
    if quality:
        off = [abs(q["handgrad, their AdaGrad"]["costs"][-1] / q["stanford"]["costs"][-1] - 1) for q in quality]
        verdicts.append(
            harness.verdict("cost of the last epoch with their AdaGrad, relative difference", max(off), limit=0.01)
        )
    return harness.record(
        "glove_train", words=len(words), pairs=len(table), size=SIZE, window=WINDOW, threads=threads,
        min_count=arguments.min_count, dtypes={"stanford": "float64", "handgrad": "float32"},
        flags=" ".join(glove_stanford.FLAGS), same_run=same,
        seconds_per_epoch={name: [round(s, 4) for s in found] for name, found in seconds.items()},
        pairs_per_second={name: round(rate) for name, rate in rates.items()}, quality=quality, verdicts=verdicts,
    )  # fmt: skip


def parse() -> argparse.Namespace:
    """The command line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", type=Path, nargs="+", help="UTF-8 text files")
    source.add_argument("--corpus", type=Path, help="one file of words between spaces")
    parser.add_argument("--min-count", type=harness.positive_int, default=MIN_COUNT, help=f"default {MIN_COUNT}")
    parser.add_argument("--must", type=harness.positive, default=MUST, help=f"times their speed (default {MUST:g})")
    parser.add_argument("--goal", type=harness.positive, default=GOAL, help=f"times their speed (default {GOAL:g})")
    parser.add_argument("--check-epochs", type=int, default=2, help="epochs of the same arithmetic (default 2)")
    parser.add_argument("--stanford", type=Path, required=True, help="folder of Stanford's programs")
    parser.add_argument("--analogies", type=Path, help="folder of files with four words a line")
    parser.add_argument("--similarity", type=Path, help="file of two words and a score a line")
    parser.add_argument("--rounds", type=harness.positive_int, default=4, help="turns of each side (default 4)")
    parser.add_argument("--seeds", type=int, default=3, help="whole runs of each side (default 3)")
    parser.add_argument("--epochs", type=harness.positive_int, default=15, help="epochs of a whole run (default 15)")
    parser.add_argument("--threads", type=harness.positive_int, default=cores, help=f"of each side (default {cores})")
    parser.add_argument("--out", type=Path, default=harness.RESULTS / "glove_train.json", help="result file")
    arguments = parser.parse_args()
    for name in (
        "text",
        "corpus",
        "stanford",
        "analogies",
        "similarity",
        "out",
    ):  # the measurement runs in another folder
        value = getattr(arguments, name)
        if value is not None:
            setattr(arguments, name, [p.resolve() for p in value] if name == "text" else value.resolve())
    arguments.program = arguments.stanford / "glove"
    return arguments


if __name__ == "__main__":
    harness.run(main)
