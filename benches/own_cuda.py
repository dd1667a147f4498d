"""A CUDA kernel of yours in the place of a ladder's first rung: checked on the CPU under every schedule, or on a GPU and timed.

    handgrad bench --kernel my.cu --as softmax                            on the CPU: right under all schedules, or the mistake
    handgrad bench --kernel my.cu:my_forward --as softmax --backend cuda  on a GPU: right, then timed beside ours
    handgrad bench --list --backend cuda-on-cpu                           what each operation's kernel takes
    handgrad bench matmul_03 --ptx                                        the code of a rung, or of --kernel my.cu; also --sass

The file holds `extern "C" __global__ void NAME(...)` with the parameters of the first rung's forward kernel: the result first,
then the inputs, then the sizes, such as softmax's (float* y, const float* x, int R, int N). It is launched as that rung is, a
thread for each row or element. For anything else the file says how, in a comment, in CUDA's own words:

    // softmax_forward<<<R, 256>>>                    a block for each row
    // matmul_forward<<<dim3((N + 31) / 32, (M + 31) / 32), dim3(32, 32)>>>
    // softmax_forward<<<R, 256, 4 * N>>>             and 4 N bytes of dynamic shared memory

The names in it are those of the kernel's own integer parameters; / rounds down. Where the file also has a kernel with vjp in
the place of forward in its name, that one stands in for the first rung's vjp kernel; otherwise the first rung's is kept.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import operator
import os
import re
import shutil
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cases
import harness
import numpy as np
from harness import BenchError

from handgrad.kernels.cuda import compiler, device
from handgrad.kernels.cuda.ladders import LADDERS, rung
from handgrad.kernels.cuda.launch import Kernel
from handgrad.kernels.cuda.on_cpu.kernel import SCHEDULES, KernelError
from handgrad.kernels.cuda.signatures import signatures

BACKENDS = ("cuda-on-cpu", "cuda")
ROLES = {"kernel": "forward", "forward_kernel": "forward", "vjp_kernel": "vjp"}
"""Fields of a launcher (kernels/cuda/pairs.py, norms.py) in which a kernel lies."""
Sizes = tuple[tuple[int, ...], tuple[int, ...], int]


def run(found: argparse.Namespace) -> None:
    """What the command line asks for: a list, code, or a kernel held to its formula. BenchError for what cannot be."""
    try:
        if found.list:
            return listed()
        if found.ptx or found.sass:
            return show_code(found)
        own(found)
    except BrokenPipeError:  # whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, UnicodeDecodeError, compiler.CompileError, KernelError) as error:
        raise BenchError(str(error)) from None


# ---- the kernel in its place


def first_rung(operation: str) -> Any:
    """The launcher that a kernel of one's own goes into. BenchError where there is none that takes one."""
    if operation not in LADDERS:
        raise BenchError(f"{operation} has no CUDA kernels to stand beside; there are some for {', '.join(LADDERS)}")
    pair = getattr(rung(operation, LADDERS[operation][0]), "production", None)
    if not dataclasses.is_dataclass(pair) or not roles(pair):
        raise BenchError(f"{operation}'s first rung is more than one kernel, so none of yours can stand in for it")
    return pair


def roles(pair: Any) -> dict[str, Kernel]:
    """field -> kernel of a launcher."""
    return {name: getattr(pair, name) for name in ROLES if isinstance(getattr(pair, name, None), Kernel)}


def parameters(kernel: Kernel) -> list[tuple[str, str]]:
    """(type, name) of each parameter. BenchError where the file has no such kernel."""
    there = signatures(kernel.path.read_text(encoding="utf-8"))
    if kernel.name not in there:
        raise BenchError(f"{kernel.path.name} has no kernel called {kernel.name}; there are {', '.join(there) or 'none'}")
    return there[kernel.name]


def written(kernel: Kernel, name: str = "NAME") -> str:
    """The declaration of a kernel that can stand in for this one."""
    return f'extern "C" __global__ void {name}({", ".join(" ".join(p) for p in parameters(kernel))})'


class Own(Kernel):
    """A kernel of the user's, launched as its file says, or as it is called."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(str(path), name)
        self.parameters = parameters(self)
        self.line = launch_line(path.read_text(encoding="utf-8"), name)

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], *, shared_mem: int = 0) -> None:
        if self.line:
            sizes = {n: int(a) for (_, n), a in zip(self.parameters, args, strict=False) if isinstance(a, np.integer)}
            grid, block, shared_mem = launched(f"{self.path.name}: {self.name}<<<{self.line}>>>", self.line, sizes)
        super().__call__(grid, block, args, shared_mem=shared_mem)


def launch_line(text: str, name: str) -> str:
    """What stands between <<< and >>> behind the kernel's name; "" where it stands nowhere."""
    found = re.search(rf"\b{name}\s*<<<(.*?)>>>", text)
    return found[1].strip() if found else ""


OPERATORS: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip


