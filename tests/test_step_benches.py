"""The benches of whole training steps: what is compared is checked, costs and fits are right on paper, settings stay out."""

from __future__ import annotations

import importlib
import mmap
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad.engine import tensor
from handgrad.reference.op import Spec

BENCHES = Path(__file__).resolve().parents[1] / "benches"
NAMES = ("harness", "serve", "nanogpt", "gpt_sizes", "step_clock", "gpt_step", "memory", "startup", "roofline", "scaling",
         "scaling_handgrad", "regions")  # fmt: skip


@pytest.fixture(scope="module")
def benches() -> Any:
    """benches/*.py and their workers, which find each other by their bare names."""
    before, old = sys.path[:], set(sys.modules)
    sys.path[:0] = [str(BENCHES), str(BENCHES / "workers")]
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    finally:
        sys.path[:] = before
        for name in set(sys.modules) - old:
            if name in NAMES:
                del sys.modules[name]


# ---- the models


def test_batches_are_the_same_on_every_side_and_y_is_one_token_later(benches: Any) -> None:
    size = benches.gpt_sizes.SIZES["nanogpt"]
    (x, y), (again, _) = size.batches(2)[1], size.batches(2)[1]
    assert np.array_equal(x, again)
    assert x.shape == y.shape == (12, 64)
    assert np.array_equal(x[:, 1:], y[:, :-1])
    assert x.max() < size.vocab


def test_gpt2_has_124_million_parameters(benches: Any) -> None:
    s = benches.gpt_sizes.SIZES["gpt2"]
    block = 12 * s.width**2 + 13 * s.width  # matrices; biases (9) and two norms (4)
    assert (s.vocab + s.context + 2) * s.width + s.layers * block == 124_439_808


# ---- gpt_step.py


class Given:
    """A worker that has these gradients and this loss."""

    def __init__(self, loss: float, **arrays: Any) -> None:
        self.loss, self.arrays = loss, arrays

    def ask(self, do: str, path: str) -> float:
        np.savez(path, **self.arrays)
        return self.loss


def test_a_side_that_computes_something_else_is_not_timed(benches: Any, tmp_path: Path) -> None:
    g = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    step, right = benches.gpt_step, Given(2.0, a=g, b=g)
    found = step.check(right, Given(2.0, a=g, b=g * np.float32(1 + 1e-6)), "it", tmp_path)
    assert found["worst_gradient"] == "b"
    for wrong, sentence in (
        (Given(2.0001, a=g, b=g), "losses"),
        (Given(float("nan"), a=g, b=g), "losses"),
        (Given(2.0, a=g, b=g * np.float32(1.001)), "gradient of b"),
        (Given(2.0, a=g, b=np.where(np.arange(1000) == 7, np.nan, g)), "gradient of b"),
        (Given(2.0, a=g), "the parameters differ"),
    ):
        with pytest.raises(benches.harness.BenchError, match=sentence):
            step.check(right, wrong, "it", tmp_path)


def test_the_profile_of_a_step(benches: Any) -> None:
    model = hg.models.GPT(hg.models.GPTConfig(40, 32, n_layer=2, n_head=2, n_embd=64))
    optimizer = hg.optim.AdamW(model.parameters(), max_norm=1.0)
    ids = np.arange(256).reshape(8, 32) % 40

    def step() -> None:
        optimizer.zero_grad()
        model.loss(ids, ids).backward()
        optimizer.step()

    step()
    found = benches.step_clock.profile(step, optimizer, 3)
    assert tensor.OBSERVER == []
    assert optimizer._update.__func__ is hg.optim.AdamW._update
    parts = found["parts_ms"]
    assert all(0 < ms < found["ms"] for ms in parts.values())
    assert {"linear forward", "linear backward", "optimizer update", "optimizer norm"} < set(parts)
    assert 0 < found["outside_share"] < 1
    assert 0 < found["outside_ms"] < found["ms"]
    nodes = (
        2 + 1 + 2 * (2 + 4 + 1 + 1 + 2) + 1 + 1 + 1
    )  # embeddings, their sum; norms, linears, attention, gelu, sums; the head
    assert found["calls"] == 2 * nodes + 2


# ---- memory.py


class Grown:
    """A worker whose process grows from 100 to 160 MiB, and then by 3 pages a step."""

    def __init__(self, script: str, environ: Any) -> None:
        self.asked: list[str] = []

    def ask(self, do: str, **arguments: Any) -> Any:
        self.asked.append(do)
        if do != "grown":
            return None
        assert self.asked == ["start", "block", "grown"]  # the code of a step is loaded before
        return {"before": 100 << 20, "peak": 160 << 20, "faults": 3.0}

    def __enter__(self) -> Grown:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_growth_counts_from_after_the_imports(benches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benches.memory, "Worker", Grown)
    for name in benches.memory.SIDES:
        assert benches.memory.growth(name, "gpt2", 5, 2) == (60.0, 3.0)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux's /proc")
def test_memory_and_page_faults_are_seen(benches: Any) -> None:
    sizes, pages = benches.gpt_sizes, 1 << 12
    faults = sizes.page_faults()
    fresh = np.frombuffer(mmap.mmap(-1, 1 << 27), np.uint8)  # pages that nobody had: malloc may keep any number of free ones
    fresh[:] = 1
    now, most = sizes.resident()
    assert most >= now > 1 << 26
    assert sizes.page_faults() - faults > fresh.nbytes // pages // 1024  # huge pages are up to 512 of them


