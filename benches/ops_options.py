"""The command line of ops.py."""

from __future__ import annotations

import argparse
import ast
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import cases
import harness
import sides
from harness import BenchError

BACKENDS = ("numba", "formula")
CUDA = ("cuda-on-cpu", "cuda")
DIRECTIONS = ("forward", "backward")
CACHES = ("warm", "cold")


class Parser(argparse.ArgumentParser):
    """One that says what is wrong in a sentence."""

    def error(self, message: str) -> NoReturn:
        raise BenchError(f"{message} (see handgrad bench --help)")


def parse(description: str | None) -> argparse.Namespace:
    """What is to be done: `work`, pairs of case and direction, and the options; BenchError for what cannot be."""
    found = parser(description).parse_args()
    cuda(found)
    if found.list or found.cuda or found.ptx or found.sass:
        return found
    known = list(dict.fromkeys(case.op for case in cases.CASES))
    for op in [*found.op, *([found.as_op] if found.as_op else [])]:
        if op not in known:
            raise BenchError(f"{op} has no sizes to be timed at; there are {', '.join(known)}")
    for option, given, there in (
        ("--backend", found.backend, BACKENDS), ("--against", found.against or [], sides.RIVALS),
        ("--directions", found.directions, DIRECTIONS), ("--caches", found.caches, CACHES),
    ):  # fmt: skip
        for name in given:
            if name not in there:
                raise BenchError(f"{option} {name} is none of {', '.join(there)}" + (
                    "; an OP goes before the options" if name in known else ""))  # fmt: skip
    if found.asm:
        if len(found.op) != 1:
            raise BenchError("--asm needs the one OP whose machine code is wanted, as in: bench softmax --asm")
        return found
    found.kernel = user(found)
    if found.kernel:
        found.op = [found.kernel.op]
    found.work = [
        (c, d) for c in cases.CASES if not found.op or c.op in found.op for d in c.directions if d in found.directions
    ]
    if not found.work:
        raise BenchError(f"{', '.join(found.op)} is an update of parameters, which has no backward")
    if found.kernel and not found.kernel.vjp:
        if found.directions == ["backward"]:
            raise BenchError("--kernel has no vjp to be timed backward: give --kernel-vjp FILE.py:FUNCTION")
        found.work = [(c, d) for c, d in found.work if d == "forward"]
    if found.against is None:
        found.against = ["torch"] if find_spec("torch") else []
        if not found.against:
            print(
                "NOTE: PyTorch is not installed, so handgrad is timed alone: pip install -e '.[peers]'", file=sys.stderr
            )
    harness.require("handgrad", "numba", *(name for name in found.against if name != "numpy"))
    if found.out.is_dir() or (found.out.parent.exists() and not os.access(found.out.parent, os.W_OK)):
        raise BenchError(f"--out is {found.out}, but it must be a file that can be written")
    return found


def cuda(found: argparse.Namespace) -> None:
    """Where CUDA kernels are meant: `cuda`, the backend or ""; `kernel_file` and `kernel_name` of --kernel FILE.cu[:KERNEL]."""
    there = re.fullmatch(r"(.+\.cu)(?::(\w+))?", found.kernel or "")
    found.kernel_file, found.kernel_name = (Path(there[1]), there[2] or "") if there else (None, "")
    found.cuda = next((name for name in CUDA if name in found.backend), "cuda-on-cpu" if there else "")
    for option, given in (("--ptx", found.ptx), ("--sass", found.sass)):
        if given and found.kernel and not there:
            raise BenchError(f"{option} shows the code of CUDA kernels, but --kernel {found.kernel} is no .cu file")
    if there and not found.kernel_file.is_file():
        raise BenchError(f"--kernel is {found.kernel}, but it must be FILE.cu or FILE.cu:KERNEL with a file that is there")
    if not found.cuda or found.list or found.ptx or found.sass:
        return
    if len(found.backend) > 1:
        raise BenchError(f"--backend {' '.join(found.backend)}: {found.cuda} stands alone")
    if not there:
        raise BenchError(f"--backend {found.cuda} is for a CUDA kernel of your own: --kernel FILE.cu --as OP")
    ops = list(dict.fromkeys([*found.op, *([found.as_op] if found.as_op else [])]))
    if len(ops) != 1:
        raise BenchError("--kernel needs the one OP that the kernel computes: --kernel FILE.cu --as OP")
    found.as_op = ops[0]
    if found.kernel_vjp:
        raise BenchError("--kernel-vjp belongs to --kernel FILE.py:FUNCTION; a .cu names its own: my_vjp beside my_forward")


