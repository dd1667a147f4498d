"""The check before the timing: every side is held to the formula in float64, a rung also to its vendor's own error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gpu_cases import UPDATES, Case
from gpu_device import Machine
from gpu_sides import Side
from harness import BenchError


class Crashed(Exception):
    """A side after which the device no longer answers; says which."""


TIMES_VENDOR = 1.5
ROUNDINGS = 4
"""What no bound is below: so many roundings to float32, of an exponential, a sum, a product and the result."""

EPS = {"float32": 2.0**-23, "tf32": 2.0**-10, "bfloat16": 2.0**-7}


def expected(case: Case, machine: Machine, arrays: list[Any], dy: Any, direction: str) -> list[Any]:
    """[y], the gradients, or the updated arrays, in float64, on the machine of the arrays."""
    from handgrad.reference.adamw import adamw_update
    from handgrad.reference.table import BY_NAME

    to_host = case.on_host and machine.is_gpu
    exact = [machine.xp.asnumpy(machine.exact(a)) if to_host else machine.exact(a) for a in arrays]
    if case.op in UPDATES:
        return list(adamw_update(*exact, **case.params))
    op = BY_NAME[case.op]
    y = op.forward(*exact, **case.params)
    if direction == "forward":
        found = [y[0] if isinstance(y, tuple) else y]
    else:
        given = machine.exact(dy)
        given = machine.xp.asnumpy(given) if to_host else given
        if isinstance(y, tuple):
            given = (given, *(other * 0 for other in y[1:]))
        grads = op.vjp(given, y, *exact, **case.params)
        found = [grad for grad, a in zip(grads, arrays, strict=False) if a.dtype.kind not in "iub"]
    return [machine.xp.asarray(a) for a in found]


def error_of(what: str, machine: Machine, found: list[Any], want: list[Any]) -> float:
    """The largest relative error in the Frobenius norm; BenchError where a shape or a finite mask differs."""
    xp, worst = machine.xp, 0.0
    if len(found) != len(want):
        raise BenchError(f"{what} gives {len(found)} results, not {len(want)}")
    for k, (got, exact) in enumerate(zip(found, want, strict=True)):
        if got is None:
            raise BenchError(f"{what}: result {k} is missing")
        if tuple(got.shape) != tuple(exact.shape):
            raise BenchError(f"{what}: result {k} has shape {tuple(got.shape)}, not {tuple(exact.shape)}")
        numbers = machine.exact(got)
        finite, wanted = xp.isfinite(numbers), xp.isfinite(exact)
        if not bool((finite == wanted).all()):
            raise BenchError(f"{what}: result {k} is not finite at {int((finite != wanted).sum())} places where it should be")
        off = xp.where(wanted, numbers - exact, 0.0)
        size = float(xp.linalg.norm(xp.where(wanted, exact, 0.0).ravel()))
        worst = max(worst, float(xp.linalg.norm(off.ravel())) / (size or 1.0))
    return worst


def allowed(kind: str, longest: int, vendor: float | None) -> float:
    """1.5 times the vendor's error, and never less than ROUNDINGS halves of a unit in float32's last place.

    Without a vendor: what sums of `longest` numbers explain, 16 + 2 sqrt(longest) units of float32, and the rounding of
    inputs and result to `kind`.
    """
    if vendor is not None:
        return max(TIMES_VENDOR * vendor, ROUNDINGS * EPS["float32"] / 2)
    return EPS["float32"] * (16 + 2 * math.sqrt(longest)) + (EPS[kind] if kind != "float32" else 0.0)


def check(
    case: Case, machine: Machine, sides: list[Side], arrays: list[Any], dy: Any, direction: str
) -> tuple[dict[str, float], list[str]]:
    """(error of each side that is right, a sentence for each that is not). Vendors come first: they set the bound."""
    want = expected(case, machine, arrays, dy, direction)
    longest = max((max(a.shape, default=1) for a in arrays), default=1)
    errors: dict[str, float] = {}
    wrong: list[str] = []
    of_kind: dict[str, float] = {}
    for side in sorted(sides, key=lambda side: not side.is_vendor):
        what = f"{case.name}, {direction}: {side.name}"
        try:
            own = [a.copy() for a in arrays] if case.op in UPDATES else arrays
            run = side.start(case, own, dy, direction)
            machine.poison([(tuple(a.shape), np.float32 if case.dtype == "float32" else np.int16) for a in want])
            found = error_of(what, machine, side.results(run()), want)
        except BenchError as error:
            wrong.append(str(error))
            continue
        except Exception as error:  # a kernel that does not compile or launch must not end the others' run
            wrong.append(f"{what} failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            if not machine.works():
                raise Crashed(what) from error
            continue
        vendor = of_kind.get(side.kind) if machine.is_gpu and not side.is_vendor else None
        bound = allowed(side.kind, longest, vendor)  # a rehearsal has so few numbers that a vendor's may all be right by luck
        if found > bound and not side.is_vendor:
            beside = f", {found / of_kind[side.kind]:.3g} times the vendor's" if of_kind.get(side.kind) else ""
            wrong.append(f"{what} is off by {found:.2e} (relative, in norm{beside}); {bound:.2e} is allowed")
            continue
        if side.is_vendor:
            of_kind.setdefault(side.kind, found)
        errors[side.name] = found
    return errors, wrong
