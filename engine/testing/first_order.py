r"""Is the gradient right? Against finite differences along random directions, and against its own transpose.

For a random direction v and a random cotangent w (never all ones: the gradient of softmax(x).sum() is zero, and a test on
it compares zeros) the number

    d/dt <w, f(x + t v)>  =  <w, J v>  =  <J^T w, v>

can be had three ways: by finite differences of f, from the jvp (J v) and from the vjp (J^T w). A wrong J^T w differs from
the right one by some vector, and a random v is orthogonal to that vector with probability zero; so one number tests the
whole gradient (HIPS autograd, test_util.py). The direction moves one input at a time and then all together, so that a
large gradient of one input cannot hide a wrong one of another. That jvp and vjp are transposes,

    <w, jvp(v)> = <vjp(w), v>,

holds to rounding, needs no step and sees what finite differences cannot: errors far below their estimate (Griewank and
Walther: Evaluating Derivatives, 2nd ed., section 3.3; Claerbout: "dot-product test").
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import JITTERS, inner, jitter, largest, unseen
from .case import Case
from .differences import Redraw, slope


def first_order(case: Case) -> None:
    """shapes, vjp, jvp and adjoint at the case's point. Raises CheckError, or Redraw where it could not conclude."""
    xs = case.best_inputs()
    ys = case.subject.forward(xs, case.params)
    dys = case.cotangents(ys)
    dxs = gradient(case, dys, ys, xs)
    shapes(case, dxs, xs)
    vs = case.directions(xs)
    moving = [i for i, v in enumerate(vs) if v is not None and v.size]
    if not moving or all(y.size == 0 for y in ys):
        case.report.skip("vjp", "nothing to differentiate by")
        return
    groups = [moving] if len(moving) == 1 else [*[[i] for i in moving], moving]
    for group in groups:
        _along(case, xs, ys, dys, dxs, tuple(v if i in group else None for i, v in enumerate(vs)), group)
    if case.subject.jvp is not None:
        _adjoint(case, xs, ys, dys, dxs, vs)


def gradient(case: Case, dys: Any, ys: Any, xs: Any) -> tuple[Any, ...]:
    """vjp at a point, in the point's precision, or in float64 where it cannot do better."""
    try:
        return case.subject.vjp(dys, ys, xs, case.params)
    except Redraw:
        raise
    except Exception as error:
        problem = error
    if case.precise:  # perhaps longdouble is more than it can do
        down = [tuple(np.asarray(a, np.float64) for a in values) for values in (dys, ys)]
        try:
            return case.subject.vjp(*down, case.at(np.float64), case.params)
        except Exception as error:
            problem = error
    case.fail("shapes", f"the vjp raised {type(problem).__name__}: {problem}")


def shapes(case: Case, dxs: Any, xs: Any, check: str = "shapes") -> None:
    """One entry an input: an array of the input's shape, or None where there is no gradient."""
    if len(dxs) != len(xs):
        case.fail(check, f"the vjp returned {len(dxs)} entries, but there are {len(xs)} inputs")
    for i, (dx, x, wanted) in enumerate(zip(dxs, xs, case.differentiable, strict=True)):
        name = case.input_name(i)
        if not wanted and dx is not None:
            case.fail(
                "nondifferentiable", f"{name} has no gradient, but the vjp returned an array instead of None for it"
            )
        if not wanted:
            continue
        if dx is None:
            case.fail(check, f"the gradient of {name} is None, but it must be an array of shape {x.shape}")
        elif dx.shape != x.shape:
            case.fail(check, f"the gradient of {name} has shape {dx.shape}, but {name} has shape {x.shape}")
    case.report.add(check)
    if not all(case.differentiable):
        case.report.add("nondifferentiable")


def _along(case: Case, xs: Any, ys: Any, dys: Any, dxs: Any, vs: Any, group: list[int]) -> None:
    def forward(point: list[Any]) -> tuple[Any, ...]:
        return case.subject.forward(tuple(point), case.params)

    want, allowed, found = slope(forward, xs, vs, dys, case.rng, "vjp")
    got, size = inner(dxs, vs)
    slack = rounding(case, dys, ys, xs, dxs, vs) + _terms(xs) * _eps(dxs) * size
    names = " and ".join(case.input_name(i) for i in group)
    case.compare("vjp", f"<vjp(dy), v> for a random direction v of {names}", got, want, allowed + slack,
                 " by finite differences")  # fmt: skip
    if case.subject.jvp is None:
        return
    try:
        pushed = case.subject.jvp(full(vs, xs, case.differentiable), ys, xs, case.params)
    except Exception as error:
        case.fail("jvp", f"the jvp raised {type(error).__name__}: {error}")
    for k, (dy, y, (want_dy, error)) in enumerate(zip(pushed, ys, found, strict=True)):
        limit = error + _terms(xs) * _eps([dy]) * (largest(want_dy) + largest(y) + unseen(xs))
        what = f"jvp(v) for a random direction v of {names}" + (f", output {k}," if len(pushed) > 1 else "")
        case.compare("jvp", what, dy, want_dy, limit, " by finite differences")


def _adjoint(case: Case, xs: Any, ys: Any, dys: Any, dxs: Any, vs: Any) -> None:
    assert case.subject.jvp is not None
    pushed = case.subject.jvp(vs, ys, xs, case.params)
    got, size_back = inner(dxs, vs)
    want, size_on = inner(dys, pushed)
    allowed = _terms(xs, ys) * max(_eps(dxs), _eps(pushed)) * (size_back + size_on)
    allowed += (
        16 * max(_eps(dxs), _eps(pushed)) * inner([np.abs(dy) for dy in dys], [np.abs(y) + unseen(xs) for y in ys])[0]
    )
    allowed += 2 * rounding(case, dys, ys, xs, dxs, vs)
    case.compare("adjoint", "<vjp(dy), v>", got, want, allowed, " as <dy, jvp(v)>")


def full(vs: Any, xs: Any, differentiable: Any) -> tuple[Any, ...]:
    """Zeros for the differentiable inputs that stand still, None for those that have no direction."""
    return tuple(
        np.zeros_like(x) if v is None and flag else v for v, x, flag in zip(vs, xs, differentiable, strict=True)
    )


def rounding(case: Case, dys: Any, ys: Any, xs: Any, dxs: Any, vs: Any) -> Any:
    """How far <vjp(dy), v> moves when dy, y and x are each rounded differently: what the vjp itself may lose."""
    eps, spread = _eps(dxs), np.longdouble(0)
    base = inner(dxs, vs)[0]
    for _ in range(JITTERS):
        moved = [tuple(jitter(a, eps, case.rng) for a in values) for values in (dys, ys, xs)]
        with np.errstate(all="ignore"):
            spread = max(spread, abs(inner(gradient(case, *moved), vs)[0] - base))
    return 8 * spread


def _eps(arrays: Any) -> float:
    return max((float(np.finfo(a.dtype).eps) for a in arrays if a is not None and a.dtype.kind == "f"), default=0.0)


def _terms(*groups: Any) -> int:
    """Terms in the inner products: the rounding error of a sum of n terms is below n eps times their magnitudes."""
    return 16 + sum(np.size(a) for arrays in groups for a in arrays)
