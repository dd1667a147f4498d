"""The tables of `handgrad check`: what is covered by which version, and in detail how well each version does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.text import Text

from ...reference.op import Op
from ..testing import Report

BACKENDS = ("formula", "numba", "cuda")
CELLS = ("value", "vjp", "jvp", "2nd")
FORMULA_CHECKS = ("definition", "vjp", "jvp", "second order")
KERNEL_CHECKS = ("value float64", "gradient float64", "", "")
DELEGATED, HOLE, UNKNOWN = "·", "-", "?"
BAD = ("FAIL", "CRASHED")

LEGEND = """\
Worst error of each check that passed, in float64 or better. Formula: the value against the definition in plain loops;
vjp, jvp and second order (2nd) against finite differences in longdouble. Kernels: against the formula in longdouble.
exact: no error at all. ·: this version has none of its own, the formula runs. -: no kernel, the formula runs.
"""
BROKEN = "?: not known, because the version failed before."
DETAILS = """\
Worst error / what the check's own estimate allows there (where the lines have room for it). Formula: the value against
the definition in plain loops, the gradient against finite differences in longdouble, float32 against float64. Kernel:
against the formula in longdouble. wrong: planted wrong gradients that were rejected.
"""
_VJP = {
    "shapes", "vjp", "adjoint", "nondifferentiable", "complex step", "wanted", "reads", "residuals", "into", "used twice",
    "unused outputs", "zero size", "gradient float64", "gradient float32",
}  # fmt: skip
_CELL = dict.fromkeys(_VJP, 1) | {"jvp": 2, "standing still": 2, "second order": 3, "engine": 3}
"""Check -> the cell that it is about; what is not here is about the value."""


@dataclass
class Line:
    """What was found about one version of an operation."""

    op: Op
    version: str
    report: Report | None  # None where a check failed
    sentence: str = ""  # the failure
    check: str = ""  # which check failed
    crashed: bool = False  # its process died
    rejected: int = 0
    planted: int = 0

    @property
    def passed(self) -> bool:
        return self.report is not None and self.rejected == self.planted

    @property
    def laws(self) -> list[str]:
        """Those that held on at least one random input."""
        return [name[4:] for name in (self.report.checks if self.report else {}) if name.startswith("law ")]


def coverage(lines: list[Line], width: int) -> Iterator[Text]:
    """Rows by backends by derivatives. Where `width` is too small: without the cells in which a kernel can have nothing
    of its own, then without the last backends."""
    plans = [{b: 4 if b == "formula" or full else 2 for b in BACKENDS} for full in (True, False)]
    plans += [{b: plans[1][b] for b in BACKENDS[:n]} for n in (2, 1)]
    fitting = (plan for plan in plans if len(_heads(plan, _grid(lines, plan)[1])) <= width)
    plan = next(fitting, plans[-1])
    grid, sizes = _grid(lines, plan)
    starts = {1 + sum(list(plan.values())[:k]) for k in range(len(plan))}
    yield Text(_heads(plan, sizes).rstrip(), "bold")
    for number, cells in enumerate(grid):
        text = Text()
        for i, (cell, size) in enumerate(zip(cells, sizes, strict=True)):
            text.append("" if i == 0 else "  " if i in starts else " ")
            style = "bold red" if cell in BAD else "bold" if number == 0 else ""
            text.append(cell.ljust(size) if i == 0 else cell.rjust(size), style)
        yield text
    missing = [b for b in BACKENDS if b not in plan]
    if missing:
        yield Text(f"(these lines have no room for {' and '.join(missing)})")


def _grid(lines: list[Line], plan: dict[str, int]) -> tuple[list[list[str]], list[int]]:
    """The cells by rows, a heading and a rule first, and the width of each column."""
    by_op: dict[str, dict[str, Line]] = {}
    for line in lines:
        by_op.setdefault(line.op.name, {})[line.version] = line
    body = [
        [name, *(cell for b, n in plan.items() for cell in _backend(found.get(b))[:n])] for name, found in by_op.items()
    ]
    heading = ["operation", *(cell for n in plan.values() for cell in CELLS[:n])]
    sizes = [max(map(len, column)) for column in zip(heading, *body, strict=True)]
    return [heading, ["-" * n for n in sizes], *body], sizes


def _heads(plan: dict[str, int], sizes: list[int]) -> str:
    """The line above the table: each backend's name over its cells. As long as the table is wide."""
    words, at = [" " * sizes[0]], 1
    for backend, n in plan.items():
        words.append(backend.ljust(sum(sizes[at : at + n]) + n - 1))
        at += n
    return "  ".join(words)


def _backend(line: Line | None) -> tuple[str, ...]:
    if line is None:
        return (HOLE,) * 4
    formula = line.version == "formula"
    names = FORMULA_CHECKS if formula else KERNEL_CHECKS
    if line.report is None:
        at = 0 if line.crashed else _CELL.get(line.check, 0)
        cells = [UNKNOWN if name else DELEGATED for name in names]
        cells[at] = BAD[line.crashed]
        return tuple(cells)
    return tuple(error(line.report.checks.get(name)) if name else DELEGATED for name in names)


def details(lines: list[Line], width: int) -> Iterator[Text]:
    """Every version by itself; where `width` has no room for all of it, without what the checks allow."""
    table, sizes = _cells(lines, True)
    if sum(sizes) + 2 * len(sizes) - 2 > width:
        table, sizes = _cells(lines, False)
    for cells in table:
        words = [c.ljust(n) for c, n in zip(cells[:2], sizes, strict=False)]
        numbers = [c.rjust(n) for c, n in zip(cells[2:], sizes[2:], strict=True)]
        yield Text("  ".join(words + numbers).rstrip(), "bold red" if cells[-1] in BAD else "")


def _cells(lines: list[Line], allowed: bool) -> tuple[list[list[str]], list[int]]:
    """The cells by rows, a heading and a rule first, and the width of each column."""
    table = [["operation", "version", "value", "gradient", "float32", "wrong", "laws", ""]]
    before = None
    for line in lines:
        checks = line.report.checks if line.report else {}
        formula = line.version == "formula"
        names = ("definition", "vjp", "float32") if formula else ("value float64", "gradient float64", "value float32")
        table.append(
            [
                line.op.name if line.op is not before else "",
                line.version,
                *(error(checks.get(name), allowed) for name in names),
                f"{line.rejected}/{line.planted}" if formula else "",
                f"{len(line.laws)}/{len(line.op.laws)}" if line.op.laws else "-",
                "pass" if line.passed else BAD[line.crashed],
            ]
        )
        before = line.op
    sizes = [max(map(len, column)) for column in zip(*table, strict=True)]
    table.insert(1, ["-" * n for n in sizes])
    return table, sizes


def error(check: object, allowed: bool = False) -> str:
    """The worst error of a check in short; "-" where it did not run."""
    worst = getattr(check, "error", None)
    if worst is None:
        return HOLE
    if worst == 0:
        return "exact"
    return f"{worst:.0e} / {getattr(check, 'allowed', 0.0):.0e}" if allowed else f"{worst:.0e}"
