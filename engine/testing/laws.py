"""Properties that a row can claim by name: each is stated in its docstring and tested on random inputs.

    law(trial) -> pairs (got, want), which must agree; an empty list where it says nothing about these inputs

A law is run on every version of an operation (formula and kernels), for it needs no reference to compare with. An
inequality is written as an equation: "y is never negative" as min(y, 0) = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import is_float, largest
from .case import Case
from .differences import Redraw
from .recurrent_laws import RECURRENT_LAWS

Pairs = list[tuple[Any, Any]]


@dataclass
class Trial:
    """What a law works with: the version's forward, one sample, and random numbers."""

    case: Case
    inputs: tuple[Any, ...]

    @property
    def x(self) -> Any:
        return self.inputs[0]

    @property
    def axis(self) -> int:
        return self.case.params.get("axis", -1)

    def index(self, name: str) -> int:
        return [self.case.input_name(i) for i in range(len(self.inputs))].index(name)

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(self.case.rng.standard_normal(shape)).astype(self.dtype)

    @property
    def dtype(self) -> Any:
        return next((a.dtype for a in self.inputs if is_float(a)), np.dtype(np.float64))

    def run(self, *inputs: Any, output: int = 0, **params: Any) -> Any:
        """The operation on these inputs; keywords replace parameters of the sample."""
        return self.case.subject.forward(inputs, {**self.case.params, **params})[output]

    def replaced(self, i: int, value: Any) -> tuple[Any, ...]:
        return tuple(value if j == i else a for j, a in enumerate(self.inputs))


def rows_sum_to_one(t: Trial) -> Pairs:
    """The entries of y along `axis` (the last one) sum to 1."""
    total = np.sum(t.run(*t.inputs), axis=t.axis)
    return [(total, np.ones_like(total))]


def shift_invariant(t: Trial) -> Pairs:
    """Adding one number to all entries of the first input along `axis` (the last one) changes nothing."""
    shift = t.normal(np.sum(t.x, axis=t.axis, keepdims=True).shape)
    return [(t.run(*t.replaced(0, t.x + shift)), t.run(*t.inputs))]


def scale_invariant(t: Trial) -> Pairs:
    """With eps = 0, multiplying all entries of the first input along the last axis by one positive number changes nothing."""
    factor = np.exp(t.normal((*t.x.shape[:-1], 1)))
    return [(t.run(*t.replaced(0, t.x * factor), eps=0.0), t.run(*t.inputs, eps=0.0))]


def keeps_lengths(t: Trial) -> Pairs:
    """The sum of squares along the last axis is that of the first input."""
    y = t.run(*t.inputs)
    return [(np.sum(y * y, axis=-1), np.sum(t.x * t.x, axis=-1))]


def sees_relative_positions(t: Trial) -> Pairs:
    """The inner products between the rows of y do not change when all positions are shifted by `offset`."""
    here, there = (t.run(*t.inputs, offset=offset) for offset in (0, int(t.case.rng.integers(1, 10))))
    return [(there @ np.matrix_transpose(there), here @ np.matrix_transpose(here))]


def nonnegative(t: Trial) -> Pairs:
    """No entry of y is below 0."""
    y = t.run(*t.inputs)
    return [(np.minimum(y, 0), np.zeros_like(y))]


def bounded_by_one(t: Trial) -> Pairs:
    """No entry of the first output is above 1 or below -1."""
    y = t.run(*t.inputs)
    return [(np.clip(y, -1, 1), y)]


def commutative(t: Trial) -> Pairs:
    """The two inputs can change places."""
    return [(t.run(*t.inputs[::-1]), t.run(*t.inputs))]


def odd(t: Trial) -> Pairs:
    """f(-x) = -f(x)."""
    return [(t.run(-t.x), -t.run(t.x))]


def even(t: Trial) -> Pairs:
    """f(-x) = f(x)."""
    return [(t.run(-t.x), t.run(t.x))]


def periodic(t: Trial) -> Pairs:
    """A whole turn more changes nothing: f(x + 2 pi) = f(x)."""
    return [(t.run(t.x + 2 * np.arccos(np.asarray(-1, t.dtype))), t.run(t.x))]


def periodic_in_x2(t: Trial) -> Pairs:
    """f(x1 + x2, x2) = f(x1, x2)."""
    x1, x2 = t.inputs
    return [(t.run(x1 + x2, x2), t.run(x1, x2))]


