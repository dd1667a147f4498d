"""Shapes at the edge: axes of length zero, leading axes that broadcast, and one array in two places."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from .arrays import jitter
from .case import Case
from .draw import numbers
from .first_order import first_order, shapes


def zero_size(case: Case) -> None:
    """An axis of length zero: where forward has an answer, so has the vjp; nothing in the result means zero gradients."""
    case.report.skip("zero size", "no empty axis that the row allows, or has an answer for")
    for inputs in _emptied(case):
        trial = replace(case, inputs=inputs)
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's "mean of empty slice" is the answer, NaN
                ys = case.subject.forward(inputs, case.params)
        except (ValueError, IndexError, TypeError, ZeroDivisionError):
            continue  # the mathematics has no answer: the maximum of nothing, a row of no scores
        try:
            with np.errstate(all="ignore"):
                dys = tuple(np.ones_like(y) for y in ys)
                dxs = case.subject.vjp(dys, ys, inputs, case.params)
        except Exception as error:
            trial.fail("zero size", f"forward has a result, but the vjp raised {type(error).__name__}: {error}")
        shapes(trial, dxs, inputs, "zero size")
        for i, dx in enumerate(dxs):
            if dx is not None and all(y.size == 0 for y in ys) and np.any(dx != 0):
                trial.fail("zero size", f"the result is empty, but the gradient of {trial.input_name(i)} is not zero")


def _emptied(case: Case) -> list[tuple[Any, ...]]:
    """The inputs with one length, wherever it stands first, cut to zero; only those that the row allows."""
    op = case.subject.op
    lengths = sorted({(axis, n) for x in case.inputs if isinstance(x, np.ndarray) for axis, n in enumerate(x.shape)})
    found = []
    for axis, n in lengths:
        for which in ("everywhere", "here"):
            inputs = tuple(_cut(x, axis, n, which) if isinstance(x, np.ndarray) else x for x in case.inputs)
            try:
                if op is not None:
                    op.validate(*inputs, **case.params)
                if case.subject.kernel is not None and not case.subject.kernel.accepts(*inputs, **case.params):
                    continue
            except (ValueError, TypeError, IndexError):
                continue
            found.append(inputs)
    return found


def _cut(x: np.ndarray, axis: int, n: int, which: str) -> np.ndarray:
    axes = range(x.ndim) if which == "everywhere" else [axis] if axis < x.ndim else []
    return x[
        tuple(slice(0, 0) if a in axes and x.shape[a] == n and n > 1 else slice(None) for a in range(x.ndim))
    ].copy()


def broadcasting(case: Case) -> None:
    """Where a signature lets leading axes broadcast, an input that was stretched gets the sum over its copies."""
    op = case.subject.op
    signature = op.signature_for(**case.params) if op is not None and op.signature is not None else None
    if op is None or signature is None or sum(term.ellipsis for term in signature.inputs) < 2:
        return
    rng = case.rng
    lengths = {letter: int(rng.integers(1, 4)) for letter in signature.letters()}
    inputs = []
    stretched = int(rng.integers(len(signature.inputs)))
    for i, (name, term) in enumerate(zip(op.inputs, signature.inputs, strict=True)):
        batch = (2, 1, 3) if i != stretched else ((1, 3), (2, 1, 1), (), (2, 2, 3))[int(rng.integers(4))]
        shape = (*(batch if term.ellipsis else ()), *(factor * lengths[letter] for factor, letter in term.dims))
        inputs.append(np.asarray(numbers(op.domain.get(name, "real"), term, shape, lengths, rng)))
    try:
        op.validate(*inputs, **case.params)
    except (ValueError, TypeError):
        case.report.skip("broadcasting", "the row does not allow leading axes to broadcast")
        return
    first_order(replace(case, inputs=tuple(inputs)))
    case.report.add("broadcasting")


def used_twice(case: Case) -> None:
    """One array in two places: the engine gives it the sum of both partial derivatives."""
    op = case.subject.op
    if op is None or case.subject.graph is None:
        return
    pair = _pair(case)
    if pair is None:
        return
    from ..autograd import gradients
    from ..tensor import Tensor

    i, j = pair
    strict = i if op.domain.get(case.input_name(i), "real") != "real" else j
    x = case.inputs[strict]
    inputs = tuple(x if k in pair else a for k, a in enumerate(case.inputs))
    ys = case.subject.forward(inputs, case.params)
    dys = case.cotangents(ys)
    dxs = case.subject.vjp(dys, ys, inputs, case.params)
    want = dxs[i] + dxs[j]
    moved = case.subject.vjp(*(tuple(jitter(a, 2.0**-52, case.rng) for a in v) for v in (dys, ys, inputs)), case.params)
    allowed = case.limit([want], [(moved[i] + moved[j],)])[0]
    names = f"{case.input_name(i)} and {case.input_name(j)}"
    for way in ("hg.grad", "backward"):
        leaf = Tensor(x, requires_grad=True)
        tensors = [leaf if k in pair else Tensor(a) if isinstance(a, np.ndarray) else a for k, a in enumerate(inputs)]
        outputs = case.subject.graph(tensors, case.params)
        total = np.zeros_like(want)
        for y, dy in zip(outputs, dys, strict=True):
            if way == "hg.grad":
                total = total + gradients(y, [leaf], dy, retain_graph=True)[0].data
            else:
                y.backward(dy, retain_graph=True)
        if way == "backward":
            total = leaf.grad.data if leaf.grad is not None else total
        what = f"the gradient by {way} of one array as {names}"
        case.compare("used twice", what, total, want, allowed, " as the sum of both partial derivatives")


def _pair(case: Case) -> tuple[int, int] | None:
    flags = case.differentiable
    for i in range(len(flags)):
        for j in range(i + 1, len(flags)):
            if flags[i] and flags[j] and case.inputs[i].shape == case.inputs[j].shape:
                return i, j
    return None
