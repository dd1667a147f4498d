r"""Dropout and the addition of the residual stream, with a mask that is never stored.

    y_i = r_i + m_i x_i / (1 - p),    m_i = 1 where word_i < floor((1 - p) 2^32), else 0

word_i is the i-th word of Philox4x32-10 (`philox.py`) from a given block on, in the order of memory: uniform in [0, 2^32), so
that m_i is 1 with probability 1 - p, to 2^-32. The scale keeps the expectation, as in `dropout.py`: E[y_i] = r_i + x_i.

There the mask is an input, here only what it is a function of: `draw` = (seed, stream, counter), three integers, in whose place
no slope can be taken. Whoever needs m_i makes it from them; y is affine in x and r with the
diagonal Jacobians m / (1 - p) and 1:

    dx_i = m_i dy_i / (1 - p),    dr_i = dy_i.

With the same three integers the mask is the one that the generator's `bernoulli` gives, whatever computes it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .elementwise import random_shape
from .namespace import Array, array_namespace
from .op import Op, Sample
from .philox import philox_uint32


def _limit(p: float) -> int:
    """A word below it keeps."""
    return math.floor((1.0 - p) * 2**32)


def _mask(draw: Array, shape: tuple[int, ...], p: float) -> np.ndarray:
    """m as booleans. Shapes: (3):int -> (...):bool. Integers below 0 count as those 2^64 above."""
    xp = array_namespace(draw)
    signed = xp.astype(
        draw, xp.int64
    )  # by their bits: not every library makes a Python integer of a large unsigned one
    seed, stream, counter = (int(signed[i]) % 2**64 for i in range(3))
    words = philox_uint32(seed, stream, counter, math.prod(shape)).reshape(shape)
    return words < np.uint64(_limit(p))


def _dropped(x: Array, draw: Array, p: float) -> Array:
    """m x / (1 - p). A dropped NaN or infinity is 0."""
    xp = array_namespace(x)
    return xp.where(xp.asarray(_mask(draw, tuple(x.shape), p)), x / (1.0 - p), 0.0)


def dropout_add(x: Array, residual: Array, draw: Array, *, p: float) -> Array:
    """y = residual + m x / (1 - p); 0 <= p < 1, draw = (seed, stream, counter). Shapes: (...), (...), (3):int -> (...)."""
    return residual + _dropped(x, draw, p)


def dropout_add_vjp(dy: Array, y: Any, x: Any, residual: Any, draw: Array, *, p: float) -> tuple[Array, Array, None]:
    """dx = m dy / (1 - p), dresidual = dy."""
    return _dropped(dy, draw, p), dy, None


def dropout_add_jvp(dinputs: tuple[Array, ...], y: Any, inputs: tuple[Array, ...], *, p: float) -> Array:
    """dy = dresidual + m dx / (1 - p). None is the direction of an input that stands still."""
    dx, dresidual, _ = dinputs
    if dx is None:
        return dresidual
    moved = _dropped(dx, inputs[2], p)
    return moved if dresidual is None else dresidual + moved


def dropout_add_definition(x: Array, residual: Array, draw: Array, *, p: float) -> Array:
    """One number at a time, each from a block of four words that is computed for it alone."""
    seed, stream, counter = (int(word) % 2**64 for word in draw)
    y = np.zeros(x.shape)
    for i, place in enumerate(np.ndindex(x.shape)):
        word = int(philox_uint32(seed, stream, (counter + i // 4) % 2**64, 4)[i % 4])
        y[place] = float(residual[place])
        if word / 2**32 < 1.0 - p:
            y[place] += float(x[place]) / (1.0 - p)
    return y


def _check(x: Any, residual: Any, draw: Any, *, p: float) -> None:
    if not 0.0 <= p < 1.0:
        raise ValueError(f"dropout_add: p is {p}, but it must be at least 0 and less than 1")
    if tuple(residual.shape) != tuple(x.shape):
        raise ValueError(
            f"dropout_add: residual has shape {tuple(residual.shape)}, but x {tuple(x.shape)} needs one of its own shape"
        )
    if tuple(draw.shape) != (3,):
        raise ValueError(f"dropout_add: draw has shape {tuple(draw.shape)}, but seed, stream and counter make (3,)")


def _draw(rng: np.random.Generator) -> Sample:
    """Now and then several hundred numbers: more than the vector lanes of a kernel, and a rest."""
    shape = (int(rng.integers(150, 400)),) if rng.integers(0, 4) == 0 else random_shape(rng)
    draw = rng.integers(0, 2**63, 3).astype(np.uint64)
    inputs = rng.standard_normal(shape), rng.standard_normal(shape), draw
    return Sample(inputs, {"p": float(rng.uniform(0.1, 0.9))}, "random")


def _draws(seed: int, stream: int, counter: int) -> np.ndarray:
    return np.array([seed, stream, counter], np.uint64)


_FIRST = int(philox_uint32(1, 0, 0, 1)[0])
_X, _R = np.array([1.0, -2.0, 3.0, 0.5, -0.25, 7.0]), np.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0])

DROPOUT_ADD = Op(
    "dropout_add",
    dropout_add,
    dropout_add_vjp,
    dropout_add_jvp,
    inputs=("x", "residual", "draw"),
    reads=("draw",),
    nondiff=("draw",),
    definition=dropout_add_definition,
    signature="(...),(...),(m):int->(...)",
    check=_check,
    draw=_draw,
    domain={"draw": "draw"},
    formula=r"y_i = r_i + \frac{m_i x_i}{1 - p}, \quad m_i = [w_i < \lfloor (1 - p) \, 2^{32} \rfloor]",
    gradient=r"\bar x_i = \frac{m_i \bar y_i}{1 - p}, \quad \bar r_i = \bar y_i",
    samples=(
        Sample((_X, _R, _draws(1, 0, 0)), {"p": 0.5}, "six numbers: a block of words and half of another"),
        Sample((_X, _R, _draws(1, 0, 0)), {"p": 0.0}, "nothing is dropped, nothing scaled"),
        Sample((_X, _R, _draws(2**64 - 1, 2**63, 5)), {"p": 0.25}, "seed and stream need all 64 bits"),
        Sample((_X, _R, _draws(3, 0, 2**64 - 1)), {"p": 0.5}, "the position wraps around"),
        Sample((_X, _R, np.array([-1, 2, 3])), {"p": 0.5}, "signed integers count by their bits"),
        Sample((_X, _R, _draws(1, 0, 0)), {"p": 1.0 - _FIRST / 2**32}, "a word at the limit is not below it"),
        Sample((np.full(6, np.inf), _R, _draws(1, 0, 0)), {"p": 0.5}, "a dropped infinity is zero"),
        Sample((np.zeros((2, 0)), np.zeros((2, 0)), _draws(1, 0, 0)), {"p": 0.1}, "no entries at all"),
    ),
    laws=("affine_in_x", "kept_or_dropped", "plain_sum_without_p"),
    wrong={
        "forgets to scale": lambda dy, y, x, residual, draw, *, p: (_dropped(dy, draw, p) * (1.0 - p), dy, None),
        "forgets the mask": lambda dy, y, x, residual, draw, *, p: (dy / (1.0 - p), dy, None),
        "draws the words behind": lambda dy, y, x, residual, draw, *, p: (
            _dropped(dy, draw + np.array([0, 0, 1], draw.dtype), p),
            dy,
            None,
        ),
        "drops the residual too": lambda dy, y, x, residual, draw, *, p: (*[_dropped(dy, draw, p)] * 2, None),
    },
    cost=lambda x, residual, draw, *, p: (2 * x.size, 3 * x.size + 3),
    source="Srivastava et al. 2014, Dropout, section 10; Salmon et al. 2011, section 3.3",
)
