"""Derivatives of order 1 to 3 through the operations with the longest formulas, against finite differences.

phi(x) = <w, f(x)> is differentiated along random directions v1, v2, v3, one after the other, by the engine (each time
through the recorded walk of the time before), and the k-th result is compared with finite differences of the (k-1)-th.
"""

import numpy as np
import pytest

import handgrad.engine.ops  # noqa: F401
from handgrad.engine.autograd import gradients
from handgrad.engine.recording import enable_grad
from handgrad.engine.tensor import Tensor, apply
from handgrad.engine.testing.arrays import random_like
from handgrad.engine.testing.differences import slope
from handgrad.reference.table import BY_NAME

SHAPES = {
    "attention": ([(2, 3, 2), (2, 4, 2), (2, 4, 2)], {}),
    "causal attention": ([(2, 3, 2), (2, 4, 2), (2, 4, 2)], {"causal": True}),
    "layer_norm": ([(3, 4), (4,), (4,)], {}),
    "lstm_cell": ([(2, 3), (2, 2), (2, 2), (3, 8), (2, 8), (8,)], {}),
    "cross_entropy": ([(3, 5)], {}),
    "softmax": ([(3, 4)], {}),
}


def _derivative(name, params, point, weights, directions, extra):
    """The mixed derivative of phi along `directions` at `point`, by the engine: a number, in the point's precision."""
    op = BY_NAME[name.split()[-1]]
    with enable_grad():
        xs = [Tensor(x, requires_grad=True) for x in point]
        outputs = apply(op, *xs, *[Tensor(e) for e in extra], **params)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        value = _inner(outputs, weights)
        for vs in directions:
            value = _inner(gradients(value, xs, create_graph=True), vs)
    return value.data


def _inner(tensors, arrays):
    total = None
    for t, a in zip(tensors, arrays, strict=True):
        term = (t * Tensor(a)).sum()
        total = term if total is None else total + term
    return total


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("name", SHAPES)
def test_order(name, order):
    shapes, params = SHAPES[name]
    rng = np.random.default_rng([len(name), order])
    point = [rng.standard_normal(shape).astype(np.longdouble) for shape in shapes]
    extra = [np.array([1, 0, 4])] if name == "cross_entropy" else []
    op = BY_NAME[name.split()[-1]]
    ys = op.forward(*point, *extra, **params)
    weights = [random_like(y, rng).astype(np.longdouble) for y in (ys if isinstance(ys, tuple) else (ys,))]
    directions = [[random_like(x, rng).astype(np.longdouble) for x in point] for _ in range(order)]
    got = _derivative(name, params, point, weights, directions, extra)

    def before(moved):
        return [np.asarray(_derivative(name, params, moved, weights, directions[:-1], extra))]

    want, allowed, _ = slope(before, point, directions[-1], [np.longdouble(1)], rng, f"order {order}")
    assert abs(got - want) <= allowed, (got, want, allowed)
    assert allowed <= 1e-8 * max(1.0, abs(want)), "the estimate itself is good"
