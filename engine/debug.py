"""HANDGRAD_DEBUG: a ladder of looks at what runs, on stderr. Each level does what the ones below it do.

1  prints each operation, forward and backward, and whether a kernel or the formula ran
2  also shapes, dtypes and microseconds
3  compares every kernel call with its formula; RuntimeError where they disagree by more than rounding
4  stops at the first NaN with the name of the operation that made it
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import environment
from .device import host, is_array
from .errors import UserError
from .tensor import OBSERVER, Node


class Observer:
    """What stands between `apply` (and backward) and the operation."""

    def __init__(self, level: int) -> None:
        self.level = level

    def forward(self, run: Callable[..., Any], op: Any, arrays: list[Any], params: dict[str, Any]) -> Any:
        began = time.perf_counter()
        y, residuals, kernel = run(op, arrays, params)
        self._say(op.name, "forward", kernel, began, arrays, _tuple(y))
        if self.level >= 3 and kernel is not None:
            self._compare(op, "forward", arrays, params, _tuple(y), _tuple(op.forward(*arrays, **params)))
        if self.level >= 4:
            _stop_at_nan(op, "forward", arrays, _tuple(y))
        return y, residuals, kernel

    def backward(self, run: Callable[..., Any], node: Node, dys: list[Any], wanted: Any, lent: list[Any]) -> Any:
        saved = list(node.saved or ())
        before = [None if offer is None or not offer[1] else offer[0].copy() for offer in lent]
        formula: Any = None
        if self.level >= 3 and node.kernel is not None:
            kernel, node.kernel = node.kernel, None
            formula = run(node, dys, wanted, [None] * len(lent))
            node.kernel = kernel
        began = time.perf_counter()
        dxs = run(node, dys, wanted, lent)
        self._say(node.op.name, "backward", node.kernel, began, dys, dxs)
        added = [offer is not None and offer[1] and dx is offer[0] for dx, offer in zip(dxs, lent, strict=True)]
        if formula is not None:
            want = [f + b if a else f for f, b, a in zip(formula, before, added, strict=True)]
            kept = [w and d is not None for w, d in zip(wanted, dxs, strict=True)]
            self._compare(node.op, "backward", saved, node.params, _only(dxs, kept), _only(want, kept))
        if self.level >= 4:
            _stop_at_nan(node.op, "backward", [*saved, *dys], dxs)
        return dxs

    def _say(self, name: str, way: str, kernel: Any, began: float, xs: Any, ys: Any) -> None:
        line = f"{name} {way} {'kernel' if kernel is not None else 'formula'}"
        if self.level >= 2:
            microseconds = (time.perf_counter() - began) * 1e6
            line += f"  {_shapes(xs)} -> {_shapes(ys)}  {microseconds:.0f} us"
        print(f"handgrad: {line}", file=sys.stderr)

    def _compare(self, op: Any, way: str, arrays: list[Any], params: Any, got: Any, want: Any) -> None:
        try:
            units = op.tolerance(*arrays, **params)
        except (AttributeError, TypeError):  # asks for what the vjp does not read
            units = 1e3
        for g, w in zip(got, want, strict=True):
            g, w = np.asarray(host(g)), np.asarray(host(w))
            same = np.array_equal(np.isfinite(g), np.isfinite(w))
            good = np.isfinite(w)
            worst = float(np.max(np.abs(g - w)[good], initial=0.0)) if same else float("inf")
            allowed = 16 * units * np.finfo(w.dtype).eps * max(float(np.max(np.abs(w[good]), initial=0.0)), 1e-30)
            if not worst <= allowed:
                raise RuntimeError(
                    f"{op.name} {way}: kernel and formula differ by {worst:.2e}, but rounding allows {allowed:.2e}"
                )


def _stop_at_nan(op: Any, way: str, inputs: Any, outputs: Any) -> None:
    if any(_has_nan(y) for y in outputs) and not any(_has_nan(x) for x in inputs):
        raise RuntimeError(f"{op.name} {way} made the first NaN, from inputs without one: {_shapes(inputs)}")


def _has_nan(a: Any) -> bool:
    if not (is_array(a) or isinstance(a, np.floating)) or a.dtype.kind != "f":
        return False
    return bool(np.isnan(host(a)).any())


def _tuple(y: Any) -> tuple[Any, ...]:
    return y if isinstance(y, tuple) else (y,)


def _only(xs: Any, kept: list[bool]) -> list[Any]:
    return [x for x, keep in zip(xs, kept, strict=True) if keep]


def _shapes(xs: Any) -> str:
    parts = (f"{np.dtype(x.dtype).name}{list(x.shape)}" if hasattr(x, "shape") else repr(x) for x in xs)
    return ", ".join(parts)


@contextmanager
def debug(level: int) -> Any:
    """Inside it HANDGRAD_DEBUG is `level`, 0 to 4."""
    if level not in range(5):
        raise UserError(f"debug: level is {level!r}, but it must be 0, 1, 2, 3 or 4")
    before = list(OBSERVER)
    OBSERVER[:] = [Observer(level)] if level else []
    try:
        yield
    finally:
        OBSERVER[:] = before


if environment.read().debug:
    OBSERVER[:] = [Observer(environment.read().debug)]
