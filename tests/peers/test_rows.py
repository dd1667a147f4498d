"""Every row against the same operation in PyTorch: values and gradients in float64, on draws and on the row's own samples.

Three things are compared with torch.autograd: the engine on formulas, the engine on kernels (rows that have one), and the
row's formulas run on torch tensors. The allowed error is the row's tolerance, once for each side.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is absent: pip install -e '.[peers]'")

import handgrad as hg  # noqa: E402
from handgrad.engine.autograd import gradients  # noqa: E402
from handgrad.engine.kernel_table import CPU, kernel  # noqa: E402
from handgrad.engine.testing.draw import random_sample  # noqa: E402
from handgrad.reference.op import Op, Sample, Spec  # noqa: E402

pytestmark = pytest.mark.peers

DRAWS = 12
LONGDOUBLE = np.dtype(np.longdouble)
DTYPES = {np.dtype(name): getattr(torch, name) for name in ("float32", "float64", "int64", "int32", "bool")}


PEERS: dict[str, Callable[..., Any]] = {}
"""The operations as PyTorch has them, by row; see the files in operations/."""
for path in sorted(Path(__file__).with_name("operations").glob("*.py")):
    PEERS.update(runpy.run_path(str(path))["PEERS"])

ROWS = [op for op in hg.ROWS if op.name in PEERS]
WITH_KERNEL = [op for op in ROWS if op in CPU]


# ---- running each side


def to_torch(x: Any) -> Any:
    return torch.from_numpy(np.array(x)) if isinstance(x, (np.ndarray, np.generic)) else x


def torch_params(params: Any) -> dict[str, Any]:
    return {name: DTYPES[np.dtype(v)] if name == "dtype" else v for name, v in params.items()}


def as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def is_wanted(op: Op, sample: Sample) -> list[bool]:
    flags = op.differentiable * len(sample.inputs) if op.variadic else op.differentiable
    floats = [isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind == "f" for x in sample.inputs]
    return [is_float and flag for is_float, flag in zip(floats, flags, strict=False)]


def by_torch(op: Op, sample: Sample, rng: np.random.Generator) -> tuple[list[Any], list[Any], list[Any]]:
    """(ys, random cotangents, gradients) of PyTorch's own operation, as NumPy arrays; None where there is no gradient."""
    wanted = is_wanted(op, sample)
    xs = [to_torch(x).requires_grad_() if w else to_torch(x) for x, w in zip(sample.inputs, wanted, strict=True)]
    ys = as_tuple(PEERS[op.name](*xs, **torch_params(sample.params)))
    dys = [rng.standard_normal(tuple(y.shape)).astype(str(y.dtype)[6:]) for y in ys]
    leaves = [x for x, w in zip(xs, wanted, strict=True) if w]
    cotangents = [torch.from_numpy(np.asarray(dy)) for dy in dys]
    found = iter(torch.autograd.grad(ys, leaves, cotangents, allow_unused=True) if leaves else ())
    grads = [next(found) if w else None for w in wanted]
    dxs = [None if g is None and not w else (torch.zeros_like(x) if g is None else g).numpy()
           for g, w, x in zip(grads, wanted, xs, strict=True)]  # fmt: skip
    return [y.detach().numpy() for y in ys], dys, dxs


def by_engine(op: Op, sample: Sample, dys: list[Any]) -> tuple[list[Any], list[Any]]:
    """(ys, gradients) by handgrad's engine."""
    wanted = is_wanted(op, sample)
    xs = [
        hg.Tensor(x, requires_grad=w) if isinstance(x, (np.ndarray, np.generic)) else x
        for x, w in zip(sample.inputs, wanted, strict=True)
    ]
    ys = as_tuple(hg.apply(op, *xs, **sample.params))
    leaves = [x for x, w in zip(xs, wanted, strict=True) if w]
    total: list[Any] = [0.0 for _ in leaves]
    for y, dy in zip(ys, dys, strict=True) if leaves else ():
        parts = gradients(y, leaves, dy, retain_graph=True)
        total = [t + part.numpy() for t, part in zip(total, parts, strict=True)]
    found = iter(total)
    return [y.detach().numpy() for y in ys], [next(found) if w else None for w in wanted]


