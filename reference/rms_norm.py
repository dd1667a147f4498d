r"""RMS normalisation: every row gets the root mean square 1, then a learned scale. Layer normalisation without the mean.

    r = 1 / sqrt(mean(x^2) + eps),   xhat = x r,   y = xhat * weight

The mean runs over the n entries of a row (the last axis). The entry x_j acts on the others through r alone:

    dr/dx_j = -r^3 x_j / n = -r^2 xhat_j / n,      dxhat_i/dx_j = r delta_ij + x_i dr/dx_j = r (delta_ij - xhat_i xhat_j / n)

With g = dxhat = dy * weight, the product with that matrix, which is symmetric, is

    dx = r (g - xhat mean(g xhat)):

what is left of g when its component along xhat is taken out, because stretching a row changes nothing (but for eps).
Subtracting the mean, which is what layer normalisation does besides, turned out not to be needed; a shift of the row is
seen here.
weight is the same for every row, so its cotangent is a sum over rows: dweight = sum dy * xhat.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .namespace import Array, array_namespace, unbroadcast
from .op import Op, Sample


def _mean(x: Array) -> Array:
    return array_namespace(x).sum(x, axis=-1, keepdims=True) / max(x.shape[-1], 1)  # (..., 1)


def _normalize(x: Array, eps: float) -> tuple[Array, Array]:
    """xhat (..., n) and the reciprocal root mean square r (..., 1)."""
    r = 1.0 / array_namespace(x).sqrt(_mean(x * x) + eps)
    return x * r, r


def _project(g: Array, xhat: Array, r: Array) -> Array:
    """The Jacobian dxhat/dx, which is symmetric, times g: r (g - xhat mean(g xhat))."""
    return r * (g - xhat * _mean(g * xhat))


def rms_norm(x: Array, weight: Array, *, eps: float = 1e-6) -> Array:
    """y = x / sqrt(mean(x^2) + eps) * weight. Shapes: (..., n), (n) -> (..., n)."""
    return _normalize(x, eps)[0] * weight


def rms_norm_vjp(
    dy: Array, y: Any, x: Array, weight: Array, *, eps: float = 1e-6, wanted: tuple[bool, ...] = (True, True)
) -> tuple[Array | None, ...]:
    """dx = r (g - xhat mean(g xhat)) with g = dy * weight; dweight = sum dy * xhat."""
    xhat, r = _normalize(x, eps)
    dx = _project(dy * weight, xhat, r) if wanted[0] else None  # (..., n)
    dweight = unbroadcast(dy * xhat, weight.shape) if wanted[1] else None  # (n)
    return dx, dweight


def rms_norm_jvp(dinputs: tuple[Array, ...], y: Any, inputs: tuple[Array, ...], *, eps: float = 1e-6) -> Array:
    """dy = dxhat * weight + xhat * dweight. None is the direction of an input that stands still."""
    (dx, dweight), (x, weight) = dinputs, inputs
    xhat, r = _normalize(x, eps)
    dy = array_namespace(x).zeros_like(x) if dx is None else _project(dx, xhat, r) * weight
    return dy if dweight is None else dy + xhat * dweight


def rms_norm_definition(x: Array, weight: Array, *, eps: float = 1e-6) -> Array:
    """One number at a time."""
    y = np.empty_like(x)
    n = x.shape[-1]
    for index in np.ndindex(x.shape[:-1]):
        row = [float(v) for v in x[index]]
        root_mean_square = math.sqrt(math.fsum(v * v for v in row) / n + eps) if n else 1.0
        for i, v in enumerate(row):
            y[*index, i] = v / root_mean_square * float(weight[i])
    return y


def _draw(rng: np.random.Generator) -> Sample:
    n = int(rng.integers(1, 7))
    lead = tuple(int(length) for length in rng.integers(1, 5, size=rng.integers(0, 3)))
    # A single number is normalised to -1 or 1 whatever it is: dx would be cancellation and nothing else.
    eps = 0.1 if n == 1 else float(rng.choice([1e-6, 0.1]))
    return Sample((rng.standard_normal((*lead, n)), rng.standard_normal(n)), {"eps": eps}, "random")


def _wrong_dx(dx_of: Any) -> Any:
    """The right vjp with another dx: dx_of(g, xhat, r, x)."""

    def vjp(dy: Array, y: Any, x: Array, weight: Array, *, eps: float = 1e-6, wanted: Any = None) -> tuple[Any, ...]:
        return dx_of(dy * weight, *_normalize(x, eps), x), rms_norm_vjp(dy, y, x, weight, eps=eps)[1]

    return vjp


def _wrong_g(
    dy: Array, y: Any, x: Array, weight: Array, *, eps: float = 1e-6, wanted: Any = None
) -> tuple[Array | None, ...]:
    return _project(dy, *_normalize(x, eps)), rms_norm_vjp(dy, y, x, weight, eps=eps)[1]


def _wrong_dweight(
    dy: Array, y: Any, x: Array, weight: Array, *, eps: float = 1e-6, wanted: Any = None
) -> tuple[Array | None, ...]:
    return rms_norm_vjp(dy, y, x, weight, eps=eps)[0], unbroadcast(dy * x, weight.shape)


_ROW = np.array([1.0, 2.0, 4.0])

RMS_NORM = Op(
    "rms_norm",
    rms_norm,
    rms_norm_vjp,
    rms_norm_jvp,
    inputs=("x", "weight"),
    reads=("x", "weight"),
    takes_wanted=True,
    definition=rms_norm_definition,
    signature="(...,n),(n)->(...,n)",
    draw=_draw,
    formula=r"y = \hat x \odot w, \quad \hat x = x\, r, \quad r = 1 / \sqrt{\overline{x^2} + \epsilon}",
    gradient=r"\bar x = r \left(g - \hat x\, \overline{g \hat x}\right), \quad g = \bar y \odot w;"
    r"\qquad \bar w = \sum \bar y \odot \hat x",
    samples=(
        Sample((np.stack([_ROW, -_ROW]), np.ones(3)), {}, "scale one gives the bare rows"),
        Sample((_ROW, np.array([2.0, 0.0, -1.0])), {}, "without leading axes; a weight of zero closes a feature"),
        Sample((np.full((2, 4), 3.0), np.ones(4)), {}, "equal entries become one: no mean is subtracted"),
        Sample((np.zeros((2, 3)), np.ones(3)), {}, "a row of zeros: only eps keeps the division finite"),
        Sample((np.array([[5.0]]), np.array([2.0])), {}, "one entry: its sign times the weight"),
        Sample((_ROW, np.ones(3)), {"eps": 1.0}, "an eps that can be seen"),
        Sample((np.zeros((0, 3)), np.ones(3)), {}, "no rows: the sum over rows is zero"),
        Sample((np.zeros((2, 0)), np.ones(0)), {}, "no features: nothing is divided by their number"),
    ),
    laws=("rows_independent", "scale_invariant", "linear_in_weight"),
    wrong={
        "forgets that the root mean square holds every x": _wrong_dx(lambda g, xhat, r, x: r * g),
        "subtracts the mean as layer_norm does": _wrong_dx(
            lambda g, xhat, r, x: r * (g - _mean(g) - xhat * _mean(g * xhat))
        ),
        "drops the reciprocal root mean square": _wrong_dx(lambda g, xhat, r, x: _project(g, xhat, 1.0)),
        "projects on x instead of xhat": _wrong_dx(lambda g, xhat, r, x: r * (g - x * _mean(g * x))),
        "forgets the weight on the way back": _wrong_g,
        "multiplies dy with x instead of xhat for dweight": _wrong_dweight,
    },
    # y sums over the n features, dweight over all rows
    tolerance=lambda x, weight, *, eps=1e-6: 8.0 + x.shape[-1] + x.size // max(x.shape[-1], 1),
    cost=lambda x, weight, *, eps=1e-6: (4 * x.size, 2 * x.size + weight.size),
    source="Zhang and Sennrich 2019, Root Mean Square Layer Normalization, section 4",
)
