"""Hypothesis strategies from rows: `samples` draws inputs and parameters, `examples` puts them into strange memory too.

    from hypothesis import given
    from handgrad.engine.testing.strategies import examples, samples

    @given(examples(SOFTMAX))
    def test_softmax(example):
        holds(of_row(SOFTMAX), example)

A row with a `draw` of its own is driven through `Choices`, which looks like a numpy.random.Generator: its small decisions
(how many axes, which parameter) are hypothesis's, so that a failure shrinks; the numbers that fill arrays come from NumPy.
A row with a plain signature gets its lengths, zero among them where the row has an answer, leading axes that broadcast,
and its optional inputs or not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from ...reference.op import Op, Sample
from .draw import enlarged, numbers, plainer
from .example import CHANGES, Example
from .layouts import LAYOUTS

try:
    from hypothesis import strategies as st
except ImportError:
    raise ImportError(
        "strategies: hypothesis is not installed, and it draws the examples: pip install hypothesis"
    ) from None

FEW = 6  # so many numbers are decisions, more are bulk
DECISIONS = 40  # at most, for one sample
LONGEST = 6  # length of an axis that a signature names
MOST = 2000  # entries of an array that was enlarged for a kernel's vector lanes


class Choices:
    """What a row's `draw` takes for a Generator: integers, random and choice ask hypothesis, the rest NumPy's own."""

    def __init__(self, draw: Any) -> None:
        self._draw, self._left = draw, DECISIONS
        self.bulk = np.random.default_rng(draw(st.integers(0, 2**16 - 1)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bulk, name)

    def _decide(self, first: int, last: int) -> int:
        """An integer from first to last; after many of them NumPy's, so that a draw that tries until it fits ends."""
        self._left -= 1
        return self._draw(st.integers(first, last)) if self._left >= 0 else int(self.bulk.integers(first, last + 1))

    def integers(self, low: Any, high: Any = None, size: Any = None, **more: Any) -> Any:
        """As Generator.integers; few of them are drawn one by one."""
        shape = () if size is None or np.size(size) == 0 else tuple(int(n) for n in np.atleast_1d(size))
        ends = (0, low) if high is None else (low, high)
        if (
            more
            or prod(shape) > FEW
            or not all(isinstance(end, (int, np.integer)) and ends[0] < ends[1] for end in ends)
        ):
            return self.bulk.integers(low, high, size, **more)
        numbers = [np.int64(self._decide(int(ends[0]), int(ends[1]) - 1)) for _ in range(prod(shape))]
        return numbers[0] if size is None else np.array(numbers, np.int64).reshape(shape)

    def random(self, size: Any = None) -> Any:
        """As Generator.random; one alone is a decision, in sixteenths."""
        return self._decide(0, 15) / 16 if size is None else self.bulk.random(size)

    def choice(self, a: Any, size: Any = None, **more: Any) -> Any:
        """As Generator.choice; one alone is a decision."""
        if size is not None or more:
            return self.bulk.choice(a, size, **more)
        values = np.arange(a) if np.ndim(a) == 0 else np.asarray(a)
        return values[self._decide(0, len(values) - 1)]


@st.composite
def samples(draw: Any, op: Op) -> Sample:
    """A Sample of the row, in float64 and inside its domain."""
    choices = Choices(draw)
    if op.draw is not None:
        return op.draw(choices)  # type: ignore[arg-type]
    signature = op.signature_for()
    if signature is None:
        raise ValueError(f"{op.name}: the row has neither a draw function nor a signature to draw shapes from")
    lengths = {
        letter: draw(st.integers(0 if _may_be_empty(op, letter) else 1, LONGEST)) for letter in signature.letters()
    }
    batch = tuple(draw(st.integers(0, 4)) for _ in range(draw(st.integers(0, 2))))
    several = sum(term.ellipsis for term in signature.inputs) > 1
    inputs: list[Any] = []
    for name, term, shape in zip(op.inputs, signature.inputs, signature.shapes(lengths, batch), strict=False):
        if term.optional and draw(st.booleans()):
            break
        if several and term.ellipsis and batch and _broadcasts(op):
            shape = _stretchable(draw, shape, len(batch))
        inputs.append(np.asarray(numbers(op.domain.get(name, "real"), term, shape, lengths, choices.bulk)))
    return Sample(tuple(inputs), {}, "drawn")


def _stretchable(draw: Any, shape: tuple[int, ...], lead: int) -> tuple[int, ...]:
    """Some leading axes of length one, or left out."""
    code = draw(st.integers(0, 3**lead - 1))
    left_out = draw(st.integers(0, lead)) if code else 0
    kept = [1 if code // 3**axis % 3 == 2 else shape[axis] for axis in range(lead)]
    return (*kept[left_out:], *shape[lead:])


@lru_cache(maxsize=1024)
def _may_be_empty(op: Op, letter: str) -> bool:
    """Whether the row and its definition have an answer where that axis has no entries."""
    signature = op.signature_for()
    assert signature is not None
    lengths = {other: 0 if other == letter else 2 for other in signature.letters()}
    rng = np.random.default_rng(0)
    shapes = signature.shapes(lengths, ())
    inputs = [
        numbers(op.domain.get(name, "real"), term, shape, lengths, rng)
        for name, term, shape in zip(op.inputs, signature.inputs, shapes, strict=False)
    ]
    try:
        op.validate(*inputs)
        with np.errstate(all="ignore"):
            op.definition(*inputs)
            op.forward(*inputs)
    except (ValueError, IndexError, TypeError, ZeroDivisionError):
        return False
    return True


@lru_cache(maxsize=1024)
def _broadcasts(op: Op) -> bool:
    """Whether the row lets leading axes broadcast."""
    signature = op.signature_for()
    assert signature is not None
    lengths = dict.fromkeys(signature.letters(), 2)
    shapes = signature.shapes(lengths, (2,))
    first = next(i for i, term in enumerate(signature.inputs) if term.ellipsis)
    shapes[first] = (1, *shapes[first][1:])
    inputs = [
        np.asarray(numbers("real", term, s, lengths, np.random.default_rng(0)))
        for term, s in zip(signature.inputs, shapes, strict=True)
    ]
    try:
        op.validate(*inputs)
    except (ValueError, TypeError):
        return False
    return True


@st.composite
def examples(draw: Any, op: Op, accepts: Callable[..., bool] | None = None) -> Example:
    """An Example of the row. accepts: that of a kernel. What it does not accept is made plainer, and some examples get axes
    many times as long, for vector lanes and tiles."""
    sample, seed = draw(samples(op)), draw(st.integers(0, 2**16 - 1))
    if accepts is not None:
        if not accepts(*sample.inputs, **sample.params):
            sample = plainer(op, sample) or sample
        if draw(st.booleans()):
            factor = draw(st.integers(2, 40))
            sample = enlarged(op, sample, factor, np.random.default_rng(seed), MOST) or sample
    n = len(sample.inputs)
    kind = draw(st.integers(0, 2 * len(CHANGES)))  # half of them ordinary
    return Example(
        sample,
        dtype=draw(st.sampled_from(("float64", "float32"))),
        layouts=tuple(draw(_LAYOUTS) if isinstance(x, np.ndarray) else "" for x in sample.inputs),
        frozen=draw(st.booleans()),
        change=CHANGES[kind - len(CHANGES) - 1] if kind > len(CHANGES) else "",
        at=draw(st.sampled_from((None, *range(n)))) if kind > len(CHANGES) and n > 1 else None,
        seed=seed,
    )


_LAYOUTS = st.sampled_from(("", "", *LAYOUTS))
