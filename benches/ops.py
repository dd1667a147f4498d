"""Operations one by one: handgrad's kernels beside PyTorch, NumPy and JAX, each in its own process, checked and then timed.

    handgrad bench [OP ...] [--backend numba formula] [--against torch numpy jax] [--all-settings]
    handgrad bench --list                                                 rows and sizes
    handgrad bench --kernel my_kernel.py:softmax_forward --as softmax     a kernel of yours beside ours
    handgrad bench softmax --asm                                          what of the machine code vectorised
    handgrad bench --kernel my.cu --as softmax                            a CUDA kernel of yours, checked on the CPU
    handgrad bench matmul_03 --ptx                                        the code of a CUDA kernel (or --sass)

Check. Every side runs once on the same numbers; y, or the gradients for a given cotangent, are compared with the hand-derived
formula in float64: first what is finite, then the norm of the difference. The memory from which results are allocated is filled
with NaN beforehand, so that a number that nobody writes is seen. A side that is wrong is not timed.

Time. Blocks in turns, as harness.py says; sides.py says who runs with which settings. Every side is called through its own
face (handgrad's through its autograd engine), allocates its own results, and gets the cotangent as it is; backward is backward
alone, on a graph that is kept. "warm" passes over the same arrays again and again, as far as they fit into a cache; "cold" over
so many copies, each with its cotangent and its results, that none is still in the last cache when its turn comes.

Limit. roofline.py measures what this machine can do at most, multiply-adds and bytes; a row's cost says how many of each it
needs at least, and the larger of the two times is the limit. A figure beyond it is an error of the measurement.

A kernel of yours is a function of the row's inputs (and parameters, by name) that returns y: a NumPy array, new, float32. Its
vjp(dy, y, *inputs) returns the gradients; it is found beside it by its name (softmax_vjp beside softmax_forward), or named.
A CUDA kernel of yours is a function of the same parameters as the operation's first rung, which --list --backend cuda-on-cpu
prints, and is launched like that one unless a comment of its file says otherwise: // NAME<<<grid, block>>> (own_cuda.py).
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import subprocess
import sys
import tempfile
from typing import Any

import harness
import numpy as np
import picture
import roofline
from harness import BenchError, Worker

sys.path.insert(0, str(harness.WORKERS))
import cases
import checks
import ops_options
import sides as who

SAMPLE = 5e-4
"""Seconds of a sample at least: as many passes as that takes are timed together."""
MOST_COPIES, MOST_BYTES = 64, 2 << 30
AGAIN = 6
"""So many times in a run all limits are measured again because a figure was beyond them."""


def main() -> None:
    arguments = ops_options.parse(__doc__)
    if arguments.cuda or arguments.ptx or arguments.sass:
        import own_cuda  # which loads the launchers

        return own_cuda.run(arguments)
    if arguments.list:
        return listed()
    if arguments.asm:
        script, flags = str(harness.WORKERS / "machine_code.py"), ["--code"] if arguments.code else []
        sys.exit(subprocess.run([sys.executable, script, *arguments.op, *flags], check=False).returncode)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        sides = who.Sides(stack, arguments.threads, arguments.kernel)
        if arguments.kernel:
            sides[arguments.kernel.name]  # a file that cannot be imported is said before anything is measured
        ceiling = roofline.Ceiling(stack.enter_context(Worker("limits.py")), arguments.threads, AGAIN)
        results: dict[str, Any] = {}
        for case, direction in arguments.work:
            row = {f"{case.name} {direction}": one(arguments, case, direction, sides, ceiling, folder)}
            results |= row
            ceiling.beside()
            hold_against(ceiling.limits, row)
            while too_fast(row) and ceiling.again():
                hold_against(ceiling.limits, row)
        settings = sides.settings
    result = harness.record(
        "ops", unit="ms", dtype="float32", threads=arguments.threads, rounds=arguments.rounds,
        seconds_a_block=arguments.seconds, wait_limit=harness.WAIT_LIMIT, settings=settings, limits=ceiling.limits,
        results=results,
    )  # fmt: skip
    publish(arguments, result)


def publish(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    """Write the results and draw the roofline; figures beyond the limits go into a file of their own, and are an error."""
    results, out = result["results"], arguments.out
    hold_against(result["limits"], results)
    if beyond := too_fast(results):
        harness.write_result(out.with_suffix(".rejected.json"), result)
        raise BenchError(f"faster than this machine can be, so measured wrong: {', '.join(beyond)}")
    harness.write_result(out, result)
    picture.draw(result, out.with_suffix(""))


def hold_against(limits: dict[str, Any], results: dict[str, Any]) -> None:
    """Each time as a share of its limit: `of_limit`, and `bound`, what the limit comes from."""
    for name, found in results.items():
        counted = found["flops"] if name.split(" ", 1)[0] in cases.PRODUCTS else 0.0
        for level, timed in found["times"].items():
            limit = roofline.limit(limits, counted, found["bytes"], far=found["bytes"] if level == "cold" else 0.0)
            for row in timed.values():
                row |= {"of_limit": round(limit["seconds"] * 1e3 / row["median"], 4), "bound": limit["bound"]}


def too_fast(results: dict[str, Any]) -> list[str]:
    """What was timed beyond its limit."""
    return [
        f"{name} ({level}, {side})"
        for name, found in results.items() for level, timed in found["times"].items() for side, row in timed.items()
        if row["of_limit"] > roofline.MARGIN
    ]  # fmt: skip


def one(
    arguments: argparse.Namespace,
    case: cases.Case,
    direction: str,
    sides: who.Sides,
    ceiling: roofline.Ceiling,
    folder: str,
) -> dict[str, Any]:
    """A row at one size in one direction: the errors of all sides, their times warm and cold, and what bounds them."""
    want, shape, (flops, moved) = checks.expected(case, direction)
    path, errors, poisoned = f"{folder}/side.npz", {}, {}
    print(f"\n{case.name}, {direction}")

    def prepared(name: str, copies: int) -> Any:
        return sides[name].ask(
            "prepare",
            case=case.name,
            version=who.version(name),
            direction=direction,
            copies=copies,
            shape=shape,
            path=path,
        )

    for name in who.wanted(arguments, case, direction, sides):
        found = prepared(name, 1)
        if found is None:
            print(f"  {name} has nothing for it", file=sys.stderr)
            continue
        errors[name] = checks.difference(case, direction, name, np.load(path), want, shape)
        poisoned[name] = found["poisoned"]
    times: dict[str, Any] = {}
    for level in arguments.caches:
        rungs = [name for name in errors if name.startswith("numba ") or name.endswith(who.ALONE)]
        rungs = [name for name in rungs if name not in who.SETTINGS]
        workers = {name: sides[name] for name in errors if level == "warm" or name not in rungs}
        fit = 4 * ceiling.limits["last_cache"] // case.bytes  # of a copy, a pass may read a third, and write around the caches
        copies = 1 if level == "warm" else min(MOST_COPIES, room(len(workers)) // case.bytes, 1 + fit)
        if level == "cold" and (copies < 2 or case.op in cases.UPDATES):
            continue  # one copy is larger than the last cache, so warm is cold; or there is no memory for two
        if copies > 1:
            for name in workers:
                prepared(name, copies)
        rounds = harness.alternate(workers, rounds=arguments.rounds, seconds=arguments.seconds, inner=passes(workers))
        rival = next((name for name in arguments.against if name in rounds), None)
        times[level] = {name: summary(blocks, rival, rounds) for name, blocks in rounds.items()}
        hold_against(ceiling.limits, {case.name: {"flops": flops, "bytes": moved, "times": {level: times[level]}}})
        show(level, times[level], rival)
    return {"errors": errors, "poisoned": poisoned, "flops": flops, "bytes": moved, "times": times}


def room(sides: int) -> int:
    """Bytes of inputs that each of so many sides may have for cold copies: with cotangents, results and gradients, all sides
    together take no more than half of the machine's memory.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(MOST_BYTES, memory // 2 // (4 * max(1, sides)))


