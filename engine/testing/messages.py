"""What is said to somebody who passes the wrong thing: one sentence, with the operation, the argument, got and wanted.

One input at a time is spoilt: an axis longer, missing, or one too many; integers for floating point; None. The row's
`validate` either takes it, and then forward must run, or says no with a TypeError, ValueError or IndexError.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from .case import Case

POLITE = (TypeError, ValueError, IndexError)


def messages(case: Case) -> None:
    """Raises CheckError where a mistake passes unseen until forward fails, or is answered with anything but a sentence."""
    op = case.subject.op
    if op is None:
        return
    for i, x in enumerate(case.inputs):
        if not isinstance(x, np.ndarray):
            continue
        for what, spoilt in _spoilt(x):
            inputs = tuple(spoilt if j == i else a for j, a in enumerate(case.inputs))
            _told(case, inputs, f"{case.input_name(i)} {what}", None if spoilt is None else spoilt.shape, x.shape)
    case.report.add("errors")


def _spoilt(x: np.ndarray) -> Iterator[tuple[str, Any]]:
    for axis in range(x.ndim):
        yield f"one longer along axis {axis}", np.concatenate([x, np.take(x, [-1], axis=axis)], axis) if x.size else x
        yield f"without axis {axis}", np.take(x, 0, axis=axis) if x.shape[axis] else np.sum(x, axis=axis)
    yield "with an axis more in front", x[None]
    yield "with an axis more at the end", x[..., None]
    if x.dtype.kind == "f":
        yield "of integers", np.ones(x.shape, np.int64)
    yield "None", None


def _told(case: Case, inputs: tuple[Any, ...], what: str, shape: Any, before: tuple[int, ...]) -> None:
    op = case.subject.op
    assert op is not None
    try:
        op.validate(*inputs, **case.params)
    except POLITE as error:
        sentence = str(error)
        if not sentence.startswith(f"{op.name}: ") or "\n" in sentence:
            case.fail(
                "errors", f"{what} is answered with {sentence!r}, which is no sentence that starts with {op.name!r}"
            )
        if shape is not None and shape != before and str(tuple(shape)) not in sentence:
            case.fail("errors", f"{what} is answered with {sentence!r}, which does not say the shape {shape}")
        return
    except Exception as error:
        case.fail("errors", f"{what} is answered with {type(error).__name__}: {error}, and not with a sentence")
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            op.forward(*inputs, **case.params)
    except Exception as error:
        if type(error) is IndexError and any(isinstance(x, np.ndarray) and x.dtype.kind in "iu" for x in case.inputs):
            return  # ids beyond the end: validate sees shapes and dtypes, and not the numbers
        case.fail("errors", f"{what} passes validate, but then forward raises {type(error).__name__}: {error}")
