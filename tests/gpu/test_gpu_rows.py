"""Every sample of every row on the second device: as a formula on its arrays, and on Tensors with gradients."""

import numpy as np
import pytest

import handgrad as hg
from handgrad.engine import device
from handgrad.engine.tensor import apply
from handgrad.reference.op import Spec
from handgrad.reference.table import ROWS

SAMPLES = [
    pytest.param(op, sample, id=f"{op.name}: {sample.why}")
    for op in ROWS
    for sample in op.samples
    if not any(np.asarray(a).dtype == np.longdouble for a in sample.inputs if a is not None)
]


def on_gpu(a):
    return device.moved(a, "cuda") if isinstance(a, np.ndarray) else a


def same(got, want, where):
    """Both alike to a few roundings: a GPU's exp is not NumPy's."""
    if want is None or isinstance(want, Spec):
        return
    if isinstance(want, tuple):
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            same(g, w, where)
        return
    assert device.device_of(got) == "cuda", where
    got, want = device.host(got), np.asarray(want)
    assert got.dtype == want.dtype and got.shape == want.shape, where
    if want.dtype.kind == "f":
        scale = np.max(np.abs(want[np.isfinite(want)]), initial=1.0)
        np.testing.assert_allclose(got, want, rtol=0, atol=1000 * np.finfo(want.dtype).eps * scale, err_msg=where)
    else:
        np.testing.assert_array_equal(got, want, err_msg=where)


def cotangents(y):
    """Random ones, of the shapes and dtypes of y."""
    rng = np.random.default_rng(0)
    found = [rng.standard_normal(np.shape(a)).astype(np.asarray(a).dtype) for a in (y if isinstance(y, tuple) else (y,))]
    return tuple(found) if isinstance(y, tuple) else found[0]


@pytest.mark.parametrize(("op", "sample"), SAMPLES)
def test_a_formula_runs_on_arrays_of_the_gpu(op, sample):
    inputs, params = tuple(sample.inputs), dict(sample.params)
    theirs = tuple(map(on_gpu, inputs))
    with np.errstate(all="ignore"):
        y, got = op.forward(*inputs, **params), op.forward(*theirs, **params)
        same(got, tuple(map(np.asarray, y)) if isinstance(y, tuple) else np.asarray(y), "forward")
        if (y[0] if isinstance(y, tuple) else np.asarray(y)).dtype.kind != "f":
            return
        dy = cotangents(y)
        asked = {"wanted": tuple(isinstance(a, np.ndarray) for a in inputs)} if op.takes_wanted else {}
        want = op.vjp(dy, y, *inputs, **asked, **params)
        dys = tuple(map(on_gpu, dy)) if isinstance(dy, tuple) else on_gpu(dy)
        found = op.vjp(dys, got, *theirs, **asked, **params)
        same(found, tuple(None if w is None else np.asarray(w) for w in want), "vjp")


@pytest.mark.parametrize(("op", "sample"), SAMPLES)
def test_a_row_on_tensors_of_the_gpu_has_the_gradients_of_the_cpu(op, sample):
    """Kernel or formula, whatever runs; and the backward pass as a computation of its own."""
    if op.name == "attention" and sample.why.startswith("huge scores"):
        pytest.skip("a kernel keeps the logsumexp of a row in float32, in which scores of 1e6 lose 0.1; the formula does not")

    def gradients(where, create):
        differentiable = op.differentiable * len(sample.inputs) if op.variadic else op.differentiable
        xs = [
            hg.Tensor(a.astype(np.float32) if a.dtype.kind == "f" else a).to(where) if isinstance(a, np.ndarray) else a
            for a in sample.inputs
        ]
        leaves = [
            x for x, d in zip(xs, differentiable, strict=False) if isinstance(x, hg.Tensor) and d and x.dtype.kind == "f"
        ]
        for leaf in leaves:
            leaf.requires_grad = True
        y = apply(op, *xs, **sample.params)
        y = y[0] if isinstance(y, tuple) else y
        if not y.requires_grad:
            return None
        dy = hg.Tensor(cotangents(np.zeros(y.shape, y.dtype))).to(where)
        found = hg.gradients(y, leaves, dy, create_graph=create)
        return tuple(t.data for t in found)

    if not any(isinstance(a, np.ndarray) and a.ndim for a in sample.inputs):
        return
    with np.errstate(all="ignore"):
        for create in (False, True):
            with hg.use_kernels("off" if create else "auto"):
                want = gradients("cpu", create)
                got = gradients("cuda", create)
            if want is not None:
                same(got, want, f"create_graph={create}")
