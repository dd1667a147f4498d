"""A kernel pair against its row: the same numbers as the formula in longdouble, and every promise of the contract.

    forward(*arrays, **params) -> (y, residuals)
    vjp(dy, y, *arrays, residuals, wanted, into, **params) -> tuple

How wrong may a kernel be? As wrong as the row's tolerance says, in eps of the largest magnitude, and as wrong as a
different rounding of what it was given would make the exact formula (see Case.limit). Both come from the operation, not
from what a kernel happens to reach.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import JITTERS, as_array, cast, eps_of, jitter, largest, unseen
from .case import Case
from .subject import frozen, of_row, unread


def agreement(case: Case, dtype: Any, xs: tuple[Any, ...] | None = None, jitters: int = JITTERS) -> None:
    """y and every gradient in `dtype`, against the formula in longdouble on the same numbers.

    xs: the arrays as they lie in memory; the case's inputs where left out. A formula is checked just like a kernel.
    """
    pair, params, row = case.subject.kernel, case.params, of_row(_op(case))
    xs = case.at(dtype) if xs is None else xs
    check = f"value {np.dtype(dtype).name}"
    if pair is not None and not pair.accepts(*xs, **params):
        case.report.skip(check, "the kernel does not accept these arrays")
        return
    eps = eps_of(dtype)
    exact = tuple(cast(x, np.longdouble) for x in xs)
    ys = row.forward(exact, params)
    again = [row.forward(tuple(jitter(x, eps, case.rng) for x in exact), params) for _ in range(jitters)]
    got_ys = case.subject.forward(xs, params)
    for k, (got, want, allowed) in enumerate(zip(got_ys, ys, _limits(case, ys, again, eps), strict=True)):
        name = _op(case).output_name(k)
        if want.dtype.kind == "f" and got.dtype != np.dtype(dtype):
            case.fail(check, f"{name} is {got.dtype.name}, but the inputs are {np.dtype(dtype).name}")
        case.compare(check, name, got, want, allowed, " by the formula in longdouble")
    if not all(np.all(np.isfinite(y)) for y in ys):
        return  # what a gradient is at infinity the formula alone says
    check = f"gradient {np.dtype(dtype).name}"
    dys = tuple(dy.astype(dtype) for dy in case.cotangents(got_ys))
    exact_dys = tuple(dy.astype(np.longdouble) for dy in dys)
    want_dxs = row.vjp(exact_dys, ys, exact, params)
    again = []
    for _ in range(jitters):
        moved = [tuple(jitter(a, eps, case.rng) for a in values) for values in (exact_dys, ys, exact)]
        again.append(row.vjp(*moved, params))
    dxs = case.subject.vjp(dys, got_ys, xs, params)
    limits = _limits(case, want_dxs, again, eps, largest(*dys))
    for i, (got, want, allowed) in enumerate(zip(dxs, want_dxs, limits, strict=True)):
        name = case.input_name(i)
        if (got is None) != (want is None):
            case.fail(check, f"the gradient of {name} is {'missing' if got is None else 'there'}, unlike the formula's")
        if want is not None:
            if got.dtype != np.dtype(dtype):
                case.fail(
                    check, f"the gradient of {name} is {got.dtype.name}, but the inputs are {np.dtype(dtype).name}"
                )
            case.compare(check, f"the gradient of {name}", got, want, allowed, " by the formula in longdouble")


def _op(case: Case) -> Any:
    assert case.subject.op is not None
    return case.subject.op


def _limits(case: Case, results: Any, moves: Any, eps: float, terms: float = 0.0) -> list[Any]:
    """As Case.limit, for results in longdouble that are computed in `eps`.

    terms: the size of the cotangent. A gradient is a sum of terms of that size (above 1 nobody knows), however small it
    is. Where it cancels to nothing (a layer_norm of a single entry) a quarter of the digits may be lost.
    """
    tolerance, limits = case.tolerance, []
    for k, result in enumerate(results):
        if result is None:
            limits.append(0.0)
            continue
        with np.errstate(all="ignore"):
            spread = np.max([np.abs(m[k] - result) for m in moves], axis=0, initial=0.0)
        magnitude = max(largest(result), min(1.0, terms)) or unseen(case.inputs)  # zero has no size of its own
        if largest(result) < eps**0.5 * terms:
            magnitude = terms * eps**-0.25
        worst = np.max(np.where(np.isfinite(spread), spread, 0), initial=0.0)
        limits.append(tolerance * eps * magnitude + 8 * worst)
    return limits


def contract(case: Case) -> None:
    """Residuals stay as they were, `into` is written exactly where it was lent, an unused output may be None."""
    pair, params = case.subject.kernel, case.params
    xs = frozen(case.inputs)
    if not pair.accepts(*xs, **params):
        return
    y, residuals = pair.forward(*xs, **params)
    ys = y if isinstance(y, tuple) else (y,)
    dys = frozen(case.cotangents(ys))
    saved, kept = unread(case.subject, xs, frozen(as_array(a) for a in ys))
    wanted = case.differentiable

    def call(into: list[Any], cotangents: Any = dys) -> tuple[Any, ...]:
        dy = cotangents if isinstance(y, tuple) else cotangents[0]
        return pair.vjp(
            dy,
            kept if isinstance(y, tuple) else kept[0],
            *saved,
            residuals=residuals,
            wanted=wanted,
            into=into,
            **params,
        )

    nothing: list[Any] = [None] * len(xs)
    before = arrays_in(residuals)
    plain = [None if a is None else as_array(a).copy() for a in call(list(nothing))]
    for old, new in zip(before, arrays_in(residuals), strict=True):
        if old.tobytes() != new.tobytes():
            case.fail("residuals", "the vjp changed its residuals, so a second backward pass would be wrong")
    case.report.add("residuals")
    for i, dx in enumerate(plain):
        if wanted[i] and dx is not None:
            for add in (False, True):
                for strided in (False, True):
                    _lent(case, i, dx, add, strided, call, nothing)
    if isinstance(y, tuple):
        _unused_outputs(case, call, dys, nothing)


def _lent(case: Case, i: int, dx: Any, add: bool, strided: bool, call: Any, nothing: list[Any]) -> None:
    """A buffer inside a larger array: the gradient is in it, or it is untouched; nothing around it ever changes."""
    step = 2 if strided and dx.ndim else 1
    around = np.full((*dx.shape[:-1], dx.shape[-1] * step) if dx.ndim else (), np.nan, dx.dtype)
    memory = np.full((3, *around.shape), 7.0, dx.dtype)
    buffer = memory[1, ..., ::step] if dx.ndim else memory[1:2].reshape(())
    base = case.rng.standard_normal(dx.shape).astype(dx.dtype) if add else np.full(dx.shape, np.nan, dx.dtype)
    buffer[...] = base
    into = list(nothing)
    into[i] = (buffer, add)
    got = call(into)[i]
    name = case.input_name(i)
    outside = memory.copy()
    if dx.ndim:
        outside[1, ..., ::step] = 7.0
    else:
        outside[1] = 7.0
    if np.any(outside != 7.0):
        case.fail("into", f"the vjp wrote outside the buffer that it was lent for {name}")
    how = "added to what it held" if add else "written over what it held"
    want = base + dx if add else dx
    allowed = case.limit([dx], [])[0] + 4 * eps_of(dx.dtype) * float(np.max(np.abs(want), initial=0))
    if got is buffer:
        case.compare("into", f"the buffer lent for {name}, {how},", buffer, want, allowed)
    else:
        if not np.array_equal(buffer, base, equal_nan=True):
            case.fail("into", f"the vjp wrote into the buffer lent for {name}, but returned another array")
        case.compare("into", f"the gradient of {name} beside the buffer", got, dx, allowed)


def _unused_outputs(case: Case, call: Any, dys: Any, nothing: list[Any]) -> None:
    """None for one output counts as zeros."""
    for k in range(len(dys)):
        none = tuple(None if j == k else dy for j, dy in enumerate(dys))
        zero = tuple(np.zeros_like(dy) if j == k else dy for j, dy in enumerate(dys))
        for i, (got, want) in enumerate(zip(call(list(nothing), none), call(list(nothing), zero), strict=True)):
            if want is not None:
                allowed = case.limit([as_array(want)], [])[0]
                what = f"the gradient of {case.input_name(i)} with None for output {k}"
                case.compare("unused outputs", what, got, want, allowed, " with zeros")


def nan(case: Case) -> None:
    """One NaN in an input: the kernel shows it where formula and definition both do, and nowhere the formula does not."""
    op, params = _op(case), case.params
    for i, flag in enumerate(case.differentiable):
        if not flag or case.inputs[i].size == 0:
            continue
        x = case.inputs[i].copy()
        x.flat[int(case.rng.integers(x.size))] = np.nan
        xs = tuple(x if j == i else a for j, a in enumerate(case.inputs))
        if not case.subject.kernel.accepts(*xs, **params):
            return
        with np.errstate(all="ignore"):
            formula = of_row(op).forward(xs, params)
            definition = op.definition(*xs, **params)
        definition = definition if isinstance(definition, tuple) else (definition,)
        for got, by_formula, textbook in zip(case.subject.forward(xs, params), formula, definition, strict=True):
            must = np.isnan(by_formula) & np.isnan(textbook)
            if np.any(must & ~np.isnan(got)):
                case.fail("nan", f"a NaN in {case.input_name(i)} vanished, where the formula's result is NaN")
            if np.any(np.isnan(got) & ~np.isnan(by_formula)):
                case.fail("nan", f"a NaN in {case.input_name(i)} spread to where the formula is finite")
            case.report.add("nan")


def arrays_in(tree: Any) -> list[np.ndarray]:
    if isinstance(tree, np.ndarray):
        return [tree.copy()]
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, (list, tuple)):
        return [a for leaf in tree for a in arrays_in(leaf)]
    return []
