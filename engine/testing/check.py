"""check_op: the property-based gradient test, for rows, kernels, and anybody's own functions.

    from handgrad.engine.testing import check_op

    check_op(SOFTMAX)                                            # a row: inputs are drawn
    check_op(SOFTMAX, kernel=pair)                               # a kernel pair against the row's formula
    check_op(f, inputs=(x,), vjp=f_vjp)                          # two functions on NumPy arrays
    check_op(f, inputs=(x,), vjp=f_vjp, convert=torch.tensor)    # ... on PyTorch's
    check_op(f, inputs=(x,))                                     # a function of handgrad Tensors

The checks, each in the module that explains it: first_order (shapes, vjp and jvp against finite differences, adjoint),
complex_step, second_order, safety (mutation, second call, strides, reads, float32, wanted, standing still), shapes (zero
size, broadcasting, used twice), messages (errors), kernels (agreement, residuals, into, unused outputs, nan),
determinism, laws. properties and strategies search for counterexamples with hypothesis.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...reference.op import Op, Sample
from . import kernels, safety, shapes
from .arrays import JITTERS, jitter
from .case import Case
from .complex_step import complex_step
from .determinism import determinism
from .differences import Redraw
from .draw import larger_sample, random_sample
from .first_order import first_order
from .laws import check_law
from .messages import messages
from .report import Report
from .second_order import second_order
from .subject import Subject, of_functions, of_kernel, of_row, of_tensors

REDRAWS = 8
KERNEL_REDRAWS = 500  # a kernel may accept few of the inputs that a row allows


def check_op(
    operation: Op | Callable[..., Any],
    inputs: tuple[Any, ...] | None = None,
    params: Mapping[str, Any] | None = None,
    *,
    vjp: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    kernel: Any = None,
    kernel_name: str = "kernel",
    samples: int = 5,
    seed: int = 0,
    only: int | None = None,
    convert: Callable[[np.ndarray], Any] | None = None,
    nondiff: tuple[int, ...] = (),
    skip: tuple[str, ...] = (),
    name: str | None = None,
) -> Report:
    """Checks an operation's gradients in float64 at random points; returns a Report, or raises CheckError.

    operation: a row; or forward(*inputs, **params) -> y or a tuple of them. inputs: float arrays are what derivatives are
    taken by; drawn for a row where left out, otherwise required. vjp(dy, y, *inputs, **params) -> one entry an input: an
    array, or None; without it `operation` is a function of handgrad Tensors and its backward pass is checked.
    jvp(dinputs, y, inputs, **params) -> dy, with tuples. kernel: a pair with forward, vjp and accepts, checked against
    the row. samples: how many points (or how many random directions at the given one). seed, only: what a failure's
    sentence says to repeat it. convert: makes the operation's own arrays from NumPy's. nondiff: positions of inputs
    without a gradient (integer and boolean ones are left out by themselves). skip: names of checks to leave out.

    Raises CheckError (an AssertionError) with one sentence; Inconclusive, a CheckError too, where a check's own error
    estimate stays too large to decide; TypeError or ValueError for arguments that do not go together.
    """
    subject = _subject(operation, vjp, jvp, kernel, kernel_name, convert, nondiff, name)
    if subject.op is None and inputs is None:
        raise ValueError(f"check_op: {subject.name} is a function, so say at which inputs to check it")
    report = Report(subject.name, seed)
    idle: set[str] | None = None
    for k in range(samples) if only is None else (only,):
        needless = _sample(subject, inputs, params, seed, k, report, skip)
        idle = needless if idle is None else idle & needless
    if subject.op is not None and inputs is None and only is None:
        for number in range(len(subject.op.samples)):
            row_sample(subject, number, report, seed)
    if idle and samples > 2 and only is None:
        names = ", ".join(sorted(idle))
        report.warnings.append(f"{subject.name} declares under `reads` what its vjp never needed here: {names}")
    return report


def _subject(
    operation: Any, vjp: Any, jvp: Any, kernel: Any, kernel_name: str, convert: Any, nondiff: tuple[int, ...], name: Any
) -> Subject:
    if isinstance(operation, Op):
        return of_row(operation, vjp) if kernel is None else of_kernel(operation, kernel, kernel_name)
    if not callable(operation):
        raise TypeError(f"check_op: got a {type(operation).__name__}, but it takes an Op or a function")
    if kernel is not None:
        raise TypeError("check_op: a kernel is checked against a row, so pass the Op with it")
    name = name or getattr(operation, "__name__", "operation")
    if vjp is None:
        return of_tensors(name, operation, nondiff)
    return of_functions(name, operation, vjp, jvp, convert, nondiff)


def _sample(
    subject: Subject, inputs: Any, params: Any, seed: int, k: int, report: Report, skip: tuple[str, ...]
) -> set[str]:
    """All checks at one point. Where one cannot conclude there, another point (or other directions) is drawn."""
    why, case = Redraw(""), None
    redraws = REDRAWS if subject.kernel is None else KERNEL_REDRAWS
    for attempt in range(redraws):
        rng = np.random.default_rng([seed, k, attempt])
        if inputs is None:
            assert subject.op is not None
            sample = random_sample(subject.op, rng)
        else:
            sample = Sample(tuple(_wide(x) for x in inputs), params or {}, "given")
        repeat = f"check_op({subject.name}, ..., seed={seed}, only={k})"
        case = Case(subject, sample.inputs, dict(sample.params), rng, report, repeat)
        try:
            return run_checks(case, skip)
        except Redraw as reason:
            why = reason
            if subject.kernel is None:
                report.redrawn.append(str(reason))
    assert case is not None
    case.inconclusive(str(why).split(":")[0], f"{redraws} draws in a row could not conclude; the last said: {why}")


def _wide(x: Any) -> Any:
    """Given inputs in float64, where the checks are made."""
    if hasattr(x, "detach") or hasattr(x, "__array__"):
        x = np.asarray(x.detach() if hasattr(x, "detach") else x)
        return x.astype(np.float64) if x.dtype.kind == "f" else x
    return np.asarray(x, np.float64) if isinstance(x, list) else x


def run_checks(case: Case, skip: tuple[str, ...] = ()) -> set[str]:
    """Every check that applies to this case; returns the declared reads that were not needed."""
    kernel = case.subject.kernel
    if kernel is not None and not kernel.accepts(*case.inputs, **case.params):
        raise Redraw("agreement: the kernel does not accept the inputs that were drawn")
    with np.errstate(all="ignore"):
        for name, check in _checks(case).items():
            if name not in skip:
                check(case)
        if case.subject.op is not None and "laws" not in skip:
            for law in case.subject.op.laws:
                check_law(case, law)
        if case.subject.kernel is not None or case.subject.op is None or "reads" in skip:
            return set()
        return safety.reads(case)


def _checks(case: Case) -> dict[str, Callable[[Case], Any]]:
    common: dict[str, Callable[[Case], Any]] = {
        "mutation": safety.purity,
        "strides": safety.strides,
        "float32": safety.dtypes,
        "wanted": safety.wanted,
        "zero size": shapes.zero_size,
    }
    if case.subject.kernel is not None:
        return {
            "agreement": _agreement, "contract": kernels.contract, "nan": kernels.nan, "determinism": determinism,
            **common,
        }  # fmt: skip
    checks: dict[str, Callable[[Case], Any]] = {"vjp": first_order, "second order": second_order, **common}
    if case.subject.op is not None:
        checks = {
            "definition": against_definition, **checks, "complex step": complex_step,
            "standing still": safety.standing_still, "broadcasting": shapes.broadcasting,
            "used twice": shapes.used_twice, "errors": messages,
        }  # fmt: skip
    return checks


def row_sample(subject: Subject, number: int, report: Report, seed: int = 0) -> None:
    """One of the row's own samples: the formula against the definition, a kernel against the formula.

    Samples may lie on kinks and at infinities, where finite differences say nothing.
    """
    assert subject.op is not None
    sample = subject.op.samples[number]
    rng = np.random.default_rng([seed, 10_000 + number])
    case = Case(subject, sample.inputs, dict(sample.params), rng, report, f"the row's sample {sample.why!r}")
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's "mean of empty slice" is the answer, NaN
        if subject.kernel is None:
            against_definition(case)
        else:
            for dtype in (np.float64, np.float32):
                kernels.agreement(case, dtype)


def against_definition(case: Case) -> None:
    """y in float64 against the row's definition: the textbook in plain loops over scalars."""
    op = case.subject.op
    assert op is not None
    with np.errstate(all="ignore"):
        want = op.definition(*case.inputs, **case.params)
        got = case.subject.forward(case.inputs, case.params)
        eps = float(np.finfo(np.float64).eps)
        moved = [tuple(jitter(x, eps, case.rng) for x in case.inputs) for _ in range(JITTERS)]
        again = [case.subject.forward(inputs, case.params) for inputs in moved]
    want = want if isinstance(want, tuple) else (want,)
    for k, (y, textbook, allowed) in enumerate(zip(got, want, case.limit(got, again), strict=True)):
        case.compare("definition", op.output_name(k), y, textbook, allowed, " by the definition")


def _agreement(case: Case) -> None:
    """At the small sample and at a larger one, in both precisions; float64 against finite differences as well."""
    assert case.subject.op is not None
    for dtype in (np.float64, np.float32):
        kernels.agreement(case, dtype)
    for _ in range(KERNEL_REDRAWS):
        large = larger_sample(case.subject.op, case.rng)
        if large is not None and case.subject.kernel.accepts(*large.inputs, **large.params):
            for dtype in (np.float64, np.float32):
                kernels.agreement(replace(case, inputs=large.inputs, params=dict(large.params)), dtype)
            break
    first_order(case)
