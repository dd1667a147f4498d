r"""Mean squared error: how far a prediction is from its target, where being twice as far costs four times as much.

    l_i = (x_i - t_i)^2,      y = 1/n sum_i l_i        (x: prediction, t: target; see loss_reduction.py for the 1/n)

    dl_i = 2 (x_i - t_i) (dx_i - dt_i),   so   dx_i = dy/n 2 (x_i - t_i)   and   dt_i = -dx_i.

It is, up to constants, the negative log likelihood of x + noise under a normal distribution; the gradient is linear in
the error, and the two inputs can change places. As in PyTorch there is no 1/2 in front, hence the 2 in the gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arithmetic import BOTH, directions
from .elementwise import each, random_shape
from .loss_reduction import (
    REDUCTIONS,
    check_loss,
    divisor,
    loss_cost,
    loss_signature,
    reduced,
    reduced_definition,
)
from .namespace import Array
from .op import Op, Sample


def mse(prediction: Array, target: Array, *, reduction: str = "mean") -> Array:
    """(prediction - target)^2, reduced. Shapes: (...), (...) -> (), or (...) where reduction is "none"."""
    error = prediction - target
    return reduced(error * error, reduction)


def mse_vjp(
    dy: Array, y: Any, prediction: Array, target: Array, *, reduction: str = "mean", wanted: tuple[bool, ...] = BOTH
) -> tuple[Array | None, ...]:
    """dprediction = dy/n 2 (prediction - target), dtarget = -dprediction."""
    dprediction = dy * (2.0 * (prediction - target)) / divisor(prediction.shape, reduction)
    return dprediction if wanted[0] else None, -dprediction if wanted[1] else None


def mse_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...], *, reduction: str = "mean") -> Array:
    """dy = 1/n sum 2 (prediction - target) (dprediction - dtarget)."""
    (dprediction, dtarget), (prediction, target) = directions(dinputs), inputs
    return reduced(2.0 * (prediction - target) * (dprediction - dtarget), reduction)


def mse_definition(prediction: Array, target: Array, *, reduction: str = "mean") -> Array:
    """One number at a time."""
    return reduced_definition(each(lambda x, t: (x - t) ** 2, prediction, target), reduction)


def _check(prediction: Any, target: Any, *, reduction: str = "mean") -> None:
    check_loss("mse", ("prediction", "target"), prediction, target, reduction, REDUCTIONS)


def _draw(rng: np.random.Generator) -> Sample:
    shape = random_shape(rng)
    inputs = (rng.standard_normal(shape), rng.standard_normal(shape))
    return Sample(inputs, {"reduction": REDUCTIONS[rng.integers(3)]}, "random")


MSE = Op(
    "mse",
    mse,
    mse_vjp,
    mse_jvp,
    inputs=("prediction", "target"),
    reads=("prediction", "target"),
    takes_wanted=True,
    definition=mse_definition,
    signature=loss_signature,
    check=_check,
    draw=_draw,
    formula=r"L = \frac1n \sum_i (x_i - t_i)^2",
    gradient=r"\bar x_i = \frac{2 \bar L}{n} (x_i - t_i), \quad \bar t_i = -\bar x_i",
    samples=(
        Sample((np.array([1.0, 2.0]), np.array([1.0, 4.0])), {}, "one prediction is right"),
        Sample((np.array([[1.0], [2.0]]), np.array([[0.0], [0.0]])), {"reduction": "sum"}, "the sum over every axis"),
        Sample((np.array([1.0, 2.0]), np.array([0.0, 5.0])), {"reduction": "none"}, "a loss for every entry"),
        Sample((np.array(3.0), np.array(1.0)), {}, "arrays without axes"),
        Sample((np.array([1e8 + 1.0]), np.array([1e8])), {}, "close numbers: x^2 - 2 x t + t^2 would lose everything"),
        Sample((np.zeros((0, 2)), np.zeros((0, 2))), {"reduction": "sum"}, "a sum of nothing is zero"),
    ),
    laws=("nonnegative", "commutative", "no_loss_at_the_target"),
    wrong={
        "forgets the 2": lambda dy, y, *inputs, wanted=BOTH, **params: mse_vjp(0.5 * dy, y, *inputs, **params),
        "gives the target the sign of the prediction": lambda dy, y, *inputs, wanted=BOTH, **params: (
            (mse_vjp(dy, y, *inputs, **params)[0],) * 2
        ),
        "multiplies by the number of entries, and one more": lambda dy, y, *inputs, wanted=BOTH, **params: tuple(
            dx * (1.0 + inputs[0].size) for dx in mse_vjp(dy, y, *inputs, **params)
        ),
        "has the slope of the absolute error": lambda dy, y, x, t, *, reduction="mean", wanted=BOTH: (
            dy * np.sign(x - t) / divisor(x.shape, reduction),
            -dy * np.sign(x - t) / divisor(x.shape, reduction),
        ),
    },
    tolerance=lambda prediction, target, **params: 8.0 + prediction.size,
    cost=loss_cost(3),
    source="Goodfellow, Bengio, Courville: Deep Learning, section 5.5.1",
)
