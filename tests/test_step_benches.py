"""The arithmetic of the benches of whole steps: the fit of scaling.py, the sizes, and the observer that adds up costs."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad.engine.tensor import OBSERVER
from handgrad.reference.op import Spec

BENCHES = Path(__file__).resolve().parents[1] / "benches"


@pytest.fixture
def benches(monkeypatch: pytest.MonkeyPatch) -> Any:
    """scaling.py, gpt_sizes.py and the worker of scaling.py, which has its file's name."""
    for folder in (BENCHES / "workers", BENCHES):
        monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    scaling, sizes = importlib.import_module("scaling"), importlib.import_module("gpt_sizes")
    spec = importlib.util.spec_from_file_location("scaling_worker", BENCHES / "workers" / "scaling.py")
    assert spec is not None and spec.loader is not None
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    yield SimpleNamespace(scaling=scaling, sizes=sizes, worker=worker)
    for name in set(sys.modules) - before:
        if name in ("scaling", "gpt_sizes", "harness", "roofline", "nanogpt", "serve"):
            del sys.modules[name]


def test_the_fit_finds_what_made_the_times(benches: Any) -> None:
    rng = np.random.default_rng(0)
    costs = rng.uniform(0.5, 2.0, (12, 3)) * [1e9, 1e7, 100]
    truth = np.array([2e-12, 3e-11, 1e-5])
    np.testing.assert_allclose(benches.scaling.fit(costs, costs @ truth), truth, rtol=1e-9)


def test_nothing_is_fitted_below_zero(benches: Any) -> None:
    costs = np.array([[1.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
    found = benches.scaling.fit(costs, np.array([0.9, 2.1, 4.2]))  # freely, the second would be negative
    assert found[0] > 0 and found[1] == 0


def test_each_sweep_passes_through_nanogpts_size(benches: Any) -> None:
    middle = benches.scaling.size_with("batch", benches.sizes.SIZES["nanogpt"].batch)
    for sweep, values in benches.scaling.SWEEPS.items():
        assert sum(benches.scaling.size_with(sweep, value) == middle for value in values) == 1
        for value in values:
            size = benches.sizes.Size(**benches.scaling.size_with(sweep, value))
            assert size.width % size.heads == 0 and size.length <= size.context


def test_costs_are_those_of_the_rows_forward_and_twice_back(benches: Any) -> None:
    costs = benches.worker.Costs(Spec)
    x, w = (hg.Tensor(np.ones(s, np.float32), requires_grad=True) for s in ((3, 4), (4, 5)))
    OBSERVER.append(costs)
    try:
        hg.matmul(x, w).sum().backward()
    finally:
        OBSERVER.clear()
    flops = 3 * 2 * 3 * 4 * 5
    assert costs.operations == 4 and flops <= costs.flops <= flops + 4 * 15  # and a sum of 15 numbers
    matmul = 4 * (12 + 20 + 15)
    assert 3 * matmul <= costs.bytes <= 3 * (matmul + 4 * 16)
