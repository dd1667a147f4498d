r"""Functions of one number, applied to every entry: y_i = f(x_i).

Entry i of y depends on entry i of x alone, so the Jacobian is diagonal, and multiplying by it from the left or from the
right is the same: dx_i = f'(x_i) dy_i for cotangents, dy_i = f'(x_i) dx_i for directions. Every jvp here is its vjp.

    f           f'                  written in y, where that frees x
    -x          -1
    exp x       exp x               y
    log x       1 / x
    sqrt x      1 / (2 sqrt x)      1 / (2 y)
    tanh x      1 - tanh(x)^2       1 - y^2
    astype      1                   the cotangent goes back to x's dtype

tanh: with e = exp(2x), y = (e - 1) / (e + 1), y' = 4 e / (e + 1)^2 = 1 - y^2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .namespace import Array, array_namespace
from .op import Op, Sample


def each(f: Callable[..., float], *xs: Array) -> Array:
    """f at every place of the common shape, one number at a time: what "elementwise" means. For definitions."""
    shape = np.broadcast_shapes(*(np.shape(x) for x in xs))
    wide = [np.broadcast_to(x, shape) for x in xs]
    y = np.empty(shape)
    for place in np.ndindex(shape):
        y[place] = f(*(float(x[place]) for x in wide))
    return y


def random_shape(rng: np.random.Generator) -> tuple[int, ...]:
    """Up to three axes of length 1 to 4. For draws."""
    return tuple(int(n) for n in rng.integers(1, 5, size=rng.integers(0, 4)))


# ---- negative


def negative(x: Array) -> Array:
    """y = -x. Shapes: (...) -> (...)."""
    return -x


def negative_vjp(dy: Array, y: Any, x: Any) -> tuple[Array]:
    """dx = -dy."""
    return (-dy,)


def negative_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Array]) -> Array:
    """dy = -dx."""
    return -dinputs[0]


def negative_definition(x: Array) -> Array:
    """One number at a time."""
    return each(lambda v: 0.0 - v, x)


# ---- exp


def exp(x: Array) -> Array:
    """y = e^x. Shapes: (...) -> (...)."""
    return array_namespace(x).exp(x)


def exp_vjp(dy: Array, y: Array, x: Any) -> tuple[Array]:
    """dx = dy y: the exponential is its own derivative."""
    return (dy * y,)


def exp_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Array]) -> Array:
    """dy = y dx."""
    return dinputs[0] * y


def exp_definition(x: Array) -> Array:
    """One number at a time."""
    return each(math.exp, x)


# ---- log


def log(x: Array) -> Array:
    """y = ln x, for x > 0. Shapes: (...) -> (...)."""
    return array_namespace(x).log(x)


def log_vjp(dy: Array, y: Any, x: Array) -> tuple[Array]:
    """dx = dy / x."""
    return (dy / x,)


def log_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Array]) -> Array:
    """dy = dx / x."""
    return dinputs[0] / inputs[0]


def log_definition(x: Array) -> Array:
    """One number at a time."""
    return each(math.log, x)


# ---- sqrt


def sqrt(x: Array) -> Array:
    """y = x^(1/2), for x > 0 (at 0 the slope is infinite). Shapes: (...) -> (...)."""
    return array_namespace(x).sqrt(x)


def sqrt_vjp(dy: Array, y: Array, x: Any) -> tuple[Array]:
    """y^2 = x, so 2 y y' = 1: dx = dy / (2 y)."""
    return (dy / (2.0 * y),)


def sqrt_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Array]) -> Array:
    """dy = dx / (2 y)."""
    return dinputs[0] / (2.0 * y)


def sqrt_definition(x: Array) -> Array:
    """One number at a time."""
    return each(math.sqrt, x)


# ---- tanh


def tanh(x: Array) -> Array:
    """y = (e^x - e^-x) / (e^x + e^-x). Shapes: (...) -> (...)."""
    return array_namespace(x).tanh(x)


