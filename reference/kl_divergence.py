r"""Kullback-Leibler divergence: how many nats it costs to believe q where p is true.

    l_i = p_i (log p_i - log q_i),      sum_i l_i = KL(p || q) >= 0, and 0 only where q = p

for entries of two distributions. As in torch.nn.functional.kl_div, the first input is log q (a model gives log_softmax),
the second is the target p, or log p where `log_target`. An entry with p_i = 0 is never met: it adds nothing to the
sum, whatever q_i is (0 log 0 = 0), and its inputs get no gradient.

    dl/d(log q) = -p
    dl/dp       = log p + 1 - log q                        (p log p has the slope log p + p/p)
    dl/d(log p) = p (log p - log q) + p = p (log p - log q + 1)     (by dp = p d(log p))

With gap = log p - log q (0 where p is), these are p gap, -p, gap + 1 and p (gap + 1).
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

KL_REDUCTIONS = (*REDUCTIONS, "batchmean")


def _parts(log_q: Array, target: Array, log_target: bool) -> tuple[Array, Array, Array]:
    """(p, gap, which entries are met). Where p is 0 no logarithm of it is taken: the infinity would survive as NaN."""
    xp = array_namespace(target)
    p = xp.exp(target) if log_target else target
    met = p != 0
    log_p = xp.where(met, target, 0.0) if log_target else xp.log(xp.where(met, p, 1.0))
    return p, xp.where(met, log_p - log_q, 0.0), met


def _slopes(log_q: Array, target: Array, log_target: bool) -> tuple[Array, Array]:
    """(dl/dlog_q, dl/dtarget), entry by entry."""
    p, gap, met = _parts(log_q, target, log_target)
    return -p, p * (gap + 1.0) if log_target else array_namespace(target).where(met, gap + 1.0, 0.0)


def kl_divergence(log_q: Array, target: Array, *, log_target: bool = False, reduction: str = "mean") -> Array:
    """p (log p - log q), reduced. Shapes: (...), (...) -> (), or (...) where reduction is "none"."""
    p, gap, _ = _parts(log_q, target, log_target)
    return reduced(p * gap, reduction)


def kl_divergence_vjp(
    dy: Array,
    y: Any,
    log_q: Array,
    target: Array,
    *,
    log_target: bool = False,
    reduction: str = "mean",
    wanted: tuple[bool, ...] = BOTH,
) -> tuple[Array | None, ...]:
    """dlog_q = -dy/n p; dtarget = dy/n (gap + 1), times p where the target is log p."""
    by_log_q, by_target = _slopes(log_q, target, log_target)
    dy = dy / divisor(target.shape, reduction)
    return dy * by_log_q if wanted[0] else None, dy * by_target if wanted[1] else None


def kl_divergence_jvp(
    dinputs: tuple[Array, ...],
    y: Array,
    inputs: tuple[Array, ...],
    *,
    log_target: bool = False,
    reduction: str = "mean",
) -> Array:
    """dy = 1/n sum (dl/dlog_q dlog_q + dl/dtarget dtarget)."""
    dlog_q, dtarget = directions(dinputs)
    by_log_q, by_target = _slopes(inputs[0], inputs[1], log_target)
    return reduced(by_log_q * dlog_q + by_target * dtarget, reduction)


def kl_divergence_definition(
    log_q: Array, target: Array, *, log_target: bool = False, reduction: str = "mean"
) -> Array:
    """One number at a time."""

    def loss(log_qi: float, ti: float) -> float:
        p = math.exp(ti) if log_target else ti
        return 0.0 if p == 0.0 else p * ((ti if log_target else math.log(p)) - log_qi)

    return reduced_definition(each(loss, log_q, target), reduction)


def _check(log_q: Any, target: Any, *, log_target: bool = False, reduction: str = "mean") -> None:
    check_loss("kl_divergence", ("log_q", "target"), log_q, target, reduction, KL_REDUCTIONS)


def _draw(rng: np.random.Generator) -> Sample:
    """Distributions along the last axis, no probability near 0, where the slope of p log p is steep."""
    shape = (*random_shape(rng)[:2], int(rng.integers(2, 5)))
    q, p = (rng.uniform(0.2, 1.0, shape) for _ in range(2))
    q, p = q / np.sum(q, axis=-1, keepdims=True), p / np.sum(p, axis=-1, keepdims=True)
    log_target = bool(rng.integers(2))
    params = {"log_target": log_target, "reduction": KL_REDUCTIONS[rng.integers(4)]}
    return Sample((np.log(q), np.log(p) if log_target else p), params, "random")


def _tolerance(log_q: Array, target: Array, *, log_target: bool = False, reduction: str = "mean") -> float:
    """log p and log q cancel in every entry, and entries in the sum: the error is in ulps of what cancelled, that is
    of p (|log p| + |log q|), of which |gap| + 2 |log q| is a bound."""
    p, gap, met = _parts(log_q, target, log_target)
    terms = p * (np.abs(gap) + 2.0 * np.abs(np.where(met, log_q, 0.0)))
    alone = reduction == "none"
    before = np.max(terms, initial=0.0) if alone else np.sum(terms)
    after = np.max(np.abs(p * gap), initial=0.0) if alone else np.abs(np.sum(p * gap))
    cancelled = float(before / after) if 0.0 < after < np.inf else 1.0
    return (8.0 + target.size) * max(1.0, cancelled)


def _wrong(dlog_q: Any = None, dtarget: Any = None) -> Any:
    """A vjp with one slope exchanged, given as function of (log q, p)."""

    def vjp(
        dy: Array, y: Any, log_q: Array, target: Array, *,
        log_target: bool = False, reduction: str = "mean", wanted: Any = BOTH,
    ) -> tuple[Any, ...]:  # fmt: skip
        right = kl_divergence_vjp(dy, y, log_q, target, log_target=log_target, reduction=reduction)
        dy, p = dy / divisor(target.shape, reduction), np.exp(target) if log_target else target
        factor = p if log_target else 1.0
        return (
            right[0] if dlog_q is None else dy * dlog_q(log_q, p),
            right[1] if dtarget is None else dy * dtarget(log_q, p) * factor,
        )

    return vjp


_THREE = np.log(np.array([[0.5, 0.25, 0.25]]))

KL_DIVERGENCE = Op(
    "kl_divergence",
    kl_divergence,
    kl_divergence_vjp,
    kl_divergence_jvp,
    inputs=("log_q", "target"),
    reads=("log_q", "target"),
    takes_wanted=True,
    definition=kl_divergence_definition,
    signature=loss_signature,
    check=_check,
    draw=_draw,
    domain={"target": "positive"},
    formula=r"L = \frac1n \sum_i p_i (\log p_i - \log q_i)",
    gradient=r"\overline{\log q}_i = -\frac{\bar L}{n} p_i, \quad \bar p_i = \frac{\bar L}{n} (\log p_i - \log q_i + 1)",
    samples=(
        Sample(
            (_THREE, np.array([[0.5, 0.25, 0.25]])), {"reduction": "sum"}, "a distribution is at no distance of itself"
        ),
        Sample((_THREE, np.array([[1.0, 0.0, 0.0]])), {"reduction": "batchmean"}, "0 log 0 is 0: log 2 remains"),
        Sample(
            (np.array([[0.0, -np.inf]]), np.array([[1.0, 0.0]])), {}, "what never happens may be believed impossible"
        ),
        Sample((np.array([[0.0, -np.inf]]), np.array([[0.5, 0.5]])), {}, "what happens may not: the cost is infinite"),
        Sample((_THREE, np.array([[0.0, -np.inf, -800.0]])), {"log_target": True}, "the same zeros as logarithms of p"),
        Sample(
            (_THREE, np.array([[0.1, 0.2, 0.7]])), {"reduction": "none"}, "entries may be negative, their sum may not"
        ),
        Sample((np.zeros((0, 3)), np.zeros((0, 3))), {"reduction": "sum"}, "a sum of nothing is zero"),
    ),
    laws=("gibbs_inequality", "no_loss_at_the_target"),
    wrong={
        "changes p and q": _wrong(lambda log_q, p: -np.exp(log_q)),
        "has the sign of the cross entropy": _wrong(lambda log_q, p: p),
        "forgets the slope of log p": _wrong(None, lambda log_q, p: np.log(p) - log_q),
        "forgets log p": _wrong(None, lambda log_q, p: -log_q),
        "divides by the number of entries, and one more": lambda dy, y, *inputs, wanted=BOTH, **params: tuple(
            dx / (1.0 + inputs[0].size) for dx in kl_divergence_vjp(dy, y, *inputs, **params)
        ),
    },
    tolerance=_tolerance,
    cost=loss_cost(5),
    source="Kullback, Leibler 1951; Goodfellow, Bengio, Courville: Deep Learning, section 3.13",
)
