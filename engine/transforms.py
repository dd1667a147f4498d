"""Derivatives as functions of functions: grad, vjp (reverse mode), jvp (forward mode), and what they combine to. They nest.

With J the matrix of derivatives of f at x, J_ij = dy_i / dx_j:

    vjp       dy -> dy J        reverse: one walk backwards for all inputs; grad is the case of a single output
    jvp       dx -> J dx        forward: one pass for all outputs
    jacobian  J itself          one vjp for each output, or one jvp for each input
    hvp       v -> H v          H the derivatives of the gradient: a jvp of grad (Pearlmutter 1994)
    hessian   H itself

Forward mode goes one level deep; everything else may stand inside of everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..reference.table import RESHAPE
from .autograd import gradients
from .device import library
from .door import cotangent, operand
from .forward import pushing
from .recording import enable_grad, state
from .tensor import Tensor, apply, wrap

Function = Callable[..., Any]


def value_and_grad(f: Function, argnums: int | tuple[int, ...] = 0) -> Callable[..., tuple[Tensor, Any]]:
    """A function that returns (f(...), its gradient with respect to the arguments `argnums`); f gives a single number.

    argnums: a position, or several; for several the gradient is a tuple. Arguments may be numbers, arrays or Tensors.
    It can be nested: `hg.grad(hg.grad(f))` is the second derivative.
    """
    positions = _positions(argnums)

    def wrapped(*args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
        y, xs, nested = _recorded("grad", f, args, kwargs, positions)
        if not isinstance(y, Tensor):
            raise TypeError(f"grad: the function returned a {type(y).__name__}, but it must return a Tensor")
        found = _pulled(y, xs, None, nested)
        return (y if nested else _forget(y)), (found[0] if isinstance(argnums, int) else found)

    return wrapped


def grad(f: Function, argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function that returns the gradient of `f` with respect to the arguments `argnums`; see `value_and_grad`."""
    both = value_and_grad(f, argnums)
    return lambda *args, **kwargs: both(*args, **kwargs)[1]


def vjp(f: Function, *primals: Any) -> tuple[Any, Callable[..., tuple[Tensor, ...]]]:
    """(f(*primals), pull), where pull(dy) gives dy J: a gradient for each of `primals`, as often as it is called.

    f returns a Tensor or a tuple of them; for a tuple pull takes a tuple, with None for outputs that do not count.
    """
    y, xs, nested = _recorded("vjp", f, primals, {}, tuple(range(len(primals))))
    single = isinstance(y, Tensor)
    ys = _outputs("vjp", y)

    def pull(dy: Any) -> tuple[Tensor, ...]:
        dys = (dy,) if single else tuple(dy)
        if len(dys) != len(ys):
            raise ValueError(f"vjp: got {len(dys)} cotangents, but the function has {len(ys)} outputs")
        total: tuple[Tensor, ...] | None = None
        for part, d in zip(ys, dys, strict=True):
            if d is not None:
                found = _pulled(part, xs, d, nested)
                total = found if total is None else tuple(a + b for a, b in zip(total, found, strict=True))
        return total or tuple(_zeros(x) for x in xs)

    shown = ys if nested else tuple(_forget(t) for t in ys)
    return (shown[0] if single else shown), pull


