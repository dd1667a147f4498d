r"""Cross entropy: how surprised a model is by the right answers, -log of the probability that it gave them, on average.

    loss = 1/R sum_r ( logsumexp(x_r) - sum_k q_rk x_rk ),      logsumexp(x) = log sum_k exp(x_k)

for rows x_r of v logits. Without smoothing q_r is one at the target t_r and zero elsewhere: then a row costs
-log softmax(x)_t without ever dividing. Taking the largest logit m out of both terms, log sum exp(x - m) - (x_t - m),
keeps exp from overflowing, and a small loss from drowning in large logits.

Label smoothing eps hands a share of the certainty to all classes alike,

    q_rk = (1 - eps) [k = t_r] + eps / v,      sum_k q_rk = 1,

so the row costs -sum_k q_rk log softmax(x_r)_k, and because q sums to one, logsumexp is still there exactly once.
A class that a logit of minus infinity rules out has probability 0: it costs nothing where q is zero, and infinity where
it deserves a share eps / v.

Rows whose target is `ignore_index` (padding) do not count: R is the number of the others. Where nothing counts, the
loss is 0, as an empty sum is, and so are the gradients.

    d logsumexp(x) / dx_j = exp(x_j) / sum_k exp(x_k) = softmax(x)_j,    d (sum_k q_k x_k) / dx_j = q_j
    dx_rj = dy / R (softmax(x_r)_j - q_rj):   probability given, minus probability deserved; 0 in a row that is ignored.

The target is picked by comparison with arange, (t = j) for every class j: the standard's indexing has no gradient.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .elementwise import random_shape
from .namespace import Array, array_namespace
from .op import Op, Sample
from .softmax import softmax


def _is_target(logits: Array, targets: Array) -> Array:
    """True at the target of every row: (..., v)."""
    xp = array_namespace(logits)
    # Classes are counted in the default integer: 300 of them do not fit into the uint8 in which targets may come.
    return xp.expand_dims(targets, axis=-1) == xp.arange(logits.shape[-1])


def _rows_only(logits: Array, targets: Array, ignore_index: int | None) -> tuple[Array, Array | None, Any]:
    """(logits, which rows count (...), how many: R). Ignored logits become zeros: not even their NaN is seen."""
    if ignore_index is None:
        return logits, None, math.prod(targets.shape)
    xp = array_namespace(logits)
    counts = targets != ignore_index  # (...)
    rows = xp.sum(xp.astype(counts, logits.dtype))
    return (
        xp.where(xp.expand_dims(counts, axis=-1), logits, 0.0),
        counts,
        xp.where(rows == 0, 1.0, rows),  # an empty sum over one row is 0
    )


def cross_entropy(
    logits: Array, targets: Array, *, ignore_index: int | None = None, label_smoothing: float = 0.0
) -> Array:
    """Mean over rows of -sum_k q_k log softmax(logits)_k. Shapes: (..., v), (...) of ints in 0..v-1 -> ().

    ignore_index: rows with this target, which may be any integer, do not count. label_smoothing: eps in 0..1.
    """
    xp = array_namespace(logits)
    logits, counts, rows = _rows_only(logits, targets, ignore_index)
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)  # (..., v)
    hit, share = _is_target(logits, targets), label_smoothing / logits.shape[-1]
    # `where`, not a product: a class ruled out by a logit of minus infinity would give 0 * inf.
    if label_smoothing == 0.0:
        deserved = xp.where(hit, shifted, 0.0)
    else:
        deserved = xp.where(hit, (1.0 - label_smoothing + share) * shifted, share * shifted)
    losses = xp.log(xp.sum(xp.exp(shifted), axis=-1)) - xp.sum(deserved, axis=-1)  # (...)
    if counts is not None:
        losses = xp.where(counts, losses, 0.0)
    return xp.sum(losses) / rows


def _slope(logits: Array, targets: Array, ignore_index: int | None = None, label_smoothing: float = 0.0) -> Array:
    """dloss/dlogits = (softmax(logits) - q) / R, zeros in rows that are ignored. Shape: (..., v)."""
    xp = array_namespace(logits)
    logits, counts, rows = _rows_only(logits, targets, ignore_index)
    hit = xp.astype(_is_target(logits, targets), logits.dtype)
    slope = softmax(logits) - (1.0 - label_smoothing) * hit - label_smoothing / logits.shape[-1]
    if counts is not None:
        slope = xp.where(xp.expand_dims(counts, axis=-1), slope, 0.0)
    return slope / rows


def cross_entropy_vjp(
    dy: Array, y: Any, logits: Array, targets: Array, *, ignore_index: int | None = None, label_smoothing: float = 0.0
) -> tuple[Array, None]:
    """dlogits = dy / R (softmax(logits) - q)."""
    return dy * _slope(logits, targets, ignore_index, label_smoothing), None


def cross_entropy_jvp(
    dinputs: tuple[Array, Any],
    y: Any,
    inputs: tuple[Array, Array],
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
) -> Array:
    """dy = <dlogits, softmax(logits) - q> / R."""
    return array_namespace(dinputs[0]).sum(dinputs[0] * _slope(*inputs, ignore_index, label_smoothing))


def cross_entropy_definition(
    logits: Array, targets: Array, *, ignore_index: int | None = None, label_smoothing: float = 0.0
) -> Array:
    """One number at a time: -sum_k q_k log p_k, where 0 log p is 0 whatever p is."""
    losses = []
    for index in np.ndindex(targets.shape):
        target = int(targets[index])
        if target == ignore_index:
            continue
        row = [float(v) for v in logits[index]]
        largest = max(row)
        log_total = math.log(math.fsum(math.exp(v - largest) for v in row))
        for k, v in enumerate(row):
            q = (1.0 - label_smoothing) * (k == target) + label_smoothing / len(row)
            if q > 0.0:
                losses.append(q * (log_total - (v - largest)))
    rows = sum(int(t) != ignore_index for t in np.ravel(targets))
    return np.asarray(math.fsum(losses) / max(rows, 1), dtype=logits.dtype)


def check_smoothing(op: str, label_smoothing: Any) -> None:
    """ValueError with one sentence unless it is a number from 0 to 1."""
    if not isinstance(label_smoothing, (int, float)) or not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"{op}: label_smoothing is {label_smoothing!r}, but it must be a number from 0 to 1")


def _check(logits: Any, targets: Any, *, ignore_index: int | None = None, label_smoothing: float = 0.0) -> None:
    if tuple(targets.shape) != tuple(logits.shape[:-1]):
        raise ValueError(
            f"cross_entropy: targets has shape {tuple(targets.shape)}, but logits {tuple(logits.shape)} "
            f"needs {tuple(logits.shape[:-1])}"
        )
    if 0 in logits.shape:
        raise ValueError(
            f"cross_entropy: logits has shape {tuple(logits.shape)}, but a mean needs at least one row and one class"
        )
    check_smoothing("cross_entropy", label_smoothing)


def random_targets(rng: np.random.Generator, v: int, shape: tuple[int, ...]) -> tuple[Array, dict[str, Any]]:
    """Targets, some of them ignored in two draws of three (but not the first), and the parameters. For draws."""
    targets = np.asarray(rng.integers(0, v, size=shape))
    smoothing = float(rng.choice((0.0, 0.1, 0.6)))
    ignore_index = (None, -100, int(rng.integers(v)))[rng.integers(3)]
    if ignore_index is not None:
        targets = np.where(rng.random(shape) < 0.3, ignore_index, targets)
        targets.flat[0] = (ignore_index + 1) % v
    return targets, {"ignore_index": ignore_index, "label_smoothing": smoothing}


def _draw(rng: np.random.Generator) -> Sample:
    v, shape = int(rng.integers(2, 6)), random_shape(rng)
    targets, params = random_targets(rng, v, shape)
    return Sample((rng.standard_normal((*shape, v)) * 2, targets), params, "random")


def _tolerance(logits: Array, targets: Array, **params: Any) -> float:
    """A sum over classes and its logarithm, which is small, but not its error, where the model is almost certain."""
    loss = float(cross_entropy(logits, targets, **params))
    return float(8 + logits.shape[-1]) * (1.0 + 1.0 / loss if loss > 0.0 else 1.0)


def _counts_all_rows(
    dy: Array, y: Any, logits: Array, targets: Array, *, ignore_index: int | None = None, label_smoothing: float = 0.0
) -> tuple[Array, None]:
    """The mean over every row, a bug that only ignored rows show; half the gradient where none is."""
    dlogits, _ = cross_entropy_vjp(dy, y, logits, targets, ignore_index=ignore_index, label_smoothing=label_smoothing)
    rows = int(np.sum(targets != ignore_index))
    return dlogits * (rows / (2 * rows if rows == targets.size else targets.size)), None


def _forgets_smoothing(dy: Array, y: Any, logits: Array, targets: Array, **params: Any) -> tuple[Array, None]:
    """One-hot targets where they are smoothed, and smoothed ones where they are not."""
    params["label_smoothing"] = 0.0 if params.get("label_smoothing", 0.0) > 0.0 else 0.1
    return cross_entropy_vjp(dy, y, logits, targets, **params)


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
    draw=_draw,
    domain={"targets": "id:v"},
    formula=r"L = \frac1R \sum_{r : t_r \ne t_{\mathrm{ignore}}} "
    r"\left(\log \sum_k e^{x_{rk}} - \sum_k q_{rk} x_{rk}\right), \quad q_{rk} = (1 - \varepsilon) [k = t_r] + \varepsilon / v",
    gradient=r"\bar x_{rj} = \frac{\bar L}{R} \left(\mathrm{softmax}(x_r)_j - q_{rj}\right)",
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
            (np.zeros((1, 300)), np.array([7], np.uint8)), {}, "more classes than the dtype of the targets can count"
        ),
        Sample(
            (np.arange(12.0).reshape(2, 2, 3) / 5, np.array([[0, 2], [1, 1]])), {}, "several leading axes, one mean"
        ),
        Sample(
            (np.array([[0.0, 2.0], [np.nan, 1.0], [1.0, 1.0]]), np.array([0, -100, 1])),
            {"ignore_index": -100},
            "the mean is over the rows that count, and what the others hold is never seen",
        ),
        Sample((np.array([[0.0, 2.0], [3.0, 1.0]]), np.array([1, 1])), {"ignore_index": 1}, "all rows ignored: loss 0"),
        Sample(
            (np.array([[0.0, 1.0, 2.0]]), np.array([2])), {"label_smoothing": 1.0}, "all the certainty is handed out"
        ),
        Sample(
            (np.array([[0.5, -np.inf, 1.5]]), np.array([2])),
            {"label_smoothing": 0.1},
            "a class ruled out costs infinity where it deserves a share",
        ),
    ),
    laws=("shift_invariant", "nonnegative"),
    wrong={
        "averages over the classes too": lambda dy, y, logits, targets, **params: (
            cross_entropy_vjp(dy, y, logits, targets, **params)[0] / logits.shape[-1],
            None,
        ),
        "forgets the target": lambda dy, y, logits, targets, **params: (dy * softmax(logits) / targets.size, None),
        "forgets the cotangent": lambda dy, y, logits, targets, **params: (
            cross_entropy_vjp(np.ones_like(dy), y, logits, targets, **params)[0],
            None,
        ),
        "has the sign of the log likelihood": lambda dy, y, logits, targets, **params: (
            cross_entropy_vjp(-dy, y, logits, targets, **params)[0],
            None,
        ),
        "counts the ignored rows in the mean": _counts_all_rows,
        "mistakes the smoothing": _forgets_smoothing,
    },
    tolerance=_tolerance,
    cost=lambda logits, targets, **params: (5 * logits.size, logits.size + targets.size),
    source="Goodfellow, Bengio, Courville: Deep Learning, sections 6.2.2.3 and 3.13; "
    "Szegedy et al. 2016, Rethinking the Inception architecture, section 7 (label smoothing)",
)
