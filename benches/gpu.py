"""Checks and times every rung of the CUDA ladders on one GPU, beside cuBLAS, PyTorch and cuDNN; writes results/gpu.json.

    python benches/gpu.py [--only OP ...] [--budget SECONDS] [--resume] [--out FILE]
    python benches/gpu.py --rehearse [--only OP ...]     the same plan on NumPy arrays of tiny sizes: no GPU, and no times
    python benches/gpu.py --tables [--check]             the tables of kernels/cuda/README.md and the pictures of the roofline

For each case: fresh normal inputs; every rung and every vendor against the formula in float64, and what is wrong is listed
and not timed; then blocks of passes in turns, A B A B, the order turned round every round, over copies of the inputs that
together exceed three times the L2 cache, in memory that was filled with NaN. A pass is timed by two CUDA events. The limits
are measured in the same run: the bandwidth of a device copy, and the peak of cuBLAS in float32, tf32 and bfloat16.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_cases
import gpu_checks
import gpu_sides
import harness
import roofline
from gpu_cases import Case
from gpu_device import Gpu, Machine, Rehearsal
from gpu_sides import Side
from harness import BenchError

OUT = harness.RESULTS / "gpu.json"
ROUNDS = 4
BLOCK = 0.04
"""Seconds of a block; a slow pass is repeated LEAST times in it all the same, one slower than SLOW once, in SLOW_ROUNDS."""
LEAST, SLOW, SLOW_ROUNDS = 5, 0.25, 2
RESERVE = 5.0
"""Seconds of the budget that no new case may begin in."""
PRODUCTS = ("matmul", "attention", "linear_cross_entropy", "lstm")
"""Operations whose cost counts multiply-adds, so that the peak bounds them. An exponential has no fixed count."""


class Budget:
    """Seconds that a run may take. clock: what counts them."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.end = clock, clock() + seconds

    def left(self) -> float:
        return self.end - self.clock()

    def allows(self, seconds: float) -> bool:
        """Whether so much is left, and RESERVE more."""
        return self.left() >= seconds + RESERVE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="OP", help="these operations (default all with a ladder)")
    parser.add_argument("--budget", type=harness.positive, default=540.0, help="seconds for all of it (default 540)")
    parser.add_argument("--resume", action="store_true", help="keep what the file of --out holds, and go on")
    parser.add_argument("--out", type=Path, help="default results/gpu.json; a rehearsal writes only where this says")
    parser.add_argument("--rehearse", action="store_true", help="the same plan on NumPy arrays, without times")
    parser.add_argument("--tables", action="store_true", help="rewrite the tables from the results, and draw the pictures")
    parser.add_argument("--check", action="store_true", help="with --tables: only say whether they are up to date")
    arguments = parser.parse_args()
    if arguments.check and not arguments.tables:
        parser.error("--check belongs to --tables")
    if arguments.tables:
        import gpu_tables

        gpu_tables.rewrite(arguments.out or OUT, check=arguments.check)
        return
    harness.require("handgrad", "torch", "ml_dtypes")
    from handgrad.kernels.cuda import ladders

    budget = Budget(arguments.budget)
    try:
        plan = gpu_cases.chosen(arguments.only, gpu_sides.stems(ladders))
    except ValueError as error:
        raise BenchError(str(error)) from error
    out = writable(arguments.out, arguments.rehearse)
    machine: Machine = Rehearsal() if arguments.rehearse else Gpu()
    result = begin(machine, out if arguments.resume else None)
    try:
        measure(result, machine, plan, ladders, budget, lambda: save(out, result))
    except KeyboardInterrupt:
        result["left_out"].append("everything after the interruption")
        raise
    finally:
        result["state_after"] = machine.state()
        save(out, result)
    report(result)
    if result["errors"]:
        sys.exit(1)