def passes(workers: dict[str, Worker]) -> int:
    """How many passes make a sample, the same for all sides."""
    fastest = min(min(s for s, _ in worker.ask("block", seconds=0.02)) for worker in workers.values())
    return max(1, math.ceil(SAMPLE / fastest))


def summary(blocks: Any, rival: str | None, rounds: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a side's samples: times, and its speed against the first rival."""
    found = harness.summarize(blocks)
    if rival is None or blocks is rounds[rival]:
        return found
    return found | {f"{rival}_to_this": harness.ratio_record(rounds[rival], blocks)}


def show(level: str, rows: dict[str, Any], rival: str | None) -> None:
    """A table of the sides."""
    table, bound = [], ""
    for name, row in rows.items():
        ratio, bound = row.get(f"{rival}_to_this", {}).get("of_medians"), row["bound"]
        figures = [f"{row[key]:.4f}" for key in ("median", "p10", "p90")]
        dropped = [f"{row['dropped_share']:.0%}", f"{row['undropped_median']:.4f}"]
        table.append([name, *figures, *dropped, "" if ratio is None else f"{ratio:.2f}", f"{row['of_limit']:.0%}"])
    against = f"{rival} / this" if rival else ""
    header = [level, "median ms", "p10", "p90", "dropped", "undropped", against, f"of {bound}"]
    harness.print_table(header, table)
    harness.say_if_noisy(rows.values())


def listed() -> None:
    """What can be timed, a line for each row."""
    sizes: dict[str, list[str]] = {}
    for case in cases.CASES:
        sizes.setdefault(case.op, []).append(case.label)
    for op, labels in sizes.items():
        print(f"{op:22}{'; '.join(labels)}")


if __name__ == "__main__":
    harness.run(main, "handgrad bench")
