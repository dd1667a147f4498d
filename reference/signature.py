"""Shapes as a sentence: the small language in which a row says how its inputs' shapes go together.

NumPy's gufunc style, `(...,t,d),(...,s,d)->(...,t,s)`, with four additions:

    ...     leading axes, any number; those of several inputs broadcast against each other
    4h      an integer factor: this axis is four times as long as `h`
    :int    (or :bool, :any, after the bracket) the dtype's kind; floating point where nothing is said
    ?       (after all) the input may be left out, or be None

Shape checks, their error messages and the random shapes of the tests come from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

_TERM = re.compile(r"\(([^()]*)\)(?::(int|bool|any))?(\?)?")
_KINDS = {"int": "iu", "bool": "b", "float": "f", "any": "fiub"}


@dataclass(frozen=True)
class Term:
    """One bracket: the axes of one array."""

    dims: tuple[tuple[int, str], ...]  # (factor, letter) from the left, the ellipsis taken out
    ellipsis: bool
    kind: str = "float"
    optional: bool = False

    def text(self) -> str:
        names = (["..."] if self.ellipsis else []) + [(str(f) if f != 1 else "") + letter for f, letter in self.dims]
        return "(" + ", ".join(names) + ")"


@dataclass(frozen=True)
class Signature:
    """What `parse` returns."""

    inputs: tuple[Term, ...]
    outputs: tuple[Term, ...]

    def letters(self) -> list[str]:
        return sorted({letter for term in self.inputs for _, letter in term.dims})

    def check(self, op: str, names: tuple[str, ...], specs: tuple[Any, ...]) -> dict[str, int]:
        """Lengths by letter; ValueError or TypeError with one sentence where `specs` do not fit."""
        required = sum(not term.optional for term in self.inputs)
        if not required <= len(specs) <= len(self.inputs):
            wanted = str(required) if required == len(self.inputs) else f"{required} to {len(self.inputs)}"
            raise TypeError(f"{op}: got {len(specs)} arrays, but it takes {wanted}: {', '.join(names)}")
        lengths: dict[str, int] = {}
        origin: dict[str, str] = {}
        batch: tuple[int, ...] = ()
        batch_from: list[str] = []
        for term, name, spec in zip(self.inputs, names, specs, strict=False):
            if spec is None and term.optional:
                continue
            if type(spec) in (float, int, bool) and term.ellipsis and not term.dims:
                continue
            if spec is None or not hasattr(spec, "shape"):
                raise TypeError(f"{op}: {name} is {spec!r}, but it must be an array with the axes {term.text()}")
            shape = tuple(spec.shape)
            if np.dtype(spec.dtype).kind not in _KINDS[term.kind]:
                raise TypeError(f"{op}: {name} is {np.dtype(spec.dtype).name}, but it must be {_WANTED[term.kind]}")
            n = len(term.dims)
            if len(shape) < n or (len(shape) > n and not term.ellipsis):
                raise ValueError(f"{op}: {name} has shape {shape}, but it needs the axes {term.text()}")
            for position, (factor, letter) in enumerate(term.dims):
                got = shape[len(shape) - n + position]
                if letter not in lengths and got % factor == 0:
                    lengths[letter] = got // factor
                    origin[letter] = f"{name} {shape}"
                wanted_length = factor * lengths[letter] if letter in lengths else None
                if got != wanted_length:
                    axis = "its last axis" if position == n - 1 else f"axis {position - n}"
                    if wanted_length is None:
                        raise ValueError(f"{op}: {name} has shape {shape}, but {axis} must be a multiple of {factor}")
                    raise ValueError(
                        f"{op}: {name} has shape {shape}, but {origin[letter]} needs {axis} to be {wanted_length}"
                    )
            if term.ellipsis:
                lead = shape[: len(shape) - n]
                try:
                    batch = np.broadcast_shapes(batch, lead)
                except ValueError:
                    raise ValueError(
                        f"{op}: {name} has shape {shape}, whose leading axes {lead} do not broadcast "
                        f"with {batch} of {' and '.join(batch_from)}"
                    ) from None
                if lead:
                    batch_from.append(f"{name} {shape}")
        return lengths

    def shapes(self, lengths: Mapping[str, int], batch: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Shapes of the inputs for given lengths, every ellipsis standing for `batch`."""
        return [
            (*(batch if term.ellipsis else ()), *(factor * lengths[letter] for factor, letter in term.dims))
            for term in self.inputs
        ]


_WANTED = {
    "any": "a numeric array",
    "int": "an integer array",
    "bool": "a boolean array",
    "float": "a floating point array",
}


def _term(text: str, kind: str, optional: str) -> Term:
    dims: list[tuple[int, str]] = []
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name == "...":
            continue
        match = re.fullmatch(r"(\d*)([a-z]+)", name)
        if match is None:
            raise ValueError(f"signature: {name!r} is not an axis; write a letter, with an integer factor before it")
        dims.append((int(match[1] or 1), match[2]))
    return Term(tuple(dims), "..." in names, kind or "float", bool(optional))


@lru_cache(maxsize=512)
def parse(text: str) -> Signature:
    """`"(...,i),(i,o),(o)?->(...,o)"` as a Signature."""
    left, arrow, right = text.partition("->")
    if not arrow:
        raise ValueError(f"signature: {text!r} has no ->")
    sides = [tuple(_term(*groups) for groups in _TERM.findall(side)) for side in (left, right)]
    return Signature(*sides)
