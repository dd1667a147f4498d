"""Operations one by one: handgrad's kernels beside PyTorch and NumPy, each in its own process, checked and then timed.

    handgrad bench [OP ...] [--against torch numpy] [--no-ladders] [--rounds N] [--seconds S]
    handgrad bench softmax --kernel my_kernels.py:my_softmax        a kernel of yours beside ours
    handgrad bench softmax --asm                                    the kernel's machine code, and what of it vectorised

Check. Every side runs once on the same numbers; y, or the gradients for a given cotangent, are compared with the hand-derived
formula in float64: first what is finite, then the norm of the difference. A side that is wrong is not timed.

Time. Blocks in turns, as harness.py says. Every side is called through its own face (handgrad's through its autograd engine),
allocates its own results, and gets the cotangent as it is; backward is backward alone, on a graph that is kept. "warm" passes
over the same arrays again and again, as far as they fit into a cache; "cold" over so many copies that none is still in the last
cache when its turn comes.

Limit. roofline.py measures what this machine can do at most, multiply-adds and bytes; a row's cost says how many of each it
needs at least, and the larger of the two times is the limit. A figure beyond it is an error of the measurement.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import harness
import numpy as np
import roofline
from harness import BenchError, Worker

sys.path.insert(0, str(harness.WORKERS))
import cases

DIRECTIONS = ("forward", "backward")
SAMPLE = 5e-4
"""Seconds of a sample at least: as many passes as that takes are timed together."""
ALONE = ", 1 thread"
"""Behind the name of a version that runs on one thread: what the rung below that of the threads takes."""
MOST_COPIES, MOST_BYTES = 64, 1 << 30
TORCH = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "GOMP_SPINCOUNT": "3000",
}
"""PyTorch's environment: memory is kept and idle threads spin briefly, as handgrad arranges for itself (engine/process.py)."""


class Sides:
    """Workers by name, started when they are first asked for: "torch", or a version of handgrad's (see `version`)."""

    def __init__(self, stack: contextlib.ExitStack, threads: int, own: tuple[str, str, str] | None) -> None:
        self.stack, self.threads, self.own = stack, threads, own
        self.workers: dict[str, Worker] = {}
        self.settings: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Worker:
        if name not in self.workers:
            script, environ = ("ops_torch.py", TORCH) if name == "torch" else ("ops_handgrad.py", {})
            worker = self.stack.enter_context(Worker(script, environ))
            self.settings[name] = worker.ask("start", threads=1 if name.endswith(ALONE) else self.threads)
            self.workers[name] = worker
            if self.own and name == self.own[1]:
                worker.ask("own", path=self.own[0], function=self.own[1], op=self.own[2])
        return self.workers[name]


def main() -> None:
    arguments = parse()
    harness.require("handgrad", "numba", *(("torch",) if "torch" in arguments.against else ()))
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        limits = roofline.measure(arguments.threads)
        roofline.show(limits)
        sides, results = Sides(stack, arguments.threads, arguments.kernel), {}
        for case, direction in arguments.work:
            results[f"{case.name} {direction}"] = one(arguments, case, direction, sides, limits, folder)
        settings = sides.settings
    result = harness.record(
        "ops", unit="ms", dtype="float32", threads=arguments.threads, rounds=arguments.rounds,
        seconds_a_block=arguments.seconds, wait_limit=harness.WAIT_LIMIT, settings=settings, limits=limits, results=results,
    )  # fmt: skip
    harness.write_result(arguments.out, result)
    roofline.draw(result, arguments.out.with_suffix(""))
    if too_fast(results, 1.0):
        again = roofline.measure(arguments.threads)  # a busy moment may have made the limits too low
        if beyond := too_fast(results, roofline.grown(limits, again)):
            raise BenchError(f"faster than this machine can be, so measured wrong: {', '.join(beyond)}")


def too_fast(results: dict[str, Any], grown: float) -> list[str]:
    """What was timed beyond its limit, should the limits be `grown` times as high."""
    return [
        f"{name} ({level}, {side})"
        for name, found in results.items() for level, timed in found["times"].items() for side, row in timed.items()
        if row["of_limit"] > roofline.MARGIN * grown
    ]  # fmt: skip


