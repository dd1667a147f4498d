r"""Nonlinearities around the logistic function, and the simplest one of all. (tanh stands in `elementwise.py`, gelu alone.)

    sigmoid    s(x) = 1 / (1 + e^-x)      between 0 and 1: a probability whose log odds are x
    softplus   p(x) = ln(1 + e^x)         a smooth relu; its slope is s
    silu       y = x s(x)                 a gate that opens with the input itself; also called swish
    relu       y = max(x, 0)              0 below zero, x above

Slopes. With u = e^-x: s' = u / (1 + u)^2 = s (1 - s), since 1 - s = u / (1 + u). By the chain rule
p' = e^x / (1 + e^x) = s, and since e^-p = 1 / (1 + e^x) = 1 - s, also p' = 1 - e^-p: written in y, it frees x. By the
product rule silu' = s + x s (1 - s). relu' is 1 above zero and 0 below, and 0 is the subgradient taken at 0 itself.

e^-x overflows for x far below zero, e^x far above, so only e = e^-|x| <= 1 is ever computed:

    s(x) = 1 / (1 + e)  for x >= 0,   e / (1 + e)  for x < 0            p(x) = max(x, 0) + ln(1 + e)

Both forms of s are the same function, so the choice between them costs no derivative. -|x| is written as the same choice,
x or -x: at 0 it then has the slope of the side that the rest of the formula chose. The slope of abs there, 0, would fit
neither side, and give a wrong derivative to whoever differentiates these lines.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .elementwise import each
from .namespace import Array, array_namespace
from .op import Op, Sample


def _decay(x: Array) -> Array:
    """e = e^-|x|, at most 1. Shapes: (...) -> (...)."""
    xp = array_namespace(x)
    return xp.exp(xp.where(x < 0.0, x, -x))


# ---- sigmoid


def sigmoid(x: Array) -> Array:
    """y = 1 / (1 + e^-x). Shapes: (...) -> (...)."""
    xp = array_namespace(x)
    e = _decay(x)
    return xp.where(x < 0.0, e, 1.0) / (1.0 + e)


def sigmoid_vjp(dy: Array, y: Array, x: Any) -> tuple[Array]:
    """dx = dy y (1 - y)."""
    return (dy * y * (1.0 - y),)


def sigmoid_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Any]) -> Array:
    """dy = y (1 - y) dx."""
    return sigmoid_vjp(dinputs[0], y, inputs[0])[0]


def sigmoid_definition(x: Array) -> Array:
    """One number at a time: 1 / (1 + e^-x), and e^x where e^-x would be infinite."""
    return each(lambda v: 1.0 / (1.0 + math.exp(-v)) if v > -700.0 else math.exp(v), x)


# ---- softplus


def softplus(x: Array) -> Array:
    """y = ln(1 + e^x). Shapes: (...) -> (...)."""
    xp = array_namespace(x)
    return xp.where(x < 0.0, 0.0, x) + xp.log1p(_decay(x))


def softplus_vjp(dy: Array, y: Array, x: Any) -> tuple[Array]:
    """dx = dy (1 - e^-y)."""
    return (-dy * array_namespace(y).expm1(-y),)


def softplus_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Any]) -> Array:
    """dy = (1 - e^-y) dx."""
    return softplus_vjp(dinputs[0], y, inputs[0])[0]


def softplus_definition(x: Array) -> Array:
    """One number at a time: ln(1 + e^x), and x where the one no longer counts."""
    return each(lambda v: math.log1p(math.exp(v)) if v < 40.0 else v, x)


# ---- silu


def silu(x: Array) -> Array:
    """y = x s(x). Shapes: (...) -> (...)."""
    return x * sigmoid(x)


def silu_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = dy (s + x s (1 - s))."""
    s = sigmoid(x)
    return (dy * (s + x * s * (1.0 - s)),)


def silu_jvp(dinputs: tuple[Array], y: Any, inputs: tuple[Array]) -> Array:
    """dy = (s + x s (1 - s)) dx."""
    return silu_vjp(dinputs[0], y, inputs[0])[0]


def silu_definition(x: Array) -> Array:
    """One number at a time."""
    return x * sigmoid_definition(x)


# ---- relu


def relu(x: Array) -> Array:
    """y = 0 for x < 0, else x. Shapes: (...) -> (...)."""
    return array_namespace(x).where(x < 0.0, 0.0, x)


def relu_vjp(dy: Array, y: Array, x: Any) -> tuple[Array]:
    """dx = 0 where y = 0, else dy."""
    return (array_namespace(dy).where(y <= 0.0, 0.0, dy),)


def relu_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Any]) -> Array:
    """dy = 0 where y = 0, else dx."""
    return relu_vjp(dinputs[0], y, inputs[0])[0]


def relu_definition(x: Array) -> Array:
    """One number at a time."""
    return each(lambda v: v if v > 0.0 else 0.0, x)


# ---- the rows

