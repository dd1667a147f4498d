"""nn.LSTM forward and backward: handgrad against PyTorch eager, each in its own process.

    python benches/lstm_step.py [--rounds N] [--seconds S] [--threads T]

First the check: from the same weights, input and cotangent both sides must give the same outputs and gradients. Then the
timing (harness.py says how). On a machine that others use too, only the ratio of the alternating blocks means something;
the record keeps the load average and the share of samples that were dropped.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import harness
from harness import BenchError, Worker

sys.path.insert(0, str(harness.WORKERS))
import lstm_shapes

TOLERANCE = 2e-5
"""Relative, of the difference's norm to the array's: float32 sums in two different orders, over up to 4096 rows."""

TORCH = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "GOMP_SPINCOUNT": "3000",
}
"""PyTorch's environment: memory is kept and idle threads spin briefly, as handgrad arranges for itself (engine/process.py)."""


def main() -> None:
    arguments = parse()
    harness.require("handgrad", "numba", "torch")
    results: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides = {
            "handgrad": stack.enter_context(Worker("lstm_handgrad.py")),
            "torch eager": stack.enter_context(Worker("lstm_torch.py", TORCH)),
        }
        settings = {name: side.ask("start", threads=arguments.threads) for name, side in sides.items()}
        for shape in lstm_shapes.SHAPES:
            worst = check(sides, shape, folder)
            rounds = harness.alternate(sides, rounds=arguments.rounds, seconds=arguments.seconds)
            summaries = {name: harness.summarize(blocks) for name, blocks in rounds.items()}
            ratio = harness.ratio_record(rounds["torch eager"], rounds["handgrad"])
            results[shape] = {"check": worst, "steps": summaries, "torch_to_handgrad": ratio}
            print(f"\n{shape}: torch eager / handgrad {ratio['of_medians']:.3f}")
            harness.print_table(harness.header("ms"), [harness.row_of(name, s) for name, s in summaries.items()])
            harness.say_if_noisy(summaries.values())
    result = harness.record(
        "lstm_step",
        unit="ms",
        settings=settings,
        rounds=arguments.rounds,
        seconds_a_block=arguments.seconds,
        wait_limit=harness.WAIT_LIMIT,
        shapes=results,
    )
    harness.write_result(arguments.out, result)


def check(sides: dict[str, Worker], shape: str, folder: Path) -> dict[str, float]:
    """Relative differences of outputs and gradients; BenchError where the sides disagree."""
    import numpy as np

    found = []
    for name, side in sides.items():
        path = folder / f"{name}.npz"
        side.ask("prepare", shape=shape, path=str(path))
        found.append(np.load(path))
    ours, theirs = found
    errors = {
        key: float(np.linalg.norm(ours[key] - theirs[key]) / np.linalg.norm(theirs[key]))
        for key in sorted(theirs.files)
    }
    worst = max(errors, key=errors.__getitem__)
    if sorted(ours.files) != sorted(theirs.files) or not errors[worst] <= TOLERANCE:
        raise BenchError(f"{shape}: {worst} is off by {errors[worst]:.1e} relative to PyTorch's; nothing was timed")
    return errors


def parse() -> argparse.Namespace:
    """The command line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=harness.positive_int, default=12, help="blocks of each side (default 12)")
    parser.add_argument("--seconds", type=harness.positive, default=2.0, help="seconds a block (default 2)")
    parser.add_argument(
        "--threads", type=harness.positive_int, default=cores, help=f"threads of each side (default {cores})"
    )
    parser.add_argument("--out", type=Path, default=harness.RESULTS / "lstm_step.json", help="result file")
    return parser.parse_args()


if __name__ == "__main__":
    harness.run(main)
