r"""A bias and what bends it: y = f(x + bias), with f = gelu (its tanh form) or f = silu; the same bias for every row.

    a_i = x_i + b,   y_i = f(a_i)

so that by the chain rule da_i = dy_i f'(a_i), where the slopes are those of `gelu.py` and `activations.py`. x_i enters a_i
alone, b enters every a_i:

    dx_i = da_i,    db = sum_i da_i.

As rows of their own these are one pass over memory where the composition takes three on the way back: f', the sum over
rows, and x + b is neither stored nor read, only made again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .activations import SILU, silu, silu_vjp
from .elementwise import random_shape
from .gelu import GELU, gelu, gelu_vjp
from .namespace import Array, array_namespace, unbroadcast
from .op import Op, Sample


def bias_gelu(x: Array, bias: Array) -> Array:
    """y = gelu(x + bias). Shapes: (..., n), (n) -> (..., n)."""
    return gelu(x + bias)


def bias_gelu_vjp(dy: Array, y: Any, x: Array, bias: Array) -> tuple[Array, Array]:
    """dx = dy gelu'(x + bias), dbias = the sum of dx over rows."""
    (dx,) = gelu_vjp(dy, y, x + bias)
    return dx, unbroadcast(dx, bias.shape)


def bias_silu(x: Array, bias: Array) -> Array:
    """y = silu(x + bias). Shapes: (..., n), (n) -> (..., n)."""
    return silu(x + bias)


def bias_silu_vjp(dy: Array, y: Any, x: Array, bias: Array) -> tuple[Array, Array]:
    """dx = dy silu'(x + bias), dbias = the sum of dx over rows."""
    (dx,) = silu_vjp(dy, y, x + bias)
    return dx, unbroadcast(dx, bias.shape)


def _moved(dinputs: tuple[Array, ...], shape: tuple[int, ...]) -> Array:
    """da = dx + dbias, of the shape of x. None is the direction of an input that stands still."""
    dx, dbias = dinputs
    if dbias is None:
        return dx
    return array_namespace(dbias).broadcast_to(dbias, shape) if dx is None else dx + dbias


def bias_gelu_jvp(dinputs: tuple[Array, ...], y: Any, inputs: tuple[Array, ...]) -> Array:
    """dy = gelu'(x + bias) (dx + dbias): the Jacobian of gelu is diagonal, so its products from left and right are alike."""
    x, bias = inputs
    return gelu_vjp(_moved(dinputs, x.shape), y, x + bias)[0]


def bias_silu_jvp(dinputs: tuple[Array, ...], y: Any, inputs: tuple[Array, ...]) -> Array:
    """dy = silu'(x + bias) (dx + dbias)."""
    x, bias = inputs
    return silu_vjp(_moved(dinputs, x.shape), y, x + bias)[0]


def _definition(of: Op) -> Callable[[Array, Array], Array]:
    """The sum one number at a time, then the definition of `of`."""

    def definition(x: Array, bias: Array) -> Array:
        total = np.zeros(x.shape)
        for place in np.ndindex(x.shape):
            total[place] = float(x[place]) + float(bias[place[-1]])
        return of.definition(total)

    return definition


def _tolerance(of: Op) -> Callable[[Array, Array], float]:
    """That of `of` at x + bias, and what the rounding of the sum costs: an ulp of the larger summand where both cancel. The sum
    over rows adds an ulp of the largest partial sum for each row.
    """

    def tolerance(x: Array, bias: Array) -> float:
        total = x + bias
        summand = float(max(np.max(np.abs(x), initial=0.0), np.max(np.abs(bias), initial=0.0)))
        largest = float(np.max(np.abs(of.forward(total)), initial=0.0))
        rows = x.size // max(x.shape[-1], 1)
        return of.tolerance(total) + (2.0 * summand / largest if largest > 0.0 else 0.0) + rows

    return tolerance


def _draw(rng: np.random.Generator) -> Sample:
    shape = (*random_shape(rng), int(rng.integers(1, 6)))
    return Sample((2.0 * rng.standard_normal(shape), rng.standard_normal(shape[-1])), {}, "random")


_SAMPLES = (
    Sample((np.array([[0.5, -1.0], [2.0, -0.25], [-3.0, 1.0]]), np.array([0.5, -0.5])), {}, "rows share the bias"),
    Sample((np.array([1.0, -2.0, 3.0]), np.array([-1.0, 2.0, -3.0])), {}, "the sum is zero: a bias that cancels"),
    Sample((np.array([[1e4, -1e4], [40.0, -40.0]]), np.array([1.0, -1.0])), {}, "far out it is the identity, or zero"),
    Sample((np.ones((2, 3, 1)), np.array([-0.75])), {}, "two leading axes are summed for the bias"),
    Sample((np.zeros((0, 3)), np.ones(3)), {}, "no rows: the gradient of the bias is zero"),
)


def _wrong(vjp: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    def without_bias(dy: Array, y: Any, x: Array, bias: Array) -> Any:
        return vjp(dy, y, x, 0.0 * bias)

    def cotangent_summed(dy: Array, y: Any, x: Array, bias: Array) -> Any:
        return vjp(dy, y, x, bias)[0], unbroadcast(dy, bias.shape)

    def mean(dy: Array, y: Any, x: Array, bias: Array) -> Any:
        dx, dbias = vjp(dy, y, x, bias)
        return dx, dbias / (2.0 + x.size // max(x.shape[-1], 1))

    def last_row(dy: Array, y: Any, x: Array, bias: Array) -> Any:
        dx, dbias = vjp(dy, y, x, bias)
        return dx, dbias - dx.reshape(-1, *bias.shape)[-1] if dx.size else dbias

    return {
        "takes the slope at x alone": without_bias,
        "sums dy for the bias, not dx": cotangent_summed,
        "divides by the number of rows": mean,
        "leaves out the last row of the sum": last_row,
    }


def _row(name: str, of: Op, forward: Any, vjp: Any, jvp: Any, formula: str, gradient: str, source: str) -> Op:
    return Op(
        name,
        forward,
        vjp,
        jvp,
        inputs=("x", "bias"),
        reads=("x", "bias"),
        definition=_definition(of),
        signature="(...,n),(n)->(...,n)",
        draw=_draw,
        formula=formula,
        gradient=gradient,
        samples=_SAMPLES,
        laws=("moves_against_the_bias", "rows_independent"),
        wrong=_wrong(vjp),
        tolerance=_tolerance(of),
        cost=lambda x, bias: (of.cost(x)[0] + x.size, 2 * x.size + bias.size),
        source=source,
    )


BIAS_GELU = _row(
    "bias_gelu",
    GELU,
    bias_gelu,
    bias_gelu_vjp,
    bias_gelu_jvp,
    r"y_i = \operatorname{gelu}(x_i + b)",
    r"\bar x_i = \bar y_i \operatorname{gelu}'(x_i + b), \quad \bar b = \sum_i \bar x_i",
    "Hendrycks and Gimpel 2016, Gaussian Error Linear Units, section 2",
)

BIAS_SILU = _row(
    "bias_silu",
    SILU,
    bias_silu,
    bias_silu_vjp,
    bias_silu_jvp,
    r"y_i = \operatorname{silu}(x_i + b)",
    r"\bar x_i = \bar y_i \operatorname{silu}'(x_i + b), \quad \bar b = \sum_i \bar x_i",
    "Elfwing, Uchibe and Doya 2017, section 2.2",
)
