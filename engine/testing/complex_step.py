r"""Derivatives without a step that is too large or too small: one evaluation at a complex point.

Where f is analytic, its Taylor series holds in the complex plane,

    f(x + i h v) = f(x) + i h f'(x) v - h^2/2 f''(x) v^2 - ...

so Im f(x + i h v) / h = f'(x) v - O(h^2), and nothing was subtracted from anything: h may be so small (1e-120) that h^2
vanishes altogether. What remains is f's own rounding. Finite differences lose digits to the step from both sides; this loses
none, and sees errors in the last ones (Squire and Trapp 1998, SIAM Review 40(1); Lyness and Moler 1967).

A formula is analytic as it stands where complex numbers mean to it what real ones do. NumPy orders complex numbers by
their real parts first, so comparisons, `where` and max choose the same branch as on the real line; abs does not, nor does
a cast to real numbers. A row whose forward counts on those says analytic=False.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import JITTERS, inner, jitter, largest, unseen
from .case import Case
from .first_order import gradient

STEP = 2.0**-400
EPS = float(np.finfo(np.float64).eps)


def complex_step(case: Case) -> None:
    """jvp and vjp against Im forward(x + i h v) / h, in float64: exact but for rounding."""
    subject, op = case.subject, case.subject.op
    if op is None or subject.jvp is None or subject.kernel is not None:
        return
    if not op.analytic:
        case.report.skip("complex step", "forward on complex numbers is not its analytic continuation")
        return
    xs, vs = case.inputs, case.directions(case.inputs)
    if all(v is None or v.size == 0 for v in vs):
        case.report.skip("complex step", "nothing to differentiate by")
        return
    ys = subject.forward(xs, case.params)
    dys = case.cotangents(ys)
    pushed, dxs = subject.jvp(vs, ys, xs, case.params), gradient(case, dys, ys, xs)
    exact = _along(case, xs, vs)
    again = [_along(case, tuple(jitter(x, EPS, case.rng) for x in xs), vs) for _ in range(JITTERS)]
    size, limits = max(unseen(xs), largest(*ys)), []
    for k, (want, got) in enumerate(zip(exact, pushed, strict=True)):
        spread = max((largest(np.abs(other[k] - want)) for other in again), default=0.0)
        limits.append(case.tolerance * EPS * max(largest(want), size) + 8 * spread)
        what = "jvp(v) for a random direction v" + (f", {op.output_name(k)}," if len(exact) > 1 else "")
        case.compare("complex step", what, got, want, limits[-1], " by a complex step")
    got, back = inner(dxs, vs)
    want, on = inner(dys, exact)
    terms = 16 + sum(np.size(a) for a in (*xs, *ys))
    allowed = terms * EPS * (back + on) + inner([np.abs(dy) for dy in dys], map(np.full_like, exact, limits))[0]
    case.compare("complex step", "<vjp(dy), v> for a random direction v", got, want, allowed, " by a complex step")


def _along(case: Case, xs: Any, vs: Any) -> tuple[np.ndarray, ...]:
    """The derivative of every output along vs."""
    points = tuple(x if v is None else x + STEP * 1j * v for x, v in zip(xs, vs, strict=True))
    found = []
    for k, y in enumerate(case.subject.forward(points, case.params)):
        if y.dtype.kind != "c":
            case.fail(
                "complex step", f"output {k} is {y.dtype.name} for complex inputs; if forward is not analytic, say so"
            )
        found.append(y.imag / STEP)
    return tuple(found)
