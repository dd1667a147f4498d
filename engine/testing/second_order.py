r"""Is the gradient right when it is differentiated again? That is what running a vjp on Tensors must give.

The map G(x, w) = J(x)^T w is itself a function. Its derivative along (v, u) is had twice: by finite differences of the vjp
on arrays, and from the engine, which records the vjp's formula on Tensors (`create_graph`) and walks that record. A
formula that uses a residual as a constant (a logsumexp computed elsewhere, a `float(...)`, an array cached by forward)
gives the right gradient and a wrong second derivative; this is the check that sees it.

Source: Griewank and Walther, Evaluating Derivatives, 2nd ed., section 5.3 (second-order adjoints).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import inner, random_like
from .case import Case
from .differences import slope


def second_order(case: Case) -> None:
    """Raises CheckError; skips, with the reason in the report, where the operation does not run on Tensors."""
    from ..tensor import Tensor

    if case.subject.graph is None:
        case.report.skip("second order", "this subject does not run on handgrad Tensors")
        return
    xs = case.best_inputs()
    ys = case.subject.forward(xs, case.params)
    dys = case.cotangents(ys)
    dxs = case.subject.vjp(dys, ys, xs, case.params)
    if any(dx is not None and dx.dtype != x.dtype for dx, x in zip(dxs, xs, strict=True)):
        xs = case.at(np.float64)
        ys, dys = case.subject.forward(xs, case.params), tuple(np.asarray(dy, np.float64) for dy in dys)
    tensors = [
        Tensor(x, requires_grad=flag) if isinstance(x, np.ndarray) else x
        for x, flag in zip(xs, case.differentiable, strict=True)
    ]
    cotangents = [Tensor(dy, requires_grad=True) for dy in dys]
    leaves = [t for t, flag in zip(tensors, case.differentiable, strict=True) if flag]
    try:
        dx_tensors = _gradients(case, tensors, cotangents, leaves)
    except (TypeError, AttributeError, NotImplementedError) as error:
        if case.subject.op is not None:
            case.fail("second order", f"the formula does not run on Tensors: {type(error).__name__}: {error}")
        case.report.skip("second order", "the functions do not run on handgrad Tensors (they are not array API code)")
        return
    _first(case, dx_tensors, xs, dys)
    _second(case, dx_tensors, leaves, cotangents, xs, dys)


def _gradients(case: Case, tensors: Any, cotangents: Any, leaves: Any) -> list[Any]:
    """The gradients as Tensors with a history of their own."""
    from ..autograd import gradients
    from ..recording import enable_grad

    assert case.subject.graph is not None
    with enable_grad():
        outputs = case.subject.graph(tensors, case.params)
        total: list[Any] = [None] * len(leaves)
        for y, dy in zip(outputs, cotangents, strict=True):
            if not y.requires_grad:
                continue
            parts = gradients(y, leaves, dy, create_graph=True)
            total = [part if t is None else t + part for t, part in zip(total, parts, strict=True)]
    return total


def _first(case: Case, dx_tensors: Any, xs: Any, dys: Any) -> None:
    """The engine's first derivative is the vjp's."""
    ys = case.subject.forward(xs, case.params)
    want = [dx for dx in case.subject.vjp(dys, ys, xs, case.params) if dx is not None]
    for got, dx in zip(dx_tensors, want, strict=True):
        if got is not None:
            eps = float(np.finfo(got.dtype).eps)
            limit = (16 + got.size + case.tolerance) * eps * float(np.max(np.abs(dx), initial=0))
            case.compare("engine", "the gradient by the engine", got.data, dx, limit)


def _second(case: Case, dx_tensors: Any, leaves: Any, cotangents: Any, xs: Any, dys: Any) -> None:
    from ..autograd import gradients

    vs, us = case.directions(xs), tuple(random_like(dy, case.rng).astype(dy.dtype) for dy in dys)
    n = len(xs)

    def vjp(point: list[Any]) -> list[Any]:
        inputs, cotangent = tuple(point[:n]), tuple(point[n:])
        dxs = case.subject.vjp(cotangent, case.subject.forward(inputs, case.params), inputs, case.params)
        return [dx for dx in dxs if dx is not None]

    point = [*xs, *dys]
    weights = [random_like(dx, case.rng).astype(dx.dtype) for dx in vjp(point)]
    want, allowed, _ = slope(vjp, point, [*vs, *us], weights, case.rng, "second order")
    directions = [*(v for v in vs if v is not None), *us]
    got, size = np.longdouble(0), np.longdouble(0)
    for dx, weight in zip(dx_tensors, weights, strict=True):
        if dx is not None and dx.requires_grad and dx.size:
            parts = gradients(dx, [*leaves, *cotangents], weight, retain_graph=True)
            value, magnitude = inner([part.data for part in parts], directions)
            got, size = got + value, size + magnitude
    eps = max((float(np.finfo(dx.dtype).eps) for dx in dx_tensors if dx is not None), default=0.0)
    case.compare(
        "second order", "the second derivative along a random direction", got, want,
        allowed + 64 * (16 + sum(np.size(p) for p in point)) * eps * size, " by finite differences of the vjp",
    )  # fmt: skip
