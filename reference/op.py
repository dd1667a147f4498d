"""The row: one operation, declared once, as data.

A page of the textbook is mathematics first (definition, forward, vjp, jvp as plain functions) and ends in its row. The
engine, the tests, the benches, the command line and the documentation read rows; none of them knows an operation by name.

    forward(*inputs, **params)                      -> y, or a tuple when there are several outputs
    vjp(dy, y, *inputs, **params[, wanted])         -> tuple, one entry an input: an array, or None
    jvp(dinputs, y, inputs, **params)               -> dy   (dinputs and inputs are tuples)

`vjp` is the product of a cotangent with the Jacobian from the left: dx_j = sum_i dy_i (dy_i / dx_j); `jvp` is the product
with a direction from the right. A formula sees these arguments and nothing else: a residual that a kernel kept (say a
logsumexp) would be a constant here, and the second derivative silently wrong.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .namespace import Array
from .signature import Signature, parse


class Spec:
    """Shape and dtype of an array that a vjp said it does not read; its memory is free by then."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        n = 1
        for length in self.shape:
            n *= length
        return n

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"this vjp asked for .{name} of an array that its row does not declare under `reads`")

    def __repr__(self) -> str:
        return f"Spec({self.shape}, {np.dtype(self.dtype).name})"


@dataclass(frozen=True)
class Sample:
    """One input worth keeping: `why` says what would go wrong without it and becomes the test's name."""

    inputs: tuple[Array, ...]
    params: Mapping[str, Any]
    why: str


def _few_ulps(*inputs: Any, **params: Any) -> float:
    return 8.0


@dataclass(frozen=True, eq=False)
class Op:
    """One operation. Fields in the order of the questions that a reader has."""

    name: str
    forward: Callable[..., Any]
    vjp: Callable[..., tuple[Any, ...]]
    jvp: Callable[..., Any]
    inputs: tuple[str, ...]  # names; a last one that starts with "*" stands for any number
    outputs: tuple[str, ...] = (
        "y",
    )  # a last one that starts with "*" stands for any number: y is a tuple, even of one
    reads: tuple[str, ...] = ()  # what vjp reads as DATA ("y": the outputs); the rest arrives as Spec
    nondiff: tuple[str, ...] = ()  # ids, masks: their cotangent is None
    takes_wanted: bool = False  # vjp accepts wanted=(bool, ...), one an input, and may return None where it is False

    definition: Callable[..., Any] = field(kw_only=True)
    """The same thing from the textbook, as plain loops over scalars, independent of `forward`. Where the operation is a
    composition of rows, the composition is its definition."""
    signature: str | Callable[..., str] | None = field(kw_only=True)
    """gufunc style (see signature.py), or a function of the parameters that gives one, or None where only `check` can say."""
    check: Callable[..., None] | None = field(default=None, kw_only=True)
    """check(*specs, **params) raises ValueError with a sentence; for what a signature cannot say."""
    draw: Callable[[np.random.Generator], Sample] | None = field(default=None, kw_only=True)
    """A random Sample where shapes and parameters depend on each other; otherwise shapes come from the signature."""
    analytic: bool = field(default=True, kw_only=True)
    """Whether `forward` on complex numbers is the analytic continuation (no abs, max or erf inside that counts): then the
    imaginary part of forward(x + i h v) / h is the exact derivative along v, for h so small that h^2 vanishes."""
    domain: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    """Where an input is defined and smooth: input -> "real" (default), "positive", "nonzero", "distinct" (no two values
    near each other along any axis: away from ties), "id:LETTER" (integers below that length of the signature), "mask", "draw"
    (seed, stream and counter: always three integers)."""
    formula: str = field(kw_only=True)  # LaTeX
    gradient: str = field(kw_only=True)  # LaTeX
    samples: tuple[Sample, ...] = field(kw_only=True)
    laws: tuple[str, ...] = field(default=(), kw_only=True)  # names of properties, defined in engine/testing/laws.py
    wrong: Mapping[str, Callable[..., tuple[Any, ...]]] = field(kw_only=True)
    """Plausible wrong vjps, by what is wrong with them; a checker that accepts one is broken."""
    tolerance: Callable[..., float] = field(default=_few_ulps, kw_only=True)
    """tolerance(*inputs, **params): error allowed against longdouble, in units of eps times the largest magnitude of the
    result; grows with the length of the reduction, by name."""
    cost: Callable[..., tuple[int, int]] = field(kw_only=True)
    """cost(*specs, **params) -> (floating point operations, array elements read and written) of one forward pass."""
    source: str = field(kw_only=True)  # paper or book, with section

    def __post_init__(self) -> None:
        variadic = self.inputs[-1].startswith("*")
        unknown = set(self.reads) - {name.lstrip("*") for name in self.inputs} - {"y"}
        if unknown:
            raise ValueError(f"{self.name}: reads names {sorted(unknown)}, which is neither an input nor y")
        object.__setattr__(self, "variadic", variadic)
        object.__setattr__(self, "single", len(self.outputs) == 1 and not self.outputs[0].startswith("*"))
        object.__setattr__(self, "reads_y", "y" in self.reads)
        object.__setattr__(self, "read_inputs", tuple(name.lstrip("*") in self.reads for name in self.inputs))
        object.__setattr__(self, "differentiable", tuple(name not in self.nondiff for name in self.inputs))

    # Derived once, because the engine asks at every call.
    variadic: bool = field(init=False, repr=False, default=False)
    single: bool = field(init=False, repr=False, default=True)  # y is an array, not a tuple
    reads_y: bool = field(init=False, repr=False, default=False)
    read_inputs: tuple[bool, ...] = field(init=False, repr=False, default=())
    differentiable: tuple[bool, ...] = field(init=False, repr=False, default=())

    def output_name(self, k: int) -> str:
        """Output number k in a sentence."""
        return f"{self.outputs[0][1:]}[{k}]" if self.outputs[0].startswith("*") else self.outputs[k]

    def signature_for(self, **params: Any) -> Signature | None:
        """The parsed signature for these parameters, or None."""
        text = self.signature(**params) if callable(self.signature) else self.signature
        return None if text is None else parse(text)

    def validate(self, *specs: Any, **params: Any) -> None:
        """Raises ValueError with one sentence unless arrays of these shapes and dtypes go together."""
        signature = self.signature_for(**params)
        if signature is not None:
            signature.check(self.name, self.inputs, specs)
        elif self.check is not None:
            self._need_arrays(specs)
        if self.check is not None:
            self.check(*specs, **params)

    def _need_arrays(self, specs: tuple[Any, ...]) -> None:
        """What a signature would say first: an input that `forward` has no default for must not be left out."""
        parameters = inspect.signature(self.forward).parameters.values()
        required = sum(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
        if len(specs) < required:
            names = ", ".join(self.inputs[:required])
            raise TypeError(f"{self.name}: got {len(specs)} arrays, but it takes at least {required}: {names}")
        for i, spec in enumerate(specs):
            if spec is None and (self.variadic or i < required):
                name = f"{self.inputs[0][1:]}[{i}]" if self.variadic else self.inputs[i]
                raise TypeError(f"{self.name}: {name} is None, but it must be an array")

    def __repr__(self) -> str:
        return f"<Op {self.name}({', '.join(self.inputs)})>"
