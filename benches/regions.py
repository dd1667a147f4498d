"""From which size on a parallel region pays: passes of three weights, on one thread and on all, over sizes and rhythms.

    python benches/regions.py [--threads T]

add, AdamW and gelu cost about 0.07, 0.15 and 0.3 ns an element. Each is called serially and as a region, back to back (the
other threads still spin) and after a rest of half a millisecond (they sleep). Where both take the same time is what
PARALLEL_WORK in kernels/cpu/threads.py should be near. Figures are the 20th percentile of many calls: what is asked is what a
region costs, not what else the machine does.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import harness
from harness import Worker

PASSES = ("add", "adamw", "gelu")
SIZES = tuple(1 << power for power in range(12, 19))
RESTS = {"awake": 0.0, "asleep": 5e-4}


def main() -> None:
    arguments = parse()
    harness.require("handgrad", "numba")
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    with Worker("regions_handgrad.py") as worker:
        settings = worker.ask("start", threads=arguments.threads)
        for name in PASSES:
            found[name] = {}
            for size in SIZES:
                found[name][str(size)] = {how: worker.ask("point", name=name, size=size, rest=rest)
                                          for how, rest in RESTS.items()}  # fmt: skip
    rows = [
        [f"{name} {size}", *(f"{us:.2f}" for how in RESTS for us in of[how])]
        for name, sizes in found.items()
        for size, of in sizes.items()
    ]
    harness.print_table(["us", *(f"{how}: {what}" for how in RESTS for what in ("serial", "region"))], rows)
    pays = {name: {how: pays_from(sizes, how) for how in RESTS} for name, sizes in found.items()}
    for name, of in pays.items():
        print(f"{name}: a region pays from " + ", ".join(f"{size} elements on ({how})" for how, size in of.items()))
    result = harness.record("regions", unit="us", settings=settings, calls=found, pays_from=pays)
    harness.write_result(arguments.out, result)


def pays_from(sizes: dict[str, dict[str, list[float]]], how: str) -> int | None:
    """The smallest size from which on the region is always faster; None where it never is."""
    slower = [int(size) for size, of in sizes.items() if of[how][1] >= of[how][0]]
    return min((int(size) for size in sizes if int(size) > max(slower, default=0)), default=None)


def parse() -> argparse.Namespace:
    """The command line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=harness.positive_int, default=cores, help=f"default {cores}")
    parser.add_argument("--out", type=Path, default=harness.RESULTS / "regions.json", help="result file")
    return parser.parse_args()


if __name__ == "__main__":
    harness.run(main)
