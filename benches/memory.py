"""Memory of training: how far a process grows, after its imports, while a GPT is made and trained for a few steps, and how many
page faults a step takes after them.

    python benches/memory.py [--steps N]

Each model (gpt_sizes.py) and each side in a process of its own. First a small model is trained for a
step, so that all code is loaded; then the process's size is taken (VmRSS), the model is made and trained, and the largest size
that the process ever had (VmHWM) is read. A page fault is a page of fresh memory, touched for the first time: a step that finds
its buffers again takes none. Both sides in their best settings, as gpt_step.py times them, and "as installed".
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import harness
from gpt_step import MALLOC, UNTOUCHED
from harness import BenchError, Worker

SIDES = {
    "handgrad": ("gpt_handgrad.py", {}, {}),
    "torch": ("gpt_torch.py", MALLOC | {"GOMP_SPINCOUNT": "3000"}, {}),
    "handgrad as installed": ("gpt_handgrad.py", UNTOUCHED, {"settled": False}),
    "torch as installed": ("gpt_torch.py", {}, {}),
}
SIZES = ("nanogpt", "gpt2")
FEW_FAULTS = 64
"""A quarter of a MiB in pages of 4 KiB: then a step took no large buffer from the system."""


def main() -> None:
    arguments = parse()
    harness.require("handgrad", "numba", "torch")
    if not Path("/proc/self/status").exists():
        raise BenchError("memory.py reads /proc/self/status, which only Linux has")
    found: dict[str, dict[str, float]] = {}
    faults: dict[str, dict[str, float]] = {}
    for size in SIZES:
        measured = {name: growth(name, size, arguments.steps, arguments.threads) for name in SIDES}
        found[size] = {name: mib for name, (mib, _) in measured.items()}
        faults[size] = {name: round(pages, 1) for name, (_, pages) in measured.items()}
    rows = [[f"{size}: MiB", *(f"{grown[name]:.1f}" for name in SIDES)] for size, grown in found.items()]
    rows += [[f"{size}: page faults a step", *(f"{of[name]:.0f}" for name in SIDES)] for size, of in faults.items()]
    harness.print_table(["", *SIDES], rows)
    verdicts = [
        harness.verdict(f"MUST: {size}, {ours} against {theirs}", grown[ours] / grown[theirs], 1.0)
        for size, grown in found.items()
        for ours, theirs in (("handgrad", "torch"), ("handgrad as installed", "torch as installed"))
    ]
    verdicts += [
        harness.verdict(f"MUST: {size}, page faults a step", of["handgrad"], FEW_FAULTS) for size, of in faults.items()
    ]
    result = harness.record(
        "memory", unit="MiB", steps=arguments.steps, growth=found, page_faults=faults, verdicts=verdicts
    )
    harness.write_result(arguments.out, result)


def growth(name: str, size: str, steps: int, threads: int) -> tuple[float, float]:
    """(MiB that the side's process grows by, page faults of a step afterwards)."""
    script, environ, how = SIDES[name]
    with Worker(script, environ) as worker:
        worker.ask("start", threads=threads, size="tiny", **how)
        worker.ask("block", seconds=0.01)
        grown = worker.ask("grown", size=size, steps=steps)
    return round((grown["peak"] - grown["before"]) / 2**20, 1), grown["faults"]


def parse() -> argparse.Namespace:
    """The command line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=harness.positive_int, default=5, help="training steps (default 5)")
    parser.add_argument("--threads", type=harness.positive_int, default=cores, help=f"of each side (default {cores})")
    parser.add_argument("--out", type=Path, default=harness.RESULTS / "memory.json", help="result file")
    return parser.parse_args()


if __name__ == "__main__":
    harness.run(main)
