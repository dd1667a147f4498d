r"""The error function: the probability that a normally distributed error lies within bounds.

    y = erf x = 2 / sqrt(pi) * integral from 0 to x of e^(-t^2) dt

By the fundamental theorem of calculus the slope is the integrand, dy/dx = 2 / sqrt(pi) e^(-x^2). A normal variable with
mean 0 and variance 1/2 lies in [-x, x] with probability erf x; with variance 1 it lies below x with probability
(1 + erf(x / sqrt 2)) / 2. How the integral is computed is derived in `extension.py`: the array API standard lacks it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import extension
from .constants import TWO_OVER_ROOT_PI, times
from .elementwise import each
from .namespace import Array, array_namespace
from .op import Op, Sample


def erf(x: Array) -> Array:
    """y = erf x. Shapes: (...) -> (...)."""
    return extension.erf(x)


def erf_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = dy 2 / sqrt(pi) e^(-x^2)."""
    return (dy * times(array_namespace(x).exp(-x * x), TWO_OVER_ROOT_PI),)


def erf_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = 2 / sqrt(pi) e^(-x^2) dx."""
    return erf_vjp(dinputs[0], y, inputs[0])[0]


def erf_definition(x: Array) -> Array:
    """One number at a time."""
    return each(math.erf, x)


ERF = Op(
    "erf",
    erf,
    erf_vjp,
    erf_jvp,
    inputs=("x",),
    reads=("x",),
    definition=erf_definition,
    signature="(...)->(...)",
    formula=r"y = \frac{2}{\sqrt{\pi}} \int_0^x e^{-t^2} \, dt",
    gradient=r"\bar x = \bar y \, \frac{2}{\sqrt{\pi}} e^{-x^2}",
    samples=(
        Sample((np.array([0.0, -0.0, 0.5, -0.5, 2.0]),), {}, "both signs and zero"),
        Sample((np.array([1.0, 1.0 - 1e-15, -1.0]),), {}, "where the series ends and the tail begins"),
        Sample((np.array([1e-300, -1e-9]),), {}, "close to zero it is a straight line"),
        Sample((np.array([5.9, -7.0, 1e200, np.inf, -np.inf]),), {}, "saturated: nothing may overflow"),
        Sample((np.zeros((2, 0)),), {}, "no entries at all"),
    ),
    laws=("odd", "bounded_by_one"),
    wrong={
        "forgets the factor 2 / sqrt(pi)": lambda dy, y, x: (dy * np.exp(-x * x),),
        "takes the normal density": lambda dy, y, x: (dy * np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi),),
        "forgets to square": lambda dy, y, x: (dy * 2.0 / math.sqrt(math.pi) * np.exp(-np.abs(x)),),
    },
    # float32: two polynomials of 7 and 9 terms and one of 7 for the exponential, a multiplication and an addition a term
    cost=lambda x: (46 * x.size, 2 * x.size),
    source="DLMF section 7.2; Abramowitz and Stegun, section 7.1",
)
