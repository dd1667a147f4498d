"""One trial: a subject at one point, with its random numbers, and the one place where a comparison passes or fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from .arrays import as_array, cast, difference, eps_of, is_float, is_float_type, largest, random_like
from .report import CheckError, Inconclusive, Report
from .subject import Subject


@dataclass
class Case:
    """inputs are float64 (and ids, masks, numbers); `repeat` is how a reader gets the same trial again."""

    subject: Subject
    inputs: tuple[Any, ...]
    params: dict[str, Any]
    rng: np.random.Generator
    report: Report
    repeat: str

    def __post_init__(self) -> None:
        self.inputs = tuple(np.asarray(x) if isinstance(x, np.generic) else x for x in self.inputs)
        self.differentiable = self.subject.differentiable(self.inputs)
        self._precise: bool | None = None

    # ---- numbers
    @property
    def precise(self) -> bool:
        """Whether forward really runs in longdouble: tried, not assumed."""
        if self._precise is None:
            self._precise = self.subject.precise and self._keeps(np.longdouble)
        return self._precise

    def _keeps(self, dtype: Any) -> bool:
        try:
            ys = self.subject.forward(self.at(dtype), self.params)
        except Exception:
            return False
        return all(y.dtype == dtype for y in ys)

    def at(self, dtype: Any) -> tuple[Any, ...]:
        """The inputs with their floating point arrays in `dtype`."""
        return tuple(cast(x, dtype) for x in self.inputs)

    def best_inputs(self) -> tuple[Any, ...]:
        """The inputs in the widest precision in which forward runs."""
        return self.at(np.longdouble if self.precise else np.float64)

    def cotangents(self, ys: Any) -> tuple[Any, ...]:
        """A random cotangent for every output."""
        return tuple(random_like(y, self.rng).astype(as_array(y).dtype) for y in ys)

    def directions(self, xs: Any) -> tuple[Any, ...]:
        """A random direction for every differentiable input, None for the others."""
        flags = zip(xs, self.differentiable, strict=True)
        return tuple(random_like(x, self.rng).astype(x.dtype) if flag else None for x, flag in flags)

    def input_name(self, i: int) -> str:
        op = self.subject.op
        if op is None:
            return f"input {i}"
        return f"{op.inputs[0][1:]}[{i}]" if op.variadic else op.inputs[i]

    def limit(self, results: Any, moves: Any) -> list[Any]:
        """What each result may lose to rounding: the row's tolerance in eps of its largest magnitude, and what `moves`
        (results of the same function on inputs that were rounded differently) show it to be sensitive to.

        A row's tolerance is meant for its results; a gradient can cancel to nearly nothing, and then only the second
        part says what is left of its digits.
        """
        limits = []
        for k, result in enumerate(results):
            if result is None or not is_float_type(result.dtype):
                limits.append(0.0)
                continue
            eps = eps_of(result.dtype)
            with np.errstate(all="ignore"):
                spread = max((largest(np.abs(m[k] - result)) for m in moves), default=0.0)
            limits.append(self.tolerance * eps * largest(result) + 8 * spread)
        return limits

    @property
    def tolerance(self) -> float:
        """In units of eps: the row's, or the length of the longest sum that there can be."""
        op = self.subject.op
        if op is None:
            return 16.0 + max((np.size(x) for x in self.inputs), default=0)
        return 8.0 + float(op.tolerance(*self.inputs, **self.params))

    # ---- verdicts
    def compare(self, check: str, what: str, got: Any, want: Any, allowed: Any, hint: str = "") -> None:
        """Passes, or raises CheckError, on |got - want| <= allowed, entry by entry."""
        got, want = as_array(got), as_array(want)
        if got.shape != want.shape:
            self.fail(check, f"{what} has shape {got.shape}, but it must have shape {want.shape}")
        if got.size == 0:
            self.report.add(check)
            return
        error = difference(got, want)
        limit = np.broadcast_to(np.asarray(allowed, error.dtype), error.shape)
        bad = ~(error <= limit) | np.isinf(error)  # an infinite gradient makes its own limit infinite
        if np.any(bad):
            at = tuple(int(i) for i in np.argwhere(bad)[np.argmax(error[bad])])
            entry = f" at {at}" if at else ""
            self.fail(
                check,
                f"{what}{entry} is {_number(got[at])}, but {_number(want[at])} is wanted "
                f"(the error {float(error[at]):.2g} is over the {float(limit[at]):.2g} allowed){hint}",
            )
        with np.errstate(all="ignore"):
            share = np.where(limit > 0, error / limit, 0.0)
        worst = np.unravel_index(np.argmax(share), error.shape)
        self.report.add(check, float(error[worst]), float(limit[worst]))

    def fail(self, check: str, sentence: str) -> NoReturn:
        """Raises CheckError: operation, check, sentence, and how to get the same trial again."""
        raise CheckError(f"{self.subject.name}: {check}: {sentence}; {self.where()}", check)

    def inconclusive(self, check: str, sentence: str) -> NoReturn:
        """Raises Inconclusive, which is not a pass."""
        raise Inconclusive(f"{self.subject.name}: {check}: {sentence}; {self.where()}", check)

    def where(self) -> str:
        shown = []
        for i, x in enumerate(self.inputs):
            a = np.asarray(x) if not isinstance(x, np.ndarray) else x
            text = repr(x) if not isinstance(x, np.ndarray) else f"{a.dtype.name} {a.shape}"
            if isinstance(x, np.ndarray) and a.size <= 8:
                text += " " + np.array2string(a, separator=", ", precision=6).replace("\n", "")
            shown.append(f"{self.input_name(i)} {text}")
        params = f", params {self.params}" if self.params else ""
        return f"repeat it with {self.repeat} (inputs: {'; '.join(shown)}{params})"


def _number(value: Any) -> str:
    return f"{float(value):.8g}" if is_float(np.asarray(value)) else str(value)
