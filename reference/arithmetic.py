r"""Functions of two numbers, applied at every place of the common shape: y_i = f(a_i, b_i), a and b broadcast.

The total differential dy = f_a da + f_b db gives both products with the Jacobian: the jvp is that sum, and the
cotangents are da = f_a dy and db = f_b dy. Broadcasting reads one number in many places, so each cotangent is then
summed over the axes along which its input was stretched (`unbroadcast`). With a = x1, b = x2:

    f              df/dx1                df/dx2
    x1 + x2        1                     1
    x1 - x2        1                     -1
    x1 x2          x2                    x1
    x1 / x2        1 / x2                -x1 / x2^2 = -y / x2

Either of x1 and x2 may be a Python number: it has no shape, no dtype and no cotangent (`wanted` is False for it), and
its direction is 0.0 or None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .elementwise import each, random_shape
from .namespace import Array, namespace_of, unbroadcast
from .op import Op, Sample

NUMBERS = (float, int, bool)
BOTH = (True, True)


def directions(dinputs: tuple[Any, ...]) -> list[Any]:
    """An input that stands still has the direction None: it counts as zero."""
    return [0.0 if dx is None else dx for dx in dinputs]


# ---- add


def add(x1: Array, x2: Array) -> Array:
    """y = x1 + x2. Shapes: (...), (...) -> (...), broadcast."""
    return x1 + x2


def add_vjp(dy: Array, y: Any, x1: Any, x2: Any, *, wanted: tuple[bool, ...] = BOTH) -> tuple[Array | None, ...]:
    """dx1 = dy and dx2 = dy."""
    return (unbroadcast(dy, x1.shape) if wanted[0] else None, unbroadcast(dy, x2.shape) if wanted[1] else None)


def add_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...]) -> Array:
    """dy = dx1 + dx2."""
    dx1, dx2 = directions(dinputs)
    return namespace_of(dx1, dx2).broadcast_to(dx1 + dx2, y.shape)


def add_definition(x1: Array, x2: Array) -> Array:
    """One number at a time."""
    return each(lambda a, b: a + b, x1, x2)


# ---- subtract


def subtract(x1: Array, x2: Array) -> Array:
    """y = x1 - x2. Shapes: (...), (...) -> (...), broadcast."""
    return x1 - x2


def subtract_vjp(dy: Array, y: Any, x1: Any, x2: Any, *, wanted: tuple[bool, ...] = BOTH) -> tuple[Array | None, ...]:
    """dx1 = dy and dx2 = -dy."""
    return (unbroadcast(dy, x1.shape) if wanted[0] else None, unbroadcast(-dy, x2.shape) if wanted[1] else None)


def subtract_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...]) -> Array:
    """dy = dx1 - dx2."""
    dx1, dx2 = directions(dinputs)
    return namespace_of(dx1, dx2).broadcast_to(dx1 - dx2, y.shape)


def subtract_definition(x1: Array, x2: Array) -> Array:
    """One number at a time."""
    return each(lambda a, b: a - b, x1, x2)


# ---- multiply


def multiply(x1: Array, x2: Array) -> Array:
    """y = x1 x2. Shapes: (...), (...) -> (...), broadcast."""
    return x1 * x2


def multiply_vjp(
    dy: Array, y: Any, x1: Array, x2: Array, *, wanted: tuple[bool, ...] = BOTH
) -> tuple[Array | None, ...]:
    """dx1 = dy x2 and dx2 = dy x1."""
    return (
        unbroadcast(dy * x2, x1.shape) if wanted[0] else None,
        unbroadcast(dy * x1, x2.shape) if wanted[1] else None,
    )


def multiply_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...]) -> Array:
    """dy = dx1 x2 + x1 dx2: the product rule."""
    (dx1, dx2), (x1, x2) = directions(dinputs), inputs
    return dx1 * x2 + x1 * dx2


def multiply_definition(x1: Array, x2: Array) -> Array:
    """One number at a time."""
    return each(lambda a, b: a * b, x1, x2)


# ---- divide


def divide(x1: Array, x2: Array) -> Array:
    """y = x1 / x2. Shapes: (...), (...) -> (...), broadcast."""
    return x1 / x2


def divide_vjp(dy: Array, y: Array, x1: Any, x2: Array, *, wanted: tuple[bool, ...] = BOTH) -> tuple[Array | None, ...]:
    """dx1 = dy / x2 and dx2 = -dy y / x2."""
    dx1 = dy / x2
    return (
        unbroadcast(dx1, x1.shape) if wanted[0] else None,
        unbroadcast(-dx1 * y, x2.shape) if wanted[1] else None,
    )


def divide_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...]) -> Array:
    """y x2 = x1, so dy x2 + y dx2 = dx1: dy = (dx1 - y dx2) / x2."""
    dx1, dx2 = directions(dinputs)
    return (dx1 - y * dx2) / inputs[1]


def divide_definition(x1: Array, x2: Array) -> Array:
    """One number at a time."""
    return each(lambda a, b: a / b, x1, x2)


# ---- the rows, and what they share with power and where


def broadcast_size(*xs: Any) -> int:
    """Entries of the broadcast shape."""
    size = 1
    for n in np.broadcast_shapes(*(() if type(x) in NUMBERS else x.shape for x in xs)):
        size *= n
    return size


def moved(*xs: Any) -> int:
    """Entries read and written."""
    return broadcast_size(*xs) + sum(1 if type(x) in NUMBERS else x.size for x in xs)


def reach(*xs: Any) -> float:
    """The tolerance: grows with the number of places that read one number, whose cotangents are summed."""
    return 8.0 + broadcast_size(*xs) / max(1, min(x.size for x in xs if type(x) not in NUMBERS))


def random_shapes(rng: np.random.Generator, n: int) -> list[tuple[int, ...]]:
    """n shapes that broadcast: some axes are 1, some leading ones missing."""
    shape = random_shape(rng)
    return [
        tuple(1 if rng.random() < 0.25 else length for length in shape[rng.integers(0, len(shape) + 1) // 2 :])
        for _ in range(n)
    ]


def _draw(rng: np.random.Generator) -> Sample:
    """Away from zero, so that a denominator is one; every sixth x1 and every sixth x2 is a Python number."""
    x1, x2 = (rng.uniform(0.5, 2.0, s) * rng.choice((-1.0, 1.0), s) for s in random_shapes(rng, 2))
    number = int(rng.integers(6))
    return Sample((1.5 if number == 0 else x1, -0.75 if number == 1 else x2), {}, "random")


def sketch(dx1: Callable[..., Array], dx2: Callable[..., Array]) -> Callable[..., tuple[Array | None, ...]]:
    """A vjp from two slopes (right or wrong), each called with (dy, y, x1, x2)."""

    def vjp(dy: Array, y: Array, x1: Array, x2: Array, *, wanted: Any = None) -> tuple[Array | None, ...]:
        return tuple(
            None if type(x) in NUMBERS else unbroadcast(dx(dy, y, x1, x2), x.shape) for dx, x in ((dx1, x1), (dx2, x2))
        )

    return vjp


def averages(right: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """The right vjp, but the mean in place of the sum over stretched axes."""

    def vjp(dy: Array, y: Array, *xs: Any, wanted: tuple[bool, ...]) -> tuple[Any, ...]:
        dxs = right(dy, y, *xs, wanted=wanted)
        return tuple(None if dx is None else dx * (dx.size / dy.size) for dx in dxs)

    return vjp


ADD = Op(
    "add",
    add,
    add_vjp,
    add_jvp,
    inputs=("x1", "x2"),
    takes_wanted=True,
    definition=add_definition,
    signature="(...):any,(...):any->(...)",
    draw=_draw,
    formula=r"y = x_1 + x_2",
    gradient=r"\bar x_1 = \bar y, \quad \bar x_2 = \bar y",
    samples=(
        Sample((np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([10.0, 20.0])), {}, "a bias row is read by every row"),
        Sample((np.array([[1.0], [2.0]]), np.array([[5.0, 6.0, 7.0]])), {}, "both are stretched"),
        Sample((np.array([1.0, -1.0]), 0.5), {}, "a Python number"),
        Sample((np.zeros((0, 2)), np.ones(2)), {}, "no rows: the bias gets a zero cotangent"),
    ),
    laws=("commutative",),
    wrong={
        "gives nothing to x2": sketch(lambda dy, y, x1, x2: dy, lambda dy, y, x1, x2: 0.0 * dy),
        "shares the cotangent between the two": sketch(lambda dy, y, x1, x2: 0.5 * dy, lambda dy, y, x1, x2: 0.5 * dy),
        "averages over stretched axes": averages(add_vjp),
    },
    tolerance=reach,
    cost=lambda x1, x2: (broadcast_size(x1, x2), moved(x1, x2)),
    source="Griewank, Walther: Evaluating Derivatives, 2nd ed., chapter 3",
)

SUBTRACT = Op(
    "subtract",
    subtract,
    subtract_vjp,
    subtract_jvp,
    inputs=("x1", "x2"),
    takes_wanted=True,
    definition=subtract_definition,
    signature="(...):any,(...):any->(...)",
    draw=_draw,
    formula=r"y = x_1 - x_2",
    gradient=r"\bar x_1 = \bar y, \quad \bar x_2 = -\bar y",
    samples=(
        Sample((np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[1.5], [4.0]])), {}, "a mean of each row is taken off"),
        Sample((1.0, np.array([0.25, 3.0])), {}, "a Python number on the left"),
        Sample((np.array([1.0 + 1e-12]), np.array([1.0])), {}, "nearly equal numbers cancel"),
    ),
    wrong={
        "forgets the minus sign": sketch(lambda dy, y, x1, x2: dy, lambda dy, y, x1, x2: dy),
        "gives the minus sign to both": sketch(lambda dy, y, x1, x2: -dy, lambda dy, y, x1, x2: -dy),
        "averages over stretched axes": averages(subtract_vjp),
    },
    tolerance=reach,
    cost=lambda x1, x2: (broadcast_size(x1, x2), moved(x1, x2)),
    source="Griewank, Walther: Evaluating Derivatives, 2nd ed., chapter 3",
)

MULTIPLY = Op(
    "multiply",
    multiply,
    multiply_vjp,
    multiply_jvp,
    inputs=("x1", "x2"),
    reads=("x1", "x2"),
    takes_wanted=True,
    definition=multiply_definition,
    signature="(...):any,(...):any->(...)",
    draw=_draw,
    formula=r"y = x_1 \, x_2",
    gradient=r"\bar x_1 = \bar y \, x_2, \quad \bar x_2 = \bar y \, x_1",
    samples=(
        Sample((np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[10.0], [-1.0]])), {}, "a gain for every row"),
        Sample((np.array([0.0, 2.0]), np.array([5.0, 0.0])), {}, "zeros: each slope is the other factor"),
        Sample((np.array([1.0, -1.0]), 3), {}, "a Python number"),
        Sample((np.array([1e-200, 1e200]), np.array([1e-200, 1e100])), {}, "underflow, and nearly infinite"),
    ),
    laws=("commutative", "linear_in_x1", "linear_in_x2"),
    wrong={
        "takes the own factor for the other": sketch(lambda dy, y, x1, x2: dy * x1, lambda dy, y, x1, x2: dy * x2),
        "forgets the factors": sketch(lambda dy, y, x1, x2: dy, lambda dy, y, x1, x2: dy),
        "averages over stretched axes": averages(multiply_vjp),
    },
    tolerance=reach,
    cost=lambda x1, x2: (broadcast_size(x1, x2), moved(x1, x2)),
    source="Griewank, Walther: Evaluating Derivatives, 2nd ed., chapter 3",
)

DIVIDE = Op(
    "divide",
    divide,
    divide_vjp,
    divide_jvp,
    inputs=("x1", "x2"),
    reads=("x2", "y"),
    takes_wanted=True,
    definition=divide_definition,
    signature="(...):any,(...):any->(...)",
    draw=_draw,
    domain={"x2": "nonzero"},
    formula=r"y = x_1 / x_2",
    gradient=r"\bar x_1 = \bar y / x_2, \quad \bar x_2 = -\bar y \, y / x_2",
    samples=(
        Sample((np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[3.0], [7.0]])), {}, "each row by its sum"),
        Sample((1.0, np.array([0.5, -4.0])), {}, "a reciprocal: a Python number on the left"),
        Sample((np.array([1.0, 0.0]), 3.0), {}, "a Python number below"),
        Sample((np.array([1e200]), np.array([1e200])), {}, "squaring the denominator would overflow"),
    ),
    laws=("linear_in_x1",),
    wrong={
        "forgets the minus sign": sketch(lambda dy, y, x1, x2: dy / x2, lambda dy, y, x1, x2: dy * y / x2),
        "forgets to square the denominator": sketch(lambda dy, y, x1, x2: dy / x2, lambda dy, y, x1, x2: -dy * y),
        "multiplies where it should divide": sketch(lambda dy, y, x1, x2: dy * x2, lambda dy, y, x1, x2: -dy * y / x2),
        "averages over stretched axes": averages(divide_vjp),
    },
    tolerance=reach,
    cost=lambda x1, x2: (broadcast_size(x1, x2), moved(x1, x2)),
    source="Griewank, Walther: Evaluating Derivatives, 2nd ed., chapter 3",
)