def tanh_vjp(dy: Array, y: Array, x: Any) -> tuple[Array]:
    """dx = dy (1 - y^2)."""
    return (dy * (1.0 - y * y),)


def tanh_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Array]) -> Array:
    """dy = (1 - y^2) dx."""
    return dinputs[0] * (1.0 - y * y)


def tanh_definition(x: Array) -> Array:
    """One number at a time: with t = e^2|x| - 1, y = t / (t + 2), with x's sign; past 40 the fraction is one."""

    def number(v: float) -> float:
        t = math.expm1(2.0 * min(abs(v), 40.0))
        return math.copysign(t / (t + 2.0), v)

    return each(number, x)


# ---- astype


def astype(x: Array, *, dtype: Any) -> Array:
    """The same numbers in another dtype (an object of x's library). Shapes: (...) -> (...).

    Where x or y are integers or booleans there is nothing to differentiate, and the engine records no node.
    """
    return array_namespace(x).astype(x, dtype)


def astype_vjp(dy: Array, y: Any, x: Any, *, dtype: Any) -> tuple[Array]:
    """Rounding counts as the identity: dx = dy, in x's dtype."""
    return (array_namespace(dy).astype(dy, x.dtype),)


def astype_jvp(dinputs: tuple[Array], y: Array, inputs: tuple[Array], *, dtype: Any) -> Array:
    """dy = dx, in y's dtype."""
    return astype(dinputs[0], dtype=dtype)


def astype_definition(x: Array, *, dtype: Any) -> Array:
    """One number at a time."""
    y = np.empty(x.shape, dtype)
    for place in np.ndindex(x.shape):
        y[place] = x[place].item()
    return y


# ---- the rows


def _draw(rng: np.random.Generator) -> Sample:
    dtype = (np.float64, np.longdouble)[rng.integers(2)]
    return Sample((rng.standard_normal(random_shape(rng)),), {"dtype": np.dtype(dtype)}, "random")


