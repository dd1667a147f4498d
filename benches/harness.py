"""What every comparison here shares: a process for each side, blocks in alternation, one rule for noise, one record.

How a comparison is made
- Each side lives in a worker process of its own (benches/workers/), started from an environment without anybody's thread
  or malloc settings, so that each can have its own best ones. The parent talks to it in JSON lines through pipes.
- The parent lets the workers run blocks in turns, A B A B ..., the order turned round every round. Whatever the machine
  does for a minute (heat, a neighbour's job) meets all sides.
- A worker times every step and notes how long its threads stood runnable in the kernel's run queue meanwhile
  (/proc/self/task/*/schedstat). A step that waited more than WAIT_LIMIT of its time measures somebody else's work and is
  dropped, by the same rule on all sides. The share dropped and the medians without dropping are published too.
- Published: median, 10th and 90th percentile, number of steps, machine, versions, settings, commit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
WORKERS = HERE / "workers"

WAIT_LIMIT = 0.03
"""A step is dropped when its process waited for a core for more than this share of the step's time."""

FEWEST = 20
"""With fewer steps than this left, a median is called noisy."""

CLEARED = (
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "OPENBLAS_",
    "MALLOC_",
    "GLIBC_TUNABLES",
    "HANDGRAD_",
    "NUMBA_NUM",
    "NUMBA_THREAD",
    "NPROC",
    "XLA_",
    "JAX_",
)
"""Prefixes of the environment variables that a worker does not inherit."""

Sample = tuple[float, float]
"""Seconds of one step, and seconds that the process waited on the run queue meanwhile."""


class BenchError(RuntimeError):
    """A side gave a wrong result, is not installed, or died. The message says which."""


