"""`handgrad check [OP...]`: every formula and kernel against its definition, its derivatives, its laws; one table."""

from __future__ import annotations

import difflib
import multiprocessing
import signal
import textwrap
import time
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection

import numpy as np
from rich.console import Console

from ...reference.op import Op
from ...reference.table import BY_NAME, ROWS
from .. import ops as _ops  # noqa: F401  (gives Tensor its namespace)
from ..errors import UserError
from ..kernel_table import versions
from ..testing import CheckError, check_op, false_alarms
from ..testing.mutants import mutants
from ..testing.survival import fate
from ..testing.wrongs import rejection
from .coverage import BROKEN, DETAILS, LEGEND, UNKNOWN, Line, coverage, details

SAMPLES = 6
ENOUGH = 0.95
"""Of the mutants of all operations at least this share must be rejected; most of the others are equivalent to the right
gradient (tests/rows/test_mutants.py says why for each). One operation alone may have a larger share of those."""


def find(name: str) -> Op:
    """The row of that name. Raises UserError, with the nearest names, where there is none."""
    if name in BY_NAME:
        return BY_NAME[name]
    near = difflib.get_close_matches(name, BY_NAME, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(BY_NAME)}"
    raise UserError(f"there is no operation called {name!r}; {hint}")


def run(
    names: list[str],
    *,
    trials: int = 0,
    seed: int = 0,
    detailed: bool = False,
    isolated: bool = False,
    mutate: bool = False,
) -> int:
    """Prints the table for the named operations, or all; returns the exit code: 0, or 1 where something failed.

    trials: further random trials of the formulas, in which no check may raise a false alarm. detailed: one line a version,
    with what each check allowed. isolated: each version in a process of its own, so that one that crashes takes nothing
    with it. mutate: also every mechanical mistake in the source of the vjps. Raises UserError for an unknown operation or
    a negative number of trials or seed, before anything runs.
    """
    for option, value in (("--trials", trials), ("--seed", seed)):
        if value < 0:
            raise UserError(f"{option} is {value}, but it must be at least 0")
    rows = [find(name) for name in names] if names else list(ROWS)
    out, err = _console(), Console(stderr=True)
    start = time.perf_counter()
    lines: list[Line] = []
    alarms: list[str] = []
    made, survivors = 0, []
    with err.status("starting") as status:
        for op in rows:
            status.update(f"checking {op.name}")
            lines += _lines(op, seed, isolated)
        for op in rows if mutate else ():
            status.update(f"mutants of {op.name}")
            found = mutants(op)
            made += len(found)
            survivors += [mutant.name for mutant in found if fate(mutant) is None]
        if trials:
            alarms = false_alarms(rows, trials, seed + 1, lambda k: status.update(f"trial {k + 1} of {trials}"))
    table = list((details if detailed else coverage)(lines, out.width))
    for text in table:
        out.print(text, soft_wrap=True)
    unknown = any(f" {UNKNOWN}" in text.plain for text in table)
    legend = DETAILS if detailed else LEGEND + BROKEN if unknown else LEGEND
    out.print(f"\n{textwrap.fill(legend, min(out.width, 100))}\n", markup=False)
    words = [f"{line.op.name} [{line.version}] FAILED: {line.sentence}" for line in lines if line.sentence]
    words += [f"ALARM: {sentence}" for sentence in alarms]
    words += [f"warning: {w}" for w in sorted({w for line in lines if line.report for w in line.report.warnings})]
    words.append(_laws(lines))
    enough = bool(names) or len(survivors) <= (1 - ENOUGH) * made
    if mutate:
        words += [f"survived: {name}" for name in survivors]
        wanted = "" if names else f" ({ENOUGH:.0%} wanted)"
        meaning = "; a survivor is equivalent to the right gradient, or shows a hole in the checks" if survivors else ""
        words.append(f"mutants: {made - len(survivors)} of {made} rejected{wanted}{meaning}")
    words.append(_summary(lines, trials, len(alarms), time.perf_counter() - start))
    for sentence in words:  # whole lines for a pipe, whole words for a terminal
        out.print(sentence, markup=False, soft_wrap=not out.is_terminal)
    return 1 if alarms or not enough or not all(line.passed for line in lines) else 0


def _console() -> Console:
    """100 columns where nobody says how many there are."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=100, highlight=False)


def _lines(op: Op, seed: int, isolated: bool) -> Iterator[Line]:
    check = _alone if isolated else _line
    formula = check(op, "formula", seed)
    missed = []
    for why, wrong in op.wrong.items():
        formula.planted += 1
        if rejection(op, wrong, np.random.default_rng([seed, formula.planted])) is None:
            missed.append(why)
        else:
            formula.rejected += 1
    if missed:
        missing = f"the planted wrong gradient that {missed[0]!r} describes was not rejected"
        formula.sentence = f"{formula.sentence}; {missing}" if formula.sentence else missing
    yield formula
    for name in versions(op):
        yield check(op, name, seed)


def _line(op: Op, version: str, seed: int) -> Line:
    try:
        pair = None if version == "formula" else versions(op)[version]
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # such as the mean of no numbers
            report = check_op(op, kernel=pair, kernel_name=version, samples=SAMPLES, seed=seed)
    except CheckError as error:
        return Line(op, version, None, str(error), error.check)
    except Exception as error:  # a kernel that raises has failed; the others are still worth a look
        return Line(op, version, None, f"{type(error).__name__}: {error}")
    return Line(op, version, report)


def _alone(op: Op, version: str, seed: int) -> Line:
    """`_line` in a process of its own: one that dies leaves nothing behind but how it died."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_line, args=(sender, op.name, version, seed))
    process.start()
    sender.close()
    try:
        report, sentence, check = receiver.recv()
    except EOFError:
        process.join()
        return Line(op, version, None, f"its process died of {_death(process.exitcode)}", crashed=True)
    process.join()
    return Line(op, version, report, sentence, check)


def _send_line(sender: Connection, name: str, version: str, seed: int) -> None:
    line = _line(BY_NAME[name], version, seed)
    sender.send((line.report, line.sentence, line.check))  # a row holds functions that cannot be sent


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {-code} ({signal.Signals(-code).name})"
    return f"itself, with exit code {code}"


def _laws(lines: list[Line]) -> str:
    """How many laws were seen to hold; by name those that no random input could say anything about."""
    formulas = [line for line in lines if line.version == "formula"]
    held, claimed = sum(len(line.laws) for line in formulas), sum(len(line.op.laws) for line in formulas)
    silent = [
        f"{line.op.name}'s {law}" for line in formulas if line.report for law in line.op.laws if law not in line.laws
    ]
    more = f" (the inputs that were drawn say nothing about {', '.join(silent)})" if silent else ""
    return f"laws: {held} of {claimed} held{more}"


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
