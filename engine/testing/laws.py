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
        if name != "mask":
            first = max(i + 1 + a.shape[-2] - queries, 0)
            a = a.copy()
            a[..., first:, :] = t.normal(a[..., first:, :].shape)
        later.append(a)
    return [(t.run(*later, causal=True)[..., : i + 1, :], y[..., : i + 1, :])]


def key_order_free(t: Trial) -> Pairs:
    """Without causal order, keys, their values and the mask's columns can be shuffled together."""
    q, k, v, *mask = t.inputs
    order = t.case.rng.permutation(k.shape[-2])
    mask = [m if m.shape[-1] != len(order) else m[..., order] for m in mask]
    shuffled = t.run(q, k[..., order, :], v[..., order, :], *mask, causal=False)
    return [(shuffled, t.run(*t.inputs, causal=False))]


def keeps_every_value(t: Trial) -> Pairs:
    """y holds the numbers of the inputs, every one as often as before."""
    numbers = np.concatenate([np.ravel(a) for a in t.inputs])
    return [(np.sort(np.ravel(t.run(*t.inputs))), np.sort(numbers))]


def bounds_every_entry(t: Trial) -> Pairs:
    """No entry of x is above the y that it was reduced to."""
    above = np.maximum(t.x - t.run(*t.inputs, keepdims=True), 0)
    return [(above, np.zeros_like(above))]


def expectation_is_x(t: Trial) -> Pairs:
    """The average of y over the mask, which keeps an entry with probability 1 - p, is x."""
    p, mask = t.case.params["p"], t.inputs[1]
    kept, dropped = t.run(t.x, np.ones_like(mask)), t.run(t.x, np.zeros_like(mask))
    return [((1 - p) * kept + p * dropped, np.broadcast_to(t.x, kept.shape))]


def linear_in(name: str) -> Callable[[Trial], Pairs]:
    """A law for the input `name`."""

    def law(t: Trial) -> Pairs:
        i = t.index(name)
        x = t.inputs[i]
        if not isinstance(x, np.ndarray):
            return []
        z, a, b = t.normal(x.shape), 1.5, -0.75
        f = [np.zeros_like(v) if t.case.input_name(j) == "bias" else v for j, v in enumerate(t.inputs)]

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
        keeps_every_value, bounds_every_entry, expectation_is_x,
        *(linear_in(name) for name in ("x", "x1", "x2", "v", "weight")),
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
