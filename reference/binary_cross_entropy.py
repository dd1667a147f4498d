r"""Binary cross entropy with logits: one yes-or-no question an entry, answered with p = sigmoid(x) = 1 / (1 + e^-x).

    l = -t log p - (1 - t) log (1 - p),      t the probability that the answer is yes, soft ones included

Written in the logit x, with -log p = log(1 + e^-x) and -log(1 - p) = log(1 + e^x) = x + log(1 + e^-x),

    l = (1 - t) x + log(1 + e^-x) = max(x, 0) - x t + log(1 + e^-|x|)

where the exponential cannot overflow. The first two terms are |x| times the mass on the wrong side,

    max(x, 0) - x t = |x| w,      w = 1 - t where x >= 0, and t where x < 0:

nothing is subtracted from a large number any more, and a confident right answer keeps its small loss to the last digit.
Where no mass is on the wrong side, w = 0, the term is 0, also for an infinite x (a logit of minus infinity rules yes out).

    dl/dx = (1 - t) - e^-x / (1 + e^-x) = sigmoid(x) - t:   probability given, minus probability deserved.
    dl/dt = -x.

sigmoid(x) itself is 1 / (1 + e) or e / (1 + e) with e = e^-|x|, by the sign of x. Both are the same smooth function,
and so are their derivatives of every order at 0.
"""

from __future__ import annotations

import math
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
from .namespace import Array, array_namespace
from .op import Op, Sample


def _magnitude(x: Array) -> Array:
    """|x|, whose slope at 0 is that of the side on which `x < 0` puts 0."""
    return array_namespace(x).where(x < 0, -x, x)


def _given(x: Array) -> Array:
    """sigmoid(x)."""
    xp = array_namespace(x)
    e = xp.exp(-_magnitude(x))
    return xp.where(x < 0, e, 1.0) / (1.0 + e)


def binary_cross_entropy_with_logits(logits: Array, targets: Array, *, reduction: str = "mean") -> Array:
    """|x| w + log(1 + e^-|x|), reduced. Shapes: (...), (...) -> (), or (...) where reduction is "none"."""
    xp = array_namespace(logits)
    size = _magnitude(logits)
    w = xp.where(logits < 0, targets, 1.0 - targets)  # the mass on the wrong side
    return reduced(xp.where(w == 0, 0.0, size) * w + xp.log1p(xp.exp(-size)), reduction)


def binary_cross_entropy_with_logits_vjp(
    dy: Array, y: Any, logits: Array, targets: Array, *, reduction: str = "mean", wanted: tuple[bool, ...] = BOTH
) -> tuple[Array | None, ...]:
    """dlogits = dy/n (sigmoid(logits) - targets), dtargets = -dy/n logits."""
    dy = dy / divisor(logits.shape, reduction)
    return dy * (_given(logits) - targets) if wanted[0] else None, -dy * logits if wanted[1] else None


def binary_cross_entropy_with_logits_jvp(
    dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...], *, reduction: str = "mean"
) -> Array:
    """dy = 1/n sum ((sigmoid(logits) - targets) dlogits - logits dtargets)."""
    (dlogits, dtargets), (logits, targets) = directions(dinputs), inputs
    return reduced((_given(logits) - targets) * dlogits - logits * dtargets, reduction)


def binary_cross_entropy_with_logits_definition(logits: Array, targets: Array, *, reduction: str = "mean") -> Array:
    """One number at a time: -log p = log(1 + e^-x) for yes and log(1 + e^x) for no, each by what it is worth."""

    def softplus(v: float) -> float:
        return v + math.log1p(math.exp(-v)) if v > 0.0 else math.log1p(math.exp(v))

    def loss(x: float, t: float) -> float:
        terms = ((t, softplus(-x)), (1.0 - t, softplus(x)))
        return sum(weight * surprise for weight, surprise in terms if weight != 0.0 and surprise != 0.0)

    return reduced_definition(each(loss, logits, targets), reduction)