# ---- startup.py


def test_no_setting_of_the_user_reaches_the_timed_processes(benches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = {"OMP_NUM_THREADS", "NUMBA_CACHE_DIR", "MALLOC_ARENA_MAX", "PYTHONDONTWRITEBYTECODE", "HANDGRAD_DEBUG"}
    for name in theirs:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("UNRELATED", "1")
    clean = benches.startup.clean_environment()
    assert "UNRELATED" in clean
    assert not theirs & set(clean)


def test_a_first_step_that_differs_warm_is_an_error(benches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([4.25, 4.5])
    monkeypatch.setattr(
        benches.startup, "first_step", lambda folder: {"seconds": 1.0, "loss": next(losses), "said": "", "parts": {}}
    )
    with pytest.raises(benches.harness.BenchError, match=r"4\.25 with a cold cache and 4\.5 with a warm one"):
        benches.startup.first_steps(1)


# ---- scaling.py


def test_a_fit_finds_what_the_times_were_made_of(benches: Any) -> None:
    costs = np.random.default_rng(0).uniform(0.1, 1.0, (20, 3)) * [1e9, 1e8, 100.0]
    for weights in ([2e-12, 3e-11, 9e-6], [2e-12, 0.0, 9e-6], [0.0, 3e-11, 0.0]):
        assert benches.scaling.fit(costs, costs @ weights) == pytest.approx(weights, rel=1e-9, abs=1e-18)


def test_a_fit_gives_no_negative_speed(benches: Any) -> None:
    rng = np.random.default_rng(1)
    costs = rng.uniform(0.1, 1.0, (30, 3))
    seconds = costs @ [1.0, -0.2, 0.5] * rng.uniform(0.9, 1.1, 30)
    found = benches.scaling.fit(costs, seconds)
    assert (found >= 0).all()
    assert found[1] == 0

    def left(x: np.ndarray) -> float:
        return float(np.sum((costs @ x / seconds - 1.0) ** 2))

    for step in np.eye(3) * 1e-4:  # no neighbour that is allowed is better
        assert left(found) <= left(found + step)
        assert left(found) <= left(np.maximum(found - step, 0.0))


def test_one_size_is_changed_at_a_time(benches: Any) -> None:
    base = benches.gpt_sizes.SIZES["nanogpt"]
    for sweep, values in benches.scaling.SWEEPS.items():
        assert values.count(getattr(base, sweep)) == 1  # all four lines meet there
        for value in values:
            size = benches.gpt_sizes.Size(**benches.scaling.size_with(sweep, value))
            changed = {name for name in size.__dataclass_fields__ if getattr(size, name) != getattr(base, name)}
            assert changed <= {sweep, "context"} if sweep == "length" else changed <= {sweep}
            assert size.context == size.length
            assert size.width % size.heads == 0


def test_costs_are_those_of_the_rows_forward_and_twice_back(benches: Any) -> None:
    costs = benches.scaling_handgrad.Costs(Spec)
    x, w = (hg.Tensor(np.ones(s, np.float32), requires_grad=True) for s in ((3, 4), (4, 5)))
    tensor.OBSERVER.append(costs)
    try:
        hg.matmul(x, w).sum().backward()
    finally:
        tensor.OBSERVER.clear()
    flops = 3 * 2 * 3 * 4 * 5
    assert costs.operations == 4 and flops <= costs.flops <= flops + 4 * 15  # and a sum of 15 numbers
    matmul = 4 * (12 + 20 + 15)
    assert 3 * matmul <= costs.bytes <= 3 * (matmul + 4 * 16)


def test_costs_on_paper(benches: Any) -> None:
    """6 operations for each token and each weight of a matrix (Kaplan et al. 2020), and what attention takes with T."""
    V, T, C, L, B = 40, 32, 64, 2, 8
    model = hg.models.GPT(hg.models.GPTConfig(V, T, L, 2, C, bias=False))
    ids = np.arange(B * T).reshape(B, T) % V
    costs = benches.scaling_handgrad.Costs(Spec)
    tensor.OBSERVER.append(costs)
    try:
        model.loss(ids, ids).backward()
    finally:
        tensor.OBSERVER.clear()
    matrices = L * 12 * C * C + V * C
    products = 6 * B * T * matrices
    attention = 3 * 2 * 2 * L * B * T * T * C  # QK and PV, half of them masked away or not
    assert products < costs.flops < products + 1.3 * attention + 6 * 40 * L * B * T * 4 * C
    assert costs.operations == 2 * (2 + 1 + L * 10 + 3)
    assert costs.bytes > 3 * 4 * matrices


# ---- regions.py


def test_a_region_pays_from_the_size_on_where_it_is_never_slower_again(benches: Any) -> None:
    calls = {"1": [1.0, 2.0], "2": [2.0, 1.9], "4": [3.0, 3.1], "8": [6.0, 4.0], "16": [12.0, 7.0]}
    assert benches.regions.pays_from({size: {"awake": of} for size, of in calls.items()}, "awake") == 8
    assert benches.regions.pays_from({"1": {"awake": [1.0, 2.0]}}, "awake") is None
