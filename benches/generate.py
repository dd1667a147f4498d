"""Generation with kept keys and values, one text at a time: GPT-2's 124 million parameters, handgrad against PyTorch eager.

    python benches/generate.py [--rounds N] [--seconds S] [--threads T]

First the check: both sides must write the same likeliest tokens after a prompt of 64. Then the timing, in turns as harness.py
says: a sample is one further token, of which each reads all weights once (0.5 GB in float32), so that memory is the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

import harness
from harness import BenchError, Worker

sys.path.insert(0, str(harness.WORKERS))
import generation

GOAL = 2.5
TORCH = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "GOMP_SPINCOUNT": "3000"}


def main() -> None:
    arguments = parse()
    harness.require("handgrad", "numba", "torch")
    with contextlib.ExitStack() as stack:
        weights = str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "weights.npz")
        sides = {
            "handgrad": stack.enter_context(Worker("generate_handgrad.py")),
            "torch eager": stack.enter_context(Worker("generate_torch.py", TORCH)),
        }
        settings = {name: side.ask("start", threads=arguments.threads) for name, side in sides.items()}
        sides["handgrad"].ask("save_weights", path=weights)
        sides["torch eager"].ask("load_weights", path=weights)
        ours, theirs = (side.ask("tokens", count=generation.NEW) for side in sides.values())
        if ours != theirs:
            raise BenchError(f"the sides write different tokens, {ours} and {theirs}; nothing was timed")
        rounds = harness.alternate(sides, rounds=arguments.rounds, seconds=arguments.seconds)
    summaries = {name: harness.summarize(blocks) for name, blocks in rounds.items()}
    ratio = harness.ratio_record(rounds["torch eager"], rounds["handgrad"])
    harness.print_table(harness.header("ms a token"), [harness.row_of(name, s) for name, s in summaries.items()])
    harness.say_if_noisy(summaries.values())
    verdict = harness.verdict("GOAL: speed against PyTorch eager", ratio["of_medians"], GOAL, at_least=True)
    result = harness.record(
        "generate", unit="ms", model="GPT-2 124M, random weights", dtype="float32", prompt=len(generation.PROMPT),
        settings=settings, rounds=arguments.rounds, seconds_a_block=arguments.seconds, wait_limit=harness.WAIT_LIMIT,
        tokens=summaries, torch_to_handgrad=ratio, verdicts=[verdict],
    )  # fmt: skip
    harness.write_result(arguments.out, result)


def parse() -> argparse.Namespace:
    """The command line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=harness.positive_int, default=8, help="blocks of each side (default 8)")
    parser.add_argument("--seconds", type=harness.positive, default=3.0, help="seconds a block (default 3)")
    parser.add_argument("--threads", type=harness.positive_int, default=cores, help=f"of each side (default {cores})")
    parser.add_argument("--out", type=Path, default=harness.RESULTS / "generate.json", help="result file")
    return parser.parse_args()


if __name__ == "__main__":
    harness.run(main)