def launched(what: str, line: str, sizes: dict[str, int]) -> Sizes:
    """(grid, block, bytes of shared memory) of a launch line. BenchError where it cannot be read."""

    def value(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int() as number):
                return number
            case ast.Name(id=name) if name in sizes:
                return sizes[name]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return OPERATORS[type(op)](value(left), value(right))
            case ast.Call(func=ast.Name(id="dim3"), args=given) if 1 <= len(given) <= 3:
                return tuple(map(value, given))
            case ast.Call(func=ast.Name(id="min" | "max" as name), args=[left, right]):
                return (min if name == "min" else max)(value(left), value(right))
        raise BenchError(f"{what} cannot be read at {ast.unparse(node)}: it may hold {', '.join(sizes)}, numbers and dim3")

    try:
        fields = ast.parse(f"({line},)", mode="eval").body
    except SyntaxError:
        raise BenchError(f"{what} cannot be read: it must be <<<grid, block>>> or <<<grid, block, bytes>>>") from None
    assert isinstance(fields, ast.Tuple)
    if len(fields.elts) not in (2, 3):
        raise BenchError(f"{what} has {len(fields.elts)} parts, but it must be <<<grid, block>>> or <<<grid, block, bytes>>>")
    try:
        grid, block, shared = [*map(value, fields.elts), 0][:3]
        grid, block = (size if isinstance(size, tuple) else (size,) for size in (grid, block))
        return grid, block, int(shared)
    except (TypeError, ZeroDivisionError):
        raise BenchError(f"{what} cannot be computed") from None


def pair_of(path: Path, name: str, operation: str) -> tuple[Any, str]:
    """(the first rung with the user's kernels in it, what they are called). BenchError where they do not fit into it."""
    first = first_rung(operation)
    text = path.read_text(encoding="utf-8")
    there = signatures(text)
    if there and 'extern "C"' not in text:
        raise BenchError(f'{path.name}: a kernel is found by its name, so it must be declared extern "C" __global__ void')
    if not name:
        forwards = [k for k in there if "vjp" not in k]
        if len(forwards) != 1:
            raise BenchError(
                f"{path.name} has {', '.join(forwards) or 'no kernel'}: --kernel {path.name}:NAME must say which one is meant"
            )
        name = forwards[0]
    names = {"forward": name, "vjp": name.replace("forward", "vjp")}
    new: dict[str, Kernel] = {}
    for field, old in roles(first).items():
        if ROLES[field] == "forward" or (names["vjp"] in there and names["vjp"] != name):
            kernel = new[field] = Own(path, names[ROLES[field]])
            if [t for t, _ in kernel.parameters] != [t for t, _ in parameters(old)]:
                got = ", ".join(" ".join(p) for p in kernel.parameters)
                raise BenchError(f"{path.name}: {kernel.name} takes ({got}), but it must be {written(old, kernel.name)}")
    return dataclasses.replace(first, **new), ", ".join(kernel.name for kernel in new.values())


# ---- check, then time


def own(found: argparse.Namespace) -> None:
    """Hold the user's kernel to the formula; on a GPU, time it."""
    from handgrad.engine.cli.check_cuda import check_rung
    from handgrad.engine.testing import CheckError
    from handgrad.reference.table import BY_NAME

    backend, path = found.cuda, found.kernel_file
    pair, names = pair_of(path, found.kernel_name, found.as_op)
    if backend == "cuda":  # a missing GPU, or a mistake in the source, is said first
        compiler.compiled(path, device.architecture())
    print(f"{path.name}: {names}, as {found.as_op}")
    subject = OnGpu(pair) if backend == "cuda" else pair
    try:
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
            repeat = f"handgrad bench --kernel {path.name} --as {found.as_op} --backend {backend}"
            report = check_rung(BY_NAME[found.as_op], subject, path.name, 0, repeat)
    except CheckError as wrong:
        raise BenchError(str(wrong)) from None
    except (TypeError, ValueError, RuntimeError) as wrong:
        if isinstance(wrong, BenchError | compiler.CompileError | KernelError):
            raise
        raise BenchError(str(wrong).splitlines()[0]) from wrong
    checks = {word: report.checks[f"{word} float32"] for word in ("value", "gradient") if f"{word} float32" in report.checks}
    errors = ", ".join(f"error of the {word} {c.error:.1e} of {c.allowed:.1e} allowed" for word, c in checks.items())
    if backend == "cuda":
        print(f"right on the GPU: {errors}")
        time_all(found, pair)
    else:
        print(f"right under all {len(SCHEDULES)} schedules, and under AddressSanitizer: {errors}")
        print("How fast it is shows on a GPU alone: --backend cuda.")


class OnGpu:
    """A pair on the GPU, for checks that live on the CPU."""

    def __init__(self, pair: Any) -> None:
        self.pair, self.cupy = pair, device.cupy()

    def there(self, value: Any) -> Any:
        return self.cupy.asarray(value) if isinstance(value, np.ndarray) else value

    def here(self, value: Any) -> Any:
        return self.cupy.asnumpy(value) if isinstance(value, self.cupy.ndarray) else value

    def accepts(self, *xs: Any, **params: Any) -> bool:
        return self.pair.accepts(*xs, **params)

    def forward(self, *xs: Any, **params: Any) -> tuple[Any, Any]:
        y, residuals = self.pair.forward(*map(self.there, xs), **params)
        return self.here(y), residuals

    def vjp(self, dy: Any, y: Any, *xs: Any, residuals: Any, wanted: Any, into: Any, **params: Any) -> tuple[Any, ...]:
        moved = map(self.there, (dy, y, *xs))
        return tuple(map(self.here, self.pair.vjp(*moved, residuals=residuals, wanted=wanted, into=into, **params)))