def writable(out: Path | None, is_rehearsal: bool) -> Path | None:
    """Where the result goes; BenchError where that is not possible or, for a rehearsal, not allowed."""
    if is_rehearsal:
        if out is not None and out.resolve().is_relative_to(harness.RESULTS.resolve()):
            raise BenchError(f"a rehearsal measures nothing and does not write into {harness.RESULTS}")
        if out is None:
            return None
    out = out or OUT
    folder = out.parent
    if out.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise BenchError(f"{out} cannot be written: {'it is a folder' if out.is_dir() else f'no writable folder {folder}'}")
    return out


def begin(machine: Machine, before: Path | None) -> dict[str, Any]:
    """An empty record, or that of an interrupted run of the same GPU and commit."""
    result = harness.record(
        "gpu", rehearsal=not machine.is_gpu, gpu=device(machine), state_before=machine.state(), limits={}, results={},
        errors=[], crashed=[], left_out=[],
    )  # fmt: skip
    if before is None or not before.exists():
        return result
    try:
        old = json.loads(before.read_text(encoding="utf-8"))
        same = [old[key] == result[key] for key in ("rehearsal", "gpu", "commit")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{before} cannot be resumed: it is no result of this bench ({error})") from error
    if not all(same):
        raise BenchError(f"{before} cannot be resumed: it was measured on another GPU, version or commit")
    return {**old, "left_out": []}


def device(machine: Machine) -> dict[str, Any]:
    """Name, compute capability, L2 cache, versions."""
    found: dict[str, Any] = {"name": machine.name, "l2_bytes": machine.cache}
    if isinstance(machine, Gpu):
        import torch

        runtime = machine.xp.cuda.runtime
        found |= {
            "capability": machine.capability, "driver": runtime.driverGetVersion(), "runtime": runtime.runtimeGetVersion(),
            "cupy": machine.xp.__version__, "cudnn": torch.backends.cudnn.version(), "torch_cuda": torch.version.cuda,
        }  # fmt: skip
    return found


def measure(
    result: dict[str, Any], machine: Machine, plan: list[Case], ladders: Any, budget: Budget, keep: Callable[[], None]
) -> None:
    """Fills the record, case by case; keep() is called after each."""
    if machine.is_gpu and not result["limits"]:
        result["limits"] = limits(machine)
        keep()
    for case in plan:
        for direction in case.directions:
            key = f"{case.name} {direction}"
            if key in result["results"]:
                continue
            if not budget.allows(0.0):
                result["left_out"].append(f"{key}: the time was used up")
                continue
            print(f"  {key} ({budget.left():.0f} s left)", file=sys.stderr, flush=True)
            try:
                one(result, machine, case, direction, ladders, budget)
            except gpu_checks.Crashed as error:
                result["crashed"].append(str(error))
                result["errors"].append(f"a crash, after which the GPU did not answer: {error}")
                result["left_out"].append(f"{key} and all after it: --resume goes on without what crashed")
                keep()
                return
            except Exception as error:  # out of memory, say: the other cases go on
                words = str(error).splitlines() or [""]
                result["errors"].append(f"{key} failed: {type(error).__name__}: {words[0]}")
            machine.free()
            keep()


def one(
    result: dict[str, Any], machine: Machine, case: Case, direction: str, ladders: Any, budget: Budget
) -> None:
    """Check, then time, one case in one direction."""
    timed = case.inputs if machine.is_gpu else case.tiny
    checked = (case.checked or timed) if machine.is_gpu else timed
    arrays = gpu_sides.inputs_of(case, machine, checked)
    sides = [*gpu_sides.rungs(case, ladders, arrays), *gpu_sides.vendors(case, machine)]
    sides = [side for side in sides if f"{case.name}, {direction}: {side.name}" not in result["crashed"]]
    errors, wrong = gpu_checks.check(case, machine, sides, arrays, cotangent(case, machine, arrays), direction)
    key = f"{case.name} {direction}"
    result["errors"] = [e for e in result["errors"] if not e.startswith(f"{case.name}, {direction}: ")] + wrong
    right = [side for side in sides if side.name in errors]
    del arrays
    machine.free()
    flops, moved = gpu_cases.cost(case, direction)
    found: dict[str, Any] = {
        "op": case.op, "direction": direction, "flops": flops, "bytes": moved, "relative_errors": errors,
        "checked_at_timed_size": checked == timed, "kinds": {side.name: side.kind for side in right},
        "vendors": [side.name for side in right if side.is_vendor], "times": {},
    }  # fmt: skip
    if any(not side.is_vendor for side in right):
        rounds = blocks(case, machine, timed, [*right, gpu_sides.copy_of(machine)], direction, budget, found, result["errors"])
        if rounds is None:
            result["left_out"].append(f"{key}: checked, and not timed in the time that was left")
            return
        found["times"] = figures(rounds, found, result["limits"], case, result["errors"])
    result["results"][key] = found


def cotangent(case: Case, machine: Machine, arrays: list[Any], copy: int = 0) -> Any:
    """Random numbers in the shape of the first result, None for an update."""
    if case.op in gpu_cases.UPDATES:
        return None
    shapes = {
        "matmul": lambda a, b: (a.shape[0], b.shape[1]),
        "cross_entropy": lambda *_: (),
        "linear_cross_entropy": lambda *_: (),
        "embedding": lambda weight, ids: (*ids.shape, weight.shape[1]),
    }
    shape = shapes.get(case.op, lambda x, *_: x.shape)(*arrays)
    return machine.array((max(1, int(gpu_cases.numbers(shape))),), case.dtype, (1, copy)).reshape(shape)


def blocks(
    case: Case, machine: Machine, timed: Any, sides: list[Side], direction: str, budget: Budget, found: dict[str, Any],
    wrong: list[str],
) -> dict[str, list[list[harness.Sample]]] | None:
    """side -> rounds of samples, in turns; None where the budget does not allow them. Every side has the same copies."""
    count = gpu_cases.copies(gpu_cases.nbytes(timed, case.dtype), machine.cache)
    found["copies"] = count
    given = [gpu_sides.inputs_of(case, machine, timed, copy) for copy in range(1, count + 1)]
    dys = [cotangent(case, machine, arrays, copy) for copy, arrays in enumerate(given, 1)]
    passes, least, cost = {}, {}, 0.0
    for side in sides:
        try:
            passes[side.name] = [side.start(case, a, dy, direction) for a, dy in zip(given, dys, strict=True)]
            machine.wait()
            began = time.perf_counter()
            passes[side.name][0]()
            machine.wait()
        except Exception as error:  # no room for it at this size, say: the other sides are timed
            if not machine.works():
                raise gpu_checks.Crashed(f"{case.name}, {direction}: {side.name}") from error
            passes.pop(side.name, None)
            machine.free()
            wrong.append(f"{case.name}, {direction}: {side.name} cannot be timed: {type(error).__name__}: {error}")
            continue
        each = time.perf_counter() - began
        least[side.name] = LEAST if each <= SLOW else 1
        cost += ROUNDS * (each + max(BLOCK, LEAST * each)) if least[side.name] > 1 else SLOW_ROUNDS * each
    sides = [side for side in sides if side.name in passes]
    if not budget.allows(cost if machine.is_gpu else 0.0):
        return None
    rounds: dict[str, list[list[harness.Sample]]] = {side.name: [] for side in sides}
    not_finite: set[str] = set()
    for done in range(ROUNDS if machine.is_gpu else 1):
        for side in sides if done % 2 == 0 else reversed(sides):
            if least[side.name] == 1 and done >= SLOW_ROUNDS:
                rounds[side.name].append([])
                continue
            poisoned(case, machine, given[0], direction)
            seconds, last = machine.block(passes[side.name], BLOCK, least[side.name])
            rounds[side.name].append([(s, 0.0) for s in seconds])
            for a in side.results(last):
                if not bool(machine.xp.isfinite(machine.exact(a)).all()):
                    not_finite.add(side.name)
    wrong += [f"{case.name}, {direction}: {name} gave what is not finite while it was timed" for name in sorted(not_finite)]
    return {name: samples for name, samples in rounds.items() if name not in not_finite}


def poisoned(case: Case, machine: Machine, arrays: list[Any], direction: str) -> None:
    """The memory of the next results is filled with NaN."""
    if direction == "backward":
        machine.poison([(a.shape, a.dtype) for a in arrays if a.dtype.kind not in "iub"])
    elif case.op not in gpu_cases.UPDATES:
        machine.poison([((gpu_cases.result_size(case),) if machine.is_gpu else arrays[0].shape, arrays[0].dtype)])


def figures(
    rounds: dict[str, list[list[harness.Sample]]], found: dict[str, Any], limits: dict[str, Any], case: Case,
    errors: list[str],
) -> dict[str, Any]:
    """side -> median, p10, p90 in ms, its share of the limit, and how many times as long the first vendor takes."""
    if not any(block for side in rounds.values() for block in side):
        return {}
    vendor = next((name for name in found["vendors"] if name in rounds), None)
    times = {}
    for name, samples in rounds.items():
        row = harness.summarize(samples)
        if name != "device copy":
            row |= of_limit(row["median"], found, found["kinds"][name], limits, case.op)
            if row["of_limit"] > roofline.MARGIN:
                errors.append(f"{case.name}, {found['direction']}: {name} takes {row['of_limit']:.0%} of what is possible, so "
                              f"a figure is wrong")  # fmt: skip
            if vendor not in (None, name):
                row["vendor_to_this"] = {"vendor": vendor, **harness.ratio_record(rounds[vendor], samples)}
        times[name] = row
    return times


def of_limit(ms: float, found: dict[str, Any], kind: str, limits: dict[str, Any], op: str) -> dict[str, Any]:
    """The limit's time over this one, and what bounds it."""
    flops = found["flops"] if op in PRODUCTS else 0.0
    of_kind = {"peak": limits["peaks"][kind], "levels": {"memory": {"holds": None, "bandwidth": limits["bandwidth"]}}}
    limit = roofline.limit(of_kind, flops, found["bytes"])
    return {"of_limit": round(limit["seconds"] * 1e3 / ms, 4), "bound": limit["bound"]}


def limits(machine: Machine) -> dict[str, Any]:
    """Bandwidth of a device copy in GB/s (read and written), and cuBLAS's best GFLOP/s in each arithmetic."""
    peaks: dict[str, float] = {}
    for size in (4096, 8192):
        for dtype in ("float32", "bfloat16"):
            case = Case("matmul", "peak", ((size, size),) * 2, (), dtype=dtype)
            arrays = gpu_sides.inputs_of(case, machine, case.inputs)
            for side in gpu_sides.vendors(case, machine):
                seconds, _ = machine.block([side.start(case, arrays, None, "forward")], 0.3, 10)
                peaks[side.kind] = max(peaks.get(side.kind, 0.0), round(2e-9 * size**3 / min(seconds), 1))
    case = Case("copy", "", ((256 << 20,),), ())
    arrays = gpu_sides.inputs_of(case, machine, case.inputs)
    seconds, _ = machine.block([gpu_sides.copy_of(machine).start(case, arrays, None, "forward")], 0.3, 10)
    machine.free()
    return {"bandwidth": round(2e-9 * arrays[0].nbytes / min(seconds), 1), "peaks": peaks}


def save(out: Path | None, result: dict[str, Any]) -> None:
    if out is not None:
        harness.write_result(out, result)


def report(result: dict[str, Any]) -> None:
    """What was found, in a table; for a rehearsal how many checks held."""
    if result["rehearsal"]:
        checks = sum(len(found["relative_errors"]) for found in result["results"].values())
        print(f"A rehearsal on NumPy arrays of tiny sizes: {checks} checks held. No GPU was used, and nothing was timed.")
    else:
        rows = [
            [f"{key} {name}", f"{row['median']:.4g}", f"{row['p10']:.4g}", f"{row['p90']:.4g}", f"{row.get('of_limit', 0):.0%}"]
            for key, found in result["results"].items() for name, row in found["times"].items()
        ]  # fmt: skip
        harness.print_table(["", "median ms", "p10", "p90", "of the limit"], rows)
    for what in ("errors", "left_out"):
        for line in result[what]:
            print(f"{'ERROR' if what == 'errors' else 'LEFT OUT'}: {line}")


if __name__ == "__main__":
    harness.run(main)
