r"""Layer normalisation: every row gets mean 0 and deviation 1, then a learned scale and shift.

    m = mean(x),   c = x - m,   r = 1 / sqrt(mean(c^2) + eps),   xhat = c r,   y = xhat * weight + bias

All means run over the n entries of a row (the last axis). Everything in a row depends on every x_j, through m and r:

    dc_i/dx_j = delta_ij - 1/n,      dr/dx_j = -r^3 mean(c dc/dx_j) = -r^3 c_j / n = -r^2 xhat_j / n
    dxhat_i/dx_j = r (delta_ij - 1/n) + c_i dr/dx_j = r (delta_ij - 1/n - xhat_i xhat_j / n)

With g = dxhat = dy * weight, the product with that matrix, which is symmetric, is

    dx = r (g - mean(g) - xhat mean(g xhat)):

what is left of g when its mean and its component along xhat are taken out, because shifting or stretching a row changes
nothing. weight and bias are the same for every row, so their cotangents are sums over rows: dweight = sum dy * xhat,
dbias = sum dy. xhat and r are computed again here: a formula keeps no residuals.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .namespace import Array, array_namespace, unbroadcast
from .op import Op, Sample


def _mean(x: Array) -> Array:
    return array_namespace(x).sum(x, axis=-1, keepdims=True) / x.shape[-1]  # (..., 1)


def _normalize(x: Array, eps: float) -> tuple[Array, Array]:
    """xhat (..., n) and the reciprocal deviation r (..., 1)."""
    c = x - _mean(x)
    r = 1.0 / array_namespace(x).sqrt(_mean(c * c) + eps)
    return c * r, r


def _project(g: Array, xhat: Array, r: Array) -> Array:
    """The Jacobian dxhat/dx, which is symmetric, times g: r (g - mean(g) - xhat mean(g xhat))."""
    return r * (g - _mean(g) - xhat * _mean(g * xhat))


def layer_norm(x: Array, weight: Array, bias: Array | None = None, *, eps: float = 1e-5) -> Array:
    """y = (x - mean) / sqrt(variance + eps) * weight + bias. Shapes: (..., n), (n), (n) -> (..., n)."""
    y = _normalize(x, eps)[0] * weight
    return y if bias is None else y + bias


def layer_norm_vjp(
    dy: Array,
    y: Any,
    x: Array,
    weight: Array,
    *bias: Any,
    eps: float = 1e-5,
    wanted: tuple[bool, ...] = (True, True, True),
) -> tuple[Array | None, ...]:
    """dx = r (g - mean(g) - xhat mean(g xhat)) with g = dy * weight; dweight = sum dy * xhat; dbias = sum dy.

    One entry for each input that was passed.
    """
    xhat, r = _normalize(x, eps)
    dx = _project(dy * weight, xhat, r) if wanted[0] else None  # (..., n)
    dweight = unbroadcast(dy * xhat, weight.shape) if wanted[1] else None  # (n)
    dbias = (unbroadcast(dy, b.shape) if b is not None and wanted[2] else None for b in bias)  # (n)
    return dx, dweight, *dbias


def layer_norm_jvp(dinputs: tuple[Array, ...], y: Any, inputs: tuple[Array, ...], *, eps: float = 1e-5) -> Array:
    """dy = dxhat * weight + xhat * dweight + dbias. None is the direction of an input that stands still."""
    (dx, dweight, *dbias), (x, weight, *_) = dinputs, inputs
    xhat, r = _normalize(x, eps)
    dy = array_namespace(x).zeros_like(x) if dx is None else _project(dx, xhat, r) * weight
    dy = dy if dweight is None else dy + xhat * dweight
    return dy if not dbias or dbias[0] is None else dy + dbias[0]


def layer_norm_definition(x: Array, weight: Array, bias: Array | None = None, *, eps: float = 1e-5) -> Array:
    """One number at a time."""
    y = np.empty_like(x)
    n = x.shape[-1]
    for index in np.ndindex(x.shape[:-1]):
        row = [float(v) for v in x[index]]
        mean = math.fsum(row) / n
        deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in row) / n + eps)
        for i, v in enumerate(row):
            y[*index, i] = (v - mean) / deviation * float(weight[i]) + (0.0 if bias is None else float(bias[i]))
    return y


def _draw(rng: np.random.Generator) -> Sample:
    n = int(rng.integers(1, 7))
    lead = tuple(int(length) for length in rng.integers(1, 5, size=rng.integers(0, 3)))
    # Two numbers are normalised to -1 and 1 whatever they are: dx would be cancellation and nothing else.
    eps = 0.1 if n == 2 else float(rng.choice([1e-5, 0.1]))
    inputs = (rng.standard_normal((*lead, n)), rng.standard_normal(n), rng.standard_normal(n))
    return Sample(inputs[: int(rng.integers(2, 4))], {"eps": eps}, "random")


def _tolerance(x: Array, weight: Array, bias: Array | None = None, *, eps: float = 1e-5) -> float:
    """The mean may cancel most of x, and the bias most of what is left: the error is in ulps of the largest term.

    Where all of y is zero (equal numbers) it has no size, and the error is in ulps of one.
    """
    _, r = _normalize(x, eps)
    terms = np.abs(x * r * weight) + (0.0 if bias is None else np.abs(bias))
    largest, y = (float(np.max(np.abs(a), initial=0.0)) for a in (terms, layer_norm(x, weight, bias, eps=eps)))
    return float(8 + x.shape[-1]) * max(1.0, largest / y if y > 0.0 else largest)


def _wrong_dx(dx_of: Any) -> Any:
    """The right vjp with another dx: dx_of(g, xhat, r, x)."""

    def vjp(
        dy: Array, y: Any, x: Array, weight: Array, *bias: Any, eps: float = 1e-5, wanted: Any = None
    ) -> tuple[Array | None, ...]:
        return (dx_of(dy * weight, *_normalize(x, eps), x), *layer_norm_vjp(dy, y, x, weight, *bias, eps=eps)[1:])

    return vjp


def _wrong_dweight(
    dy: Array, y: Any, x: Array, weight: Array, *bias: Any, eps: float = 1e-5, wanted: Any = None
) -> tuple[Array | None, ...]:
    dx, _, *dbias = layer_norm_vjp(dy, y, x, weight, *bias, eps=eps)
    return dx, unbroadcast(dy * x, weight.shape), *dbias


def _wrong_g(
    dy: Array, y: Any, x: Array, weight: Array, *bias: Any, eps: float = 1e-5, wanted: Any = None
) -> tuple[Array | None, ...]:
    return (_project(dy, *_normalize(x, eps)), *layer_norm_vjp(dy, y, x, weight, *bias, eps=eps)[1:])


_ROW = np.array([1.0, 2.0, 4.0])

LAYER_NORM = Op(
    "layer_norm",
    layer_norm,
    layer_norm_vjp,
    layer_norm_jvp,
    inputs=("x", "weight", "bias"),
    reads=("x", "weight"),
    takes_wanted=True,
    definition=layer_norm_definition,
    signature="(...,n),(n),(n)?->(...,n)",
    draw=_draw,
    formula=r"y = \hat x \odot w + b, \quad \hat x = (x - m)\, r, \quad r = 1 / \sqrt{\overline{(x - m)^2} + \epsilon}",
    gradient=r"\bar x = r \left(g - \overline{g} - \hat x\, \overline{g \hat x}\right), \quad g = \bar y \odot w;"
    r"\qquad \bar w = \sum \bar y \odot \hat x, \quad \bar b = \sum \bar y",
    samples=(
        Sample((np.stack([_ROW, -_ROW]), np.ones(3), np.zeros(3)), {}, "scale one and shift zero give the bare rows"),
        Sample((_ROW, np.array([2.0, 0.0, -1.0])), {}, "without a bias, and without leading axes"),
        Sample((np.full((2, 4), 3.0), np.ones(4), np.ones(4)), {}, "equal entries: only eps keeps the division finite"),
        Sample((_ROW + 1e6, np.ones(3)), {}, "a large mean: E[x^2] - E[x]^2 would cancel"),
        Sample((np.array([[5.0]]), np.array([2.0]), np.array([3.0])), {}, "one entry: the output is the bias"),
        Sample((_ROW, np.ones(3)), {"eps": 1.0}, "an eps that can be seen"),
        Sample((np.zeros((0, 3)), np.ones(3), np.ones(3)), {}, "no rows: the sums over rows are zero"),
    ),
    laws=("shift_invariant", "rows_independent"),
    wrong={
        "forgets that the mean holds every x": _wrong_dx(lambda g, xhat, r, x: r * (g - xhat * _mean(g * xhat))),
        "forgets that the deviation holds every x": _wrong_dx(lambda g, xhat, r, x: r * (g - _mean(g))),
        "drops the reciprocal deviation": _wrong_dx(lambda g, xhat, r, x: _project(g, xhat, 1.0)),
        "forgets the weight on the way back": _wrong_g,
        "multiplies dy with x instead of xhat for dweight": _wrong_dweight,
    },
    tolerance=_tolerance,
    cost=lambda x, weight, bias=None, *, eps=1e-5: (8 * x.size, 2 * x.size + 2 * weight.size),
    source="Ba, Kiros and Hinton 2016, Layer Normalization, section 3",
)
