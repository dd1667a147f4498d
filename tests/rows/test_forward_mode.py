"""Every row in forward mode, and forward over reverse against reverse over reverse."""

import numpy as np
import pytest

import handgrad as hg
from handgrad.engine.testing import random_sample
from handgrad.engine.testing.arrays import JITTERS, is_float, jitter, largest, random_like
from handgrad.reference.table import ROWS

rows = pytest.mark.parametrize("op", ROWS, ids=[op.name for op in ROWS])
DRAWS = 3


def _cases(op):
    """(sample, positions of the inputs that can move, random directions for them) of a few draws."""
    rng = np.random.default_rng(sum(map(ord, op.name)))
    for _ in range(DRAWS):
        sample = random_sample(op, rng)
        flags = op.differentiable * len(sample.inputs) if op.variadic else op.differentiable
        moving = [i for i, (x, flag) in enumerate(zip(sample.inputs, flags, strict=False)) if flag and is_float(x)]
        yield rng, sample, moving, [random_like(sample.inputs[i], rng) for i in moving]


def _function(op, sample, moving):
    """The row as a function of what can move, with a tuple of results."""

    def f(*xs):
        inputs = [hg.Tensor(x) if hasattr(x, "dtype") else x for x in sample.inputs]
        for i, x in zip(moving, xs, strict=True):
            inputs[i] = x
        y = hg.apply(op, *inputs, **sample.params)
        return y if isinstance(y, tuple) else (y,)

    return f


@rows
def test_jvp_is_the_rows_own(op):
    for _, sample, moving, vs in _cases(op):
        xs = [hg.Tensor(sample.inputs[i]) for i in moving]
        ys, dys = hg.jvp(_function(op, sample, moving), tuple(xs), tuple(vs))
        directions: list = [None] * len(sample.inputs)
        for i, v in zip(moving, vs, strict=True):
            directions[i] = v
        values = [y.numpy() for y in ys]
        want = op.jvp(tuple(directions), values[0] if op.single else tuple(values), sample.inputs, **sample.params)
        for got, w in zip(dys, (want,) if op.single else want, strict=True):
            assert got.dtype == np.asarray(w).dtype
            np.testing.assert_array_equal(got.numpy(), w)


@rows
def test_forward_over_reverse_is_reverse_over_reverse(op):
    """H v as a jvp of the gradient, and as the gradient of <gradient, v>."""
    for rng, sample, moving, vs in _cases(op):
        f = _function(op, sample, moving)
        ys = f(*(hg.Tensor(sample.inputs[i]) for i in moving))
        if any(y.dtype != np.float64 for y in ys):
            continue  # a cast
        weights = [random_like(y.numpy(), rng) for y in ys]

        def phi(*xs, f=f, weights=weights):
            return _total(f(*xs), weights)

        def along(*xs, phi=phi, vs=vs, moving=moving):
            return _total(hg.grad(phi, tuple(range(len(moving))))(*xs), vs)

        xs = tuple(np.asarray(sample.inputs[i]) for i in moving)
        forward = hg.hvp(phi, xs, tuple(vs))
        reverse = hg.grad(along, tuple(range(len(moving))))(*xs)
        moved = []
        for _ in range(JITTERS):  # how much of it is rounding
            other = tuple(jitter(x, 2.0**-52, rng) for x in xs)
            moved.append(hg.hvp(phi, other, tuple(vs)))
        for k, (a, b) in enumerate(zip(forward, reverse, strict=True)):
            spread = max(largest(m[k].numpy() - a.numpy()) for m in moved)
            scale = max(largest(a.numpy()), 1.0)
            allowed = (8.0 + op.tolerance(*sample.inputs, **sample.params)) * 2.0**-52 * scale * 16 + 8 * spread
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=allowed)


def _total(tensors, arrays):
    total = None
    for t, a in zip(tensors, arrays, strict=True):
        term = (t * hg.Tensor(a)).sum()
        total = term if total is None else total + term
    return total
