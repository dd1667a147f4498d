"""How wrong a model is, as one number. Formulas: reference/cross_entropy.py, mse.py, kl_divergence.py ..."""

from __future__ import annotations

from ...reference import table as t
from ..device import is_array
from ..door import operand
from ..moving import beside
from ..tensor import Tensor, apply
from .elementwise import Operand, with_axes
from .shape import checked, number, optional_integer

__all__ = [
    "binary_cross_entropy_with_logits", "cross_entropy", "glove", "kl_divergence", "linear_cross_entropy", "mse",
]  # fmt: skip


def cross_entropy(
    logits: Operand, targets: Operand, *, ignore_index: int | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Mean over all rows of -log softmax(logits)[target]. logits (..., v), targets (...) integers -> one number.

    IndexError where a target is no class; ValueError where there is no row or no class, as a mean needs one.

    ignore_index: rows with this target, which may be any integer, do not count; the loss is 0 where none does.
    label_smoothing: this share of every target, from 0 to 1, is spread evenly over all classes.
    """
    logits = with_axes("cross_entropy", logits)
    if logits.ndim < 1:
        raise ValueError("cross_entropy: logits has shape (), but it needs an axis of classes")
    ignored = optional_integer("cross_entropy", "ignore_index", ignore_index)
    ids = checked("cross_entropy", "targets", targets, "logits", logits.shape[-1], "classes", besides=ignored, like=logits)
    smoothing = number("cross_entropy", "label_smoothing", label_smoothing, "a number from 0 to 1")
    return apply(t.CROSS_ENTROPY, logits, ids, ignore_index=ignored, label_smoothing=smoothing)


def linear_cross_entropy(
    x: Operand,
    weight: Operand,
    targets: Operand,
    bias: Operand | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    transposed: bool = False,
) -> Tensor:
    """cross_entropy(linear(x, weight, bias), targets), without a need to keep the logits.

    x (..., c), weight (c, v), or (v, c) where `transposed`, targets (...) integers, bias (v) -> one number.
    ignore_index and label_smoothing are as in cross_entropy.
    """
    op = "linear_cross_entropy"
    weight = with_axes(op, weight)
    if weight.ndim != 2:
        raise ValueError(f"{op}: weight has shape {tuple(weight.shape)}, but it needs two axes")
    ignored = optional_integer(op, "ignore_index", ignore_index)
    classes = weight.shape[0 if transposed else 1]
    ids = checked(op, "targets", targets, "weight", classes, "classes", besides=ignored, like=weight)
    arguments = (x, weight, ids) if bias is None else (x, weight, ids, bias)
    return apply(
        t.LINEAR_CROSS_ENTROPY,
        *arguments,
        ignore_index=ignored,
        label_smoothing=number(op, "label_smoothing", label_smoothing, "a number from 0 to 1"),
        transposed=transposed,
    )


def mse(prediction: Operand, target: Operand, *, reduction: str = "mean") -> Tensor:
    """Mean squared error: (prediction - target)^2, entry by entry. Both of one shape.

    reduction: "mean" over all entries, their "sum", or "none": every entry's own loss. Differentiable in both.
    """
    return apply(t.MSE, *_pair("mse", prediction, target), reduction=reduction)


def binary_cross_entropy_with_logits(logits: Operand, targets: Operand, *, reduction: str = "mean") -> Tensor:
    """-t log p - (1 - t) log (1 - p) with p = sigmoid(logits): one yes-or-no question an entry. Both of one shape.

    targets: floating point from 0 to 1, soft ones included. reduction: "mean", "sum" or "none". Differentiable in both.
    """
    op = "binary_cross_entropy_with_logits"
    return apply(t.BINARY_CROSS_ENTROPY_WITH_LOGITS, *_pair(op, logits, targets), reduction=reduction)


def kl_divergence(log_q: Operand, target: Operand, *, log_target: bool = False, reduction: str = "mean") -> Tensor:
    """p (log p - log q), how far a model's q is from the truth p. As torch.nn.functional.kl_div; both of one shape.

    log_q: log probabilities, of log_softmax say. target: the probabilities p, or log p where `log_target`.
    reduction: "batchmean", the divergence averaged over the first axis, is what the mathematics means; "mean" divides
    by the number of entries; "sum"; "none". Differentiable in both.
    """
    op = "kl_divergence"
    return apply(t.KL_DIVERGENCE, *_pair(op, log_q, target), log_target=log_target, reduction=reduction)


def glove(
    w: Operand, w_context: Operand, b: Operand, b_context: Operand, i: Operand, j: Operand, x: Operand,
    *, x_max: float = 100.0, alpha: float = 0.75,
) -> Tensor:  # fmt: skip
    """Sum over pairs of f(x) (w_i . w~_j + b_i + b~_j - log x)^2, f(x) = min(1, (x / x_max)^alpha): GloVe's objective.

    w (v, d) and b (v,): vectors and biases of words; w_context (u, d) and b_context (u,): of words as contexts; i and j
    (n,) integers, x (n,) how often i and j met -> one number. Differentiable in the first four.
    """
    words = checked("glove", "i", i, "w", len(with_axes("glove", w)), "words", like=w)
    contexts = checked("glove", "j", j, "w_context", len(with_axes("glove", w_context)), "contexts", like=w)
    return apply(t.GLOVE, w, w_context, b, b_context, words, contexts, x, x_max=x_max, alpha=alpha)


def _pair(op: str, *xs: Operand) -> list[Tensor]:
    """Both as Tensors, numbers in the dtype of the other: a loss compares two arrays of one shape."""
    if any(x is None for x in xs):
        raise TypeError(f"{op}: got None, but it takes two arrays")
    xs = tuple([x if isinstance(x, Tensor) else operand(op, x) for x in xs])
    first = next((x for x in xs if hasattr(x, "shape")), None)
    dtype = None if first is None else first.dtype
    return [
        Tensor(x, copy=False) if is_array(x)
        else x if isinstance(x, Tensor)
        else beside(Tensor(x, dtype=dtype, copy=False), first)
        for x in xs
    ]  # fmt: skip
