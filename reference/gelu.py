r"""GELU: a gate that opens with the input itself, in the tanh form that GPT-2 uses.

    y = x Phi(x)  with the normal distribution's Phi,   Phi(x) ~ (1 + tanh u) / 2,   u = a (x + b x^3),
    a = sqrt(2 / pi),   b = 0.044715.

Both factors hold x. With t = tanh u, dt/du = 1 - t^2 and du/dx = a (1 + 3 b x^2), the product rule gives

    dy/dx = (1 + t) / 2  +  x (1 - t^2) / 2 * a (1 + 3 b x^2).

Elementwise, so the Jacobian is diagonal: products from the left and from the right are the same. The constants are the
doubles that everybody's code has; they define this function, so that longdouble follows the same one more closely.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .namespace import Array, array_namespace
from .op import Op, Sample

A = math.sqrt(2.0 / math.pi)
B = 0.044715


def gelu(x: Array) -> Array:
    """y = x (1 + tanh(a (x + b x^3))) / 2. Shapes: (...) -> (...)."""
    xp = array_namespace(x)
    return 0.5 * x * (1.0 + xp.tanh(A * (x + B * x * x * x)))


def _slope(x: Array) -> Array:
    """dy/dx = (1 + t) / 2 + x (1 - t^2) / 2 * a (1 + 3 b x^2)."""
    t = array_namespace(x).tanh(A * (x + B * x * x * x))
    return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * A * (1.0 + 3.0 * B * x * x)


def gelu_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = dy * dy/dx."""
    return (dy * _slope(x),)


def gelu_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = dy/dx * dx."""
    return dinputs[0] * _slope(inputs[0])


def gelu_definition(x: Array) -> Array:
    """One number at a time."""
    y = np.empty_like(x)
    for index in np.ndindex(x.shape):
        v = float(x[index])
        y[index] = v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) / 2
    return y


def _tolerance(x: Array) -> float:
    """A few ulps of x, not of y: on the negative side 1 + tanh u cancels, and y is much smaller than x."""
    largest_x = float(np.max(np.abs(x), initial=0.0))
    largest_y = float(np.max(np.abs(gelu(x)), initial=0.0))
    return 8.0 * (1.0 + largest_x / largest_y) if largest_y > 0.0 else 8.0


def _tanh_u(x: Array) -> Array:
    return np.tanh(A * (x + B * x**3))


GELU = Op(
    "gelu",
    gelu,
    gelu_vjp,
    gelu_jvp,
    inputs=("x",),
    reads=("x",),
    definition=gelu_definition,
    signature="(...)->(...)",
    formula=r"y = \tfrac12 x \left(1 + \tanh u\right), \quad u = \sqrt{2/\pi}\,(x + 0.044715\, x^3)",
    gradient=r"\bar x = \bar y \left(\tfrac12 (1 + \tanh u)"
    r" + \tfrac12 x (1 - \tanh^2 u) \sqrt{2/\pi}\,(1 + 0.134145\, x^2)\right)",
    samples=(
        Sample((np.array([0.0, -0.0, 1.0, -1.0, 3.0]),), {}, "known values around zero"),
        Sample((np.array([-0.7525, -0.75]),), {}, "beside the minimum, where the slope changes sign"),
        Sample((np.array([1e4, -1e4, 40.0, -40.0]),), {}, "far out it is the identity, or zero"),
        Sample((np.array(0.5),), {}, "an array without axes"),
        Sample((np.zeros((2, 0)),), {}, "nothing in, nothing out"),
    ),
    laws=("reflection_gives_identity",),
    wrong={
        "forgets that the gate holds x too": lambda dy, y, x: (dy * 0.5 * (1 + _tanh_u(x)),),
        "forgets the cube in the inner derivative": lambda dy, y, x: (
            dy * (0.5 * (1 + _tanh_u(x)) + 0.5 * x * (1 - _tanh_u(x) ** 2) * A),
        ),
        "drops the factor sqrt(2 / pi)": lambda dy, y, x: (
            dy * (0.5 * (1 + _tanh_u(x)) + 0.5 * x * (1 - _tanh_u(x) ** 2) * (1 + 3 * B * x**2)),
        ),
        "differentiates the exact form with Phi": lambda dy, y, x: (
            dy * (0.5 * (1 + _tanh_u(x)) + x * np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)),
        ),
    },
    tolerance=_tolerance,
    cost=lambda x: (20 * x.size, 2 * x.size),
    source="Hendrycks and Gimpel 2016, Gaussian Error Linear Units, section 2",
)
