"""The check before the timing: what a side gives is held to the hand-derived formula in float64."""

from __future__ import annotations

import math
from typing import Any

import cases
import numpy as np
from harness import BenchError


def expected(case: cases.Case, direction: str) -> tuple[list[np.ndarray], list[int] | None, tuple[float, float]]:
    """(y, or the gradients, by the formula in float64; the shape of y; (flops, bytes) that it needs at least)."""
    from handgrad.reference.op import Spec
    from handgrad.reference.table import BY_NAME

    if case.op in cases.UPDATES:
        return updated(case)
    op = BY_NAME[case.op]
    arrays = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in case.arrays()]
    y = op.forward(*arrays, **case.params)
    flops, elements = op.cost(*(Spec(a.shape, a.dtype) for a in arrays), **case.params)
    if case.params.get("causal") or case.op == "packed_attention":
        flops /= 2  # a row's cost does not credit what the order hides
    first = y[0] if isinstance(y, tuple) else y
    shape = list(first.shape)
    smaller = sum(
        3 * a.size for a in arrays if a.dtype == np.bool_
    )  # bytes: the cost counts every element as a float32
    if direction == "forward":
        return [first], shape, (flops, 4.0 * elements - smaller)
    given = cases.cotangent(shape).astype(np.float64)
    if isinstance(y, tuple):
        given = (given, *(np.zeros_like(other) for other in y[1:]))
    gradients = [
        g for g, a in zip(op.vjp(given, y, *arrays, **case.params), arrays, strict=False) if a.dtype.kind == "f"
    ]
    read = sum(a.size for name, a in zip(op.inputs, arrays, strict=False) if name in op.reads)
    moved = first.size + (first.size if "y" in op.reads else 0) + read + sum(g.size for g in gradients)
    return gradients, shape, (2.0 * flops, 4.0 * moved - (smaller if "mask" in op.reads else 0))


def updated(case: cases.Case) -> tuple[list[np.ndarray], None, tuple[float, float]]:
    """The arrays after one update, by the formulas of reference/adamw.py; AdamW's state is zero before it."""
    from handgrad.reference import adamw

    arrays = [a.astype(np.float64) for a in case.arrays()]
    n = sum(a.size for a in arrays)
    if case.op == "adamw":
        zeros = np.zeros_like(arrays[0])
        found = adamw.adamw_update(arrays[0], arrays[1], zeros, zeros, step=1, **case.params)
        return list(found), None, (12.0 * n / 2, 4.0 * 7 * n / 2)  # reads p, g, m, v; writes p, m, v
    factor = adamw.clip_factor(arrays, **case.params)
    return (
        [a * factor for a in arrays],
        None,
        (3.0 * n, 4.0 * 3 * n),
    )  # read for the norm; read and written by the scale


DRAWS_ITSELF = ("torch", "torch as installed", "torch compiled", "jax")
"""Sides whose generator cannot give the mask that a row's draw stands for."""


def difference(
    case: cases.Case, direction: str, side: str, found: Any, want: list[np.ndarray], shape: list[int] | None
) -> float:
    """The largest relative difference in norm; BenchError where it is more than float32 sums of that length explain."""
    what = f"{case.name}, {direction}: {side}"
    if direction == "backward" and not np.array_equal(found["dy"], cases.cotangent(shape)):
        raise BenchError(f"{what} was given another cotangent")
    arrays = case.arrays()
    longest = max(max(a.shape, default=1) for a in arrays)
    reductions = sum(a.size for a in arrays) if case.op == "clip_grad_norm" else longest  # a norm of all of them
    rows = math.prod(arrays[0].shape[:-1])
    bound = float(np.finfo(np.float32).eps) * (16 + 2 * math.sqrt(max(reductions, rows)))
    worst = 0.0
    for i, exact in enumerate(want):
        got = found[f"arr_{i}"]
        if side in DRAWS_ITSELF and case.op == "dropout_add":
            exact = own_mask(case, got, exact, cases.cotangent(shape) if direction == "backward" else None)
        if got.shape != exact.shape:
            raise BenchError(f"{what} gave shape {got.shape}, but it must be {exact.shape}")
        if not np.array_equal(np.isfinite(got), np.isfinite(exact)):
            where = np.isfinite(got) != np.isfinite(exact)
            raise BenchError(
                f"{what} is finite elsewhere than the formula, in {np.sum(where)} of {got.size} numbers (one that a kernel "
                "does not write is NaN here)"
            )
        finite = np.isfinite(exact)
        error = np.linalg.norm((got - exact)[finite])
        worst = max(worst, float(error / max(np.linalg.norm(exact[finite]), np.finfo(np.float32).tiny)))
    if not worst <= bound:
        raise BenchError(
            f"{what} is off by {worst:.1e} relative to the formula, more than {bound:.1e}; nothing was timed"
        )
    return worst


def own_mask(case: cases.Case, got: np.ndarray, exact: np.ndarray, dy: np.ndarray | None) -> np.ndarray:
    """What dropout_add should have given with the mask that a rival drew by itself. Each entry is that with x dropped, or that
    with x kept, whichever is closer; the gradient of the residual, dy, needs no mask.

    BenchError where the share of dropped entries is not p, to five standard deviations.
    """
    x, residual, p = *case.arrays()[:2], case.params["p"]
    if dy is not None and np.array_equal(exact, dy):
        return exact
    start, moved = (residual, x) if dy is None else (np.zeros_like(dy), dy)
    kept = start + moved / (1 - p)
    dropped = np.abs(got - start) < np.abs(got - kept)
    share, deviation = dropped.mean(), math.sqrt(p * (1 - p) / got.size)
    if abs(share - p) > 5 * deviation:
        raise BenchError(f"{case.name}: a rival dropped {share:.2%}, but p is {p}")
    return np.where(dropped, start, kept)
