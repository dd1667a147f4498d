"""Forward mode: every operation carries a direction along, dy = J dx, while it computes y.

`hg.jvp` gives Tensors a tangent, the direction in which they move; after each operation on a Tensor with a tangent,
`push` asks the row's jvp for the tangents of the results. One pass, no graph, and the memory of the function itself.

It is one level deep, and mixes with reverse mode both ways:

- forward over reverse (jvp of a gradient): the walk backwards runs its formulas on Tensors, whose tangents are those that
  the nodes kept, so the formulas push like everything else;
- reverse over forward (gradient of a jvp): where an outer derivative follows, the row's jvp runs on Tensors and is
  recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..reference.op import Op
from .door import SCALARS, operand
from .recording import state
from .tensor import PUSH, Tensor, wrap


def push(op: Op, xs: Any, params: dict[str, Any], outputs: tuple[Tensor, ...]) -> None:
    """Gives `outputs`, the results of `op` on `xs`, their tangents; None where nothing among `xs` moves."""
    differentiable = op.differentiable * len(xs) if op.variadic else op.differentiable
    tangents = [x.tangent if type(x) is Tensor and d else None for x, d in zip(xs, differentiable, strict=False)]
    if all(t is None for t in tangents):
        return
    record = state.follow and state.record and any(type(x) is Tensor and x.requires_grad for x in (*xs, *tangents))
    state.pushing = False  # the jvp's own operations carry nothing: one level
    try:
        if record:
            inputs = [x if type(x) is Tensor or type(x) in SCALARS else wrap(operand(op.name, x)) for x in xs]
            ys, moving = outputs, tangents
        else:
            inputs = [x.data if type(x) is Tensor else operand(op.name, x) for x in xs]
            ys = tuple(t.data for t in outputs)
            moving = [None if t is None else t.data for t in tangents]
        dy = op.jvp(tuple(moving), ys[0] if op.single else ys, tuple(inputs), **params)
    finally:
        state.pushing = True
    dys = [d if type(d) is Tensor else wrap(d) for d in ((dy,) if op.single else dy)]
    for t, d in zip(outputs, dys, strict=True):
        t.tangent = d if t.dtype.kind == "f" else None  # a cast to integers stands still
        if t.node is not None:
            t.node.tangents = (tangents, dys)


@contextmanager
def pushing(follow: bool) -> Iterator[None]:
    """Inside it the operations of this thread carry directions. RuntimeError where they do already.

    follow: whether an outer derivative goes through the directions, so that they are recorded. Otherwise nothing is,
    but what a gradient inside needs.
    """
    if state.pushing:
        raise RuntimeError(
            "jvp: forward mode is one level deep, and a jvp is running already; take one of the two derivatives with "
            "hg.grad or hg.vjp"
        )
    before, state.record = state.record, state.record and follow
    state.pushing, state.follow = True, follow
    try:
        yield
    finally:
        state.pushing, state.record = False, before


PUSH.append(push)
