"""What becomes of a mutant: the checks that it must survive, or the sentence that rejects it.

The checks are those that hold for any first derivative: finite differences (first_order), `wanted` masks, empty inputs and
stretched ones, all of them at random points; and at the row's own samples that vjp and jvp are transposes of each other.
That identity needs no neighbourhood, so it also tells right from wrong at ties, corners and infinities, where differences
say nothing.
"""

from __future__ import annotations

import warnings
import zlib
from typing import Any, cast

import numpy as np

from ...reference.op import Sample
from .arrays import inner
from .case import Case
from .first_order import first_order
from .mutants import Mutant
from .report import CheckError, Report
from .safety import wanted
from .shapes import broadcasting, zero_size
from .subject import of_row
from .wrongs import rejection

TRIES = 40
"""Random inputs that a mutant must get past to survive; all but a few are rejected on the first or second."""


def fate(mutant: Mutant) -> str | None:
    """The sentence with which the checks reject the mutant on one of TRIES random inputs, or at one of the row's own
    samples; None: it survives. The same every time."""
    words = (mutant.op.name, mutant.function, mutant.change)
    rng = np.random.default_rng([zlib.crc32(word.encode()) for word in words])
    return (
        rejection(mutant.op, mutant.vjp, rng, TRIES, (_first_order, wanted, zero_size))
        or next(filter(None, (_transposed(mutant, sample, rng) for sample in mutant.op.samples)), None)
        or rejection(mutant.op, mutant.vjp, rng, checks=(broadcasting,))
    )


def raises(sentence: str) -> bool:
    """Whether that sentence says that the mutant could not even be run: no checker is needed to find it."""
    return "the vjp raised" in sentence


def _first_order(case: Case) -> None:
    """first_order, but for a gradient that is the row's to the last bit nothing is computed: nothing could be found."""
    assert case.subject.op is not None
    xs = case.best_inputs()
    ys = case.subject.forward(xs, case.params)
    dys = case.cotangents(ys)
    right = of_row(case.subject.op).vjp(dys, ys, xs, case.params)
    try:
        found = case.subject.vjp(dys, ys, xs, case.params)
    except Exception:  # first_order makes a sentence of it
        found = ()
    if len(found) != len(right) or not all(map(_same, found, right)):
        first_order(case)


def _same(a: Any, b: Any) -> bool:
    return (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))


def _transposed(mutant: Mutant, sample: Sample, rng: np.random.Generator) -> str | None:
    """The sentence that rejects the mutant because <vjp(dy), v> is not <dy, jvp(v)> at this sample of the row, or None.

    None, too, where the row's own vjp does not pass: at a pole, or where rounding counts as the identity (astype).
    """
    op, params = mutant.op, dict(sample.params)
    case = Case(of_row(op), sample.inputs, params, rng, Report(op.name, 0), f"the row's sample {sample.why!r}")
    xs = case.at(np.float64)
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        ys = case.subject.forward(xs, params)
        dys, vs = case.cotangents(ys), case.directions(xs)
        if all(v is None for v in vs):
            return None
        want, size = inner(dys, cast(Any, case.subject.jvp)(vs, ys, xs, params))
        right, back = inner(case.subject.vjp(dys, ys, xs, params), vs)
        allowed = 64 * case.tolerance * float(np.finfo(np.float64).eps) * (size + back)
        if not abs(right - want) <= allowed < np.inf:
            return None
        try:
            found = of_row(op, mutant.vjp).vjp(dys, ys, xs, params)
            case.compare("adjoint", "<vjp(dy), v>", inner(found, vs)[0], want, allowed, " as <dy, jvp(v)>")
        except CheckError as error:
            return str(error)
        except Exception as error:
            return f"{op.name}: the vjp raised {type(error).__name__}: {error}"
    return None
