"""`handgrad check [OP...]`: every formula and kernel against its definition, its derivatives, its laws; one table."""

from __future__ import annotations

import difflib
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.text import Text

from ...reference.op import Op
from ...reference.table import BY_NAME, ROWS
from .. import ops as _ops  # noqa: F401  (gives Tensor its namespace)
from ..errors import UserError
from ..kernel_table import versions
from ..testing import CheckError, Report, check_op, false_alarms
from ..testing.wrongs import rejection

SAMPLES = 6
LEGEND = """\
Worst error / what the check's own estimate allows there (where the lines have room for it). Formula: the value against
the definition in plain loops, the gradient against finite differences in longdouble, float32 against float64. Kernel:
against the formula in longdouble. wrong: planted wrong gradients that were rejected.
"""


@dataclass
class Line:
    """One row of the table: a version of an operation."""

    op: Op
    version: str
    report: Report | None  # None where a check failed
    sentence: str = ""  # the failure
    rejected: int = 0
    planted: int = 0

    @property
    def passed(self) -> bool:
        return self.report is not None and self.rejected == self.planted


def find(name: str) -> Op:
    """The row of that name. Raises UserError, with the nearest names, where there is none."""
    if name in BY_NAME:
        return BY_NAME[name]
    near = difflib.get_close_matches(name, BY_NAME, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(BY_NAME)}"
    raise UserError(f"there is no operation called {name!r}; {hint}")


def run(names: list[str], *, trials: int = 0, seed: int = 0) -> int:
    """Prints the table for the named operations, or all; returns the exit code: 0, or 1 where something failed.

    trials: further random trials of the formulas, in which no check may raise a false alarm. Raises UserError for an
    unknown operation or a negative number of trials, before anything runs.
    """
    if trials < 0:
        raise UserError(f"--trials is {trials}, but it must be at least 0")
    rows = [find(name) for name in names] if names else list(ROWS)
    out, err = _console(), Console(stderr=True)
    start = time.perf_counter()
    lines: list[Line] = []
    with err.status("starting") as status:
        for op in rows:
            status.update(f"checking {op.name}")
            lines += _lines(op, seed)
        alarms: list[str] = []
        if trials:
            alarms = false_alarms(rows, trials, seed + 1, lambda k: status.update(f"trial {k + 1} of {trials}"))
    for text in _table(lines, out.width):
        out.print(text, soft_wrap=True)
    out.print(f"\n{textwrap.fill(LEGEND, min(out.width, 100))}\n", markup=False)
    words = [f"{line.op.name} [{line.version}] FAILED: {line.sentence}" for line in lines if line.sentence]
    words += [f"ALARM: {sentence}" for sentence in alarms]
    words += [f"warning: {w}" for w in sorted({w for line in lines if line.report for w in line.report.warnings})]
    words.append(_summary(lines, trials, len(alarms), time.perf_counter() - start))
    for sentence in words:  # whole lines for a pipe, whole words for a terminal
        out.print(sentence, markup=False, soft_wrap=not out.is_terminal)
    return 1 if alarms or not all(line.passed for line in lines) else 0


def _console() -> Console:
    """100 columns where nobody says how many there are."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=100, highlight=False)


def _lines(op: Op, seed: int) -> Iterator[Line]:
    formula = _line(op, "formula", None, seed)
    missed = []
    for why, wrong in op.wrong.items():
        formula.planted += 1
        if rejection(op, wrong, np.random.default_rng([seed, formula.planted])) is None:
            missed.append(why)
        else:
            formula.rejected += 1
    if missed:
        formula.sentence += f"the planted wrong gradient that {missed[0]!r} describes was not rejected"
    yield formula
    for name, pair in versions(op).items():
        yield _line(op, name, pair, seed)


def _line(op: Op, version: str, pair: object, seed: int) -> Line:
    try:
        report = check_op(op, kernel=pair, kernel_name=version, samples=SAMPLES, seed=seed)
    except CheckError as error:
        return Line(op, version, None, str(error))
    except Exception as error:  # a kernel that crashes has failed; the others are still worth a look
        return Line(op, version, None, f"{type(error).__name__}: {error}")
    return Line(op, version, report)


def _table(lines: list[Line], width: int) -> Iterator[Text]:
    """The lines of the table; where `width` has no room for all of it, without what the checks allow."""
    table, sizes = _cells(lines, True)
    if sum(sizes) + 2 * len(sizes) - 2 > width:
        table, sizes = _cells(lines, False)
    for cells in table:
        words = [c.ljust(n) for c, n in zip(cells[:2], sizes, strict=False)]
        numbers = [c.rjust(n) for c, n in zip(cells[2:], sizes[2:], strict=True)]
        yield Text("  ".join(words + numbers).rstrip(), "bold red" if cells[-1] == "FAIL" else "")


def _cells(lines: list[Line], allowed: bool) -> tuple[list[list[str]], list[int]]:
    """The cells by rows, a heading and a rule first, and the width of each column."""
    table = [["operation", "version", "value", "gradient", "float32", "wrong", "laws", ""]]
    before = None
    for line in lines:
        checks = line.report.checks if line.report else {}
        formula = line.version == "formula"
        names = ("definition", "vjp", "float32") if formula else ("value float64", "gradient float64", "value float32")
        laws = sum(name.startswith("law ") for name in checks)
        table.append(
            [
                line.op.name if line.op is not before else "",
                line.version,
                *(_error(checks.get(name), allowed) for name in names),
                f"{line.rejected}/{line.planted}" if formula else "",
                f"{laws}/{len(line.op.laws)}" if line.op.laws else "-",
                "pass" if line.passed else "FAIL",
            ]
        )
        before = line.op
    sizes = [max(map(len, column)) for column in zip(*table, strict=True)]
    table.insert(1, ["-" * n for n in sizes])
    return table, sizes


def _error(check: object, allowed: bool) -> str:
    error = getattr(check, "error", None)
    if error is None:
        return "-"
    if error == 0:
        return "exact"
    return f"{error:.0e} / {getattr(check, 'allowed', 0.0):.0e}" if allowed else f"{error:.0e}"


def _summary(lines: list[Line], trials: int, alarms: int, seconds: float) -> str:
    failed = [f"{line.op.name} [{line.version}]" for line in lines if not line.passed]
    operations = len({line.op.name for line in lines})
    rejected, planted = sum(line.rejected for line in lines), sum(line.planted for line in lines)
    verdict = "all passed" if not failed else f"{len(failed)} FAILED ({', '.join(failed)})"
    more = f"; {alarms} false alarms in {trials} trials" if trials else ""
    return (
        f"{operations} operations in {len(lines)} versions: {verdict}; {rejected} of {planted} planted wrong gradients "
        f"rejected{more}; {seconds:.0f} s"
    )