class Worker:
    """One side of a comparison: a process that answers JSON requests. Use it in a `with` block."""

    def __init__(self, script: str, environ: Mapping[str, str] | None = None) -> None:
        self.script = script
        self.environ = dict(environ or {})
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(CLEARED)}
        self.process = subprocess.Popen(
            [sys.executable, str(WORKERS / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=inherited | self.environ,
            text=True,
            start_new_session=True,  # Ctrl-C is the parent's; the end of its input ends a worker
        )

    def ask(self, do: str, **arguments: Any) -> Any:
        """Run one of the worker's commands and return its answer. BenchError with the worker's own words if it fails, and with
        nothing but them where it refuses what the user gave.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise BenchError(f"{self.script} ended at {do!r} with exit code {self.process.wait()}")
        answer = json.loads(line)
        if "refused" in answer:
            raise BenchError(answer["refused"])
        if "error" in answer:
            raise BenchError(f"{self.script} failed at {do!r}: {answer['error']}")
        return answer["value"]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()  # the end of its input ends the worker
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def alternate(
    workers: Mapping[str, Worker],
    *,
    rounds: int,
    seconds: float,
    do: str = "block",
    pause: float = 0.05,
    **arguments: Any,
) -> dict[str, list[list[Sample]]]:
    """Samples of each side, a list for each round: every worker runs blocks of `seconds`, in turns."""
    found: dict[str, list[list[Sample]]] = {name: [] for name in workers}
    order = list(workers)
    for done in range(rounds):
        for name in order if done % 2 == 0 else reversed(order):
            time.sleep(pause)  # for the other side's idle threads to fall asleep
            found[name].append([(s, w) for s, w in workers[name].ask(do, seconds=seconds, **arguments)])
        print(f"\r  round {done + 1} of {rounds}", end="", file=sys.stderr, flush=True)
    print("\r" + " " * 30 + "\r", end="", file=sys.stderr, flush=True)
    return found


def is_kept(sample: Sample) -> bool:
    """Whether a sample measures its own side: it waited for a core for at most WAIT_LIMIT of its time."""
    seconds, waited = sample
    return waited <= WAIT_LIMIT * seconds


def summarize(rounds: Sequence[Sequence[Sample]], unit: float = 1e3) -> dict[str, Any]:
    """Median, p10, p90 of the kept samples, in 1/unit seconds (1e3: ms, 1e6: us), beside what was dropped."""
    every = [sample for block in rounds for sample in block]
    kept = [seconds * unit for seconds, _ in filter(is_kept, every)]
    undropped = [seconds * unit for seconds, _ in every]
    noisy = len(kept) < FEWEST
    p10, median, p90 = percentiles(undropped if noisy else kept)
    return {
        "median": round(median, 4),
        "p10": round(p10, 4),
        "p90": round(p90, 4),
        "samples": len(kept),
        "dropped_share": round(1 - len(kept) / len(every), 4),
        "undropped_median": round(statistics.median(undropped), 4),
        "noisy": noisy,  # too few samples were left: these are the figures of all of them
    }


def percentiles(values: Iterable[float]) -> tuple[float, float, float]:
    """(10th percentile, median, 90th percentile)."""
    ordered = sorted(values)
    if len(ordered) == 1:
        return ordered[0], ordered[0], ordered[0]
    cuts = statistics.quantiles(ordered, n=10, method="inclusive")
    return cuts[0], statistics.median(ordered), cuts[-1]


def round_ratios(a: Sequence[Sequence[Sample]], b: Sequence[Sequence[Sample]]) -> list[float]:
    """median(a) / median(b) of each round in which both kept at least three samples: how steady a ratio is."""
    ratios = []
    for block_a, block_b in zip(a, b, strict=True):
        left, right = [s for s, w in block_a if is_kept((s, w))], [s for s, w in block_b if is_kept((s, w))]
        if min(len(left), len(right)) >= 3:
            ratios.append(statistics.median(left) / statistics.median(right))
    return ratios


def ratio_record(rounds_a: Sequence[Sequence[Sample]], rounds_b: Sequence[Sequence[Sample]]) -> dict[str, Any]:
    """How many times as long a takes as b: of the medians, without dropping, and the spread from round to round."""
    a, b = summarize(rounds_a), summarize(rounds_b)
    by_round = round_ratios(rounds_a, rounds_b)
    record: dict[str, Any] = {
        "of_medians": round(a["median"] / b["median"], 4),
        "of_undropped_medians": round(a["undropped_median"] / b["undropped_median"], 4),
        "rounds": len(by_round),
    }
    if by_round:
        p10, median, p90 = percentiles(by_round)
        record |= {"by_round": {"p10": round(p10, 4), "median": round(median, 4), "p90": round(p90, 4)}}
    return record


# ---- the record


def record(name: str, **content: Any) -> dict[str, Any]:
    """What a result file starts with: when, where and with what it was measured; then `content`."""
    return {
        "name": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        **content,
    }


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory, kernel, and how busy the machine was just now."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = platform.processor() or platform.machine()
    info: dict[str, Any] = {"processor": name, "cores": cores, "system": platform.platform()}
    cpuinfo, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if cpuinfo.exists():
        fields = dict(line.split(":", 1) for line in cpuinfo.read_text().split("\n\n")[0].splitlines() if ":" in line)
        stripped = {name.strip(): value.strip() for name, value in fields.items()}
        info["processor"] = stripped.get("model name", info["processor"])
        wanted = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile")
        info["instructions"] = [flag for flag in wanted if flag in stripped.get("flags", "").split()]
    if meminfo.exists():
        info["memory_gib"] = round(int(meminfo.read_text().split()[1]) / 2**20, 1)
    if hasattr(os, "getloadavg"):
        info["load_average"] = [round(load, 2) for load in os.getloadavg()]
    return info


def versions() -> dict[str, str]:
    """Python's and the libraries' versions, of those that are installed."""
    found = {"python": platform.python_version()}
    for name in ("handgrad", "numpy", "numba", "llvmlite", "torch", "transformers", "jax", "jaxlib"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The checkout's commit, with a + where files were changed since; None outside a git checkout."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(HERE), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/engine", ":/kernels", ":/reference")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """JSON, to a temporary name first: a kill at any moment leaves the old file or the new one."""
    from handgrad.engine.files import write_text_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps(result, indent=2) + "\n")
    print(f"written to {path}", file=sys.stderr)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need to be: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def row_of(name: str, summary: Mapping[str, Any], digits: int = 2) -> list[str]:
    """One side of a comparison as a row under HEADER."""
    figures = [f"{summary[key]:.{digits}f}" for key in ("median", "p10", "p90", "undropped_median")]
    return [name, *figures[:3], str(summary["samples"]), f"{summary['dropped_share']:.0%}", figures[3]]


def header(unit: str) -> list[str]:
    """The header of a table of `row_of` rows."""
    return ["", f"median {unit}", "p10", "p90", "samples", "dropped", "median of all"]


def say_if_noisy(summaries: Iterable[Mapping[str, Any]]) -> None:
    """One line where a side kept too few samples to be quoted."""
    if any(summary["noisy"] for summary in summaries):
        print(f"NOISY: a side kept fewer than {FEWEST} samples, and its figures are of all samples; run it again")


def positive(text: str) -> float:
    """For argparse: a positive number."""
    with contextlib.suppress(ValueError):
        value = float(text)
        if 0 < value < float("inf"):
            return value
    raise argparse.ArgumentTypeError(f"{text} is no positive number")


def positive_int(text: str) -> int:
    """For argparse: a positive whole number."""
    with contextlib.suppress(ValueError):
        value = int(text)
        if value > 0:
            return value
    raise argparse.ArgumentTypeError(f"{text} is no positive whole number")


def verdict(what: str, value: float, limit: float, *, at_least: bool = False, unit: str = "") -> dict[str, Any]:
    """Compare a figure with its promise, print the sentence, return it for the record."""
    met = value >= limit if at_least else value <= limit
    bound = "at least" if at_least else "at most"
    print(f"{what}: {value:.4g}{unit} ({bound} {limit:g}{unit}: {'met' if met else 'NOT MET'})")
    return {"what": what, "value": round(value, 5), "bound": bound, "limit": limit, "unit": unit, "met": met}


def require(*modules: str) -> None:
    """BenchError with one sentence unless these can be imported; nothing is imported."""
    from importlib.util import find_spec

    for module in modules:
        if find_spec(module) is None:
            how = {"handgrad": "pip install -e .", "jax": "pip install jax"}.get(module, "pip install -e '.[peers]'")
            raise BenchError(f"{module} is not installed in {sys.executable}; install it with: {how}")


def run(main: Any, name: str = Path(sys.argv[0]).name) -> None:
    """Call a bench's main(), known as `name`; a BenchError ends in one line and exit code 2, Ctrl-C in exit code 130."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except BenchError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
