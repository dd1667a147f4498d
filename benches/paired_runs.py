"""Whole training runs of handgrad and PyTorch from the same inputs, for the benches that ask whether both learn the same.

For each seed handgrad's worker writes the inputs (text as ids, initial weights, order of batches) into a file; then each side
trains on it in a process of its own, one after the other. A finished run is kept in the result file and not repeated, as
long as it came from the same inputs and the same sources of its side.

A worker answers `start(threads[, seed])`, `train(inputs, label)` and, on handgrad's side, `inputs(text, seed, iterations,
path)`; the answer of `train` has validation_loss and training_seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import BenchError, Worker

ROOT = harness.HERE.parent
TEXT = ROOT.parent / "shared" / "data" / "text" / "tinyshakespeare.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
Runs = dict[str, Any]


def tinyshakespeare(path: Path) -> dict[str, Any]:
    """What the result file says of the text. BenchError where it is absent; a note where it is another one."""
    if not path.is_file():
        raise BenchError(
            f"{path} is absent: this bench needs tinyshakespeare.txt (1,115,394 characters, karpathy/char-rnn, "
            "data/tinyshakespeare/input.txt); name it with --text PATH"
        )
    text = {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    if text["sha256"] != SHA256:
        print(f"NOTE: {path} is not the usual tinyshakespeare; published figures do not apply", file=sys.stderr)
    return text


def train_all(
    arguments: argparse.Namespace, sides: Mapping[str, str], shared: Sequence[str], save: Callable[[Runs], Any]
) -> Runs:
    """A run of each side for each seed, kept or made; save(runs) after each that was made.

    sides: the workers' files, handgrad's first; shared: what else in workers/ they read.
    """
    runs: Runs = {} if arguments.fresh else finished(arguments.out)
    first = next(iter(sides))
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            inputs = str(Path(folder) / "inputs.npz")
            with Worker(sides[first]) as worker:
                worker.ask("start", threads=arguments.threads, seed=seed)
                worker.ask("inputs", text=str(arguments.text), seed=seed, iterations=arguments.iterations, path=inputs)
            for side, script in sides.items():
                sources = digest_of_sources((script, *shared), engine=side == first)
                fingerprint = f"{digest_of_inputs(inputs)} {sources}"
                if runs.get(f"{side} {seed}", {}).get("fingerprint") == fingerprint:
                    continue
                with Worker(script) as worker:
                    settings = worker.ask("start", threads=arguments.threads)
                    run = worker.ask("train", inputs=inputs, label=f"seed {seed}, {side}")
                about = {"settings": settings, "commit": harness.commit(), "fingerprint": fingerprint}
                runs[f"{side} {seed}"] = run | about
                save(runs)
    return runs


def means(runs: Runs, sides: Mapping[str, str], seeds: Sequence[int]) -> tuple[list[int], dict[str, float]]:
    """(the seeds that all sides have done, the mean validation loss of each side over these)."""
    done = [seed for seed in seeds if all(f"{side} {seed}" in runs for side in sides)]
    losses = {side: [runs[f"{side} {seed}"]["validation_loss"] for seed in done] for side in sides}
    return done, {side: statistics.fmean(found) for side, found in losses.items()} if done else {}


def print_losses(result: Mapping[str, Any]) -> None:
    """A row for each seed, and their mean; `result` has seeds, runs and the means of two sides."""
    rows, found = [], result["means"]
    for seed in result["seeds"]:
        runs = [result["runs"][f"{side} {seed}"] for side in found]
        losses = [run["validation_loss"] for run in runs]
        seconds = [f"{run['training_seconds']:.0f}" for run in runs]
        rows.append([f"seed {seed}", *(f"{loss:.4f}" for loss in losses), f"{losses[0] - losses[1]:+.4f}", *seconds])
    ours, theirs = found.values()
    rows.append(["mean", f"{ours:.4f}", f"{theirs:.4f}", f"{ours - theirs:+.4f}", "", ""])
    print(f"validation loss in nats after {result['configuration']['iterations']} iterations")
    harness.print_table(["", *found, "difference", *(f"{side} s" for side in found)], rows)


def finished(path: Path) -> Runs:
    """The runs in the result file."""
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text())["runs"]
    except (json.JSONDecodeError, KeyError):
        print(f"NOTE: {path} is broken; starting afresh", file=sys.stderr)
        return {}


def digest_of_inputs(path: str) -> str:
    """A hash of the arrays that both sides start from."""
    digest = hashlib.sha256()
    with np.load(path) as arrays:
        for name in sorted(arrays.files):
            digest.update(name.encode() + b"\0" + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()[:16]


def digest_of_sources(workers: Sequence[str], *, engine: bool) -> str:
    """A hash of the sources on which a side's numbers depend; PyTorch's version stands for PyTorch."""
    paths = [harness.WORKERS / name for name in workers]
    if engine:
        rooms = [
            ROOT / "reference",
            ROOT / "kernels",
            *(ROOT / "engine" / name for name in ("nn", "ops", "optim", "models")),
        ]
        paths += [*(path for room in rooms for path in room.rglob("*.py")), *(ROOT / "engine").glob("*.py")]
    digest = hashlib.sha256(b"" if engine else harness.versions().get("torch", "").encode())
    for path in sorted(paths):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def parse(description: str | None, *, iterations: int, out: str) -> argparse.Namespace:
    """The command line of such a bench; out: its result file's name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=TEXT, help=f"the text (default {TEXT})")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="default 1 2 3")
    parser.add_argument(
        "--iterations",
        type=harness.positive_int,
        default=iterations,
        help=f"default {iterations}; fewer only for a try",
    )
    parser.add_argument(
        "--threads", type=harness.positive_int, default=cores, help=f"threads of each side (default {cores})"
    )
    parser.add_argument("--fresh", action="store_true", help="forget the finished runs in the result file")
    parser.add_argument("--out", type=Path, default=harness.RESULTS / out, help="result file")
    return parser.parse_args()