NEGATIVE = Op(
    "negative",
    negative,
    negative_vjp,
    negative_jvp,
    inputs=("x",),
    definition=negative_definition,
    signature="(...):any->(...)",
    formula=r"y = -x",
    gradient=r"\bar x = -\bar y",
    samples=(
        Sample((np.array([1.5, -2.0, 0.0]),), {}, "both signs and zero"),
        Sample((np.zeros((2, 0)),), {}, "no entries at all"),
    ),
    laws=("odd", "linear_in_x"),
    wrong={
        "forgets the sign": lambda dy, y, x: (dy,),
        "lets nothing through": lambda dy, y, x: (0.0 * dy,),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="array API standard 2024.12, negative",
)

EXP = Op(
    "exp",
    exp,
    exp_vjp,
    exp_jvp,
    inputs=("x",),
    reads=("y",),
    definition=exp_definition,
    signature="(...)->(...)",
    formula=r"y = e^x",
    gradient=r"\bar x = \bar y \, y",
    samples=(
        Sample((np.array([0.0, 1.0, -1.0]),), {}, "one, e and its reciprocal"),
        Sample((np.array([700.0, -700.0, -800.0]),), {}, "nearly infinite, nearly zero, and zero"),
        Sample((np.zeros((2, 0)),), {}, "no entries at all"),
    ),
    laws=("turns_sums_into_products",),
    wrong={
        "forgets the slope": lambda dy, y, x: (dy,),
        "takes the slope of the sigmoid": lambda dy, y, x: (dy * y * (1.0 - y),),
        "takes the slope of the logarithm": lambda dy, y, x: (dy / y,),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="array API standard 2024.12, exp",
)

LOG = Op(
    "log",
    log,
    log_vjp,
    log_jvp,
    inputs=("x",),
    reads=("x",),
    definition=log_definition,
    signature="(...)->(...)",
    domain={"x": "positive"},
    formula=r"y = \ln x",
    gradient=r"\bar x = \bar y / x",
    samples=(
        Sample((np.array([1.0, math.e, 10.0]),), {}, "zero, one and more"),
        Sample((np.array([1e-300, 1e300]),), {}, "the far ends of the positive numbers"),
        Sample((np.array([1.0 - 1e-12, 1.0 + 1e-12]),), {}, "close to one the result is small"),
    ),
    laws=("turns_products_into_sums",),
    wrong={
        "forgets the slope": lambda dy, y, x: (dy,),
        "multiplies by x": lambda dy, y, x: (dy * x,),
        "takes the slope of 1/x": lambda dy, y, x: (-dy / (x * x),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="array API standard 2024.12, log",
)

SQRT = Op(
    "sqrt",
    sqrt,
    sqrt_vjp,
    sqrt_jvp,
    inputs=("x",),
    reads=("y",),
    definition=sqrt_definition,
    signature="(...)->(...)",
    domain={"x": "positive"},
    formula=r"y = \sqrt{x}",
    gradient=r"\bar x = \frac{\bar y}{2 y}",
    samples=(
        Sample((np.array([1.0, 2.0, 4.0]),), {}, "a square, and none"),
        Sample((np.array([1e-300, 1e300]),), {}, "the far ends of the positive numbers"),
        Sample((np.array(9.0),), {}, "an array without axes"),
    ),
    laws=("squares_back_to_x",),
    wrong={
        "forgets the two": lambda dy, y, x: (dy / y,),
        "divides by x, not by its root": lambda dy, y, x: (dy / (2.0 * y * y),),
        "multiplies by y": lambda dy, y, x: (0.5 * dy * y,),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="array API standard 2024.12, sqrt",
)

TANH = Op(
    "tanh",
    tanh,
    tanh_vjp,
    tanh_jvp,
    inputs=("x",),
    reads=("y",),
    definition=tanh_definition,
    signature="(...)->(...)",
    formula=r"y = \tanh x",
    gradient=r"\bar x = \bar y \, (1 - y^2)",
    samples=(
        Sample((np.array([0.0, 0.5, -0.5]),), {}, "both signs and zero"),
        Sample((np.array([20.0, -1000.0]),), {}, "saturated: the exponentials must not overflow"),
        Sample((np.array([1e-8, -1e-8]),), {}, "close to zero tanh is the identity"),
    ),
    laws=("odd",),
    wrong={
        "forgets to square": lambda dy, y, x: (dy * (1.0 - y),),
        "forgets the one": lambda dy, y, x: (-dy * y * y,),
        "takes the slope of the sigmoid": lambda dy, y, x: (dy * y * (1.0 - y),),
    },
    cost=lambda x: (x.size, 2 * x.size),
    source="array API standard 2024.12, tanh",
)

ASTYPE = Op(
    "astype",
    astype,
    astype_vjp,
    astype_jvp,
    inputs=("x",),
    definition=astype_definition,
    signature="(...):any->(...)",
    draw=_draw,
    analytic=False,  # a cast to real numbers drops the imaginary part
    formula=r"y = x",
    gradient=r"\bar x = \bar y",
    samples=(
        Sample((np.array([1.0, 1.0 + 2.0**-30]),), {"dtype": np.dtype(np.float32)}, "rounds to the narrower dtype"),
        Sample((np.array([True, False]),), {"dtype": np.dtype(np.float64)}, "a mask becomes ones and zeros"),
        Sample((np.array([3, -4]),), {"dtype": np.dtype(np.float64)}, "integers become floating point"),
    ),
    wrong={
        "lets nothing through": lambda dy, y, x, *, dtype: (np.zeros(x.shape, x.dtype),),
        "truncates to integers on the way back": lambda dy, y, x, *, dtype: (np.trunc(dy).astype(x.dtype),),
    },
    cost=lambda x, *, dtype: (0, 2 * x.size),
    source="array API standard 2024.12, astype",
)
