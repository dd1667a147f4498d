"""Generation with kept keys and values, one text at a time: GPT-2's 124 million parameters, handgrad against PyTorch eager.

    python benches/generate.py [--rounds N] [--seconds S] [--threads T] [--torch-compile]

First the check: in float32 both sides must write the same likeliest tokens after a prompt of 64; of the others it is published
how many of theirs are the same. Then the timing, in turns as harness.py says: a sample is one further token, for which each
reads all weights once, or one prompt. Memory is the limit, so its bandwidth is measured in the same run, and what the sides
reach of it is published: bytes of the weights that a token reads, by the time it takes.
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
import roofline
from harness import BenchError, Worker

sys.path.insert(0, str(harness.WORKERS))
import generation

GOAL = 2.5
TORCH = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "GOMP_SPINCOUNT": "3000"}
OURS = ("float32", "bfloat16", "float16", "int8")


def main() -> None:
    arguments = parse()
    harness.require("handgrad", "numba", "torch")
    with contextlib.ExitStack() as stack:
        path = str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "weights.npz")
        sides, settings, forms = {}, {}, {}

        def add(name: str, weights: str, worker: Worker, **start: Any) -> None:
            sides[name], forms[name] = stack.enter_context(worker), weights
            settings[name] = worker.ask("start", threads=arguments.threads, weights=weights, path=path, **start)

        for weights in OURS:
            add(f"handgrad {weights}", weights, Worker("generate_handgrad.py"), save=weights == OURS[0])
        add("torch eager", "float32", Worker("generate_torch.py", TORCH), compile=False)
        add("torch eager bfloat16", "bfloat16", Worker("generate_torch.py", TORCH), compile=False)
        if arguments.torch_compile:
            add("torch compile", "float32", Worker("generate_torch.py", TORCH), compile=True)
        tokens = {name: side.ask("tokens", count=generation.NEW) for name, side in sides.items()}
        for name, found in tokens.items():
            if forms[name] == "float32" and found != tokens["torch eager"]:
                raise BenchError(f"{name} writes {found}, but PyTorch {tokens['torch eager']}; nothing was timed")
        bandwidth = measured_bandwidth(arguments.threads)
        length = {"rounds": arguments.rounds, "seconds": arguments.seconds}
        found = {what: harness.alternate(sides, what=what, **length) for what in ("token", "prompt")}
    ours, theirs = found["token"]["handgrad float32"], found["token"]["torch eager"]
    tables = {
        what: {name: harness.summarize(samples) for name, samples in sides.items()} for what, sides in found.items()
    }
    for name, summary in tables["token"].items():
        speed = generation.READ * generation.BYTES[forms[name]] / summary["median"] * 1e-6
        same = sum(a == b for a, b in zip(tokens[name], tokens["torch eager"], strict=True))
        summary |= {"tokens_a_second": round(1e3 / summary["median"], 1), "gigabytes_a_second": round(speed, 1),
                    "of_bandwidth": round(speed / bandwidth, 3), "same_tokens": same}  # fmt: skip
    show(tables, bandwidth)
    harness.say_if_noisy(summary for table in tables.values() for summary in table.values())
    ratio = harness.ratio_record(theirs, ours)
    verdict = harness.verdict("GOAL: speed against PyTorch eager", ratio["of_medians"], GOAL, at_least=True)
    result = harness.record(
        "generate", unit="ms", model="GPT-2 124M, random weights", prompt=len(generation.PROMPT), new=generation.NEW,
        settings=settings, rounds=arguments.rounds, seconds_a_block=arguments.seconds, wait_limit=harness.WAIT_LIMIT,
        memory_gigabytes_a_second=bandwidth, tokens=tables["token"], prompts=tables["prompt"], torch_to_handgrad=ratio,
        verdicts=[verdict],
    )  # fmt: skip
    harness.write_result(arguments.out, result)


def measured_bandwidth(threads: int) -> float:
    """GB/s that memory can be read with, by all threads."""
    with Worker("limits.py") as worker:
        worker.ask("start", threads=threads)
        return round(worker.ask("bandwidth", size=4 * max(roofline.caches().values()), seconds=0.3), 1)


def show(tables: dict[str, dict[str, Any]], bandwidth: float) -> None:
    """Both tables."""
    eager = tables["token"]["torch eager"]["median"]
    extra = ["times torch eager", "tokens/s", "GB/s", f"of {bandwidth:.0f}"]
    rows = [
        [*harness.row_of(name, s), f"{eager / s['median']:.2f}", f"{s['tokens_a_second']:.0f}",
         f"{s['gigabytes_a_second']:.0f}", f"{s['of_bandwidth']:.0%}"]
        for name, s in tables["token"].items()
    ]  # fmt: skip
    harness.print_table([*harness.header("ms a token"), *extra], rows)
    print()
    harness.print_table(
        harness.header(f"ms for {len(generation.PROMPT)} tokens of prompt"),
        [harness.row_of(name, s) for name, s in tables["prompt"].items()],
    )


def parse() -> argparse.Namespace:
    """The command line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=harness.positive_int, default=8, help="blocks of each side (default 8)")
    parser.add_argument("--seconds", type=harness.positive, default=3.0, help="seconds a block (default 3)")
    parser.add_argument("--threads", type=harness.positive_int, default=cores, help=f"of each side (default {cores})")
    parser.add_argument("--torch-compile", action="store_true", help="time torch.compile too (needs a C++ compiler)")
    parser.add_argument("--out", type=Path, default=harness.RESULTS / "generate.json", help="result file")
    return parser.parse_args()


if __name__ == "__main__":
    harness.run(main)
