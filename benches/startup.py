"""How long one waits: for the import, and for the first training step with a cold and a warm Numba cache.

    python benches/startup.py [--repeats N] [--warm N]

import   whole processes `python -c "..."`, timed by the parent: `pass`, `import numpy`, `import handgrad`, and
         `import handgrad` with handgrad.Tensor touched (which loads the engine). The median of N of each, in alternation.
first    a fresh process that settles, builds nanoGPT's CPU model and does one training step; timed by the parent from the
         start of the process to the line that the process prints after the step. Cold: NUMBA_CACHE_DIR is an empty
         folder. Warm: the same folder again.
These are waiting times, so nothing is dropped: on a busy machine they are longer.

Kernels are compiled one after the other: Numba's compiler has one lock, so threads would wait for each other. A second process
that compiles the two attention kernels meanwhile, two fifths of the work, was tried on two idle cores: 12.3 s instead of 16.9.
For 4.6 s once after an installation it takes all cores, and a list of what to compile for which types. It is not kept.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import harness
from harness import BenchError

IMPORTS = {
    "python alone": "pass",
    "import numpy": "import numpy",
    "import handgrad": "import handgrad",
    "import handgrad; handgrad.Tensor": "import handgrad; handgrad.Tensor",
}
IMPORT_MUST, COLD_MUST, WARM_MUST = 0.15, 20.0, 2.0  # seconds


def main() -> None:
    arguments = parse()
    harness.require("handgrad", "numba")
    imports = import_times(arguments.repeats)
    medians = {name: statistics.median(seconds) for name, seconds in imports.items()}
    rows = [[name, f"{medians[name]:.3f}", f"{min(s):.3f}", f"{max(s):.3f}"] for name, s in imports.items()]
    harness.print_table(["", "median s", "least", "most"], rows)
    print()
    cold, warm = first_steps(arguments.warm)
    harness.print_table(
        ["first training step", "seconds"],
        [["cold Numba cache", f"{cold['seconds']:.2f}"], ["warm (median)", f"{warm['seconds']:.2f}"]],
    )
    print(f"said while compiling: {cold['said']!r}\n")
    numpy = medians["import numpy"]
    verdicts = [
        *(harness.verdict(f"MUST: {name}, minus import numpy", medians[name] - numpy, IMPORT_MUST, unit=" s")
          for name in list(IMPORTS)[2:]),
        harness.verdict("MUST: cold Numba cache to the first step", cold["seconds"], COLD_MUST, unit=" s"),
        harness.verdict("MUST: warm to the first step", warm["seconds"], WARM_MUST, unit=" s"),
    ]  # fmt: skip
    result = harness.record(
        "startup", unit="s", imports={name: [round(s, 4) for s in found] for name, found in imports.items()},
        import_medians={name: round(s, 4) for name, s in medians.items()}, cold=cold, warm=warm, verdicts=verdicts,
    )  # fmt: skip
    harness.write_result(arguments.out, result)


def import_times(repeats: int) -> dict[str, list[float]]:
    """Seconds of whole processes, in alternation, after one that is not counted (it writes the .pyc files)."""
    found: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for repeat in range(-1, repeats):
        for name, code in IMPORTS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], env=clean_environment(), check=True)
            if repeat >= 0:
                found[name].append(time.perf_counter() - start)
    return found


def first_steps(repeats: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """(cold, warm): one run with an empty cache folder, then the median of `repeats` with what it left there."""
    with tempfile.TemporaryDirectory() as folder:
        print("compiling into an empty cache ...", file=sys.stderr)
        cold = first_step(folder)
        warm = [first_step(folder) for _ in range(repeats)]
    if cold["loss"] != warm[0]["loss"]:
        raise BenchError(f"the first loss is {cold['loss']} with a cold cache and {warm[0]['loss']} with a warm one")
    if not cold["said"] or warm[0]["said"]:
        print(f"NOTE: said {cold['said']!r} cold and {warm[0]['said']!r} warm; a line is promised cold, silence warm")
    seconds = [run["seconds"] for run in warm]
    return cold, {
        "seconds": statistics.median(seconds),
        "all": seconds,
        "said": warm[0]["said"],
        "parts": warm[0]["parts"],
    }


def first_step(cache: str) -> dict[str, Any]:
    """Seconds from the start of a fresh process to the end of its first training step; the loss; what it said; its parts."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(harness.WORKERS / "first_step.py")],
        env=clean_environment() | {"NUMBA_CACHE_DIR": cache},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    seconds = time.perf_counter() - start
    _, said = process.communicate()
    if process.returncode or not line.strip():
        raise BenchError(f"first_step.py failed with exit code {process.returncode}: {said.strip()[-500:]}")
    loss, *parts = line.split()
    names = ("imports", "model", "step")
    return {
        "seconds": round(seconds, 3),
        "loss": float(loss),
        "said": said.strip().split(" and kept in")[0],  # the folder is this machine's
        "parts": {name: round(float(part), 3) for name, part in zip(names, parts, strict=True)},
    }


def clean_environment() -> dict[str, str]:
    """The environment without anybody's thread, malloc and cache settings, and in which Python keeps its .pyc files."""
    dropped = (*harness.CLEARED, "NUMBA_CACHE_DIR", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--repeats", type=harness.positive_int, default=11, help="processes for each import (default 11)"
    )
    parser.add_argument("--warm", type=harness.positive_int, default=5, help="runs with a warm cache (default 5)")
    parser.add_argument("--out", type=Path, default=harness.RESULTS / "startup.json", help="result file")
    return parser.parse_args()


if __name__ == "__main__":
    harness.run(main)