def idempotent(t: Trial) -> Pairs:
    """A second time changes nothing: f(f(x)) = f(x)."""
    y = t.run(t.x)
    return [(t.run(y), y)]


def homogeneous(t: Trial) -> Pairs:
    """f(a x1, a x2) = a f(x1, x2) for a > 0."""
    a = float(np.exp(t.normal(())))
    return [(t.run(*(a * x for x in t.inputs)), a * t.run(*t.inputs))]


def blind_to_scale(t: Trial) -> Pairs:
    """f(a x1, a x2) = f(x1, x2) for a > 0."""
    a = float(np.exp(t.normal(())))
    return [(t.run(*(a * x for x in t.inputs)), t.run(*t.inputs))]


def moves_along_with_both(t: Trial) -> Pairs:
    """f(x1 + c, x2 + c) = f(x1, x2) + c."""
    c = float(t.normal(()))
    return [(t.run(*(x + c for x in t.inputs)), t.run(*t.inputs) + c)]


def turns_sums_into_products(t: Trial) -> Pairs:
    """f(x + z) = f(x) f(z)."""
    z = t.normal(t.x.shape)
    return [(t.run(t.x + z), t.run(t.x) * t.run(z))]


def turns_products_into_sums(t: Trial) -> Pairs:
    """f(x z) = f(x) + f(z)."""
    z = np.exp(t.normal(t.x.shape))
    return [(t.run(t.x * z), t.run(t.x) + t.run(z))]


def squares_back_to_x(t: Trial) -> Pairs:
    """y y = x."""
    y = t.run(t.x)
    return [(y * y, t.x)]


def reflection_gives_identity(t: Trial) -> Pairs:
    """f(x) - f(-x) = x."""
    return [(t.run(t.x) - t.run(-t.x), t.x)]


def reflection_gives_one(t: Trial) -> Pairs:
    """f(x) + f(-x) = 1."""
    total = t.run(t.x) + t.run(-t.x)
    return [(total, np.ones_like(total))]


def rows_independent(t: Trial) -> Pairs:
    """Other numbers in the first row (along the first axis) of the first input change the first row of each output alone."""
    if t.x.ndim < 2 or t.x.shape[0] < 2:
        return []
    other = t.x.copy()
    other[0] = t.normal(other[0].shape)
    outputs = range(len(t.case.subject.forward(t.inputs, t.case.params)))
    return [(t.run(*t.replaced(0, other), output=k)[1:], t.run(*t.inputs, output=k)[1:]) for k in outputs]


def causal(t: Trial) -> Pairs:
    """With causal=True, other numbers in later tokens change no earlier output. Time is the axis before the last, and
    the last query comes with the last key."""
    y = t.run(*t.inputs, causal=True)
    queries = y.shape[-2]
    i = int(t.case.rng.integers(queries))
    later = []
    for name, a in zip(t.case.subject.op.inputs, t.inputs, strict=False):  # type: ignore[union-attr]
        if name not in ("mask", "bias"):
            first = max(i + 1 + a.shape[-2] - queries, 0)
            a = a.copy()
            a[..., first:, :] = t.normal(a[..., first:, :].shape)
        later.append(a)
    return [(t.run(*later, causal=True)[..., : i + 1, :], y[..., : i + 1, :])]


def key_order_free(t: Trial) -> Pairs:
    """Without order and window, keys, their values and the columns of mask and bias can be shuffled together."""
    q, k, v, *rest = t.inputs
    order = t.case.rng.permutation(k.shape[-2])
    rest = [a if a is None or a.shape[-1] != len(order) else a[..., order] for a in rest]
    shuffled = t.run(q, k[..., order, :], v[..., order, :], *rest, causal=False, window=None)
    return [(shuffled, t.run(*t.inputs, causal=False, window=None))]


def full_window_is_none(t: Trial) -> Pairs:
    """A window as wide as the sequence of queries, or of keys if there are more, changes nothing."""
    width = max(t.inputs[0].shape[-2], t.inputs[1].shape[-2])
    return [(t.run(*t.inputs, window=max(width, 1)), t.run(*t.inputs, window=None))]


