"""What a gradient may not do beside being wrong: write, remember, mind the memory layout, lose a dtype, read in secret.

Each function here is one promise of the contract between a row and the engine, checked at one point.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from ...reference.op import Spec
from .arrays import JITTERS, as_array, cast, jitter, largest, unseen
from .case import Case
from .first_order import shapes
from .layouts import LAYOUTS
from .subject import unread


def purity(case: Case) -> None:
    """No input, result or cotangent is written to; and a second call gives the same bits as the first."""
    s, params = case.subject, case.params
    xs = s.native(tuple(x.copy() if isinstance(x, np.ndarray) else x for x in case.inputs))
    ys = s.forward(xs, params)
    dys = case.cotangents(ys)
    runs: dict[str, Any] = {
        "forward": lambda: s.forward(xs, params),
        "vjp": lambda: s.vjp(native_dys, native_ys, xs, params),
    }
    if s.jvp is not None:
        vs = s.native(case.directions(case.inputs))
        runs["jvp"] = lambda: s.jvp(vs, native_ys, xs, params)  # type: ignore[misc]
    native_ys, native_dys = s.native(tuple(y.copy() for y in ys)), s.native(tuple(dy.copy() for dy in dys))
    for name, run in runs.items():
        arguments = {"an input": xs, "y": native_ys, "dy": native_dys}
        before = {key: [_copy(a) for a in values] for key, values in arguments.items()}
        first = [_copy(a) for a in _guarded(case, name, run)]
        for key, values in arguments.items():
            for i, (old, new) in enumerate(zip(before[key], values, strict=True)):
                if isinstance(old, np.ndarray) and not same(old, as_array(new)):
                    which = case.input_name(i) if key == "an input" else key
                    case.fail("mutation", f"{name} changed {which}, but it may only read what it is given")
        case.report.add("mutation")
        for old, new in zip(first, _guarded(case, name, run), strict=True):
            if isinstance(old, np.ndarray) and not same(old, as_array(new)):
                case.fail("second call", f"{name} gave another result when called again with the same arguments")
        case.report.add("second call")


def _guarded(case: Case, name: str, run: Any) -> Any:
    try:
        return run()
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        case.fail("mutation", f"{name} writes into an array that it was given ({error})")


def _copy(a: Any) -> Any:
    return as_array(a).copy() if hasattr(a, "shape") and not isinstance(a, Spec) else a


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether all is the same: shape, dtype, numbers, and where NaN is."""
    return a.shape == b.shape and a.dtype == b.dtype and bool(np.all((a == b) | ((a != a) & (b != b))))


def strides(case: Case) -> None:
    """Permuted, sliced, negative and zero strides, and unaligned memory, of inputs and of dy: the same result."""
    s, params = case.subject, case.params
    for name, layout in LAYOUTS.items():
        xs = tuple(layout(x) if isinstance(x, np.ndarray) else x for x in case.inputs)
        plain = tuple(np.array(x, order="C") if isinstance(x, np.ndarray) else x for x in xs)
        if s.kernel is not None and not s.kernel.accepts(*xs, **params):
            continue
        ys = s.forward(plain, params)
        case.report.add("strides")
        dys = tuple(layout(dy) for dy in case.cotangents(ys))
        plain_dys = tuple(np.array(dy, order="C") for dy in dys)
        got = _guarded(case, "forward", lambda xs=xs: s.forward(xs, params))
        again = [s.forward(tuple(jitter(x, _EPS, case.rng) for x in plain), params) for _ in range(JITTERS)]
        for y, want, allowed in zip(got, ys, case.limit(ys, again), strict=True):
            case.compare("strides", f"y of inputs with {name}", y, want, allowed, " as for contiguous ones")
        want_dxs = s.vjp(plain_dys, ys, plain, params)
        laid = tuple(layout(np.asarray(y)) if name != "zero strides" else y for y in ys)
        dxs = _guarded(case, "vjp", lambda a=dys, b=laid, c=xs: s.vjp(a, b, c, params))
        again = [
            s.vjp(*(tuple(jitter(a, _EPS, case.rng) for a in values) for values in (plain_dys, ys, plain)), params)
            for _ in range(JITTERS)
        ]
        for i, (dx, want, allowed) in enumerate(zip(dxs, want_dxs, case.limit(want_dxs, again), strict=True)):
            if want is not None:
                what = f"the gradient of {case.input_name(i)} for arrays with {name}"
                case.compare("strides", what, dx, want, allowed, " as for contiguous ones")


_EPS = float(np.finfo(np.float64).eps)


def reads(case: Case) -> set[str]:
    """The vjp is right without what the row does not declare. Returns the declared names that it did not need here."""
    op = case.subject.op
    if op is None:
        return set()
    xs, params = case.inputs, case.params
    ys = case.subject.forward(xs, params)
    dys = case.cotangents(ys)
    want = case.subject.vjp(dys, ys, xs, params)
    saved, kept = unread(case.subject, xs, ys)
    _poisoned(case, dys, kept, saved, want)
    case.report.add("reads")
    idle = set()
    for name in op.reads:
        hidden_ys = tuple(_spec(y) for y in ys) if name == "y" else kept
        hidden = tuple(
            _spec(x) if name != "y" and case.input_name(i).split("[")[0] == name else x for i, x in enumerate(saved)
        )
        if hidden_ys is kept and all(a is b for a, b in zip(hidden, saved, strict=True)):
            continue
        try:
            got = case.subject.vjp(dys, hidden_ys, hidden, params)
        except Exception:
            continue
        if all(a is b or (a is not None and b is not None and same(a, b)) for a, b in zip(got, want, strict=True)):
            idle.add(name)
    return idle


