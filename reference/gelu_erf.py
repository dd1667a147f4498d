r"""GELU as it was defined: a gate that opens with the probability that a normal variable is below the input.

    y = x Phi(x),   Phi(x) = (1 + erf(x / sqrt 2)) / 2,   Phi'(x) = phi(x) = e^(-x^2 / 2) / sqrt(2 pi)

Both factors hold x, so by the product rule dy/dx = Phi(x) + x phi(x). GPT-2 uses the form with tanh in `gelu.py`, which
differs from this one by less than 0.0005; Hugging Face's BERT uses this one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .constants import ONE_OVER_ROOT_2, ONE_OVER_ROOT_2PI, times
from .elementwise import each
from .erf import ERF
from .extension import erf
from .namespace import Array, array_namespace
from .op import Op, Sample


def _below(x: Array) -> Array:
    """Phi(x), the probability that a normal variable is below x. Shapes: (...) -> (...)."""
    return 0.5 * (1.0 + erf(times(x, ONE_OVER_ROOT_2)))


def gelu_erf(x: Array) -> Array:
    """y = x Phi(x). Shapes: (...) -> (...)."""
    return x * _below(x)


def gelu_erf_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = dy (Phi(x) + x phi(x))."""
    density = times(array_namespace(x).exp(-0.5 * x * x), ONE_OVER_ROOT_2PI)
    return (dy * (_below(x) + x * density),)


def gelu_erf_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = (Phi(x) + x phi(x)) dx."""
    return gelu_erf_vjp(dinputs[0], y, inputs[0])[0]


def gelu_erf_definition(x: Array) -> Array:
    """One number at a time."""
    return each(lambda v: 0.5 * v * (1.0 + math.erf(v / math.sqrt(2.0))), x)


def _tolerance(x: Array) -> float:
    """A few ulps of x, not of y: on the negative side 1 + erf cancels, and y is much smaller than x."""
    largest_x = float(np.max(np.abs(x), initial=0.0))
    largest_y = float(np.max(np.abs(gelu_erf(x)), initial=0.0))
    return 8.0 * (1.0 + largest_x / largest_y) if largest_y > 0.0 else 8.0


def _phi(x: Array) -> Array:
    return np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


GELU_ERF = Op(
    "gelu_erf",
    gelu_erf,
    gelu_erf_vjp,
    gelu_erf_jvp,
    inputs=("x",),
    reads=("x",),
    definition=gelu_erf_definition,
    signature="(...)->(...)",
    formula=r"y = x \, \Phi(x) = \tfrac12 x \left(1 + \operatorname{erf}(x / \sqrt 2)\right)",
    gradient=r"\bar x = \bar y \left(\Phi(x) + x \, \frac{e^{-x^2/2}}{\sqrt{2 \pi}}\right)",
    samples=(
        Sample((np.array([0.0, -0.0, 1.0, -1.0, 3.0]),), {}, "known values around zero"),
        Sample((np.array([-0.7518, -0.7517]),), {}, "beside the minimum, where the slope changes sign"),
        Sample((np.array([1e4, -1e4, 40.0, -40.0]),), {}, "far out it is the identity, or zero"),
        Sample((np.array(0.5),), {}, "an array without axes stays one"),
    ),
    laws=("reflection_gives_identity",),
    wrong={
        "forgets that the gate holds x too": lambda dy, y, x: (dy * _below(x),),
        "forgets x in the second term": lambda dy, y, x: (dy * (_below(x) + _phi(x)),),
        "takes the density with variance 1/2": lambda dy, y, x: (
            dy * (_below(x) + x * np.exp(-x * x) / math.sqrt(math.pi)),
        ),
        "turns the second term round": lambda dy, y, x: (dy * (_below(x) - x * _phi(x)),),
    },
    tolerance=_tolerance,
    cost=lambda x: (ERF.cost(x)[0] + 4 * x.size, 2 * x.size),
    source="Hendrycks and Gimpel 2016, Gaussian Error Linear Units, section 2",
)
