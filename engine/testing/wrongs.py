"""Who checks the checker: planted wrong gradients that it must reject, and right ones that it must not.

A row brings plausible mistakes of its own (`Op.wrong`: a missing term, a wrong axis); `generated` makes mechanical ones
in the results of every row, and mutants.py makes them in its source. All of them go through the first-order checks, as
somebody's new gradient would.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ...reference.op import Op
from .case import Case
from .check import run_checks
from .differences import Redraw
from .draw import random_sample
from .first_order import first_order
from .report import CheckError, Report
from .subject import of_row

Vjp = Callable[..., tuple[Any, ...]]


def rejection(
    op: Op,
    wrong: Vjp,
    rng: np.random.Generator,
    tries: int = 12,
    checks: tuple[Callable[[Case], Any], ...] = (first_order,),
) -> str | None:
    """The sentence with which the checks reject `wrong` on the first of `tries` random inputs that shows it, or None.

    checks: the first-order ones, unless others are named. Raises TypeError for a function that cannot be called as a vjp
    of this row: that would be no gradient, not a wrong one.
    """
    report = Report(op.name, 0)
    for k in range(tries):
        sample = random_sample(op, rng)
        subject = of_row(op, _callable(op, wrong, len(sample.inputs), sample.params))
        try:
            with np.errstate(all="ignore"):
                case = Case(subject, sample.inputs, dict(sample.params), rng, report, f"draw {k}")
                for check in checks:
                    check(case)
        except CheckError as error:
            return str(error)
        except Redraw:
            continue
    return None


def rejects(op: Op, wrong: Vjp, rng: np.random.Generator) -> bool:
    """Whether the first-order checks reject `wrong` as the vjp of `op` within a dozen random inputs."""
    return rejection(op, wrong, rng) is not None


def _callable(op: Op, wrong: Vjp, n: int, params: Any) -> Vjp:
    """`wrong` with or without the argument `wanted`, as it is written; its other arguments must fit."""
    signature, arguments = inspect.signature(wrong), (None,) * (n + 2)
    if op.takes_wanted:
        try:
            signature.bind(*arguments, wanted=None, **params)
        except TypeError:
            signature.bind(*arguments, **params)
            return lambda *args, wanted=None, **kwargs: wrong(*args, **kwargs)
    else:
        signature.bind(*arguments, **params)
    return wrong


def generated(op: Op) -> dict[str, Vjp]:
    """Mechanical mistakes in results: each a change to the right gradients, one for all inputs and one for each alone."""
    changes: dict[str, Callable[[Any], Any]] = {
        "a factor of 1.001": lambda dx: dx * 1.001,
        "the sign flipped": lambda dx: -dx,
        "the last entry dropped": _without_last,
        "the first axis reversed": lambda dx: dx[::-1] if dx.ndim else dx * 0,
        "a constant added": lambda dx: dx + 1e-3,
    }
    wrongs = {}
    for how, change in changes.items():
        wrongs[how] = _changed(op, change, None)
        for i in range(len(op.inputs)):
            if op.differentiable[i] and len(op.inputs) > 1:
                wrongs[f"{how} in {op.inputs[i]}"] = _changed(op, change, i)
    wrongs["a cotangent of ones"] = lambda dy, *args, **params: op.vjp(_ones(dy), *args, **params)
    return wrongs


def _changed(op: Op, change: Callable[[Any], Any], at: int | None) -> Vjp:
    def vjp(*args: Any, **params: Any) -> tuple[Any, ...]:
        dxs = op.vjp(*args, **params)
        return tuple(change(np.asarray(dx)) if dx is not None and at in (None, i) else dx for i, dx in enumerate(dxs))

    return vjp


def _without_last(dx: np.ndarray) -> np.ndarray:
    dx = np.array(dx)
    if dx.size:
        dx[(-1,) * dx.ndim] = 0
    return dx


def _ones(dy: Any) -> Any:
    return tuple(np.ones_like(d) for d in dy) if isinstance(dy, tuple) else np.ones_like(dy)


def false_alarms(
    ops: Iterable[Op], trials: int, seed: int = 0, progress: Callable[[int], Any] | None = None
) -> list[str]:
    """Runs `trials` random trials, all checks each, over the rows in turn; returns the sentences of those that failed.

    The formulas are held to be right, so each sentence is a false alarm (or a bug that nobody has met yet).
    """
    rows, alarms = list(ops), []
    for k in range(trials):
        op = rows[k % len(rows)]
        rng = np.random.default_rng([seed, 77, k])
        sample = random_sample(op, rng)
        case = Case(
            of_row(op), sample.inputs, dict(sample.params), rng, Report(op.name, seed), f"trial {k} of seed {seed}"
        )
        try:
            run_checks(case)
        except CheckError as error:
            alarms.append(str(error))
        except Redraw:
            pass
        if progress is not None:
            progress(k)
    return alarms
