"""`handgrad check --backend cuda-on-cpu [OP...]`: every rung of the CUDA ladders, run on this CPU, against its formula."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from rich.console import Console

from ...kernels.cuda.ladders import LADDERS, rung
from ...kernels.cuda.on_cpu.compiler import CompileError, compiler
from ...kernels.cuda.on_cpu.kernel import SCHEDULES, KernelError, running
from ...reference.op import Op, Sample, Spec
from ...reference.table import BY_NAME
from .. import ops as _ops  # noqa: F401  (gives Tensor its namespace)
from ..errors import UserError
from ..testing import CheckError, kernels, safety, shapes
from ..testing.case import Case
from ..testing.draw import larger_sample, random_sample
from ..testing.report import Report
from ..testing.subject import of_kernel
from .check import find
from .coverage import BAD, Line, error

BACKEND = "cuda-on-cpu"
SAMPLES = 4
TRIES = 500  # a kernel may accept few of the inputs that a row allows
PROMISES = (kernels.contract, kernels.nan, safety.purity, safety.wanted, safety.strides, shapes.zero_size)


def run(names: list[str], *, backend: str = BACKEND, seed: int = 0, others: Sequence[str] = ()) -> int:
    """Prints a line for each rung of the named operations, for a named rung, or for all; returns the exit code: 0,
    or 1 where one failed.

    others: options of `handgrad check` that were given and say nothing here. Raises UserError for these, for another
    backend, a negative seed, an operation without CUDA kernels, and where there is no compiler.
    """
    if backend != BACKEND:
        raise UserError(f"there is no backend called {backend!r} to check; there is {BACKEND}")
    if others:
        raise UserError(f"{' and '.join(others)} cannot be used with --backend {BACKEND}")
    if seed < 0:
        raise UserError(f"--seed is {seed}, but it must be at least 0")
    rungs = [found for name in names or LADDERS for found in _rungs(name)]
    try:
        compiler()
    except OSError as missing:
        raise UserError(str(missing)) from None
    out = Console(highlight=False) if Console().is_terminal else Console(width=100, highlight=False)
    start, lines = time.perf_counter(), []
    with Console(stderr=True).status("starting") as status:
        for operation, name in rungs:
            status.update(f"checking {operation} {name}")
            lines.append(_line(BY_NAME[operation], name, seed))
    for text in _table(lines):
        out.print(text, soft_wrap=True, style="bold red" if text.endswith(BAD[0]) else None)
    for line in lines:
        if line.sentence:
            out.print(f"{line.op.name} [{line.version}] FAILED: {line.sentence}", markup=False, soft_wrap=True)
    failed = sum(not line.passed for line in lines)
    verdict = f"{failed} FAILED" if failed else "all passed"
    out.print(
        f"{len({line.op.name for line in lines})} operations in {len(lines)} rungs: {verdict}; every launch under "
        f"{len(SCHEDULES)} schedules, one sample of each also under AddressSanitizer; {time.perf_counter() - start:.0f} s",
        soft_wrap=True,
    )
    return 1 if failed else 0


def _rungs(name: str) -> list[tuple[str, str]]:
    """The rungs of an operation; or one of them, called matmul_03 or matmul_03_shared_tile."""
    alone = [
        (operation, rung)
        for operation, rungs in LADDERS.items()
        for rung in rungs
        if name in (f"{operation}_{rung[:2]}", f"{operation}_{rung}")
    ]
    if alone:
        return alone
    if find(name).name not in LADDERS:
        raise UserError(f"{name} has no CUDA kernels; there are some for {', '.join(LADDERS)}")
    return [(name, rung) for rung in LADDERS[name]]


def _table(lines: list[Line]) -> list[str]:
    """A line for each rung: the type in which it was checked, the worst error of its value and of its gradients."""
    cells: list[tuple[str, ...]] = [("operation", "rung", "type", "value", "gradient", "")]
    for line in lines:
        checks = line.report.checks if line.report else {}
        dtype = _dtype(rung(line.op.name, line.version)).name
        errors = (error(checks.get(f"{name} {dtype}")) for name in ("value", "gradient"))
        cells.append((line.op.name, line.version, dtype, *errors, "pass" if line.passed else BAD[0]))
    sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, tuple("-" * n for n in sizes))
    return ["  ".join(cell.ljust(n) for cell, n in zip(row, sizes, strict=True)).rstrip() for row in cells]


def _line(op: Op, name: str, seed: int) -> Line:
    try:
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
            return Line(op, name, check_rung(op, rung(op.name, name), name, seed))
    except CheckError as wrong:
        return Line(op, name, None, str(wrong), wrong.check)
    except (KernelError, CompileError) as wrong:
        return Line(op, name, None, str(wrong))
    except Exception as mistake:  # a launcher that raises has failed; the others are still worth a look
        return Line(op, name, None, f"{type(mistake).__name__}: {mistake}")


@dataclass(frozen=True)
class Narrow:
    """A pair that computes in one narrow type, for checks that move their inputs in float64: those are rounded, everything
    else goes through.
    """

    pair: Any
    dtype: Any

    def rounded(self, *arrays: Any) -> tuple[Any, ...]:
        return tuple(self._rounded(a) for a in arrays)

    def _rounded(self, a: Any) -> Any:
        if isinstance(a, tuple):  # the cotangents of several outputs
            return self.rounded(*a)
        return np.asarray(a, self.dtype) if getattr(a, "dtype", None) == np.float64 and not isinstance(a, Spec) else a

    def accepts(self, *xs: Any, **params: Any) -> bool:
        return self.pair.accepts(*self.rounded(*xs), **params)

    def forward(self, *xs: Any, **params: Any) -> Any:
        return self.pair.forward(*self.rounded(*xs), **params)

    def vjp(self, *given: Any, **more: Any) -> Any:
        return self.pair.vjp(*self.rounded(*given), **more)


def check_rung(op: Op, launcher: Any, name: str, seed: int, repeat: str = "") -> Report:
    """A pair that computes in float32 alone, or in the type that the launcher names: larger samples, random ones and the
    row's own against the formula in longdouble, and the promises of the contract. Raises CheckError, or what a launch raises.

    repeat: the command that repeats it, for the sentence of what failed.
    """
    report, dtype = Report(op.name, seed), _dtype(launcher)
    pair = Narrow(launcher, dtype)
    subject, samples = of_kernel(op, pair, name), list(_samples(op, pair, seed))
    promised = [sample for sample in samples if sample.why == "random"] or sorted(samples, key=_size)[:1]
    repeat = repeat or f"handgrad check --backend {BACKEND} {op.name}"
    for number, sample in enumerate(samples):
        rng = np.random.default_rng([seed, number])
        wide = Case(subject, sample.inputs, dict(sample.params), rng, report, f"{repeat}: {sample.why}")
        with np.errstate(all="ignore"), ExitStack() as stack:
            if number == 0:
                stack.enter_context(running(("forward", "reverse"), sanitize=True))
            kernels.agreement(wide, dtype)
            if any(sample is other for other in promised):
                narrow = Case(subject, wide.at(dtype), dict(sample.params), rng, report, wide.repeat)
                for check in PROMISES:
                    check(narrow)
    return report


def _size(sample: Sample) -> int:
    return sum(np.size(a) for a in sample.inputs if a is not None)


def _dtype(launcher: Any) -> Any:
    return np.dtype(getattr(launcher, "CHECKED", np.float32))


def _samples(op: Op, pair: Narrow, seed: int) -> Iterator[Sample]:
    """Larger ones first, then random ones, then the row's own; only those that the kernel takes."""

    def draws(draw: Callable[[np.random.Generator], Sample | None]) -> Iterator[Sample]:
        for attempt in range(TRIES):
            sample = draw(np.random.default_rng([seed, attempt]))
            if sample is not None and pair.accepts(*sample.inputs, **sample.params):
                yield sample

    for draw, why in ((lambda rng: larger_sample(op, rng), "larger"), (lambda rng: random_sample(op, rng), "random")):
        for sample in islice(draws(draw), SAMPLES):
            yield Sample(sample.inputs, sample.params, why)
    yield from (sample for sample in op.samples if pair.accepts(*sample.inputs, **sample.params))
