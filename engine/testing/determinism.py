"""The same call gives the same bits: again, and with another number of threads.

A resumed run is bit-identical to an uninterrupted one only if every kernel is. What breaks that is a sum whose order
depends on who was first: threads that add into one place, or work cut by the number of threads. So the kernel runs on
arrays that are large enough for its threads, several times, with all threads and with one.

NumPy's matrix library keeps its threads here: OpenBLAS cuts long sums by their number, so that a product (the weight's
gradient in `linear`) has other last bits on one thread than on two. What runs through it is the same to the bit only for
the same number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .case import Case
from .draw import larger_sample
from .kernels import arrays_in

TRIES = 20
MOST = 60_000  # entries of an array: beyond the size from which kernels use threads
FACTORS = (10, 80)


def determinism(case: Case) -> None:
    """Raises CheckError where two runs of forward or vjp on the same arrays differ in a bit."""
    subject, op = case.subject, case.subject.op
    assert op is not None
    for _ in range(TRIES):
        sample = larger_sample(op, case.rng, MOST, FACTORS)
        if sample is not None:
            xs = tuple(np.asarray(x, np.float32) if _is_float64(x) else x for x in sample.inputs)
            if subject.kernel.accepts(*xs, **sample.params):
                break
    else:
        case.report.skip("determinism", "no larger sample that the kernel accepts was drawn")
        return
    params = dict(sample.params)
    ys = subject.forward(xs, params)
    dys = tuple(dy.astype(y.dtype) for dy, y in zip(case.cotangents(ys), ys, strict=True))

    def run() -> list[bytes]:
        found = [*subject.forward(xs, params), *subject.vjp(dys, ys, xs, params)]
        return [a.tobytes() for a in arrays_in(found)]

    first = run()
    _compare(case, first, run(), "called again", xs)
    with one_thread():
        _compare(case, first, run(), "run by one thread", xs)


def _is_float64(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == np.float64


def _compare(case: Case, first: list[bytes], again: list[bytes], how: str, xs: Any) -> None:
    for k, (a, b) in enumerate(zip(first, again, strict=True)):
        if a != b:
            shapes = ", ".join(str(np.shape(x)) for x in xs)
            case.fail(
                "determinism", f"result {k} (outputs, then gradients) has other bits when {how}, on inputs {shapes}"
            )
    case.report.add("determinism")


@contextmanager
def one_thread() -> Iterator[None]:
    """Numba's kernels on one thread."""
    import numba

    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(threads)
