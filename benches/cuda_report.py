"""What each CUDA kernel takes of a GPU: registers, shared memory, stack, spills, and the occupancy that is left. Needs no GPU.

    python benches/cuda_report.py [OP ...] [--nvcc] [--out FILE]

Every `.cu` is compiled for sm_80 (A100) and sm_90a (H100) by NVRTC, or with --nvcc by the toolkit's nvcc; both pass on what the
assembler says (ptxas -v), and the figures are read from there. Block sizes and dynamic shared memory are those that the
launchers ask for at the sizes of `handgrad bench --list`: launchers run, kernels do not.

Occupancy here is theoretical: warps that a multiprocessor can hold at once, of the most that it could. Registers are dealt out
in units of 256 to each warp, within a quarter of the multiprocessor; shared memory in units of 128 bytes, and each block
costs 1 KB more. It bounds how much latency can be hidden; what a kernel's speed is, it does not say.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import harness
import ml_dtypes
import numpy as np
from harness import BenchError

sys.path.insert(0, str(harness.WORKERS))
import cases

from handgrad.kernels.cuda import compiler, launch
from handgrad.kernels.cuda.ladders import LADDERS, rung
from handgrad.kernels.cuda.on_cpu.source import kernels

TYPES = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


@dataclass(frozen=True)
class Gpu:
    """A multiprocessor of it, in threads, warps, blocks, registers and bytes."""

    name: str
    warps: int
    blocks: int
    registers: int
    shared: int
    shared_of_a_block: int


GPUS = {
    "sm_80": Gpu("A100", 64, 32, 65536, 164 * 1024, 163 * 1024),
    "sm_90a": Gpu("H100", 64, 32, 65536, 228 * 1024, 227 * 1024),
}
"""CUDA C++ Programming Guide, Technical Specifications per Compute Capability (8.0 and 9.0)."""
PARTS, UNIT_OF_REGISTERS, UNIT_OF_SHARED, RESERVED = 4, 256, 128, 1024


@dataclass(frozen=True)
class Usage:
    """What ptxas says of a kernel: registers a thread, static shared memory a block, bytes of stack and of spills a thread."""

    registers: int
    shared: int
    stack: int
    spill_stores: int
    spill_loads: int


_ENTRY = re.compile(
    r"Compiling entry function '(\w+)' for '\w+'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers([^\n]*)",
    re.DOTALL,
)


def usages(log: str) -> dict[str, Usage]:
    """kernel -> what it takes, of the words of ptxas -v."""
    found = {}
    for name, stack, stores, loads, registers, rest in _ENTRY.findall(log):
        shared = re.search(r"(\d+)(?:\+\d+)? bytes smem", rest)
        found[name] = Usage(int(registers), int(shared[1]) if shared else 0, int(stack), int(stores), int(loads))
    return found


def blocks_at_once(gpu: Gpu, usage: Usage, threads: int, dynamic: int = 0) -> int:
    """Blocks of so many threads and bytes of dynamic shared memory that a multiprocessor holds; 0: none can start."""
    warps = -(-threads // 32)
    of_a_warp = -(-usage.registers * 32 // UNIT_OF_REGISTERS) * UNIT_OF_REGISTERS
    needed = usage.shared + dynamic
    if threads > 1024 or needed > gpu.shared_of_a_block or usage.registers > 255:
        return 0
    if of_a_warp * -(-warps // PARTS) * PARTS > gpu.registers:
        return 0
    by_registers = gpu.registers // PARTS // of_a_warp * PARTS // warps
    by_shared = gpu.shared // (-(-(needed + RESERVED) // UNIT_OF_SHARED) * UNIT_OF_SHARED)
    return min(gpu.blocks, gpu.warps // warps, by_registers, by_shared)


def launches(operation: str) -> dict[str, tuple[tuple[int, ...], int]]:
    """kernel -> (block, bytes of dynamic shared memory) of the largest launch, for every rung of the ladder."""
    seen: dict[str, tuple[tuple[int, ...], int]] = {}

    def note(self: launch.Kernel, grid: Any, block: Any, args: Any, *, shared_mem: int = 0) -> None:
        old = seen.get(self.name, ((0,), 0))
        seen[self.name] = max(old, (tuple(map(int, block)), int(shared_mem)), key=lambda b: (np.prod(b[0]), b[1]))

    with patch.object(launch.Kernel, "__call__", note), np.errstate(all="ignore"):
        for name in LADDERS[operation]:
            pair = rung(operation, name)
            for case in (case for case in cases.CASES if case.op == operation):
                for dtype in TYPES:
                    xs = [a.astype(dtype) if a.dtype.kind == "f" else a for a in case.arrays()]
                    if pair.accepts(*xs, **case.params):
                        run(pair, xs, case.params)
    return seen


def run(pair: Any, xs: list[Any], params: dict[str, Any]) -> None:
    """Forward and vjp of a pair, for the launches that they make."""
    y, residuals = pair.forward(*xs, **params)
    dy = tuple(map(np.zeros_like, y)) if isinstance(y, tuple) else np.zeros_like(y)
    wanted = tuple(a.dtype.kind not in "biu" for a in xs)
    pair.vjp(dy, y, *xs, residuals=residuals, wanted=wanted, into=(None,) * len(xs), **params)


def log_of(path: Path, architecture: str, nvcc: str | None) -> str:
    """The assembler's words about a `.cu`. BenchError where it does not compile."""
    if nvcc is None:
        return compiler.made(path, architecture)[1]
    with tempfile.TemporaryDirectory() as scratch:
        command = [nvcc, "-std=c++17", f"-arch={architecture}", "-cubin", "-Xptxas=-v", f"-I{path.parent}", str(path)]
        done = subprocess.run([*command, "-o", f"{scratch}/k"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"nvcc refuses {path.name}: {done.stderr.strip().splitlines()[0]}")
    return done.stderr


def rungs() -> dict[str, list[Path]]:
    """operation -> its `.cu` files from the first rung to the last, also of what is no row of the table."""
    found: dict[str, list[Path]] = {}
    for path in sorted(compiler.HERE.glob("*.cu")):
        found.setdefault(re.split(r"_\d\d_", path.stem)[0], []).append(path)
    return found


def report(operations: list[str], nvcc: str | None = None) -> list[dict[str, Any]]:
    """A row for each kernel and architecture; block None where no launch was seen."""
    rows = []
    for operation in operations:
        blocks = launches(operation) if operation in LADDERS else {}
        for path in rungs()[operation]:
            text = path.read_text(encoding="utf-8")
            for architecture in compiler.architectures(text):
                say(f"\r  {path.name} for {architecture}\033[K")
                found = usages(log_of(path, architecture, nvcc))
                for kernel in kernels(text):
                    block, dynamic = blocks.get(kernel, (None, 0))
                    row = {"kernel": kernel, "rung": path.stem, "architecture": architecture, **asdict(found[kernel])}
                    row |= {"dynamic_shared": dynamic, "block": block}
                    if block is not None:
                        gpu, threads = GPUS[architecture], int(np.prod(block))
                        at_once = blocks_at_once(gpu, found[kernel], threads, dynamic)
                        row |= {"blocks": at_once, "occupancy": round(at_once * -(-threads // 32) / gpu.warps, 4)}
                    rows.append(row)
    say("\r\033[K")
    return rows


def say(words: str) -> None:
    """Progress, where somebody watches."""
    if sys.stderr.isatty():
        print(words, end="", file=sys.stderr, flush=True)


def show(rows: list[dict[str, Any]]) -> None:
    """A line for each kernel; where the architectures differ, A100 / H100."""
    kernels_of: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        kernels_of.setdefault(row["kernel"], []).append(row)

    def both(found: list[dict[str, Any]], key: str, form: str = "{}") -> str:
        values = [form.format(row[key]) if row.get(key) is not None else "" for row in found]
        return values[0] if len(set(values)) == 1 else " / ".join(values)

    table = []
    for kernel, found in kernels_of.items():
        shared = [row | {"bytes": row["shared"] + row["dynamic_shared"]} for row in found]
        spills = [row | {"spills": row["spill_stores"] + row["spill_loads"]} for row in found]
        block = "" if found[0]["block"] is None else " x ".join(map(str, found[0]["block"]))
        table.append([
            kernel, block, both(found, "registers"), both(shared, "bytes"), both(found, "stack"), both(spills, "spills"),
            both(found, "blocks"), both(found, "occupancy", "{:.0%}"),
        ])  # fmt: skip
    names = " / ".join(gpu.name for gpu in GPUS.values())
    harness.print_table([names, "block", "registers", "shared", "stack", "spilled", "blocks", "occupancy"], table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("op", nargs="*", metavar="OP", help="ladders, such as softmax; none means all of them")
    parser.add_argument("--nvcc", action="store_true", help="compile by nvcc of an installed toolkit, not by NVRTC")
    parser.add_argument("--out", type=Path, help="result file (default benches/results/cuda_report.json for all ladders)")
    arguments = parser.parse_args()
    for op in arguments.op:
        if op not in rungs():
            raise BenchError(f"{op} has no CUDA kernels; there are some for {', '.join(rungs())}")
    nvcc = shutil.which("nvcc") if arguments.nvcc else None
    if arguments.nvcc and nvcc is None:
        raise BenchError("--nvcc needs the nvcc of a CUDA toolkit, and none is on the PATH; leave it out to use NVRTC")
    try:
        rows = report(arguments.op or list(rungs()), nvcc)
        build = "nvcc" if nvcc else f"NVRTC {compiler.build()}"
    except (OSError, compiler.CompileError) as error:
        raise BenchError(str(error)) from None
    show(rows)
    if arguments.out or not arguments.op:
        result = harness.record("cuda_report", compiler=build, options=compiler.OPTIONS, kernels=rows)
        harness.write_result(arguments.out or harness.RESULTS / "cuda_report.json", result)


if __name__ == "__main__":
    harness.run(main)
