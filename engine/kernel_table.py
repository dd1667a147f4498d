"""Which row has a kernel pair: the one place that names production kernels. A row that is not here runs its formula.

A pair is a module with three functions (see the contract in kernels/README or any file there):

    forward(*arrays, **params) -> (y, residuals)
    vjp(dy, y, *arrays, residuals, wanted, into, **params) -> tuple
    accepts(*arrays, **params) -> bool

NumPy arrays get the pairs of kernels/cpu, CuPy arrays the last rungs of kernels/cuda; see docs/gpu.md. Numba is imported,
and kernels are compiled or loaded from the cache, when the first array worth it comes along.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any, get_args

from numpy import float32, ndarray

from ..kernels.cuda import ladders
from ..reference import table as t
from ..reference.op import Op
from . import environment
from .device import device_of
from .tensor import CUDA, KERNELS, OBSERVER

CPU: dict[Op, str] = {
    t.ADD: "add",
    t.ADD_LAYER_NORM: "add_layer_norm",
    t.ATTENTION: "attention",
    t.BIAS_GELU: "bias_gelu",
    t.BIAS_SILU: "bias_silu",
    t.CROSS_ENTROPY: "cross_entropy",
    t.DROPOUT: "dropout",
    t.DROPOUT_ADD: "dropout_add",
    t.EMBEDDING: "embedding",
    t.GELU: "gelu",
    t.GELU_ERF: "gelu_erf",
    t.GRU: "gru",
    t.LAYER_NORM: "layer_norm",
    t.LINEAR: "linear",
    t.LINEAR_CROSS_ENTROPY: "linear_cross_entropy",
    t.LOG_SOFTMAX: "log_softmax",
    t.LOGSUMEXP: "logsumexp",
    t.LSTM: "lstm",
    t.MASKED_SOFTMAX: "masked_softmax",
    t.MATMUL: "matmul",
    t.MULTIPLY: "multiply",
    t.PACKED_ATTENTION: "packed_attention",
    t.RELU: "relu",
    t.RMS_NORM: "rms_norm",
    t.RNN: "rnn",
    t.ROTARY_EMBEDDING: "rotary_embedding",
    t.SIGMOID: "sigmoid",
    t.SILU: "silu",
    t.SOFTMAX: "softmax",
    t.SWIGLU: "swiglu",
}
"""Row -> file in kernels/cpu."""

SMALLEST = 1024
"""Elements of the first input from which a kernel is worth it: below, a formula is done before a kernel has been loaded."""


def kernel(op: Op) -> ModuleType | None:
    """The production pair of a row for NumPy arrays, or None."""
    stem = CPU.get(op)
    if stem is None:
        return None
    announce_compilation()
    return import_module(f"..kernels.cpu.{stem}", __package__)


def versions(op: Op) -> dict[str, Any]:
    """Every pair of a row by name: the production one as "numba", and the other rungs of its ladder under their own."""
    production = kernel(op)
    if production is None:
        return {}
    return {"numba": production, **getattr(production, "RUNGS", {})}


class _Lazy:
    """A pair that leaves small arrays to the formula, and is loaded when the first one comes that is large enough."""

    forward: Any
    vjp: Any

    def __init__(self, op: Op) -> None:
        self.op = op
        self.pair: Any = None

    def accepts(self, *arrays: Any, **params: Any) -> bool:
        first = arrays[0]
        if type(first) is not ndarray or first.size < SMALLEST or first.dtype.kind != "f":
            return False
        return (self.pair or self.loaded()).accepts(*arrays, **params)

    def loaded(self) -> Any:
        """The pair itself, which takes arrays of any size."""
        if self.pair is None:
            pair: Any = kernel(self.op)
            self.forward, self.vjp, self.pair = pair.forward, pair.vjp, pair
        return self.pair


class _Ladder:
    """The rungs of a row in kernels/cuda as one pair for CuPy arrays: the highest rung that accepts them runs.

    A rung that says that it is CHECKED in a narrower type gets no float32: matmul 08 would round it to 11 bits, which nobody
    asked for. Arrays of any size go to a kernel, since a formula is many kernels.
    """

    def __init__(self, op: Op) -> None:
        self.op = op

    @cached_property
    def rungs(self) -> list[Any]:
        """The highest first; loaded when the first CuPy array comes."""
        return [ladders.rung(self.op.name, name) for name in reversed(ladders.LADDERS[self.op.name])]

    @property
    def PARTIAL(self) -> bool:
        return any(getattr(rung, "PARTIAL", False) for rung in self.rungs)

    def accepts(self, *arrays: Any, **params: Any) -> bool:
        return self._rung(arrays, params) is not None

    def forward(self, *arrays: Any, **params: Any) -> tuple[Any, Any]:
        rung = self._rung(arrays, params)
        y, residuals = rung.forward(*arrays, **params)
        return y, (rung, residuals)

    def vjp(self, dy: Any, y: Any, *arrays: Any, residuals: Any, **others: Any) -> tuple[Any, ...]:
        rung, kept = residuals
        return rung.vjp(dy, y, *arrays, residuals=kept, **others)

    def _rung(self, arrays: Any, params: dict[str, Any]) -> Any:
        first = arrays[0]
        if device_of(first) == "cpu":  # a number
            return None
        for rung in self.rungs:
            if (first.dtype != float32 or not hasattr(rung, "CHECKED")) and rung.accepts(*arrays, **params):
                return rung
        return None


@contextmanager
def use_kernels(mode: str) -> Iterator[Counter[str]]:
    """Inside it rows run by kernels as `mode` says; gives a Counter of forward and backward kernel calls by row.

    "auto": where a kernel accepts the arrays and they are not tiny. "off": formulas only. "force": every row that has a
    kernel must run by it, whatever the size; RuntimeError where it does not accept the arrays (unless it is PARTIAL).
    """
    before, calls = (dict(KERNELS), dict(CUDA)), Counter[str]()
    pairs = _pairs(mode, calls)  # first: it refuses an unknown mode, and then nothing may have changed
    _set(*pairs)
    try:
        yield calls
    finally:
        _set(*before)


def _set(on_cpu: dict[Op, Any], on_gpu: dict[Op, Any]) -> None:
    for table, pairs in ((KERNELS, on_cpu), (CUDA, on_gpu)):
        table.clear()
        table.update(pairs)


def _pairs(mode: str, calls: Counter[str] | None) -> tuple[dict[Op, Any], dict[Op, Any]]:
    """(for NumPy arrays, for CuPy arrays)."""
    if mode not in get_args(environment.Kernels):
        raise ValueError(f"use_kernels: mode is {mode!r}, but it must be auto, off or force")
    if mode == "off":
        return {}, {}
    on_cpu: dict[Op, Any] = {op: _Lazy(op) if mode == "auto" else _forced(op, kernel(op)) for op in CPU}
    on_gpu: dict[Op, Any] = {op: _Ladder(op) for op in t.ROWS if op.name in ladders.LADDERS}
    if mode == "force":
        on_gpu = {op: _forced(op, pair) for op, pair in on_gpu.items()}
    if calls is not None:
        on_cpu, on_gpu = ({op: _counted(op, p, calls) for op, p in pairs.items()} for pairs in (on_cpu, on_gpu))
    return on_cpu, on_gpu


def _forced(op: Op, pair: Any) -> Any:
    def accepts(*arrays: Any, **params: Any) -> bool:
        if not pair.accepts(*arrays, **params):
            if getattr(pair, "PARTIAL", False):
                return False
            shapes = ", ".join(f"{a.dtype.name} {a.shape}" for a in arrays if hasattr(a, "shape"))
            raise RuntimeError(f"{op.name}: kernels are forced, but there is none for {shapes} with {params}")
        return True

    return SimpleNamespace(accepts=accepts, forward=pair.forward, vjp=pair.vjp)


def _counted(op: Op, pair: Any, calls: Counter[str]) -> Any:
    def forward(*arrays: Any, **params: Any) -> Any:
        calls[f"{op.name} forward"] += 1
        return pair.forward(*arrays, **params)

    def vjp(*args: Any, **params: Any) -> Any:
        calls[f"{op.name} backward"] += 1
        return pair.vjp(*args, **params)

    return SimpleNamespace(accepts=pair.accepts, forward=forward, vjp=vjp)


def on_arrays(op: Op, *arrays: Any, **params: Any) -> Any:
    """The output of `op` on arrays alone: no Tensor, no graph, and its kernel whatever the size, if there is one that
    accepts them. For a loop of many small operations, which was worth loading the kernels for.
    """
    if OBSERVER:
        return OBSERVER[0].forward(_run_at_any_size, op, list(arrays), params)[0]
    return _run_at_any_size(op, arrays, params)[0]


def _run_at_any_size(op: Op, arrays: Any, params: dict[str, Any]) -> tuple[Any, Any, Any]:
    pair = (KERNELS if type(arrays[0]) is ndarray else CUDA).get(op)
    if type(pair) is _Lazy:
        pair = pair.loaded()
    if pair is None or not pair.accepts(*arrays, **params):
        return op.forward(*arrays, **params), None, None
    return (*pair.forward(*arrays, **params), pair)


@cache
def announce_compilation() -> None:
    """From now on the first kernel that Numba compiles, rather than loads from its cache, says what the wait is about."""
    from ..kernels.cpu import jit

    events: Any = jit.numba.core.event  # type: ignore[attr-defined]

    class Announcer(events.Listener):
        said = False

        def on_start(self, event: Any) -> None:
            if not self.said and "kernels.cpu" in event.data["dispatcher"].py_func.__module__:
                self.said = True
                where = f" and kept in {jit.CACHE_FOLDER}" if jit.CACHE_FOLDER else ""
                print(
                    f"handgrad: compiling CPU kernels for this machine; done once{where}", file=sys.stderr, flush=True
                )

        def on_end(self, event: Any) -> None:
            pass

    events.register("numba:compile", Announcer())


_set(*_pairs(environment.read().kernels, None))