def _check(logits: Any, targets: Any, *, reduction: str = "mean") -> None:
    check_loss("binary_cross_entropy_with_logits", ("logits", "targets"), logits, targets, reduction, REDUCTIONS)


def _draw(rng: np.random.Generator) -> Sample:
    """Soft targets, away from logits of zero, where nothing depends on the target."""
    shape = random_shape(rng)
    logits = rng.uniform(0.3, 4.0, shape) * rng.choice((-1.0, 1.0), shape)
    return Sample((logits, rng.uniform(0.05, 0.95, shape)), {"reduction": REDUCTIONS[rng.integers(3)]}, "random")


def _wrong(dlogits: Any = None, dtargets: Any = None) -> Any:
    """A vjp with one slope exchanged, given as function of (x, t)."""

    def vjp(dy: Array, y: Any, x: Array, t: Array, *, reduction: str = "mean", wanted: Any = BOTH) -> tuple[Any, ...]:
        dx, dt = binary_cross_entropy_with_logits_vjp(dy, y, x, t, reduction=reduction)
        dy = dy / divisor(x.shape, reduction)
        return dx if dlogits is None else dy * dlogits(x, t), dt if dtargets is None else dy * dtargets(x, t)

    return vjp


BINARY_CROSS_ENTROPY_WITH_LOGITS = Op(
    "binary_cross_entropy_with_logits",
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_vjp,
    binary_cross_entropy_with_logits_jvp,
    inputs=("logits", "targets"),
    reads=("logits", "targets"),
    takes_wanted=True,
    definition=binary_cross_entropy_with_logits_definition,
    signature=loss_signature,
    check=_check,
    draw=_draw,
    formula=r"L = \frac1n \sum_i \left(\max(x_i, 0) - x_i t_i + \log(1 + e^{-|x_i|})\right)",
    gradient=r"\bar x_i = \frac{\bar L}{n} (\sigma(x_i) - t_i), \quad \bar t_i = -\frac{\bar L}{n} x_i",
    samples=(
        Sample((np.array([0.0, 0.0]), np.array([0.0, 1.0])), {}, "no opinion costs log 2"),
        Sample(
            (np.array([800.0, -800.0]), np.array([0.0, 1.0])),
            {},
            "certain and wrong: the exponential must not overflow",
        ),
        Sample((np.array([50.0, -50.0]), np.array([1.0, 0.0])), {}, "certain and right: a loss far below eps"),
        Sample((np.array([30.0]), np.array([1.0 - 2.0**-40])), {}, "a soft target close to one keeps its digits"),
        Sample(
            (np.array([[1.0, -2.0]]), np.array([[0.5, 0.25]])), {"reduction": "none"}, "soft targets, entry by entry"
        ),
        Sample(
            (np.array([-np.inf, np.inf]), np.array([0.5, 0.5])), {"reduction": "none"}, "infinitely sure, half wrong"
        ),
        Sample((np.array(2.0), np.array(1.0)), {"reduction": "sum"}, "arrays without axes"),
        Sample((np.zeros((2, 0)), np.zeros((2, 0))), {"reduction": "sum"}, "a sum of nothing is zero"),
    ),
    laws=("nonnegative", "yes_and_no_change_places"),
    wrong={
        "forgets the target": _wrong(lambda x, t: 1.0 / (1.0 + np.exp(-x))),
        "multiplies by the slope of the sigmoid": _wrong(
            lambda x, t: (1.0 / (1.0 + np.exp(-x)) - t) * np.exp(-x) / (1.0 + np.exp(-x)) ** 2
        ),
        "has the sign of the log likelihood": _wrong(lambda x, t: t - 1.0 / (1.0 + np.exp(-x))),
        "takes the targets for constants": _wrong(None, lambda x, t: 0.0 * x),
        "has the slope of max(x, 0) for the targets": _wrong(None, lambda x, t: -np.maximum(x, 0.0)),
    },
    tolerance=lambda logits, targets, **params: 8.0 + logits.size,
    cost=loss_cost(8),
    source="Goodfellow, Bengio, Courville: Deep Learning, section 6.2.2.2",
)