def time_all(found: argparse.Namespace, pair: Any) -> None:
    """Forward at every size that both accept, in turns with the first and the last rung: milliseconds between two events of the
    GPU, so with the launcher's Python where that takes longer than the kernel.
    """
    cupy, ladder = device.cupy(), LADDERS[found.as_op]
    sides = {found.kernel_file.name: pair} | {name: rung(found.as_op, name) for name in (ladder[0], ladder[-1])}
    for case in (case for case in cases.CASES if case.op == found.as_op):
        arrays = [cupy.asarray(a) for a in case.arrays()]
        taking = {name: side for name, side in sides.items() if side.accepts(*arrays, **case.params)}
        times: dict[str, list[float]] = {name: [] for name in taking}
        for turn in range(found.rounds * 5 + 1):
            for name, side in taking.items():
                start, end = cupy.cuda.Event(), cupy.cuda.Event()
                start.record()
                side.forward(*arrays, **case.params)
                end.record()
                end.synchronize()
                if turn:  # the first turn compiles and warms
                    times[name].append(float(cupy.cuda.get_elapsed_time(start, end)))
        rows = []
        for name, ms in times.items():
            p10, median, p90 = harness.percentiles(ms)
            ratio = median / statistics.median(times[found.kernel_file.name]) if found.kernel_file.name in times else 0
            rows.append([name, f"{median:.4f}", f"{p10:.4f}", f"{p90:.4f}", f"{ratio:.2f}"])
        print()
        harness.print_table([f"{case.name}, forward", "median ms", "p10", "p90", "this / yours"], rows)


# ---- what there is


def listed() -> None:
    """What each operation's kernel takes, and how it is launched where its file does not say."""
    for operation, names in LADDERS.items():
        try:
            kernels = roles(first_rung(operation))
        except BenchError:
            continue
        said = (rung(operation, names[0]).__doc__ or "").splitlines()[0].partition(": ")[2]
        print(f"{operation}, launched as rung {names[0]} is: {said}")
        for kernel in kernels.values():
            print(f"    {written(kernel)}")


def source_of(found: argparse.Namespace) -> Path:
    """The `.cu` whose code is wanted: that of --kernel, or of the rung that is named."""
    if found.kernel_file:
        return found.kernel_file
    option = "--ptx" if found.ptx else "--sass"
    if len(found.op) != 1:
        raise BenchError(f"{option} needs the one rung whose code is wanted, as in: bench matmul_03 {option}")
    name = found.op[0]
    for operation, names in LADDERS.items():
        for each in names:
            if name in (f"{operation}_{each[:2]}", f"{operation}_{each}"):
                return compiler.HERE / f"{operation}_{each}.cu"
        if name == operation:
            raise BenchError(f"{option} needs one rung of {name}: {', '.join(f'{name}_{each[:2]}' for each in names)}")
    raise BenchError(f"{name} is no rung of a CUDA ladder; there are ladders for {', '.join(LADDERS)}")


def show_code(found: argparse.Namespace) -> None:
    """Print PTX, or SASS where the toolkit has a disassembler."""
    path = source_of(found)
    architecture = found.arch or compiler.architectures(path.read_text(encoding="utf-8"))[0]
    if found.sass:
        tool = disassembler()
        flags = ["-c"] if Path(tool).name == "nvdisasm" else ["-sass"]
        cubin = str(compiler.compiled(path, architecture))
        done = subprocess.run([tool, *flags, cubin], capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it says nothing"])[0]
            raise BenchError(f"{Path(tool).name} cannot read the cubin: {said}")
        sys.stdout.write(done.stdout)
        return
    ptx, _ = compiler.made(path, architecture, wanted="PTX")
    print(ptx.decode().rstrip("\0\n"))


def disassembler() -> str:
    """The path of nvdisasm or cuobjdump: on the PATH, in a toolkit, or in NVIDIA's packages. BenchError where there is none."""
    packages = find_spec("nvidia")
    places = [os.environ.get("PATH", ""), *(f"{os.environ[n]}/bin" for n in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(n))]
    for base in (packages.submodule_search_locations or ()) if packages else ():
        places += map(str, Path(base).glob("cu*/bin"))
    for tool in ("nvdisasm", "cuobjdump"):
        if place := shutil.which(tool, path=os.pathsep.join(places)):
            return place
    raise BenchError(
        "--sass needs a disassembler: pip install 'handgrad[cuda-compile]', or the CUDA toolkit with its bin on the PATH or "
        "under CUDA_HOME; --ptx shows what the assembler starts from"
    )