def _poisoned(case: Case, dys: Any, ys: Any, xs: Any, want: Any) -> None:
    try:
        got = case.subject.vjp(dys, ys, xs, case.params)
    except Exception as error:
        case.fail("reads", f"the vjp needs more than the row declares under `reads`: {type(error).__name__}: {error}")
    for a, b in zip(got, want, strict=True):
        if (a is None) != (b is None) or (a is not None and not same(a, b)):
            case.fail("reads", "the vjp gives another result where the row says that an array is not read")


def _spec(a: Any) -> Any:
    return Spec(a.shape, a.dtype) if isinstance(a, np.ndarray) else a


def dtypes(case: Case) -> None:
    """float32 stays float32, forwards, backwards and along a direction; and the numbers are those of float64."""
    s, params = case.subject, case.params
    xs = case.at(np.float32)
    wide = tuple(cast(x, np.float64) for x in xs)
    if s.kernel is not None and not s.kernel.accepts(*xs, **params):
        return
    ys, exact = s.forward(xs, params), s.forward(wide, params)
    changes_dtype = "dtype" in params
    for y in ys:
        if y.dtype != np.float32 and not changes_dtype:
            case.fail("float32", f"y is {y.dtype.name} for float32 inputs")
    dys = tuple(dy.astype(y.dtype) for dy, y in zip(case.cotangents(ys), ys, strict=True))
    dxs = s.vjp(dys, ys, xs, params)
    shapes(case, dxs, xs, "float32")
    for i, (x, dx) in enumerate(zip(xs, dxs, strict=True)):
        if dx is not None and dx.dtype != x.dtype:
            case.fail(
                "float32", f"the gradient of {case.input_name(i)} is {dx.dtype.name}, but the input is {x.dtype.name}"
            )
    if s.jvp is not None:
        for dy, y in zip(s.jvp(case.directions(xs), ys, xs, params), ys, strict=True):
            if dy.dtype != y.dtype:
                case.fail("float32", f"the jvp is {dy.dtype.name}, but y is {y.dtype.name}")
    if changes_dtype:
        return
    eps = float(np.finfo(np.float32).eps)
    again = [s.forward(tuple(jitter(x, eps, case.rng) for x in wide), params) for _ in range(JITTERS)]
    spreads = [max(float(np.max(np.abs(m[k] - y), initial=0)) for m in again) for k, y in enumerate(exact)]
    for y, want, spread in zip(ys, exact, spreads, strict=True):
        allowed = case.tolerance * eps * float(np.max(np.abs(want), initial=0)) + 8 * spread
        case.compare("float32", "y in float32", y, want, allowed, " in float64")


def wanted(case: Case) -> None:
    """`wanted` masks: what is asked for is the same whatever else is asked for."""
    s, params = case.subject, case.params
    if not s.takes_wanted:
        return
    ys = s.forward(case.inputs, params)
    dys = case.cotangents(ys)
    everything = s.vjp(dys, ys, case.inputs, params, case.differentiable)
    for i, flag in enumerate(case.differentiable):
        if not flag:
            continue
        mask = tuple(j == i for j in range(len(case.inputs)))
        try:
            alone = s.vjp(dys, ys, case.inputs, params, mask)
        except Exception as error:
            case.fail("wanted", f"the vjp raised {type(error).__name__} with wanted={mask}: {error}")
        name = case.input_name(i)
        if len(alone) != len(case.inputs) or alone[i] is None:
            case.fail("wanted", f"the gradient of {name} is missing, but wanted={mask} asks for it")
        case.compare("wanted", f"the gradient of {name} with wanted={mask}", alone[i], everything[i],
                     case.limit(everything, [])[i], " as when all are asked for")  # fmt: skip


def standing_still(case: Case) -> None:
    """None for the direction of an input means that it stands still: the jvp is the same as with zeros there."""
    s, params = case.subject, case.params
    moving = [i for i, flag in enumerate(case.differentiable) if flag]
    if s.jvp is None or s.op is None or len(moving) < 2:
        return
    ys, vs = s.forward(case.inputs, params), case.directions(case.inputs)
    eps = float(np.finfo(np.float64).eps)
    for size in range(1, len(moving)):
        for still in combinations(moving, size):
            zeros = tuple(
                np.zeros_like(x) if i in still else v for i, (x, v) in enumerate(zip(case.inputs, vs, strict=True))
            )
            nones = tuple(None if i in still else v for i, v in enumerate(vs))
            names = " and ".join(case.input_name(i) for i in still)
            want = s.jvp(zeros, ys, case.inputs, params)
            try:
                got = s.jvp(nones, ys, case.inputs, params)
            except Exception as error:
                case.fail("standing still", f"the jvp raised {type(error).__name__} with None for {names}: {error}")
            for k, (dy, other) in enumerate(zip(got, want, strict=True)):
                what = f"the jvp with None for {names}" + (f", output {k}," if len(got) > 1 else "")
                allowed = case.tolerance * eps * max(largest(other), unseen(case.inputs))
                case.compare("standing still", what, dy, other, allowed, " with zeros")
