r"""Cross entropy: how surprised a model is by the right answers, -log of the probability that it gave them, on average.

    loss = 1/R sum_rows ( logsumexp(x) - x_t ),      logsumexp(x) = log sum_k exp(x_k)

for rows x of logits with targets t: this is -log softmax(x)_t without ever dividing. Taking the largest logit m out of
both terms, log sum exp(x - m) - (x_t - m), keeps exp from overflowing and the difference of large numbers exact.

    d logsumexp(x) / dx_j = exp(x_j) / sum_k exp(x_k) = softmax(x)_j,    dx_t/dx_j = [j = t]
    dx_j = dy / R (softmax(x)_j - [j = t]):   probability given, minus probability deserved.

The target is picked by comparison with arange, (t = j) for every class j: the standard's indexing has no gradient.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .namespace import Array, array_namespace
from .op import Op, Sample
from .softmax import softmax


def _is_target(logits: Array, targets: Array) -> Array:
    """True at the target of every row: (..., v)."""
    xp = array_namespace(logits)
    return xp.expand_dims(targets, axis=-1) == xp.arange(logits.shape[-1], dtype=targets.dtype)


def cross_entropy(logits: Array, targets: Array) -> Array:
    """Mean over rows of -log softmax(logits) at the target. Shapes: (..., v), (...) of ints in 0..v-1 -> ()."""
    xp = array_namespace(logits)
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)  # (..., v)
    # `where`, not a product: a class ruled out by a logit of minus infinity would give 0 * inf.
    picked = xp.where(_is_target(logits, targets), shifted, 0.0)
    losses = xp.log(xp.sum(xp.exp(shifted), axis=-1)) - xp.sum(picked, axis=-1)  # (...)
    return xp.sum(losses) / math.prod(targets.shape)


def _slope(logits: Array, targets: Array) -> Array:
    """dloss/dlogits = (softmax(logits) - [target]) / R. Shape: (..., v)."""
    hit = array_namespace(logits).astype(_is_target(logits, targets), logits.dtype)
    return (softmax(logits) - hit) / math.prod(targets.shape)


def cross_entropy_vjp(dy: Array, y: Any, logits: Array, targets: Array) -> tuple[Array, None]:
    """dlogits = dy / R (softmax(logits) - [target])."""
    return dy * _slope(logits, targets), None


def cross_entropy_jvp(dinputs: tuple[Array, Any], y: Any, inputs: tuple[Array, Array]) -> Array:
    """dy = <dlogits, softmax(logits) - [target]> / R."""
    return array_namespace(dinputs[0]).sum(dinputs[0] * _slope(*inputs))


def cross_entropy_definition(logits: Array, targets: Array) -> Array:
    """One number at a time."""
    losses = []
    for index in np.ndindex(targets.shape):
        row = [float(v) for v in logits[index]]
        largest = max(row)
        total = math.fsum(math.exp(v - largest) for v in row)
        losses.append(math.log(total) - (row[int(targets[index])] - largest))
    return np.asarray(math.fsum(losses) / len(losses), dtype=logits.dtype)


def _check(logits: Any, targets: Any) -> None:
    if tuple(targets.shape) != tuple(logits.shape[:-1]):
        raise ValueError(
            f"cross_entropy: targets has shape {tuple(targets.shape)}, but logits {tuple(logits.shape)} "
            f"needs {tuple(logits.shape[:-1])}"
        )
    if 0 in logits.shape:
        raise ValueError(
            f"cross_entropy: logits has shape {tuple(logits.shape)}, but a mean needs at least one row and one class"
        )


def _tolerance(logits: Array, targets: Array) -> float:
    """A sum over classes and its logarithm, which is small, but not its error, where the model is almost certain."""
    loss = float(cross_entropy(logits, targets))
    return float(8 + logits.shape[-1]) * (1.0 + 1.0 / loss if loss > 0.0 else 1.0)


CROSS_ENTROPY = Op(
    "cross_entropy",
    cross_entropy,
    cross_entropy_vjp,
    cross_entropy_jvp,
    inputs=("logits", "targets"),
    reads=("logits", "targets"),
    nondiff=("targets",),
    definition=cross_entropy_definition,
    signature="(...,v),(...):int->()",
    check=_check,
    domain={"targets": "id:v"},
    formula=r"L = \frac1R \sum_r \left(\log \sum_k e^{x_{rk}} - x_{r t_r}\right)",
    gradient=r"\bar x_{rj} = \frac{\bar L}{R} \left(\mathrm{softmax}(x_r)_j - [j = t_r]\right)",
    samples=(
        Sample((np.zeros((2, 4)), np.array([0, 3])), {}, "equal logits cost log v"),
        Sample(
            (np.array([[1000.0, 0.0], [0.0, -1000.0]]), np.array([0, 1])), {}, "large logits overflow without the shift"
        ),
        Sample(
            (np.array([1e-3, 50.0, 0.0]), np.array(1)), {}, "one row without leading axes, almost certain and right"
        ),
        Sample(
            (np.array([[0.5, -np.inf, 1.5]]), np.array([2])), {}, "a class ruled out by minus infinity costs nothing"
        ),
        Sample((np.array([[7.0], [-7.0]]), np.array([0, 0])), {}, "one class: no surprise, no gradient"),
        Sample(
            (np.arange(12.0).reshape(2, 2, 3) / 5, np.array([[0, 2], [1, 1]])), {}, "several leading axes, one mean"
        ),
    ),
    laws=("shift_invariant", "nonnegative"),
    wrong={
        "averages over the classes too": lambda dy, y, logits, targets: (
            dy * _slope(logits, targets) / logits.shape[-1],
            None,
        ),
        "forgets the target": lambda dy, y, logits, targets: (dy * softmax(logits) / targets.size, None),
        "forgets the cotangent": lambda dy, y, logits, targets: (_slope(logits, targets), None),
        "has the sign of the log likelihood": lambda dy, y, logits, targets: (-dy * _slope(logits, targets), None),
    },
    tolerance=_tolerance,
    cost=lambda logits, targets: (5 * logits.size, logits.size + targets.size),
    source="Goodfellow, Bengio, Courville: Deep Learning, sections 6.2.2.3 and 3.13",
)
