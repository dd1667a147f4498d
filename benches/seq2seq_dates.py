"""Dates as people write them to ISO dates: how often `handgrad train seq2seq` gets them exactly right, and how soon.

    python benches/seq2seq_dates.py [--pairs PATH] [--seeds 1 2 3] [--steps 800] [--fresh]

For both attentions and each seed the command trains, as a user would call it, in a process of its own, on 19,000 pairs of
the file; then it translates the 1,000 pairs that it held back (others for each seed). Seconds are those of the whole
process: starting, training, translating. A translation counts only if it is right character for character. The trained
model then translates the same lines with a beam of 4.

Finished runs are kept in the result file as long as the steps are the same; --fresh forgets them.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import harness
from harness import BenchError

DATES = harness.HERE.parent.parent / "shared" / "data" / "translation" / "dates.txt"
ATTENTIONS = ("bahdanau", "luong")
BEAM = 4
MUST_RIGHT, MUST_SECONDS = 0.99, 600.0


def main() -> None:
    arguments = parse()
    harness.require("handgrad", "numba")
    if not arguments.pairs.is_file():
        raise BenchError(
            f"{arguments.pairs} is absent: this bench needs a file of lines such as 'march 3, 1999 _1999-03-03'; name it "
            "with --pairs PATH"
        )
    runs: dict[str, Any] = {}
    if arguments.out.exists() and not arguments.fresh:
        kept = json.loads(arguments.out.read_text())
        runs = kept["runs"] if kept["steps"] == arguments.steps else {}
    for attention in ATTENTIONS:
        for seed in arguments.seeds:
            name = f"{attention} {seed}"
            if name not in runs:
                print(f"  {name} ...", file=sys.stderr)
                runs[name] = one(arguments, attention, seed) | {"commit": harness.commit()}
                save(arguments, runs)
    save(arguments, runs)
    show(runs)


def one(arguments: argparse.Namespace, attention: str, seed: int) -> dict[str, Any]:
    """Train and test one model."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "handgrad", "train", "seq2seq", "--pairs", str(arguments.pairs)]
        command += ["--separator", "_", "--attention", attention, "--steps", str(arguments.steps)]
        began = time.perf_counter()
        done = subprocess.run([*command, "--seed", str(seed), "--out", str(out)], capture_output=True, text=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise BenchError(f"{' '.join(command)} ended with code {done.returncode}: {done.stderr[-500:]}")
        with open(out / "matches.txt", encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        losses = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return {
            "held_back": len(lines),
            "right_greedy": sum(line["right"] == "yes" for line in lines),
            "right_with_beam": right_with_beam(out, [(line["source"], line["target"]) for line in lines]),
            "validation_loss": [line["validation_loss"] for line in losses if "validation_loss" in line][-1],
            "seconds": round(seconds, 1),
            "wrong": [line for line in lines if line["right"] != "yes"][:5],
        }


def right_with_beam(out: Path, pairs: list[tuple[str, str]]) -> int:
    """How many of the pairs the trained model gets right with a beam."""
    from handgrad.engine.models.folder import load_model
    from handgrad.engine.tasks.translate import exact_matches

    model, tokenizer = load_model(out / "model")
    return sum(exact_matches(model, tokenizer, pairs, beam=BEAM))


def save(arguments: argparse.Namespace, runs: dict[str, Any]) -> None:
    result = harness.record(
        "seq2seq_dates", unit="pairs", file=arguments.pairs.name, steps=arguments.steps, beam=BEAM, runs=runs
    )
    harness.write_result(arguments.out, result)


def show(runs: dict[str, Any]) -> None:
    """The table and the verdicts."""
    rows = [
        [
            name,
            *(f"{run[key]} of {run['held_back']}" for key in ("right_greedy", "right_with_beam")),
            f"{run['seconds']:.0f}",
        ]
        for name, run in runs.items()
    ]
    harness.print_table(["attention, seed", "greedy", f"beam of {BEAM}", "seconds"], rows)
    print()
    worst = min(run["right_greedy"] / run["held_back"] for run in runs.values())
    harness.verdict("MUST: the share that is exactly right, of the worst run", worst, MUST_RIGHT, at_least=True)
    slowest = max(run["seconds"] for run in runs.values())
    harness.verdict("MUST: seconds of the slowest run", slowest, MUST_SECONDS)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, default=DATES, help=f"the pairs (default {DATES})")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="default 1 2 3")
    parser.add_argument("--steps", type=harness.positive_int, default=800, help="updates of the weights (default 800)")
    parser.add_argument("--fresh", action="store_true", help="forget the finished runs in the result file")
    parser.add_argument("--out", type=Path, default=harness.RESULTS / "seq2seq_dates.json", help="result file")
    return parser.parse_args()


if __name__ == "__main__":
    harness.run(main)