def grouped_is_repeated(t: Trial) -> Pairs:
    """Grouped heads give what every query head gives with a copy of its key head of its own."""
    q, k, v, *rest = t.inputs
    if not t.case.params.get("grouped"):
        return []
    copies = [np.repeat(a, q.shape[-3] // k.shape[-3], axis=-3) for a in (k, v)]
    return [(t.run(*t.inputs), t.run(q, *copies, *rest, grouped=False))]


def bias_row_shift_free(t: Trial) -> Pairs:
    """Adding one number to the bias of a query towards all keys changes nothing."""
    if len(t.inputs) < 5:
        return []
    bias = t.inputs[4]
    return [(t.run(*t.replaced(4, bias + t.normal((*bias.shape[:-1], 1)))), t.run(*t.inputs))]


def keeps_every_value(t: Trial) -> Pairs:
    """y holds the numbers of the inputs, every one as often as before."""
    numbers = np.concatenate([np.ravel(a) for a in t.inputs])
    return [(np.sort(np.ravel(t.run(*t.inputs))), np.sort(numbers))]


def bounds_every_entry(t: Trial) -> Pairs:
    """No entry of x is above the y that it was reduced to."""
    above = np.maximum(t.x - t.run(*t.inputs, keepdims=True), 0)
    return [(above, np.zeros_like(above))]


def order_free(t: Trial) -> Pairs:
    """The entries of x can be shuffled along an axis over which they are reduced: y stays as it is."""
    gone = t.axis if isinstance(t.axis, tuple) else range(t.x.ndim) if t.axis is None else (t.axis,)
    shuffled = [np.take(t.x, t.case.rng.permutation(t.x.shape[a]), axis=a) for a in gone]
    return [(t.run(x), t.run(t.x)) for x in shuffled]


def shift_passes_through(t: Trial) -> Pairs:
    """Adding one number to all entries that are reduced to one y adds it to y: f(x + c) = f(x) + c."""
    y = t.run(t.x, keepdims=True)
    shift = t.normal(y.shape)
    return [(t.run(t.x + shift, keepdims=True), y + shift)]


def exponentials_sum_to_one(t: Trial) -> Pairs:
    """The exponentials of y along `axis` (the last one) sum to 1."""
    total = np.sum(np.exp(t.run(*t.inputs)), axis=t.axis)
    return [(total, np.ones_like(total))]


def differences_give_x(t: Trial) -> Pairs:
    """With the initial 0 in front, each y less the one before it along `axis` is an entry of x."""
    return [(np.diff(t.run(t.x, include_initial=True), axis=t.axis), t.x)]


def ends_in_the_product(t: Trial) -> Pairs:
    """The last y along `axis` is the product of all entries of x."""
    return [(np.take(t.run(t.x, include_initial=True), -1, axis=t.axis), np.prod(t.x, axis=t.axis))]


def undoes_itself(t: Trial) -> Pairs:
    """f(f(x)) = x."""
    return [(t.run(t.run(t.x)), t.x)]


def expectation_is_x(t: Trial) -> Pairs:
    """The average of y over the mask, which keeps an entry with probability 1 - p, is x."""
    p, mask = t.case.params["p"], t.inputs[1]
    kept, dropped = t.run(t.x, np.ones_like(mask)), t.run(t.x, np.zeros_like(mask))
    return [((1 - p) * kept + p * dropped, np.broadcast_to(t.x, kept.shape))]


def kept_or_dropped(t: Trial) -> Pairs:
    """Every entry of y is that of the residual, or has the entry of x, divided by 1 - p, added to it."""
    x, residual, y = t.x, t.inputs[1], t.run(*t.inputs)
    kept = residual + x / (1 - t.case.params["p"])
    return [(y, np.where(np.abs(y - kept) < np.abs(y - residual), kept, residual))]


def plain_sum_without_p(t: Trial) -> Pairs:
    """With p = 0 it is the sum of the first two inputs."""
    return [(t.run(*t.inputs, p=0.0), t.x + t.inputs[1])]


def moves_against_the_bias(t: Trial) -> Pairs:
    """What is taken from the bias and added to x changes nothing: f(x + c, bias - c) = f(x, bias)."""
    c = t.normal(t.inputs[1].shape)
    return [(t.run(t.x + c, t.inputs[1] - c), t.run(*t.inputs))]


def affine_in_x(t: Trial) -> Pairs:
    """f(a x + (1 - a) z) = a f(x) + (1 - a) f(z), the other inputs fixed."""
    z, a = t.normal(t.x.shape), 1.5
    mixed = t.run(*t.replaced(0, a * t.x + (1 - a) * z))
    return [(mixed, a * t.run(*t.inputs) + (1 - a) * t.run(*t.replaced(0, z)))]


def no_loss_at_the_target(t: Trial) -> Pairs:
    """A prediction that is its own target costs nothing (where targets are logarithms, with log_target=True)."""
    log_target = {"log_target": True} if "log_target" in t.case.params else {}
    y = t.run(t.x, t.x, **log_target)
    return [(y, np.zeros_like(y))]


def yes_and_no_change_places(t: Trial) -> Pairs:
    """f(-x, 1 - targets) = f(x, targets)."""
    return [(t.run(-t.x, 1 - t.inputs[1]), t.run(*t.inputs))]


def gibbs_inequality(t: Trial) -> Pairs:
    """Between distributions along the last axis, made of the inputs by softmax, the sum is never negative."""
    logs = [x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True)) for x in t.inputs]
    y = t.run(*logs, log_target=True, reduction="sum")
    return [(np.minimum(y, 0), np.zeros_like(y))]


