"""What is being checked, made uniform: a row's formula, a kernel pair, somebody's two functions, or one on Tensors.

Inside the checker every operation is three functions on NumPy arrays that take and return tuples:

    forward(inputs, params)                     -> ys
    vjp(dys, ys, inputs, params, wanted=None)   -> one array or None for each input
    jvp(dinputs, ys, inputs, params)            -> dys           (or there is no jvp)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...reference.op import Op, Spec
from .arrays import as_array, is_float
from .differences import Redraw

Convert = Callable[[np.ndarray], Any]


@dataclass
class Subject:
    """An operation as the checker sees it. `precise`: longdouble is worth a try; `op`: its row, if it has one."""

    name: str
    forward: Callable[..., tuple[Any, ...]]
    vjp: Callable[..., tuple[Any, ...]]
    jvp: Callable[..., tuple[Any, ...]] | None = None
    op: Op | None = None
    precise: bool = True
    kernel: Any = None
    takes_wanted: bool = False
    nondiff: tuple[int, ...] = ()
    native: Callable[[Any], tuple[Any, ...]] = tuple
    """NumPy arrays as arrays of the subject's own library; what is one already stays as it is."""
    graph: Callable[..., Any] | None = None
    """graph(tensors, params): the outputs as Tensors with their history, where the operation can run on Tensors."""

    def differentiable(self, inputs: tuple[Any, ...]) -> tuple[bool, ...]:
        """Which inputs have a gradient: floating point arrays, except where the row says otherwise."""
        if self.op is None:
            return tuple(is_float(x) and i not in self.nondiff for i, x in enumerate(inputs))
        flags = self.op.differentiable * len(inputs) if self.op.variadic else self.op.differentiable
        return tuple(_is_float(x) and flag for x, flag in zip(inputs, flags, strict=False))

    def read(self, n: int) -> tuple[bool, ...]:
        """Which of n inputs the vjp reads as data."""
        if self.op is None:
            return (True,) * n
        return (self.op.read_inputs * n if self.op.variadic else self.op.read_inputs)[:n]


def _is_float(x: Any) -> bool:
    return is_float(x) or (isinstance(x, Spec) and np.dtype(x.dtype).kind == "f")


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _arrays(values: Any) -> tuple[Any, ...]:
    return tuple(None if a is None else as_array(a) for a in _tuple(values))


def _one(values: tuple[Any, ...]) -> Any:
    return values[0] if len(values) == 1 else tuple(values)


def of_row(op: Op, vjp: Callable[..., Any] | None = None) -> Subject:
    """A row's formulas; with `vjp` another gradient in their place (a planted wrong, say)."""
    gradient, one = vjp or op.vjp, _one if op.single else tuple

    def forward(inputs: tuple[Any, ...], params: Any) -> tuple[Any, ...]:
        return _arrays(op.forward(*inputs, **params))

    def back(dys: Any, ys: Any, inputs: Any, params: Any, wanted: Any = None) -> tuple[Any, ...]:
        if not op.takes_wanted:
            return _arrays(gradient(one(dys), one(ys), *inputs, **params))
        if wanted is None:
            wanted = subject.differentiable(inputs)
        return _arrays(gradient(one(dys), one(ys), *inputs, wanted=wanted, **params))

    def push(dinputs: Any, ys: Any, inputs: Any, params: Any) -> tuple[Any, ...]:
        return _arrays(op.jvp(tuple(dinputs), one(ys), tuple(inputs), **params))

    def graph(tensors: Any, params: Any) -> tuple[Any, ...]:
        from ..tensor import apply

        return _tuple(apply(op if vjp is None else replace(op, vjp=vjp), *tensors, **params))

    subject = Subject(op.name, forward, back, push, op, takes_wanted=op.takes_wanted, graph=graph)
    return subject


def of_kernel(op: Op, pair: Any, name: str) -> Subject:
    """A kernel pair, called as the engine calls it: read-only arrays, Specs for what the row does not read."""
    one = _one if op.single else tuple

    def accepted(inputs: tuple[Any, ...], params: Any) -> tuple[Any, ...]:
        """A kernel checks no bounds: what it does not accept it must never see."""
        inputs = frozen(inputs)
        if not pair.accepts(*inputs, **params):
            raise Redraw(f"{name}: the kernel does not accept these arrays")
        return inputs

    def forward(inputs: tuple[Any, ...], params: Any) -> tuple[Any, ...]:
        return _arrays(pair.forward(*accepted(inputs, params), **params)[0])

    def back(dys: Any, ys: Any, inputs: Any, params: Any, wanted: Any = None) -> tuple[Any, ...]:
        inputs = accepted(inputs, params)
        y, residuals = pair.forward(*inputs, **params)
        wanted = subject.differentiable(inputs) if wanted is None else wanted
        saved, kept = unread(subject, inputs, _tuple(y))
        dy = one(frozen(dys))
        grads = pair.vjp(dy, one(kept), *saved, residuals=residuals, wanted=wanted, into=[None] * len(inputs), **params)
        return _arrays(grads)

    subject = Subject(f"{op.name} [{name}]", forward, back, None, op, precise=False, kernel=pair, takes_wanted=True)
    return subject


