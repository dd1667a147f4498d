"""What must hold for every example, however strange: the body of the search for counterexamples.

`check_op` looks closely at few points; `holds` looks quickly at one, and hypothesis (strategies.py) calls it with
thousands: empty axes, other memory, float32, one NaN, numbers near the ends of the range. A failing example shrinks to a
small one, which tests/rows/test_properties.py then keeps for ever.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import as_array, cast, inner, unseen
from .case import Case
from .example import Example
from .kernels import agreement
from .report import Report
from .safety import same
from .subject import Subject, of_row

JITTERS = 2
STEP = 2.0**-9  # of the central differences: their truncation error is about 1e-6 of a third derivative
EPS = float(np.finfo(np.float64).eps)


def holds(subject: Subject, example: Example) -> None:
    """Raises CheckError unless a row's formula (of_row) or kernel (of_kernel) keeps every promise at this example.

    Says nothing where a kernel does not accept the arrays: ask `accepts` first.
    """
    op = subject.op
    assert op is not None
    xs, params = example.arrays(op), dict(example.sample.params)
    if subject.kernel is not None and not subject.kernel.accepts(*xs, **params):
        return
    rng = np.random.default_rng(example.seed)
    wide = tuple(cast(x, np.float64) for x in xs)
    case = Case(subject, wide, params, rng, Report(op.name, example.seed), f"holds({subject.name}, {example!r})")
    before = [x.copy() if isinstance(x, np.ndarray) else x for x in xs]
    with np.errstate(all="ignore"):
        ys = subject.forward(xs, params)
        ys = tuple(y.copy() for y in ys)
        dys = case.cotangents(ys)
        dxs = tuple(None if dx is None else dx.copy() for dx in subject.vjp(dys, ys, xs, params))
        _unchanged(case, xs, before)
        _same_again(case, xs, ys, dys, dxs)
        if example.change:
            _strange(case, example, xs, ys, dys, dxs)
        else:
            _ordinary(case, example, xs)


def _unchanged(case: Case, xs: Any, before: Any) -> None:
    for i, (x, old) in enumerate(zip(xs, before, strict=True)):
        if isinstance(x, np.ndarray) and x.tobytes() != old.tobytes():
            case.fail("mutation", f"{case.input_name(i)} was changed, but it may only be read")


def _same_again(case: Case, xs: Any, ys: Any, dys: Any, dxs: Any) -> None:
    for what, first, again in (
        ("forward", ys, case.subject.forward(xs, case.params)),
        ("the vjp", dxs, case.subject.vjp(dys, ys, xs, case.params)),
    ):
        for a, b in zip(first, again, strict=True):
            if a is not None and not same(a, b):
                case.fail("second call", f"{what} gave other bits when called again with the same arguments")


# ---- ordinary numbers: right


def _ordinary(case: Case, example: Example, xs: Any) -> None:
    if "dtype" not in case.params:
        agreement(case, example.dtype, xs, JITTERS)
    if case.subject.kernel is None:
        exact = tuple(cast(x, np.longdouble) for x in xs)
        _defined(case, xs)
        if case.differentiable and any(case.differentiable):
            _transposed(case, exact, "zero strides" not in example.layouts)


def _defined(case: Case, xs: Any) -> None:
    """Forward in float64 against the definition."""
    op = case.subject.op
    assert op is not None
    wide = tuple(cast(x, np.float64) for x in xs)
    got = case.subject.forward(wide, case.params)
    exact = case.subject.forward(tuple(cast(x, np.longdouble) for x in xs), case.params)
    spread = [
        np.abs(y - as_array(e).astype(y.dtype)) if y.dtype.kind == "f" else 0 for y, e in zip(got, exact, strict=True)
    ]
    for k, (y, textbook) in enumerate(zip(got, _textbook(case, xs), strict=False)):
        allowed = case.limit([y], [])[0] + 8 * float(np.max(spread[k], initial=0.0))
        case.compare("definition", op.output_name(k), y, textbook, allowed, " by the definition")


def _transposed(case: Case, xs: Any, smooth: bool) -> None:
    """In longdouble: <vjp(w), v> = <w, jvp(v)> = the central difference of <w, f> along v.

    The adjoint may lose what float64 would lose: longdouble loses a two-thousandth of it, a wrong formula far more.
    """
    subject, params = case.subject, case.params
    assert subject.jvp is not None
    ys = subject.forward(xs, params)
    if any(y.dtype.kind != "f" or not np.all(np.isfinite(y)) for y in ys):
        return
    dys, vs = case.cotangents(ys), case.directions(xs)
    dxs, pushed = subject.vjp(dys, ys, xs, params), subject.jvp(vs, ys, xs, params)
    (got, back), (want, on) = inner(dxs, vs), inner(dys, pushed)
    sizes = inner([np.abs(dy) for dy in dys], [np.abs(y) + unseen(xs) for y in ys])[0]
    terms = case.tolerance + sum(np.size(a) for a in (*xs, *ys))
    allowed = terms * EPS * (back + on + sizes)
    case.compare("adjoint", "<vjp(w), v>", got, want, allowed, " as <w, jvp(v)>")
    if not smooth or any(y.dtype != np.longdouble for y in ys):
        return

    def difference(h: float) -> Any:
        up, down = (
            subject.forward(tuple(x if v is None else x + t * v for x, v in zip(xs, vs, strict=True)), params)
            for t in (np.longdouble(h), np.longdouble(-h))
        )
        return inner(dys, [(a - b) / np.longdouble(2 * h) for a, b in zip(up, down, strict=True)])[0]

    coarse, fine = difference(STEP), difference(STEP / 2)
    allowed = 4 * abs(fine - coarse) + allowed
    if np.isfinite(allowed):
        case.compare("difference", "<w, jvp(v)>", want, fine, allowed, " by a central difference")


# ---- strange numbers: no exception, and no nonsense


def _strange(case: Case, example: Example, xs: Any, ys: Any, dys: Any, dxs: Any) -> None:
    """Non-finite where they must be, and nowhere else.

    A kernel is finite where its formula is; a formula where it is in longdouble and, for huge and tiny numbers, where
    the definition is, if the result fits. A NaN in the inputs shows wherever the definition says so (and, for a kernel,
    the formula too).
    """
    op, row = case.subject.op, of_row(case.subject.op)  # type: ignore[arg-type]
    assert op is not None
    if "dtype" in case.params:
        return
    textbook, scaled = _textbook(case, xs), example.change in ("huge", "tiny")
    if case.subject.kernel is not None:
        rivals = row.forward(xs, case.params)
        _no_worse(case, ys, rivals, "the output", op.output_name)
        if scaled:  # beside a NaN, what is multiplied by zero and what is left out is the kernel's choice
            _no_worse(case, dxs, row.vjp(dys, rivals, xs, case.params), "the gradient of", case.input_name)
        must = rivals
    else:
        better = row.forward(tuple(cast(x, np.longdouble) for x in xs), case.params)
        _no_worse(case, ys, [cast(y, np.dtype(example.dtype)) for y in better], "the output", op.output_name)
        if scaled:
            _no_worse(case, ys, textbook, "the output", op.output_name)
        must = textbook
    if example.change != "nan":
        return  # inf - inf is NaN in one way of writing a formula and not in another
    for k, (y, a, b) in enumerate(zip(ys, must, textbook, strict=False)):
        if y.dtype.kind == "f" and np.any(np.isnan(a) & np.isnan(b) & ~np.isnan(y)):
            case.fail("nan", f"{op.output_name(k)} is not NaN where the definition is")


def _textbook(case: Case, xs: Any) -> tuple[Any, ...]:
    """The definition in float64; nothing where plain Python's mathematics stops (at the logarithm of 0, say)."""
    op = case.subject.op
    assert op is not None
    try:
        ys = op.definition(*(cast(x, np.float64) for x in xs), **case.params)
    except (ValueError, OverflowError, ZeroDivisionError):
        return ()
    return ys if isinstance(ys, tuple) else (ys,)


def _no_worse(case: Case, got: Any, rivals: Any, what: str, name: Any) -> None:
    """Finite where a rival is finite and fits. Not where it is zero: inf times zero, in a product of many, is no mistake."""
    for k, (a, b) in enumerate(zip(got, rivals, strict=False)):
        if a is None or b is None or a.dtype.kind != "f":
            continue
        bad = (b != 0) & (np.abs(b) < np.finfo(a.dtype).max * 2.0**-10) & ~np.isfinite(a)
        if np.any(bad):
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            sentence = f"{what} {name(k)} at {at} is {float(a[at])}, but {float(b[at]):.6g} is wanted"
            case.fail("strange numbers", sentence)
