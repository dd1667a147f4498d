"""Random inputs for a row: its own `draw`, or shapes from its signature and numbers from its domain."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from ...reference.op import Op, Sample
from ...reference.signature import Signature, Term


def random_sample(op: Op, rng: np.random.Generator) -> Sample:
    """A random Sample of a row, in float64, inside its domain. Every letter is 1 to 5, an ellipsis 0 to 2 axes.

    Raises ValueError for a row with neither `draw` nor a fixed signature.
    """
    if op.draw is not None:
        return op.draw(rng)
    signature = op.signature_for()
    if signature is None:
        raise ValueError(f"{op.name}: the row has neither a draw function nor a signature to draw shapes from")
    lengths = {letter: int(rng.integers(1, 6)) for letter in signature.letters()}
    batch = tuple(int(n) for n in rng.integers(1, 5, size=rng.integers(0, 3)))
    return Sample(signature_inputs(op, signature, lengths, batch, rng), {}, "random")


def signature_inputs(
    op: Op, signature: Signature, lengths: dict[str, int], batch: tuple[int, ...], rng: np.random.Generator
) -> tuple[Any, ...]:
    """Inputs of the shapes that a signature gives for these lengths; an optional input is left out half the time."""
    inputs = []
    for name, term, shape in zip(op.inputs, signature.inputs, signature.shapes(lengths, batch), strict=False):
        if term.optional and rng.random() < 0.5:
            break
        inputs.append(np.asarray(numbers(op.domain.get(name, "real"), term, shape, lengths, rng)))
    return tuple(inputs)


def numbers(
    domain: str, term: Term | None, shape: tuple[int, ...], lengths: dict[str, int], rng: np.random.Generator
) -> Any:
    """An array of `shape` inside `domain`, in the words of Op.domain."""
    kind = term.kind if term is not None else "float"
    if domain == "mask" or kind == "bool":
        return rng.random(shape) < 0.6
    if domain.startswith("id:"):
        return rng.integers(0, max(lengths[domain[3:]], 1), shape)
    if kind == "int":
        return rng.integers(0, 4, shape)
    if domain == "positive":
        return rng.uniform(0.5, 2.5, shape)
    if domain == "nonzero":
        return rng.uniform(0.5, 2.0, shape) * rng.choice((-1.0, 1.0), shape)
    if domain == "distinct":
        size = int(np.prod(shape))
        return ((rng.permutation(size) - size / 2 + rng.uniform(-0.1, 0.1, size)) * 0.5).reshape(shape)
    return rng.standard_normal(shape) * 2


def larger_sample(
    op: Op, rng: np.random.Generator, most: int = 20_000, factors: tuple[int, int] = (3, 20)
) -> Sample | None:
    """A random Sample whose axes are several times as long, for kernels with vector lanes, tiles and threads. At most
    `most` entries an array; `factors`: from how many times as long to how many (exclusive).

    None where the row does not take them.
    """
    return enlarged(op, random_sample(op, rng), int(rng.integers(*factors)), rng, most)


def enlarged(op: Op, small: Sample, factor: int, rng: np.random.Generator, most: int) -> Sample | None:
    """A sample with other numbers, whose axes are up to `factor` times as long, at most `most` entries an array (a draw stays).

    Every length n > 1 becomes the same multiple of n wherever it stands, so what fitted together still does. None where
    it does not (a row whose parameters hold lengths).
    """
    draws = [i for i, name in enumerate(op.inputs) if op.domain.get(name) == "draw"]
    arrays = [x for i, x in enumerate(small.inputs) if isinstance(x, np.ndarray) and i not in draws]
    while factor > 1 and any(x.size * factor ** sum(n > 1 for n in x.shape) > most for x in arrays):
        factor -= 1
    inputs = []
    for i, x in enumerate(small.inputs):
        if isinstance(x, np.ndarray) and i not in draws:
            for axis in range(x.ndim):
                x = np.repeat(x, factor if x.shape[axis] > 1 else 1, axis=axis)
            if x.dtype.kind == "f":
                x = x * rng.uniform(0.7, 1.3, x.shape)
            elif x.dtype.kind == "b":
                x = rng.random(x.shape) < 0.7
        inputs.append(x)
    try:
        op.validate(*inputs, **small.params)
    except (ValueError, TypeError):
        return None
    return Sample(tuple(inputs), small.params, "larger")


def plainer(op: Op, sample: Sample) -> Sample | None:
    """The sample without all that may be left out: optional inputs, and parameters that have a default. None where the
    row does not allow what is left."""
    arguments = inspect.signature(op.forward).parameters
    needed = [name for name, a in arguments.items() if a.default is a.empty]
    n = len(sample.inputs) if op.variadic else sum(name in needed for name in op.inputs)
    params = {name: value for name, value in sample.params.items() if name in needed}
    try:
        op.validate(*sample.inputs[:n], **params)
    except (ValueError, TypeError):
        return None
    return Sample(sample.inputs[:n], params, sample.why)