def jvp(f: Function, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """(f(*primals), J dx): the value and how it moves when each of `primals` moves along its entry of `tangents`.

    primals, tangents: tuples; an only argument and its direction may stand alone. A direction has the shape and dtype of
    what it moves; None where that stands still. f returns a Tensor or a tuple of them. No graph is kept, unless an outer
    derivative follows or an argument requires grad. Raises RuntimeError inside of another jvp: forward mode is one level
    deep.
    """
    primals, tangents = _paired("jvp", primals, tangents)
    follow = state.transforms > 0 or any(isinstance(t, Tensor) and t.requires_grad for t in (*primals, *tangents))
    with pushing(follow):
        arguments = [_moving(x, v, i) for i, (x, v) in enumerate(zip(primals, tangents, strict=True))]
        y = f(*arguments)
        ys = _outputs("jvp", y)
        dys = tuple(_zeros(t) if t.tangent is None else t.tangent for t in ys)
        for t in (*arguments, *ys):
            if isinstance(t, Tensor):
                t.tangent = None
    return (ys[0], dys[0]) if isinstance(y, Tensor) else (ys, dys)


def hvp(f: Function, primals: Any, tangents: Any) -> Any:
    """H v: the Hessian of `f`, which gives a single number, times the direction `tangents`; no matrix is built.

    primals, tangents: as in `jvp`. For a tuple the result is a tuple. Costs about as much as four evaluations of f.
    """
    alone = not isinstance(primals, tuple)
    primals, tangents = _paired("hvp", primals, tangents)
    product = jvp(grad(f, tuple(range(len(primals)))), primals, tangents)[1]
    return product[0] if alone else product


def jacobian(f: Function, argnums: int | tuple[int, ...] = 0, *, mode: str | None = None) -> Callable[..., Any]:
    """A function that returns J, of shape y.shape + x.shape, for the argument `argnums`; a tuple of them for several.

    mode: "reverse" (a walk for each entry of y), "forward" (a pass for each entry of x), or None: whichever is less.
    f returns one Tensor.
    """
    if mode not in (None, "reverse", "forward"):
        raise ValueError(f"jacobian: mode is {mode!r}, but it must be 'reverse', 'forward' or None")
    positions = _positions(argnums)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        found = None if mode == "forward" else by_rows(args, kwargs)
        if found is None:
            found = [_columns(f, args, kwargs, i) for i in positions]
        return found[0] if isinstance(argnums, int) else tuple(found)

    def by_rows(args: Any, kwargs: Any) -> list[Tensor] | None:
        """None where the rows are more than the columns and nobody asked for them."""
        y, xs, nested = _recorded("jacobian", f, args, kwargs, positions)
        _outputs("jacobian", (y,))
        if mode is None and not nested and not state.pushing and y.size > sum(x.size for x in xs):
            return None
        return _rows(y, xs, nested)

    return wrapped


def hessian(f: Function, argnums: int | tuple[int, ...] = 0, *, mode: str = "forward") -> Callable[..., Any]:
    """A function that returns the second derivatives of `f`, of shape x.shape + x.shape; for several arguments a tuple of
    tuples, whose entry [i][j] holds d2f / dx_i dx_j.

    mode: of the outer derivative, "forward" (over reverse) or "reverse" (over reverse). They agree.
    """
    if isinstance(argnums, int):
        return jacobian(grad(f, argnums), argnums, mode=mode)
    return lambda *args, **kwargs: tuple(jacobian(grad(f, i), argnums, mode=mode)(*args, **kwargs) for i in argnums)


# ---- what they share


def _positions(argnums: int | tuple[int, ...]) -> tuple[int, ...]:
    return (argnums,) if isinstance(argnums, int) else tuple(argnums)


def _recorded(
    name: str, f: Function, args: Any, kwargs: Any, positions: tuple[int, ...]
) -> tuple[Any, list[Tensor], bool]:
    """(f(...), its variables, whether an outer derivative follows): f recorded with respect to the arguments `positions`."""
    if len(args) <= max(positions, default=-1):
        shown = positions[0] if len(positions) == 1 else positions
        raise TypeError(f"{name}: argnums is {shown}, but the function got {len(args)} positional arguments")
    arguments = list(args)
    for i in positions:
        arguments[i] = _variable(args[i])
    followed = state.record and any(isinstance(a, Tensor) and a.requires_grad for a in args)
    nested = state.transforms > 0 or followed
    state.transforms += 1
    try:
        with enable_grad():
            y = f(*arguments, **kwargs)
    finally:
        state.transforms -= 1
    return y, [arguments[i] for i in positions], nested


def _variable(x: Any) -> Tensor:
    """The argument as a variable of its own: where an outer derivative follows it, an identity keeps the two apart."""
    if isinstance(x, Tensor) and x.requires_grad and state.record:
        return apply(RESHAPE, x, shape=x.shape)
    t = Tensor(x, requires_grad=True)
    t.tangent = x.tangent if isinstance(x, Tensor) else None
    return t


def _forget(y: Tensor) -> Tensor:
    """The same numbers without the graph, but with the direction in which they move."""
    t = y.detach()
    t.tangent = y.tangent
    return t


def _pulled(y: Tensor, xs: list[Tensor], dy: Any, nested: bool) -> tuple[Tensor, ...]:
    """dy J for each of xs; zeros where y does not depend on any of them. The graph stays, for whoever pulls again."""
    if y.requires_grad:
        return gradients(y, xs, dy, retain_graph=True, create_graph=nested)
    cotangent(y.data, dy.data if isinstance(dy, Tensor) else operand("vjp", dy))
    return tuple(_zeros(x) for x in xs)


def _outputs(name: str, y: Any) -> tuple[Tensor, ...]:
    """What a function returned, as a tuple of Tensors."""
    ys = y if isinstance(y, tuple) else (y,)
    for t in ys:
        if not isinstance(t, Tensor):
            raise TypeError(f"{name}: the function returned a {type(t).__name__}, but it must return Tensors")
    return ys


def _paired(name: str, primals: Any, tangents: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Both as tuples of one length."""
    if not isinstance(primals, tuple):
        primals, tangents = (primals,), (tangents,)
    tangents = tuple(tangents) if isinstance(tangents, (tuple, list)) else (tangents,)
    if len(primals) != len(tangents):
        raise ValueError(f"{name}: got {len(primals)} primals and {len(tangents)} tangents, but each needs its own")
    return primals, tangents


def _moving(x: Any, v: Any, i: int) -> Any:
    """Argument number i as a Tensor of its own that moves along v."""
    if v is None:
        return x
    t = (
        apply(RESHAPE, x, shape=x.shape)
        if isinstance(x, Tensor) and x.requires_grad
        else Tensor(x, copy=not isinstance(x, Tensor))
    )
    v = v if isinstance(v, Tensor) else Tensor(v) if hasattr(v, "dtype") else Tensor(np.asarray(v, t.dtype)).to(t.device)
    if t.dtype.kind != "f":
        raise TypeError(
            f"jvp: primal {i} is {t.dtype.name}, but only floating point can move; give it the tangent None"
        )
    if v.shape != t.shape or v.dtype != t.dtype:
        raise ValueError(
            f"jvp: tangent {i} is {v.dtype.name} {v.shape}, but the primal that it moves is {t.dtype.name} {t.shape}"
        )
    t.tangent = v
    return t


def _rows(y: Tensor, xs: list[Tensor], nested: bool) -> list[Tensor]:
    """J for each of xs, one entry of y after the other."""
    rows = [_pulled(y, xs, unit, nested) for unit in _units(y)]
    return [_joined([row[k] for row in rows], y.shape, x, 0) for k, x in enumerate(xs)]


def _columns(f: Function, args: Any, kwargs: Any, i: int) -> Tensor:
    """J for argument number i, one of its entries after the other."""
    x = args[i] if isinstance(args[i], Tensor) else Tensor(args[i])
    columns = []
    for unit in _units(x):
        columns.append(jvp(lambda v: f(*args[:i], v, *args[i + 1 :], **kwargs), (x,), (unit,))[1])
        if not isinstance(columns[-1], Tensor):
            raise TypeError("jacobian: the function returned a tuple, but it must return one Tensor")
    y = columns[0] if columns else f(*args, **kwargs)
    return _joined(columns, x.shape, y, y.ndim)


def _zeros(t: Tensor) -> Tensor:
    return wrap(library(t.data).zeros_like(t.data))


def _units(t: Tensor) -> Any:
    """For each place of t the array that is one there and zero elsewhere."""
    for place in np.ndindex(*t.shape):
        unit = library(t.data).zeros(t.shape, t.dtype)
        unit[place] = 1
        yield unit


def _joined(parts: list[Tensor], walked: Sequence[int], other: Tensor, axis: int) -> Tensor:
    """`parts`, one for each place of the shape `walked`, each of other's shape, joined so that `walked` stands at `axis`."""
    xp: Any = Tensor.namespace
    shape = (*other.shape[:axis], *walked, *other.shape[axis:])
    if not parts:
        return wrap(library(other.data).zeros(shape, other.dtype))
    return xp.reshape(xp.stack(parts, axis=axis), shape)