def by_formula_on_torch(op: Op, sample: Sample, dys: list[Any]) -> tuple[list[Any], list[Any]]:
    """(ys, gradients) of the row's formulas, run on torch tensors. A vjp gets no data that it did not ask for."""
    xs, params = [to_torch(x) for x in sample.inputs], torch_params(sample.params)
    ys = op.forward(*xs, **params)
    cotangents = [torch.from_numpy(np.asarray(d)) for d in dys]
    dy = cotangents[0] if op.single else tuple(cotangents)
    wanted = tuple(is_wanted(op, sample))
    extra = {"wanted": wanted} if op.takes_wanted else {}
    read = op.read_inputs * len(xs) if op.variadic else op.read_inputs
    xs = [x if keep or not isinstance(x, torch.Tensor) else Spec(tuple(x.shape), x.dtype)
          for x, keep in zip(xs, read, strict=False)]  # fmt: skip
    dxs = op.vjp(dy, ys, *xs, **params, **extra)
    return [y.numpy() for y in as_tuple(ys)], [dx.numpy() if w else None for dx, w in zip(dxs, wanted, strict=True)]


def compare(op: Op, sample: Sample, what: str, got: list[Any], want: list[Any], scale: float) -> None:
    """Equal up to the row's tolerance for each of the two sides, in eps of the largest magnitude that was at work."""
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert (a is None) == (b is None), f"{op.name}: {what} {i} is None on one side only"
        if a is None:
            continue
        assert a.shape == b.shape, f"{op.name}: {what} {i} has shape {a.shape}, but PyTorch's has {b.shape}"
        assert a.dtype == b.dtype, f"{op.name}: {what} {i} is {a.dtype}, but PyTorch's is {b.dtype}"
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b), err_msg=f"{op.name}: {what} {i}, {sample.why}")
        finite = np.isfinite(b)
        np.testing.assert_array_equal(a[~finite], b[~finite])
        eps = float(np.finfo(a.dtype).eps) if a.dtype.kind == "f" else 0.0
        largest = max(scale, float(np.max(np.abs(b[finite]), initial=0.0)))
        allowed = 2 * op.tolerance(*sample.inputs, **sample.params) * eps * largest
        error = float(np.max(np.abs(a[finite].astype(np.float64) - b[finite]), initial=0.0))
        case = f"{sample.why}; {[getattr(x, 'shape', x) for x in sample.inputs]}, {dict(sample.params)}"
        assert error <= allowed, f"{op.name}: {what} {i} is off by {error:.2e}, allowed {allowed:.2e} ({case})"


def samples(op: Op) -> list[Sample]:
    """The samples on the row's page, and draws; PyTorch has no longdouble."""
    rng = np.random.default_rng(sum(map(ord, op.name)))
    every = [*op.samples, *(random_sample(op, rng) for _ in range(DRAWS))]
    return [s for s in every if LONGDOUBLE not in [getattr(x, "dtype", x) for x in (*s.inputs, *s.params.values())]]


def magnitude(arrays: list[Any]) -> float:
    return max((float(np.max(np.abs(a), initial=0.0)) for a in arrays if isinstance(a, np.ndarray)), default=0.0)


# ---- the tests


def test_every_row_has_a_peer() -> None:
    assert [op.name for op in hg.ROWS if op.name not in PEERS] == []


@pytest.mark.parametrize("op", ROWS, ids=lambda op: op.name)
def test_engine_on_formulas_equals_torch(op: Op) -> None:
    for sample in samples(op):
        check(op, sample, by_engine, "off")


@pytest.mark.parametrize("op", WITH_KERNEL, ids=lambda op: op.name)
def test_engine_on_kernels_equals_torch(op: Op) -> None:
    pair: Any = kernel(op)
    accepted = [sample for sample in samples(op) if pair.accepts(*sample.inputs, **sample.params)]
    assert len(accepted) >= (2 if getattr(pair, "PARTIAL", False) else 5)
    for sample in accepted:
        check(op, sample, by_engine, "force")


@pytest.mark.parametrize("op", ROWS, ids=lambda op: op.name)
def test_formulas_on_torch_tensors_equal_torch(op: Op) -> None:
    for sample in samples(op):
        if not any(isinstance(k, slice) and (k.step or 1) < 0 for k in sample.params.get("key", ())):  # torch cannot
            check(op, sample, by_formula_on_torch, "off")


def check(op: Op, sample: Sample, side: Callable[..., Any], kernels: str) -> None:
    """Values and gradients of one side against PyTorch's, with a random cotangent."""
    ys, dys, dxs = by_torch(op, sample, np.random.default_rng(7))
    with hg.use_kernels(kernels), np.errstate(all="ignore"):
        got_ys, got_dxs = side(op, sample, dys)
    compare(op, sample, "y", got_ys, ys, 0.0)
    compare(op, sample, "gradient", got_dxs, dxs, magnitude(dys))
