"""Who is timed in ops.py: a process for each side, with the environment in which it is at its best, recorded.

numba, formula             handgrad's production kernel, or the row's formula through its engine: process settled as the command
                           line does (threads, short spin, one pool of threads, malloc that keeps what was freed)
numba 02_vector            a rung of the ladder
numba, 1 thread            production on one thread
numba as installed         in a program that imports NumPy and then handgrad, with glibc's malloc left as it is
torch                      PyTorch eager, malloc that keeps what was freed, threads that spin briefly
torch as installed         PyTorch eager in an environment without any setting
torch compiled             like torch, each row through torch.compile
numpy                      the row's formula on plain arrays, malloc that keeps what was freed, OpenBLAS on its own threads
jax                        jax.jit, malloc that keeps what was freed
my_kernel.py:function      a user's own
"""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import dataclass
from typing import Any

import cases
from harness import Worker

ALONE = ", 1 thread"
"""Behind the name of a version that runs on one thread: what the rung below that of the threads takes."""
INSTALLED = " as installed"

KEEP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
"""Freed memory is kept, as handgrad arranges for itself (engine/process.py)."""
SPIN = {"GOMP_SPINCOUNT": "3000"}
"""Idle threads spin briefly, likewise."""
UNTOUCHED = {"GLIBC_TUNABLES": "glibc.malloc.perturb=0"}
"""Malloc's own default, said aloud: handgrad leaves malloc alone where somebody tuned it."""
RIVALS = ("torch", "numpy", "jax")
SETTINGS = ("torch as installed", "torch compiled", "numba as installed")
"""The sides of --all-settings, beside torch and numba."""


@dataclass(frozen=True)
class User:
    """A user's kernel: file and function of forward and, where there is one, of vjp; the row that it computes."""

    path: str
    forward: str
    vjp: tuple[str, str] | None
    op: str
    name: str


class Sides:
    """Workers by the names above, started when they are first asked for."""

    def __init__(self, stack: contextlib.ExitStack, threads: int, user: User | None = None) -> None:
        self.stack, self.threads, self.user = stack, threads, user
        self.workers: dict[str, Worker] = {}
        self.settings: dict[str, Any] = {}
        self.known: dict[str, list[str]] = {}

    def __getitem__(self, name: str) -> Worker:
        if name not in self.workers:
            script, environ, start = self.recipe(name)
            worker = self.stack.enter_context(Worker(script, environ))
            self.settings[name] = worker.ask("start", **start)
            self.workers[name] = worker
            if self.user and name == self.user.name:
                u = self.user
                worker.ask("own", name=name, path=u.path, forward=u.forward, vjp=u.vjp, op=u.op)
        return self.workers[name]

    def recipe(self, name: str) -> tuple[str, dict[str, str], dict[str, Any]]:
        """(script, environment, arguments of its start)."""
        count = str(self.threads)
        counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), count)
        start: dict[str, Any] = {"threads": 1 if name.endswith(ALONE) else self.threads}
        match name:
            case "torch":
                return "ops_torch.py", KEEP | SPIN, start
            case "torch as installed":
                return "ops_torch.py", {}, start
            case "torch compiled":
                return "ops_torch.py", KEEP | SPIN | {"TORCHINDUCTOR_COMPILE_THREADS": "1"}, start | {"compiled": True}
            case "numpy":
                return "ops_numpy.py", KEEP | {"OPENBLAS_NUM_THREADS": count}, start
            case "jax":
                return "ops_jax.py", KEEP | {"NPROC": count, "JAX_PLATFORMS": "cpu"}, start
            case _ if name.endswith(INSTALLED):
                return "ops_handgrad.py", counts | UNTOUCHED, start | {"installed": True}
            case _:
                return "ops_handgrad.py", {}, start

    def versions(self, op: str) -> list[str]:
        """What handgrad has of a row: formula, rungs, numba."""
        if op not in self.known:
            self.known[op] = self["numba"].ask("versions", op=op)
        return self.known[op]


def version(side: str) -> str:
    """What handgrad calls this side."""
    return side.removesuffix(ALONE).removesuffix(INSTALLED)


def wanted(arguments: argparse.Namespace, case: cases.Case, direction: str, sides: Sides) -> list[str]:
    """The sides of a case: handgrad's backends (the formula where a row has no kernel), the rivals, other settings of both,
    the ladder at a row's first size, the user's kernel.
    """
    versions = sides.versions(case.op)
    production = "numba" if "numba" in versions else "formula"
    names = [production if backend == "numba" else backend for backend in arguments.backend]
    names += arguments.against
    if arguments.all_settings:
        names += [name for name in SETTINGS if name.startswith("numba") or "torch" in arguments.against]
    if arguments.ladders and "numba" in versions and case is next(c for c in cases.CASES if c.op == case.op):
        names += [name for name in versions if name not in ("numba", "formula")]
        names += ["numba" + ALONE] if arguments.threads > 1 and case.op not in cases.UPDATES else []
    if sides.user and (direction == "forward" or sides.user.vjp):
        names.append(sides.user.name)
    return list(dict.fromkeys(names))