SIGMOID = Op(
    "sigmoid",
    sigmoid,
    sigmoid_vjp,
    sigmoid_jvp,
    inputs=("x",),
    reads=("y",),
    definition=sigmoid_definition,
    signature="(...)->(...)",
    formula=r"y = \frac{1}{1 + e^{-x}}",
    gradient=r"\bar x = \bar y \, y (1 - y)",
    samples=(
        Sample((np.array([0.0, -0.0, 1.0, -1.0]),), {}, "even odds, and both signs"),
        Sample((np.array([1000.0, -1000.0, 709.0, -709.0]),), {}, "saturated: the exponentials must not overflow"),
        Sample((np.array([-50.0, np.inf, -np.inf]),), {}, "nearly impossible, certain, impossible"),
    ),
    laws=("reflection_gives_one", "nonnegative", "bounded_by_one"),
    wrong={
        "takes the slope of tanh": lambda dy, y, x: (dy * (1.0 - y * y),),
        "forgets y": lambda dy, y, x: (dy * (1.0 - y),),
        "forgets 1 - y": lambda dy, y, x: (dy * y,),
    },
    cost=lambda x: (4 * x.size, 2 * x.size),
    source="Goodfellow, Bengio, Courville: Deep Learning, section 3.10",
)

SOFTPLUS = Op(
    "softplus",
    softplus,
    softplus_vjp,
    softplus_jvp,
    inputs=("x",),
    reads=("y",),
    definition=softplus_definition,
    signature="(...)->(...)",
    formula=r"y = \ln(1 + e^x)",
    gradient=r"\bar x = \bar y \, (1 - e^{-y})",
    samples=(
        Sample((np.array([0.0, 1.0, -1.0]),), {}, "ln 2, and both signs"),
        Sample((np.array([1000.0, -1000.0]),), {}, "far out it is the identity, or zero"),
        Sample((np.array([-40.0, 40.0]),), {}, "on the left it is e^x, however small"),
    ),
    laws=("nonnegative", "reflection_gives_identity"),
    wrong={
        "takes the slope of relu": lambda dy, y, x: (dy * (y > math.log(2.0)),),
        "takes e^-y for the slope": lambda dy, y, x: (dy * np.exp(-y),),
        "takes the slope of the sigmoid": lambda dy, y, x: (dy * np.exp(-y) * (1.0 - np.exp(-y)),),
    },
    cost=lambda x: (4 * x.size, 2 * x.size),
    source="Glorot, Bordes and Bengio 2011, Deep sparse rectifier neural networks; Deep Learning, section 3.10",
)

SILU = Op(
    "silu",
    silu,
    silu_vjp,
    silu_jvp,
    inputs=("x",),
    reads=("x",),
    definition=silu_definition,
    signature="(...)->(...)",
    formula=r"y = \frac{x}{1 + e^{-x}}",
    gradient=r"\bar x = \bar y \left(s + x s (1 - s)\right), \quad s = \frac{1}{1 + e^{-x}}",
    samples=(
        Sample((np.array([0.0, 1.0, -1.0, 3.0]),), {}, "known values around zero"),
        Sample((np.array([-1.2785, -1.278]),), {}, "beside the minimum, where the slope changes sign"),
        Sample((np.array([1000.0, -1000.0]),), {}, "far out it is the identity, or zero"),
    ),
    laws=("reflection_gives_identity",),
    wrong={
        "forgets that the gate holds x too": lambda dy, y, x: (dy / (1.0 + np.exp(-x)),),
        "forgets the gate itself": lambda dy, y, x: (dy * y * (1.0 - 1.0 / (1.0 + np.exp(-x))),),
        "forgets x in the second term": lambda dy, y, x: (
            dy * (1.0 + np.exp(-x) / (1.0 + np.exp(-x))) / (1.0 + np.exp(-x)),
        ),
    },
    cost=lambda x: (5 * x.size, 2 * x.size),
    source="Elfwing, Uchibe and Doya 2017, section 2.2; Ramachandran, Zoph and Le 2017 (swish)",
)

RELU = Op(
    "relu",
    relu,
    relu_vjp,
    relu_jvp,
    inputs=("x",),
    reads=("y",),
    definition=relu_definition,
    signature="(...)->(...)",
    domain={"x": "nonzero"},
    formula=r"y = \max(x, 0)",
    gradient=r"\bar x = \bar y \, [y > 0]",
    samples=(
        Sample((np.array([1.5, -2.0]),), {}, "both sides"),
        Sample((np.array([0.0, -0.0]),), {}, "at the kink the gradient is zero"),
        Sample((np.array([np.inf, -np.inf, 1e-300]),), {}, "the far ends, and nearly zero"),
    ),
    laws=("nonnegative", "idempotent", "reflection_gives_identity"),
    wrong={
        "lets everything through": lambda dy, y, x: (dy,),
        "lets through where it is shut": lambda dy, y, x: (dy * (y <= 0.0),),
        "takes y for its slope": lambda dy, y, x: (dy * y,),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="Nair and Hinton 2010, section 2; Goodfellow, Bengio, Courville: Deep Learning, section 6.3.1",
)
