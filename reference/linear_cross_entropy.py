r"""The end of a language model in one operation: logits of every class from the features, and their cross entropy.

    loss = cross_entropy(z, targets),    z = X W + b        X (R, c), W (c, v), b (v,), z (R, v)

By itself it is nothing new: a composition of two rows, which is its definition. But v is often a hundred times c, so
the logits z are the largest array of the whole model, and nobody wants them: with both steps in one operation a kernel
can make them a few rows at a time and keep only their gradient. With the slope of cross entropy for each row r,

    dz_rj = dy / R (softmax(z_r)_j - q_rj),    0 in rows that are ignored,

and z linear in each of X, W and b, dz = dX W + X dW + db, the chain rule gives

    dX = dz W^T,      dW = X^T dz,      db = sum_r dz_r.

The formulas below do so with the logits whole; they are the rows cross_entropy and linear, one after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .cross_entropy import (
    check_smoothing,
    cross_entropy,
    cross_entropy_definition,
    cross_entropy_jvp,
    cross_entropy_vjp,
    random_targets,
)
from .elementwise import random_shape
from .linear import linear, linear_definition, linear_jvp, linear_vjp
from .namespace import Array
from .op import Op, Sample
from .softmax import softmax

ALL = (True, True, False, True)


def linear_cross_entropy(
    x: Array,
    weight: Array,
    targets: Array,
    bias: Array | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    transposed: bool = False,
) -> Array:
    """cross_entropy(x W + b, targets). Shapes: x (..., c), weight (c, v), targets (...) of ints, bias (v,) -> ().

    transposed=True: the weight is stored (v, c). ignore_index and label_smoothing as in cross_entropy.
    """
    logits = linear(x, weight, bias, transposed=transposed)  # (..., v)
    return cross_entropy(logits, targets, ignore_index=ignore_index, label_smoothing=label_smoothing)


def linear_cross_entropy_vjp(
    dy: Array,
    y: Any,
    x: Array,
    weight: Array,
    targets: Array,
    *bias: Any,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    transposed: bool = False,
    wanted: tuple[bool, ...] = ALL,
) -> tuple[Array | None, ...]:
    """dlogits = dy / R (softmax(logits) - q); dX = dlogits W^T, dW = X^T dlogits, db = the sum of its rows."""
    logits = linear(x, weight, *bias, transposed=transposed)  # (..., v)
    dlogits, _ = cross_entropy_vjp(dy, y, logits, targets, ignore_index=ignore_index, label_smoothing=label_smoothing)
    behind = (*wanted[:2], *wanted[3:])  # as linear counts its inputs
    dx, dweight, *dbias = linear_vjp(dlogits, logits, x, weight, *bias, transposed=transposed, wanted=behind)
    return (dx, dweight, None, *dbias)


def linear_cross_entropy_jvp(
    dinputs: tuple[Array, ...],
    y: Array,
    inputs: tuple[Array, ...],
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    transposed: bool = False,
) -> Array:
    """dlogits = dx W + x dW + db, and dy = <dlogits, softmax(logits) - q> / R."""
    x, weight, targets, *bias = inputs
    logits = linear(x, weight, *bias, transposed=transposed)  # (..., v)
    moving = (*dinputs[:2], *dinputs[3:])
    dlogits = linear_jvp(moving, logits, (x, weight, *bias), transposed=transposed)  # (..., v)
    return cross_entropy_jvp(
        (dlogits, None), y, (logits, targets), ignore_index=ignore_index, label_smoothing=label_smoothing
    )


def linear_cross_entropy_definition(
    x: Array,
    weight: Array,
    targets: Array,
    bias: Array | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    transposed: bool = False,
) -> Array:
    """The definition of cross_entropy on that of linear."""
    logits = linear_definition(x, weight, bias, transposed=transposed)
    return cross_entropy_definition(logits, targets, ignore_index=ignore_index, label_smoothing=label_smoothing)


def _signature(*, transposed: bool = False, **params: Any) -> str:
    return "(...,c),(v,c),(...):int,(v)?->()" if transposed else "(...,c),(c,v),(...):int,(v)?->()"


def _classes(weight: Any, *, transposed: bool = False, **params: Any) -> int:
    return weight.shape[0 if transposed else 1]


def _check(x: Any, weight: Any, targets: Any, bias: Any = None, **params: Any) -> None:
    if tuple(targets.shape) != tuple(x.shape[:-1]):
        raise ValueError(
            f"linear_cross_entropy: targets has shape {tuple(targets.shape)}, but x {tuple(x.shape)} "
            f"needs {tuple(x.shape[:-1])}"
        )
    if 0 in x.shape[:-1] or _classes(weight, **params) == 0:
        raise ValueError(
            f"linear_cross_entropy: x has shape {tuple(x.shape)} and weight {tuple(weight.shape)}, "
            "but a mean needs at least one row and one class"
        )
    check_smoothing("linear_cross_entropy", params.get("label_smoothing", 0.0))


def _draw(rng: np.random.Generator) -> Sample:
    """With and without a bias, in both layouts; half of the weights are square."""
    c, v = (3, 3) if rng.integers(2) else (int(rng.integers(1, 5)), int(rng.integers(2, 6)))
    shape, transposed = random_shape(rng), bool(rng.integers(2))
    targets, params = random_targets(rng, v, shape)
    weight = rng.standard_normal((v, c) if transposed else (c, v))
    inputs = [rng.standard_normal((*shape, c)), weight, targets, rng.standard_normal(v)]
    return Sample(tuple(inputs[: 3 + int(rng.integers(2))]), {**params, "transposed": transposed}, "random")


def _tolerance(x: Array, weight: Array, targets: Array, bias: Any = None, **params: Any) -> float:
    """Sums over features, then over classes, then over rows; the logarithm is small, but not its error, where the model
    is almost certain."""
    loss = float(linear_cross_entropy(x, weight, targets, bias, **params))
    return float(8 + sum(weight.shape) + targets.size) * (1.0 + 1.0 / loss if loss > 0.0 else 1.0)


def _cost(x: Any, weight: Any, targets: Any, bias: Any = None, **params: Any) -> tuple[int, int]:
    """The product and five operations for every logit; the logits themselves need not be stored."""
    v = _classes(weight, **params)
    flops = targets.size * (2 * weight.size + 5 * v)
    return flops, x.size + weight.size + targets.size + (0 if bias is None else v) + 1


def _wrong_mean(
    dy: Array, y: Any, x: Any, weight: Any, *rest: Any, wanted: Any = None, **params: Any
) -> tuple[Any, ...]:
    return linear_cross_entropy_vjp(dy / _classes(weight, **params), y, x, weight, *rest, **params)


def _wrong_sign(dy: Array, y: Any, *inputs: Any, wanted: Any = None, **params: Any) -> tuple[Any, ...]:
    dxs: Any = linear_cross_entropy_vjp(dy, y, *inputs, **params)
    return dxs[0], -dxs[1], *dxs[2:]


def _wrong_dx(
    dy: Array, y: Any, x: Any, weight: Any, targets: Any, *bias: Any,
    transposed: bool = False, wanted: Any = None, **params: Any,
) -> tuple[Any, ...]:  # fmt: skip
    right = linear_cross_entropy_vjp(dy, y, x, weight, targets, *bias, transposed=transposed, **params)
    dlogits = dy * softmax(linear(x, weight, *bias, transposed=transposed)) / targets.size
    return linear_vjp(dlogits, None, x, weight, *bias, transposed=transposed)[0], *right[1:]


def _wrong_layout(
    dy: Array, y: Any, x: Any, weight: Any, *rest: Any, wanted: Any = None, **params: Any
) -> tuple[Any, ...]:
    params["transposed"] = not params.get("transposed", False)
    return linear_cross_entropy_vjp(dy, y, x, weight, *rest, **params)


_X = np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]])
_W = np.array([[0.5, -1.0, 2.0, 0.0], [1.0, 0.25, -0.5, 1.5]])

LINEAR_CROSS_ENTROPY = Op(
    "linear_cross_entropy",
    linear_cross_entropy,
    linear_cross_entropy_vjp,
    linear_cross_entropy_jvp,
    inputs=("x", "weight", "targets", "bias"),
    reads=("x", "weight", "targets", "bias"),
    nondiff=("targets",),
    takes_wanted=True,
    definition=linear_cross_entropy_definition,
    signature=_signature,
    check=_check,
    draw=_draw,
    domain={"targets": "id:v"},
    formula=r"L = \frac1R \sum_r \left(\log \sum_k e^{z_{rk}} - \sum_k q_{rk} z_{rk}\right), \quad z = x W + b",
    gradient=r"\bar z_{rj} = \frac{\bar L}{R} \left(\mathrm{softmax}(z_r)_j - q_{rj}\right),"
    r"\quad \bar x = \bar z W^T, \quad \bar W = x^T \bar z, \quad \bar b = \sum_r \bar z_r",
    samples=(
        Sample((_X, _W, np.array([0, 3, 1])), {}, "two features, four classes, no bias"),
        Sample((_X, _W.T.copy(), np.array([0, 3, 1]), np.ones(4)), {"transposed": True}, "stored (v, c), with a bias"),
        Sample((_X[0], _W, np.array(2), None), {}, "a single row, and None for the bias"),
        Sample((400.0 * _X, _W, np.array([0, 3, 1])), {}, "large logits overflow without the shift"),
        Sample((_X, _W, np.array([0, -100, 1])), {"ignore_index": -100}, "the mean is over the rows that count"),
        Sample((_X, _W, np.array([1, 1, 1])), {"ignore_index": 1}, "all rows ignored: loss 0"),
        Sample((_X, _W, np.array([0, 3, 1])), {"label_smoothing": 0.1}, "smoothed targets"),
        Sample((_X, _W, np.array([0, 3, 1]), np.array([0.0, 0.0, -np.inf, 0.0])), {}, "a bias that rules a class out"),
        Sample((np.ones((2, 0)), np.ones((0, 3)), np.array([0, 1])), {}, "no features: every class is as likely"),
    ),
    laws=("nonnegative",),
    wrong={
        "mistakes the layout of the weight": _wrong_layout,
        "averages over the classes too": _wrong_mean,
        "gives the weight the sign of the log likelihood": _wrong_sign,
        "forgets the targets on the way to x": _wrong_dx,
    },
    tolerance=_tolerance,
    cost=_cost,
    source="Hsu et al. 2024, Liger Kernel, section 3.2; Wijmans et al. 2024, Cut your losses in large-vocabulary "
    "language models, section 4",
)