def user(found: argparse.Namespace) -> sides.User | None:
    """The user's kernel that was named, or None."""
    if not found.kernel:
        for option, given in (("--as", found.as_op), ("--kernel-vjp", found.kernel_vjp)):
            if given:
                raise BenchError(f"{option} belongs to --kernel FILE.py:FUNCTION, which is missing")
        return None
    path, forward = placed("--kernel", found.kernel)
    vjp = placed("--kernel-vjp", found.kernel_vjp) if found.kernel_vjp else beside(path, forward)
    ops = list(dict.fromkeys([*found.op, *([found.as_op] if found.as_op else [])]))
    if len(ops) != 1:
        raise BenchError("--kernel needs the one OP that the function computes: --kernel FILE.py:FUNCTION --as OP")
    if ops[0] in cases.UPDATES:
        raise BenchError(f"--kernel cannot stand in for {ops[0]}, which is no row of the table")
    if vjp:
        print(f"{Path(path).name}:{forward}, and its vjp {Path(vjp[0]).name}:{vjp[1]}")
    else:
        print(f"{Path(path).name}:{forward}, forward only: there is no vjp beside it")
    return sides.User(path, forward, vjp, ops[0], f"{Path(path).name}:{forward}")


def placed(option: str, text: str) -> tuple[str, str]:
    """FILE.py:FUNCTION as (file, function)."""
    path, _, function = text.rpartition(":")
    if not path or not function.isidentifier() or not Path(path).is_file():
        raise BenchError(f"{option} is {text}, but it must be FILE.py:FUNCTION with a file that is there")
    return str(Path(path).resolve()), function


def beside(path: str, forward: str) -> tuple[str, str] | None:
    """The vjp that is named like forward, where the file defines one: softmax_forward and softmax_vjp."""
    name = forward.replace("forward", "vjp")
    try:
        source = ast.parse(Path(path).read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return None  # the import will say what is wrong
    defined = [n.name for n in source.body if isinstance(n, ast.FunctionDef)]
    defined += [t.id for n in source.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)]
    return (path, name) if name != forward and name in defined else None


def parser(description: str | None) -> Parser:
    """The options, with their help."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = Parser(
        prog="handgrad bench", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("op", nargs="*", metavar="OP", help="rows, such as softmax; none means all of them")
    add("--list", action="store_true", help="print the rows and sizes that can be timed, and end")
    add("--backend", nargs="+", default=["numba"], metavar="NAME",
        help=f"what of handgrad is timed: {', '.join(BACKENDS)} (default numba, production's kernel); for --kernel FILE.cu "
        f"{' or '.join(CUDA)}")  # fmt: skip
    add("--against", nargs="+", metavar="RIVAL",
        help=f"of {', '.join(sides.RIVALS)}; ratios are against the first (default torch, where installed)")  # fmt: skip
    add("--all-settings", action="store_true",
        help="also PyTorch as installed and compiled, and handgrad as installed with malloc untouched")  # fmt: skip
    add("--directions", nargs="+", default=DIRECTIONS, metavar="WAY", help="forward, backward (default both)")
    add("--caches", nargs="+", default=CACHES, metavar="STATE", help="warm, cold (default both)")
    add("--no-ladders", dest="ladders", action="store_false", help="leave out the rungs below production's")
    add("--kernel", metavar="FILE.py:FUNCTION",
        help="a function of your own, of a row's inputs, that returns y; or FILE.cu[:KERNEL], a CUDA kernel")  # fmt: skip
    add("--as", dest="as_op", metavar="OP", help="the row that --kernel computes")
    add("--kernel-vjp", metavar="FILE.py:FUNCTION",
        help="its vjp(dy, y, *inputs), which returns the gradients (default: softmax_vjp beside softmax_forward)")  # fmt: skip
    add("--asm", action="store_true", help="say what of the OP's machine code vectorised, and end")
    add("--ptx", action="store_true", help="print the PTX of a CUDA kernel, such as matmul_03, and end")
    add("--sass", action="store_true", help="print its machine code, by NVIDIA's disassembler, and end")
    add("--arch", help="what --ptx and --sass compile for (default sm_80, or sm_90a for a kernel of Hopper's)")
    add("--code", action="store_true", help="with --asm: print the machine code too")
    add("--rounds", type=harness.positive_int, default=6, help="blocks of each side (default 6)")
    add("--seconds", type=harness.positive, default=0.15, help="seconds a block (default 0.15)")
    add("--threads", type=harness.positive_int, default=cores, help=f"of each side (default {cores})")
    add("--out", type=Path, default=harness.RESULTS / "ops.json", help="result file (default benches/results/ops.json)")
    return parser
