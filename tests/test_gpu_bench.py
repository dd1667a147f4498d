"""The bench of the CUDA ladders without a GPU: its rehearsal, a planted wrong kernel, its arithmetic, and its page."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

BENCHES = Path(__file__).resolve().parents[1] / "benches"
NAMES = ("gpu", "gpu_cases", "gpu_checks", "gpu_device", "gpu_sides", "gpu_tables")
OTHERS = ("harness", "roofline", "tables", "picture")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed, which runs the kernels")


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """benches/gpu*.py, which find each other by their bare names."""
    before, old = sys.path[:], set(sys.modules)
    sys.path.insert(0, str(BENCHES))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES + OTHERS})
    finally:
        sys.path[:] = before
        for name in (set(sys.modules) - old) & {*NAMES, *OTHERS}:
            del sys.modules[name]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHES / "gpu.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


@needs_compiler
def test_a_rehearsal_of_two_operations(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    done = run("--rehearse", "--only", "silu", "rms_norm", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No GPU was used, and nothing was timed." in done.stdout
    result = json.loads(out.read_text())
    assert result["rehearsal"] and not result["limits"] and not result["errors"]
    assert {key.split()[0] for key in result["results"]} == {"silu", "rms_norm"}
    assert all(not found["times"] and found["relative_errors"] for found in result["results"].values())
    again = run("--rehearse", "--only", "silu", "rms_norm", "--resume", "--out", out)
    assert again.returncode == 0 and "float32 forward (" not in again.stderr  # nothing is measured twice
    done = run("--tables", "--out", out)
    assert done.returncode == 2 and "holds no times" in done.stderr


def test_bad_input_in_a_sentence(tmp_path: Path) -> None:
    for arguments, sentence in (
        (["--only", "nope"], "nope has no CUDA ladder"),
        (["--out", tmp_path / "missing" / "gpu.json"], "cannot be written"),
        (["--rehearse", "--out", BENCHES / "results" / "gpu.json"], "does not write into"),
    ):
        done = run(*arguments)
        assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr


class Planted:
    """softmax with a mistake of a promille, with a NaN, and one that fails; and the right one."""

    LADDERS = {"softmax": ("01_right", "02_off", "03_nan", "04_fails")}  # noqa: RUF012

    @staticmethod
    def rung(operation: str, name: str) -> Any:
        def forward(x: np.ndarray) -> tuple[np.ndarray, None]:
            e = np.exp(x - x.max(-1, keepdims=True))
            y = e / e.sum(-1, keepdims=True)
            if name == "02_off":
                y = y * np.float32(1.001)
            if name == "03_nan":
                y[0, 0] = np.nan
            if name == "04_fails":
                raise ValueError("no such kernel")
            return y, None

        return SimpleNamespace(accepts=lambda x: True, forward=forward)


def test_a_wrong_kernel_is_listed_and_not_timed(bench: Any) -> None:
    case = bench.gpu_cases.chosen(["softmax"], Planted.LADDERS)[0]
    machine = bench.gpu_device.Rehearsal()
    result: dict[str, Any] = {"results": {}, "errors": [], "left_out": [], "limits": {}, "crashed": []}
    bench.gpu.one(result, machine, case, "forward", Planted, bench.gpu.Budget(60.0))
    found = result["results"][f"{case.name} forward"]
    assert set(found["relative_errors"]) == {"01_right", "torch softmax"} == set(found["kinds"])
    assert ["02_off is off by" in e or "03_nan: result 0 is not finite" in e or "04_fails failed" in e
            for e in result["errors"]] == [True] * 3  # fmt: skip


def test_what_is_allowed(bench: Any) -> None:
    allowed = bench.gpu_checks.allowed
    assert allowed("float32", 4096, 1e-5) == pytest.approx(1.5e-5)
    assert allowed("float32", 4096, 0.0) == 2.0**-22
    assert allowed("float32", 64, None) == 2.0**-23 * 32
    error, machine = bench.gpu_checks.error_of, bench.gpu_device.Rehearsal()
    assert error("it", machine, [np.array([3.0, 4.5])], [np.array([3.0, 4.0])]) == pytest.approx(0.1)
    for wrong in ([np.zeros(3)], [None], []):
        with pytest.raises(bench.harness.BenchError, match="it"):
            error("it", machine, wrong, [np.zeros(2)])


def test_copies_costs_and_limits_by_hand(bench: Any) -> None:
    cases = bench.gpu_cases
    assert [cases.copies(one, 50) for one in (10, 149, 150, 151, 1000)] == [16, 2, 2, 1, 1]
    big = next(case for case in cases.CASES if case.name == "matmul 4096x4096x4096 bfloat16")
    assert cases.cost(big, "forward") == (2.0 * 4096**3, 2.0 * 3 * 4096**2)
    assert cases.cost(big, "backward") == (4.0 * 4096**3, 2.0 * 5 * 4096**2)  # dy, both inputs, both gradients
    limits = {"bandwidth": 1000.0, "peaks": {"float32": 10.0, "bfloat16": 1000.0}}
    found = {"flops": 1e9, "bytes": 1e6}
    assert bench.gpu.of_limit(2.0, found, "bfloat16", limits, "matmul") == {"of_limit": 0.5, "bound": "peak"}
    assert bench.gpu.of_limit(0.01, found, "float32", limits, "softmax") == {"of_limit": 0.1, "bound": "memory"}


def test_every_case_of_a_row_fits_its_row(bench: Any) -> None:
    cases = bench.gpu_cases.CASES
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        for direction in case.directions:
            flops, moved = bench.gpu_cases.cost(case, direction)
            assert flops >= 0 and moved > 0


@pytest.mark.parametrize(
    "op", ["adamw", "attention", "cross_entropy", "embedding", "linear_cross_entropy", "log_softmax", "lstm"]
)
def test_vendors_agree_with_the_formula(bench: Any, op: str) -> None:
    """The anchors of ladders that may come later: the same inputs, layouts and results as the row's."""
    machine = bench.gpu_device.Rehearsal()
    case = next(case for case in bench.gpu_cases.CASES if case.op == op and case.dtype == "float32")
    for direction in case.directions:
        arrays = bench.gpu_sides.inputs_of(case, machine, case.tiny)
        dy = bench.gpu.cotangent(case, machine, arrays)
        sides = bench.gpu_sides.vendors(case, machine)
        errors, wrong = bench.gpu_checks.check(case, machine, sides, arrays, dy, direction)
        assert sides and not wrong and all(error < 1e-5 for error in errors.values()), (wrong, errors)