def one(
    arguments: argparse.Namespace, case: cases.Case, direction: str, sides: Sides, limits: dict[str, Any], folder: str
) -> dict[str, Any]:
    """A row at one size in one direction: the errors of all sides, their times warm and cold, and what bounds them."""
    want, dy, cost = expected(case, direction)
    names, errors = wanted_sides(arguments, case, direction, sides), {}
    for name in list(names):
        path = f"{folder}/side.npz"
        if not sides[name].ask(
            "prepare", case=case.name, version=version(name), direction=direction, copies=1, path=path
        ):
            names.remove(name)  # this version does not accept such arrays, or PyTorch has no such operation
            continue
        errors[name] = difference(case, direction, name, np.load(path), want, dy)
    times: dict[str, Any] = {}
    print(f"\n{case.name}, {direction}")
    for level in arguments.caches:
        fit = 2 * limits["last_cache"] // case.bytes  # copies that the last cache would hold, and once more
        copies = 1 if level == "warm" else min(MOST_COPIES, MOST_BYTES // case.bytes, 1 + fit)
        if level == "cold" and copies < 2:
            continue  # one copy is larger than the last cache: warm is cold
        rungs = [name for name in names if name.startswith("numba ") or name.endswith(ALONE)]
        workers = {name: sides[name] for name in names if level == "warm" or name not in rungs}
        for name, worker in workers.items():
            if copies > 1:
                path = f"{folder}/side.npz"
                worker.ask(
                    "prepare", case=case.name, version=version(name), direction=direction, copies=copies, path=path
                )
        inner = passes(workers)
        rounds = harness.alternate(workers, rounds=arguments.rounds, seconds=arguments.seconds, inner=inner)
        flops = cost[0] if case.op in cases.PRODUCTS else 0.0
        limit = roofline.limit(limits, flops, cost[1], far=case.bytes if level == "cold" else 0.0)
        times[level] = {name: summary(blocks, limit, rounds.get("torch")) for name, blocks in rounds.items()}
        show(level, times[level], limit)
    return {"errors": errors, "flops": cost[0], "bytes": cost[1], "times": times}


def version(side: str) -> str:
    """What handgrad calls this side."""
    return side.removesuffix(ALONE)


def wanted_sides(arguments: argparse.Namespace, case: cases.Case, direction: str, sides: Sides) -> list[str]:
    """The sides of a case: production's kernel (else the formula), the rivals asked for, the ladder, the user's kernel."""
    versions = sides["numba"].ask("versions", op=case.op)
    names = ["numba"] if "numba" in versions else ["formula"]
    if "torch" in arguments.against:
        names.append("torch")
    if "numpy" in arguments.against and "formula" not in names:
        names.append("formula")
    if arguments.ladders and case is next(c for c in cases.CASES if c.op == case.op):
        names += [name for name in versions if name not in ("numba", "formula")]
        names += ["numba" + ALONE] if "numba" in versions and arguments.threads > 1 else []
    if arguments.kernel and direction == "forward":
        names.append(arguments.kernel[1])
    return names


def expected(case: cases.Case, direction: str) -> tuple[list[np.ndarray], np.ndarray | None, tuple[float, float]]:
    """(y, or the gradients, by the formula in float64; the cotangent; (flops, bytes) that the row needs at least)."""
    from handgrad.reference.op import Spec
    from handgrad.reference.table import ROWS

    op = next(op for op in ROWS if op.name == case.op)
    arrays = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in case.arrays()]
    y = op.forward(*arrays, **case.params)
    flops, elements = op.cost(*(Spec(a.shape, a.dtype) for a in arrays), **case.params)
    if case.params.get("causal") or case.op == "packed_attention":
        flops /= 2  # a row's cost does not credit what the order hides
    first = y[0] if isinstance(y, tuple) else y
    if direction == "forward":
        return [first], None, (flops, 4.0 * elements)
    dy = np.random.default_rng(1).standard_normal(first.shape).astype(np.float32)
    given = dy.astype(np.float64)
    if isinstance(y, tuple):
        given = (given, *(np.zeros_like(other) for other in y[1:]))
    gradients = [
        g for g, a in zip(op.vjp(given, y, *arrays, **case.params), arrays, strict=False) if a.dtype.kind == "f"
    ]
    read = sum(a.size for name, a in zip(op.inputs, arrays, strict=False) if name in op.reads)
    moved = dy.size + (first.size if "y" in op.reads else 0) + read + sum(g.size for g in gradients)
    return gradients, dy, (2.0 * flops, 4.0 * moved)


def difference(
    case: cases.Case, direction: str, side: str, found: Any, want: list[np.ndarray], dy: np.ndarray | None
) -> float:
    """The largest relative difference in norm; BenchError where it is more than float32 sums of that length explain."""
    what = f"{case.name}, {direction}: {side}"
    if dy is not None and not np.array_equal(found["dy"], dy):
        raise BenchError(f"{what} was given another cotangent")
    reductions = max(max(a.shape, default=1) for a in case.arrays())
    rows = math.prod(case.arrays()[0].shape[:-1])
    bound = float(np.finfo(np.float32).eps) * (16 + 2 * math.sqrt(max(reductions, rows)))
    worst = 0.0
    for i, exact in enumerate(want):
        got = found[f"arr_{i}"]
        if side == "torch" and case.op == "dropout_add":
            exact = own_mask(case, got, exact, dy)
        if got.shape != exact.shape:
            raise BenchError(f"{what} gave shape {got.shape}, but it must be {exact.shape}")
        if not np.array_equal(np.isfinite(got), np.isfinite(exact)):
            raise BenchError(f"{what} is finite elsewhere than the formula")
        worst = max(worst, float(np.linalg.norm(got - exact) / max(np.linalg.norm(exact), np.finfo(np.float32).tiny)))
    if not worst <= bound:
        raise BenchError(
            f"{what} is off by {worst:.1e} relative to the formula, more than {bound:.1e}; nothing was timed"
        )
    return worst