def of_functions(
    name: str,
    forward: Callable[..., Any],
    vjp: Callable[..., Any],
    jvp: Callable[..., Any] | None,
    convert: Convert | None,
    nondiff: tuple[int, ...],
) -> Subject:
    """Somebody's functions: forward(*inputs, **params), vjp(dy, y, *inputs, **params), jvp(dinputs, y, inputs, **params).

    convert: makes one of their arrays from a NumPy array (torch.tensor, jax.numpy.asarray ...).
    """

    def native(values: Any) -> tuple[Any, ...]:
        return tuple(convert(v) if convert is not None and isinstance(v, np.ndarray) else v for v in values)

    def run(inputs: Any, params: Any) -> tuple[Any, ...]:
        return _arrays(forward(*native(inputs), **params))

    def back(dys: Any, ys: Any, inputs: Any, params: Any, wanted: Any = None) -> tuple[Any, ...]:
        return _arrays(vjp(_one(native(dys)), _one(native(ys)), *native(inputs), **params))

    def push(dinputs: Any, ys: Any, inputs: Any, params: Any) -> tuple[Any, ...]:
        assert jvp is not None
        return _arrays(jvp(native(dinputs), _one(native(ys)), native(inputs), **params))

    def graph(tensors: Any, params: Any) -> tuple[Any, ...]:
        from ..tensor import apply

        return _tuple(
            apply(_row(name, forward, vjp, tensors, nondiff, _outputs(forward, tensors, params)), *tensors, **params)
        )

    return Subject(
        name, run, back, push if jvp else None, precise=convert is None, nondiff=nondiff, native=native,
        graph=None if convert else graph,
    )  # fmt: skip


def _outputs(forward: Any, tensors: Any, params: Any) -> int:
    return len(_tuple(forward(*[getattr(t, "data", t) for t in tensors], **params)))


def _row(name: str, forward: Any, vjp: Any, inputs: Any, nondiff: tuple[int, ...], outputs: int) -> Op:
    """A makeshift row around somebody's functions, so that the engine can run them on Tensors."""
    names = tuple(f"x{i}" for i in range(len(inputs)))
    return Op(
        name, forward, vjp, _no_jvp, names, tuple(f"y{k}" for k in range(outputs)), (*names, "y"),
        tuple(n for i, n in enumerate(names) if i in nondiff), definition=forward, signature=None, formula="", gradient="",
        samples=(), wrong={}, cost=lambda *a, **p: (0, 0), source="",
    )  # fmt: skip


def _no_jvp(*_: Any, **__: Any) -> Any:
    raise NotImplementedError


def of_tensors(name: str, function: Callable[..., Any], nondiff: tuple[int, ...]) -> Subject:
    """A function of handgrad Tensors; its vjp is what the engine's backward pass gives."""
    from ..autograd import gradients
    from ..recording import enable_grad
    from ..tensor import Tensor

    def call(inputs: Any, params: Any) -> tuple[Any, list[Any]]:
        xs = [
            Tensor(x, requires_grad=is_float(x) and i not in nondiff) if isinstance(x, np.ndarray) else x
            for i, x in enumerate(inputs)
        ]
        with enable_grad():
            return _tuple(function(*xs, **params)), xs

    def forward(inputs: Any, params: Any) -> tuple[Any, ...]:
        return tuple(y.data for y in call(inputs, params)[0])

    def back(dys: Any, ys: Any, inputs: Any, params: Any, wanted: Any = None) -> tuple[Any, ...]:
        outputs, xs = call(inputs, params)
        leaves = [x for x in xs if isinstance(x, Tensor) and x.requires_grad]
        total: list[Any] = [np.zeros(x.shape, x.dtype) for x in leaves]
        for y, dy in zip(outputs, dys, strict=True):
            if y.requires_grad and dy is not None:
                parts = gradients(y, leaves, np.asarray(dy, y.dtype), retain_graph=True)
                total = [t + p.data for t, p in zip(total, parts, strict=True)]
        found = iter(total)
        return tuple(next(found) if isinstance(x, Tensor) and x.requires_grad else None for x in xs)

    def graph(tensors: Any, params: Any) -> tuple[Any, ...]:
        return _tuple(function(*tensors, **params))

    return Subject(name, forward, back, None, nondiff=nondiff, graph=graph)


def frozen(values: Any) -> tuple[Any, ...]:
    """Read-only views: a kernel that writes into what it was given fails loudly, and Numba compiles one version."""
    views = []
    for a in values:
        if isinstance(a, np.ndarray):
            a = a.view()
            a.flags.writeable = False
        views.append(a)
    return tuple(views)


def unread(subject: Subject, inputs: Any, ys: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """(inputs, ys) as the engine keeps them: a Spec for every array that the row does not declare under `reads`."""
    saved = tuple(
        a if keep or not isinstance(a, np.ndarray) else Spec(a.shape, a.dtype)
        for a, keep in zip(inputs, subject.read(len(inputs)), strict=True)
    )
    reads_y = subject.op is None or subject.op.reads_y
    return saved, tuple(y if reads_y else Spec(np.shape(y), np.asarray(y).dtype) for y in ys)