def test_the_budget_by_a_clock_of_ones_own(bench: Any) -> None:
    now = [100.0]
    budget = bench.gpu.Budget(20.0, lambda: now[0])
    assert budget.left() == 20.0 and budget.allows(15.0) and not budget.allows(15.1)
    now[0] = 116.0
    assert not budget.allows(0.0)
    result: dict[str, Any] = {"results": {}, "errors": [], "left_out": [], "limits": {}, "crashed": []}
    plan = bench.gpu_cases.chosen(["softmax"], Planted.LADDERS)
    bench.gpu.measure(result, bench.gpu_device.Rehearsal(), plan, Planted, budget, lambda: None)
    assert not result["results"] and len(result["left_out"]) == 2 * len(plan)


def test_after_a_crash_the_run_ends_and_a_second_goes_around_it(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = bench.gpu_device.Rehearsal()
    monkeypatch.setattr(machine, "works", lambda: False)
    plan = bench.gpu_cases.chosen(["softmax"], Planted.LADDERS)[:1]
    result: dict[str, Any] = {"results": {}, "errors": [], "left_out": [], "limits": {}, "crashed": []}
    bench.gpu.measure(result, machine, plan, Planted, bench.gpu.Budget(60.0), lambda: None)
    assert result["crashed"] == [f"{plan[0].name}, forward: 04_fails"] and "--resume" in result["left_out"][0]
    assert not result["results"]
    bench.gpu.one(result, machine, plan[0], "forward", Planted, bench.gpu.Budget(60.0))
    assert f"{plan[0].name} forward" in result["results"]
    assert any("a crash" in line and "04_fails" in line for line in result["errors"])


def test_an_interruption_leaves_what_was_measured(bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out, done = tmp_path / "gpu.json", []

    def one(result: dict[str, Any], *_: Any) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(1)
        result["results"]["first"] = {"relative_errors": {}, "times": {}}

    monkeypatch.setattr(bench.gpu, "one", one)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--rehearse", "--only", "softmax", "--out", str(out)])
    with pytest.raises(KeyboardInterrupt):
        bench.gpu.main()
    result = json.loads(out.read_text())
    assert list(result["results"]) == ["first"] and result["left_out"] == ["everything after the interruption"]


class FakeEvent:
    made = 0

    def record(self) -> None:
        FakeEvent.made += 1
        self.at = FakeEvent.made


def test_a_block_on_a_gpu_turns_over_the_copies(bench: Any) -> None:
    gpu = object.__new__(bench.gpu_device.Gpu)
    runtime = SimpleNamespace(deviceSynchronize=lambda: None)
    gpu.xp = SimpleNamespace(cuda=SimpleNamespace(
        Event=FakeEvent, runtime=runtime, get_elapsed_time=lambda a, b: 1000.0 * (b.at - a.at)))  # fmt: skip
    held: list[Any] = []
    gpu._hold = lambda grid, block, args: held.append(args)
    ran: list[int] = []
    passes = [lambda k=k: ran.append(k) or [k] for k in range(3)]
    seconds, last = gpu.block(passes, 0.0, 5)
    assert seconds == [1.0] * 5 and ran == [0, 1, 2, 0, 1, 2] and last == [2] and len(held) == 1
    assert gpu.block(passes, 1.0, 1)[0] == [1.0]  # a slow pass is not run twice


def test_no_cupy_no_driver_an_old_gpu(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    error = bench.harness.BenchError
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(error, match="CuPy cannot be imported"):
        bench.gpu_device.Gpu()
    cupy: Any = ModuleType("cupy")

    def no_driver() -> int:
        raise RuntimeError("cudaErrorNoDevice")

    runtime = SimpleNamespace(getDeviceCount=no_driver, CUDARuntimeError=RuntimeError)
    cupy.cuda = SimpleNamespace(runtime=runtime)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(error, match="no NVIDIA driver or GPU"):
        bench.gpu_device.Gpu()
    assert bench.gpu_device.need_sm80("A100", 8, 0) == "8.0"
    with pytest.raises(error, match="T4 is sm_75"):
        bench.gpu_device.need_sm80("T4", 7, 5)


def test_the_page_and_the_pictures(bench: Any, tmp_path: Path) -> None:
    """With made-up times, written outside the repository."""
    pytest.importorskip("matplotlib")
    rounds = {name: [[(s, 0.0)] * 10] * 2 for name, s in (("01_naive", 4e-3), ("02_coalesced", 1e-3), ("cuBLAS fp32", 5e-4))}
    found: dict[str, Any] = {"op": "matmul", "direction": "forward", "flops": 1e9, "bytes": 1e6, "vendors": ["cuBLAS fp32"],
             "kinds": dict.fromkeys(rounds, "float32")}  # fmt: skip
    limits = {"bandwidth": 1000.0, "peaks": {"float32": 2500.0}}
    case = next(case for case in bench.gpu_cases.CASES if case.op == "matmul")
    errors: list[str] = []
    found["times"] = bench.gpu.figures(rounds, found, limits, case, errors)
    assert not errors and found["times"]["02_coalesced"]["vendor_to_this"]["of_medians"] == 0.5
    table = bench.gpu_tables.ladder(found, {"matmul 02": "the idea"})
    assert "| 02 coalesced | the idea | 1 (1 to 1) | 4.00 | 40% of peak | 0.50 |" in table
    bench.gpu.figures(rounds, found, {**limits, "peaks": {"float32": 1000.0}}, case, errors)
    assert len(errors) == 1 and "cuBLAS fp32 takes 200%" in errors[0]
    result = {"results": {f"{case.name} forward": found}, "limits": limits, "gpu": {"name": "none"}}
    bench.gpu_tables.draw(result, tmp_path / "gpu")
    assert {path.name for path in tmp_path.iterdir()} == {"gpu_roofline.svg", "gpu_roofline.png"}


def test_the_page_is_that_of_the_results() -> None:
    assert run("--tables", "--check").returncode == 0