def own_mask(case: cases.Case, got: np.ndarray, exact: np.ndarray, dy: np.ndarray | None) -> np.ndarray:
    """What dropout_add should have given with the mask that PyTorch drew: its generator cannot give the row's. Each entry is
    that with x dropped, or that with x kept, whichever is closer; the gradient of the residual, dy, needs no mask.

    BenchError where the share of dropped entries is not p, to five standard deviations.
    """
    x, residual, p = *case.arrays()[:2], case.params["p"]
    if dy is not None and np.array_equal(exact, dy):
        return exact
    start, moved = (residual, x) if dy is None else (np.zeros_like(dy), dy)
    kept = start + moved / (1 - p)
    dropped = np.abs(got - start) < np.abs(got - kept)
    share, deviation = dropped.mean(), math.sqrt(p * (1 - p) / got.size)
    if abs(share - p) > 5 * deviation:
        raise BenchError(f"{case.name}: PyTorch dropped {share:.2%}, but p is {p}")
    return np.where(dropped, start, kept)


def passes(workers: dict[str, Worker]) -> int:
    """How many passes make a sample, the same for all sides."""
    fastest = min(min(s for s, _ in worker.ask("block", seconds=0.02)) for worker in workers.values())
    return max(1, math.ceil(SAMPLE / fastest))


def summary(blocks: Any, limit: dict[str, Any], torch: Any) -> dict[str, Any]:
    """What is kept of a side's samples: times, its share of the limit, and its speed against PyTorch."""
    found = harness.summarize(blocks)
    row = {**found, "of_limit": round(limit["seconds"] * 1e3 / found["median"], 4), "bound": limit["bound"]}
    return row | ({"torch_to_this": harness.ratio_record(torch, blocks)} if torch and torch is not blocks else {})


def show(level: str, rows: dict[str, Any], limit: dict[str, Any]) -> None:
    """A table of the sides."""
    table = []
    for name, row in rows.items():
        ratio = row.get("torch_to_this", {}).get("of_medians")
        against = "" if ratio is None else f"{ratio:.2f}"
        figures = [f"{row[key]:.4f}" for key in ("median", "p10", "p90")]
        table.append([name, *figures, f"{row['dropped_share']:.0%}", against, f"{row['of_limit']:.0%}"])
    harness.print_table([level, "median ms", "p10", "p90", "dropped", "torch / this", f"of {limit['bound']}"], table)
    harness.say_if_noisy(rows.values())


def parse() -> argparse.Namespace:
    """The command line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(
        prog="handgrad bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("op", nargs="*", help="rows, such as softmax; none means all of cases.py")
    parser.add_argument("--against", nargs="+", choices=("torch", "numpy"), help="default torch, where it is installed")
    parser.add_argument("--directions", nargs="+", choices=DIRECTIONS, default=DIRECTIONS, help="default both")
    parser.add_argument("--caches", nargs="+", choices=("warm", "cold"), default=("warm", "cold"), help="default both")
    parser.add_argument(
        "--no-ladders", dest="ladders", action="store_false", help="leave out the rungs below production's"
    )
    parser.add_argument("--kernel", metavar="FILE.py:FUNCTION", help="a function of the one OP's inputs that returns y")
    parser.add_argument("--asm", action="store_true", help="print the machine code of the one OP's kernel and end")
    parser.add_argument("--rounds", type=harness.positive_int, default=6, help="blocks of each side (default 6)")
    parser.add_argument("--seconds", type=harness.positive, default=0.15, help="seconds a block (default 0.15)")
    parser.add_argument("--threads", type=harness.positive_int, default=cores, help=f"of each side (default {cores})")
    parser.add_argument("--out", type=Path, default=harness.RESULTS / "ops.json", help="result file")
    found = parser.parse_args()
    if found.against is None:
        found.against = ["torch"] if find_spec("torch") else []
        if not found.against:
            print(
                "NOTE: PyTorch is not installed, so handgrad is timed alone: pip install -e '.[peers]'", file=sys.stderr
            )
    known = dict.fromkeys(case.op for case in cases.CASES)
    for op in found.op:
        if op not in known:
            raise BenchError(f"{op} has no sizes to be timed at; there are {', '.join(known)}")
    found.work = [(c, d) for c in cases.CASES if not found.op or c.op in found.op for d in found.directions]
    if found.asm:
        if len(found.op) != 1:
            raise BenchError("--asm needs the one OP whose machine code is wanted, as in: bench softmax --asm")
        sys.exit(
            subprocess.run(
                [sys.executable, str(harness.WORKERS / "machine_code.py"), *found.op], check=False
            ).returncode
        )
    if found.kernel:
        path, _, function = found.kernel.rpartition(":")
        if not path or not Path(path).is_file():
            raise BenchError(f"--kernel is {found.kernel}, but it must be FILE.py:FUNCTION with a file that is there")
        if len(found.op) != 1:
            raise BenchError(
                "--kernel needs the one OP that the function computes, as in: bench softmax --kernel FILE.py:F"
            )
        found.kernel = str(Path(path).resolve()), function, found.op[0]
    return found


if __name__ == "__main__":
    harness.run(main)