def words_and_contexts_change_places(t: Trial) -> Pairs:
    """Words with contexts, their biases and the two ids of each pair exchanged: what is counted is the same."""
    w, w_context, b, b_context, i, j, x = t.inputs
    return [(t.run(w_context, w, b_context, b, j, i, x), t.run(*t.inputs))]


def same_after_a_rotation(t: Trial) -> Pairs:
    """The first two inputs, their rows turned by one orthogonal matrix, give the same: only inner products count."""
    turn = np.linalg.qr(t.normal((t.x.shape[1],) * 2))[0].astype(t.dtype)
    return [(t.run(t.x @ turn, t.inputs[1] @ turn, *t.inputs[2:]), t.run(*t.inputs))]


def linear_in(name: str) -> Callable[[Trial], Pairs]:
    """A law for the input `name`."""

    def law(t: Trial) -> Pairs:
        i = t.index(name)
        x = t.inputs[i]
        if not isinstance(x, np.ndarray):
            return []
        z, a, b = t.normal(x.shape), 1.5, -0.75
        f = [
            np.zeros_like(v) if t.case.input_name(j) == "bias" and v is not None else v for j, v in enumerate(t.inputs)
        ]

        def at(value: Any) -> Any:
            return t.run(*(value if j == i else v for j, v in enumerate(f)))

        return [(at(a * x + b * z), a * at(x) + b * at(z))]

    law.__name__ = f"linear_in_{name}"
    law.__doc__ = f"f(a x + b z) = a f(x) + b f(z) in the input {name}, the others fixed (a bias at zero)."
    return law


LAWS: dict[str, Callable[[Trial], Pairs]] = {
    law.__name__: law
    for law in (
        rows_sum_to_one, shift_invariant, nonnegative, bounded_by_one, commutative, odd, turns_sums_into_products,
        turns_products_into_sums, squares_back_to_x, reflection_gives_identity, rows_independent, causal, key_order_free,
        full_window_is_none, grouped_is_repeated, bias_row_shift_free,
        keeps_every_value, bounds_every_entry, expectation_is_x,
        scale_invariant, keeps_lengths, sees_relative_positions,
        order_free, shift_passes_through, exponentials_sum_to_one, differences_give_x, ends_in_the_product, undoes_itself,
        kept_or_dropped, plain_sum_without_p, moves_against_the_bias, affine_in_x,
        no_loss_at_the_target, yes_and_no_change_places, gibbs_inequality,
        even, periodic, periodic_in_x2, idempotent, homogeneous, blind_to_scale, moves_along_with_both,
        reflection_gives_one, words_and_contexts_change_places, same_after_a_rotation,
        *RECURRENT_LAWS,
        *(linear_in(name) for name in ("x", "x1", "x2", "v", "weight", "up", "xs[0]")),
    )
}  # fmt: skip


def check_law(case: Case, name: str) -> None:
    """Raises CheckError where the law does not hold; the error allowed is that of a few operations like this one."""
    trial = Trial(case, tuple(x.copy() if isinstance(x, np.ndarray) else x for x in case.inputs))
    try:
        pairs = LAWS[name](trial)
    except Redraw:
        return  # a kernel that does not accept what the law makes of these inputs
    for got, want in pairs:
        eps = float(np.finfo(np.asarray(got).dtype).eps)
        scale = largest(got, want, *(x for x in case.inputs if is_float(x)))
        allowed = 64 * case.tolerance * eps * scale
        case.compare(f"law {name}", f"the left side of {name}", got, want, allowed, " on the right side")
