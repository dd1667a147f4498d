"""The benches' own arithmetic, and one run of them: what is timed is checked first, and what cannot be is said."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from handgrad.reference.op import Spec
from handgrad.reference.table import ROWS

BENCHES = Path(__file__).resolve().parents[1] / "benches"
ROW = {op.name: op for op in ROWS}
NAMES = ("harness", "serve", "cases", "checks", "compare", "roofline", "picture", "sides", "ops_options", "ops", "tables",
         "stories", "machine_code", "rotation", "own")  # fmt: skip


@pytest.fixture(scope="module")
def benches() -> Any:
    """benches/*.py, which find each other by their bare names, and cases.py."""
    before, old = sys.path[:], set(sys.modules)
    sys.path[:0] = [str(BENCHES), str(BENCHES / "workers")]
    try:
        found = {name: importlib.import_module(name) for name in NAMES}
        yield SimpleNamespace(**found)
    finally:
        sys.path[:] = before
        for name in set(sys.modules) - old:
            if name in NAMES:
                del sys.modules[name]


def test_every_case_fits_its_row_and_has_a_rival(benches: Any) -> None:
    source = ast.parse((BENCHES / "workers" / "ops_torch.py").read_text())
    tables = [node for node in ast.walk(source) if isinstance(node, ast.Dict)]
    keys = [key.value for table in tables for key in table.keys if isinstance(key, ast.Constant)]
    names = [case.name for case in benches.cases.CASES]
    assert len(set(names)) == len(names)
    for case in benches.cases.CASES:
        if case.op in benches.cases.UPDATES:
            assert case.directions == ("forward",)
            continue
        op = ROW[case.op]
        assert case.op in keys, f"ops_torch.py does not know {case.op}"
        specs = [Spec(s[1], np.int64) if s[0] in ("ids", "mask") else Spec(s, np.float32) for s in case.inputs]
        assert len(specs) <= len(op.inputs)
        flops, elements = op.cost(*specs, **case.params)
        assert flops >= 0 and elements > 0


def test_inputs_are_the_same_on_every_side_and_differ_from_copy_to_copy(benches: Any) -> None:
    case = benches.cases.case("layer_norm 768x128")
    first, again, other = case.arrays(), case.arrays(), case.arrays(1)
    assert [a.dtype for a in first] == [np.float32] * 3 and sum(a.nbytes for a in first) == case.bytes
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    x, mask = benches.cases.case("dropout 768x128").arrays()
    assert mask.dtype == bool and mask.shape == x.shape and mask.mean() == pytest.approx(0.9, abs=0.01)
    dy = benches.cases.cotangent((3, 4))
    assert np.array_equal(dy, benches.cases.cotangent([3, 4])) and not np.array_equal(
        dy, benches.cases.cotangent((3, 4), 1)
    )


def test_a_wrong_result_is_not_timed(benches: Any) -> None:
    """A number off, a NaN, another shape, another cotangent; and what float32 explains passes."""
    case, error = benches.cases.case("softmax 4096x64"), benches.harness.BenchError
    want, shape, cost = benches.checks.expected(case, "forward")
    assert cost == (5 * 4096 * 64, 4.0 * 2 * 4096 * 64)
    right = want[0].astype(np.float32)

    def judge(y: np.ndarray) -> float:
        return benches.checks.difference(case, "forward", "it", {"arr_0": y}, want, shape)

    assert 0 < judge(right) < 1e-6
    for wrong, sentence in (
        (right * 1.001, "off by"), (np.where(right == right[0, 0], np.nan, right), "is finite elsewhere"), (right[1:], "shape"),
    ):  # fmt: skip
        with pytest.raises(error, match=f"softmax 4096x64, forward: it .*{sentence}"):
            judge(wrong)
    want, shape, _ = benches.checks.expected(case, "backward")
    dy = benches.cases.cotangent(shape)
    with pytest.raises(error, match="another cotangent"):
        benches.checks.difference(case, "backward", "it", {"arr_0": want[0], "dy": dy + 1}, want, shape)


def test_limits_by_hand(benches: Any) -> None:
    levels = {"L1": {"holds": 100, "bandwidth": 10.0}, "memory": {"holds": None, "bandwidth": 2.0}}
    limits = {"peak": 50.0, "levels": levels}
    limit = benches.roofline.limit
    assert limit(limits, 1e9, 100) == {"seconds": 0.02, "bound": "peak"}
    assert limit(limits, 0, 100) == {"seconds": pytest.approx(10e-9), "bound": "L1"}
    assert limit(limits, 0, 140) == {"seconds": pytest.approx(10e-9 + 20e-9), "bound": "memory"}  # 40 do not fit
    assert limit(limits, 0, 100, far=60) == {"seconds": pytest.approx(30e-9 + 4e-9), "bound": "memory"}
    assert limit(limits, 0, 100, far=500)["seconds"] == pytest.approx(50e-9)
    again = {"peak": 40.0, "levels": {"L1": {"bandwidth": 15.0}, "memory": {"bandwidth": 1.0}}}
    better = benches.roofline.higher(limits, again)
    assert [better["peak"], *(better["levels"][name]["bandwidth"] for name in ("L1", "memory"))] == [50.0, 15.0, 2.0]
    assert better["levels"]["L1"]["holds"] == 100


def test_samples_that_waited_are_dropped_and_counted(benches: Any) -> None:
    blocks = [[(1e-3, 0.0)] * 15 + [(9e-3, 1e-3)] * 5, [(1e-3, 2e-5)] * 10]
    found = benches.harness.summarize(blocks)
    assert (found["median"], found["p90"], found["samples"], found["noisy"]) == (1.0, 1.0, 25, False)
    assert found["dropped_share"] == pytest.approx(5 / 30, abs=1e-4)


def test_what_counts_as_slower(benches: Any) -> None:
    judged = benches.compare.judged
    assert judged((0.9, 1.0, 1.1), (0.7, 0.8, 0.85), 1.1)[0] == "slower"
    assert judged((0.9, 1.0, 1.1), (0.7, 0.8, 0.95), 1.1)[0] == ""  # the spreads overlap
    assert judged((0.99, 1.0, 1.01), (0.93, 0.95, 0.97), 1.1)[0] == ""  # too little
    assert judged((0.9, 1.0, 1.1), (1.2, 1.3, 1.4), 1.1)[0] == "faster"


@pytest.fixture
def here(benches: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """here(*arguments): the bench in this process, on a machine whose limits no figure reaches."""
    levels = {"memory": {"holds": None, "bandwidth": 1e3}}
    fast = {"threads": 1, "peak": 1e5, "last_cache": 1 << 25, "levels": levels}
    monkeypatch.setattr(benches.roofline.Ceiling, "_measured", lambda ceiling: fast)

    def bench(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["ops.py", *map(str, arguments)])
        benches.ops.main()

    return bench


def test_the_best_measurement_counts(benches: Any) -> None:
    """A processor that is slow at first: what is found beside a row, or again, can only raise the limits."""
    speeds = iter([1.0, 3.0, 2.0, 4.0])

    class Worker:
        def ask(self, do: str, **arguments: Any) -> float:
            if do == "peak":
                self.speed = next(speeds)
            return 0.0 if do == "start" else self.speed * (2 if do == "peak" else 1)

    ceiling = benches.roofline.Ceiling(Worker(), 1, again=1)
    assert (ceiling.limits["peak"], ceiling.limits["levels"]["memory"]["bandwidth"]) == (2.0, 1.0)
    first = next(iter(ceiling.limits["levels"]))
    ceiling.beside()
    assert (ceiling.limits["peak"], ceiling.limits["levels"][first]["bandwidth"]) == (6.0, 3.0)
    assert ceiling.limits["levels"]["memory"] == {"holds": None, "bandwidth": 1.0}
    ceiling.beside()
    assert ceiling.limits["peak"] == 6.0
    assert ceiling.again() and ceiling.limits["levels"]["memory"]["bandwidth"] == 4.0
    assert not ceiling.again()


def test_cold_copies_leave_half_of_the_memory(benches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benches.ops.os, "sysconf", {"SC_PHYS_PAGES": 2 << 20, "SC_PAGE_SIZE": 4096}.__getitem__)  # 8 GB
    assert [benches.ops.room(sides) for sides in (0, 1, 2, 5)] == [1 << 30, 1 << 30, 1 << 29, (1 << 32) // 20]


def test_limits_are_measured(benches: Any) -> None:
    """Those of a machine of any kind."""
    limits = benches.roofline.measure(1)
    assert limits["peak"] > 1 and {"L1", "memory"} <= set(limits["levels"])
    assert all(level["bandwidth"] > 0.1 for level in limits["levels"].values())


def test_a_run_of_the_command(benches: Any, here: Any, tmp_path: Path) -> None:
    """A kernel of one's own beside ours: checked, timed, kept; a wrong one ends in a sentence."""
    own = tmp_path / "own.py"
    own.write_text(
        "import numpy as np\n"
        "def mine(x):\n    return 1 / (1 + np.exp(-x))\n"
        "def wrong(x):\n    return 1 / (1 + np.exp(-x)) + np.float32(1e-3)\n"
    )
    short = ["--rounds", 1, "--seconds", 0.01, "--against", "numpy", "--caches", "warm", "--directions", "forward"]
    out = tmp_path / "ops.json"
    here("sigmoid", *short, "--out", out)
    result = json.loads(out.read_text())
    assert result["limits"]["peak"] > 0 and result["threads"] >= 1
    (found,) = result["results"].values()
    assert set(found["times"]["warm"]) >= {"numba", "numpy", "numba 01_naive"} and max(found["errors"].values()) < 1e-5
    assert found["poisoned"]["numba"] and found["poisoned"]["numpy"] and result["settings"]["numpy"]["environ"]
    assert all(row["of_limit"] > 0 and row["median"] > 0 for row in found["times"]["warm"].values())
    here(*short, "--kernel", f"{own}:mine", "--as", "sigmoid", "--no-ladders", "--out", out)
    assert "own.py:mine" in json.loads(out.read_text())["results"]["sigmoid 768x512 forward"]["times"]["warm"]
    out.write_text("before")
    with pytest.raises(benches.harness.BenchError, match=r"sigmoid 768x512, forward: own\.py:wrong is off by"):
        here("sigmoid", *short, "--kernel", f"{own}:wrong", "--no-ladders", "--out", out)
    assert out.read_text() == "before"


def test_a_figure_beyond_the_roofline_is_an_error(
    benches: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: the limits of a machine a thousand times slower. The old file stays; what was measured is kept apart."""
    slow = {"threads": 1, "peak": 1e-3, "last_cache": 1 << 25, "levels": {"memory": {"holds": None, "bandwidth": 1e-3}}}
    monkeypatch.setattr(benches.roofline.Ceiling, "_measured", lambda ceiling: slow)
    monkeypatch.setattr(benches.roofline.Ceiling, "beside", lambda ceiling: None)
    out = tmp_path / "ops.json"
    out.write_text("old")
    words = "relu --rounds 1 --seconds 0.01 --against numpy --caches warm --directions forward --no-ladders --out"
    monkeypatch.setattr(sys, "argv", ["ops.py", *words.split(), str(out)])
    with pytest.raises(
        benches.harness.BenchError, match=r"faster than this machine can be.*relu 768x512 forward \(warm, numba"
    ):
        benches.ops.main()
    assert out.read_text() == "old" and (tmp_path / "ops.rejected.json").exists()


def test_limits_are_taken_for_what_a_row_must_do(benches: Any) -> None:
    """Products count operations, others bytes alone; what is cold comes from memory."""
    limits = {
        "peak": 1.0,
        "levels": {"L1": {"holds": 1 << 20, "bandwidth": 10.0}, "memory": {"holds": None, "bandwidth": 1.0}},
    }
    row = {"median": 2.0}
    found = {"flops": 2e6, "bytes": 1e5, "times": {"warm": {"numba": dict(row)}, "cold": {"numba": dict(row)}}}
    results = {"matmul a forward": found, "silu a forward": json.loads(json.dumps(found))}
    benches.ops.hold_against(limits, results)
    assert found["times"]["warm"]["numba"] == {"median": 2.0, "of_limit": 1.0, "bound": "peak"}
    silu = results["silu a forward"]["times"]
    assert silu["warm"]["numba"]["of_limit"] == 0.005 and silu["cold"]["numba"]["of_limit"] == 0.05
    assert not benches.ops.too_fast(results)
    found["times"]["warm"]["numba"]["of_limit"] = 1.2
    assert benches.ops.too_fast(results) == ["matmul a forward (warm, numba)"]


def test_passes_go_round_and_results_stay_until_their_turn(benches: Any) -> None:
    rotation, seen = benches.rotation.Rotation(), []
    rotation.turn_to([lambda i=i: seen.append(i) or i for i in range(3)])
    for _ in range(4):
        rotation.step()
    assert seen == [1, 2, 0, 1] and rotation.kept == [0, 1, 2]


def test_updates_by_hand(benches: Any) -> None:
    case = benches.cases.Case("clip_grad_norm", "tiny", ((3,), (2,)), {"max_norm": 0.5})
    want, shape, (flops, moved) = benches.checks.expected(case, "forward")
    assert shape is None and (flops, moved) == (15.0, 60.0)
    assert np.sqrt(sum(np.sum(a * a) for a in want)) == pytest.approx(0.5, rel=1e-5)
    bounds = benches.cases.tighter(1.0)
    assert [next(bounds), next(bounds)] == [1.0, pytest.approx(0.999)]


def test_ideas_are_what_docstrings_say_first(benches: Any) -> None:
    def rung(text: str) -> Any:
        def function() -> None: ...

        function.__doc__ = text
        return function

    functions = {
        "op_forward_01_naive": rung("The textbook, e.g. rows; x (R, N)."),
        "op_forward_02_vector": rung("Vector lanes: 8 times rung 01."),
        "op_forward_03_threads": rung("On all threads."),
        "op_vjp_01_naive": rung("dx = y (dy - <dy, y>). The rung to measure from."),
        "op_vjp_02_one_pass": rung("Both in one pass."),
    }
    versions = ["numba 01_naive", "numba 02_vector", "numba 09_absent", "numba", "numba, 1 thread"]
    assert benches.stories.ideas(functions, versions, "forward") == {
        "numba 01_naive": "The textbook, e.g. rows",
        "numba 02_vector": "Vector lanes",
        "numba": "On all threads",
    }
    assert benches.stories.ideas(functions, versions, "backward") == {
        "numba 01_naive": "dx = y (dy - <dy, y>)",
        "numba 02_vector": "Both in one pass",
        "numba": "Both in one pass",
    }
    one_thread = benches.stories.ideas(functions, ["numba 01_naive", "numba, 1 thread"], "forward")["numba, 1 thread"]
    assert one_thread == "Vector lanes"


def test_a_ladder_says_what_each_rung_bought(benches: Any) -> None:
    timed = {"numba": {"median": 1.0}, "torch": {"median": 3.0}, "numba as installed": {"median": 2.0},
             "numba 02_b": {"median": 1.5}, "numba 01_a": {"median": 15.0}}  # fmt: skip
    lines = benches.tables.ladder(timed, {"numba 01_a": "a | b", "numba": "all"}).splitlines()
    assert lines[2:] == [
        "| 01_a | a \\| b | 15 |  |", "| 02_b | as the rung before | 1.5 | 10.0 |", "| production | all | 1 | 1.50 |",
    ]  # fmt: skip
    assert benches.tables.ladder({"numba": {"median": 1.0}, "numba 01_a": {"median": 2.0}}, {"numba": "all"}) == ""
    assert benches.tables.ladder(timed, {}) == ""


def test_every_rung_is_told_in_a_direction(benches: Any) -> None:
    """By a function of its number."""
    from handgrad.engine import kernel_table

    for op in map(ROW.__getitem__, ("matmul", "softmax", "log_softmax", "layer_norm", "attention")):
        versions = list(kernel_table.versions(op))
        told = [benches.stories.told(op.name, versions, way) for way in ("forward", "backward")]
        assert all(version in told[0] or version in told[1] for version in versions), op.name


def test_the_tables_are_those_of_the_results(benches: Any) -> None:
    text = benches.tables.README.read_text(encoding="utf-8")
    runs = benches.tables.runs(benches.harness.RESULTS / "ops.json")
    assert benches.tables.rewritten(text, *runs) == text
    with pytest.raises(benches.harness.BenchError, match="must have <!-- ops -->"):
        benches.tables.rewritten("nothing", *runs)


ASM = """
f:
.LBB0_1:
    vfmadd213ps %zmm1, %zmm2, %zmm3   # a comment
.LBB0_2:
    vaddss %xmm1, %xmm2, %xmm3
    jne .LBB0_2
    callq exp
    jne .LBB0_1
.LBB0_3:
    vmulps %ymm1, %ymm2, %ymm3
    jb .LBB0_3
    jmp .LBB0_4
.LBB0_4:
    retq
"""


def test_machine_code_by_hand(benches: Any) -> None:
    """Two innermost loops, one on 256-bit vectors and one on single numbers; the loop around the second is not innermost."""
    code = benches.machine_code
    assert len(code.innermost(ASM)) == 2
    assert code.row_of("f", ASM) == ["f", "1", "1", "0", "256 bits", "2", "1", "1"]


OWN = """
import numpy as np
def half_forward(x): return 1 / (1 + np.exp(-x))
def half_vjp(dy, y, x): return dy * y
def whole_forward(x): return half_forward(x)
def whole_vjp(dy, y, x): return dy * y * (1 - y)
"""


def test_a_kernel_with_its_vjp(benches: Any, here: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Found by its name, and timed beside production in both directions and beside handgrad as installed; or wrong alone."""
    (tmp_path / "own.py").write_text(OWN)
    out = tmp_path / "ops.json"
    short = ["--rounds", 1, "--seconds", 0.01, "--against", "numpy", "--caches", "warm", "--no-ladders", "--all-settings",
             "--out", out, "--as", "sigmoid", "--kernel"]  # fmt: skip
    here(*short, f"{tmp_path / 'own.py'}:whole_forward")
    assert "its vjp own.py:whole_vjp" in capsys.readouterr().out
    result = json.loads(out.read_text())
    sides = set(result["results"]["sigmoid 768x512 backward"]["times"]["warm"])
    assert sides == {"numba", "numpy", "numba as installed", "own.py:whole_forward"}
    assert result["settings"]["numba"]["malloc"] == "keeps freed memory" or sys.platform != "linux"
    assert result["settings"]["numba as installed"]["malloc"] != "keeps freed memory"
    with pytest.raises(benches.harness.BenchError, match=r"backward: own\.py:half_forward is off by"):
        here(*short, f"{tmp_path / 'own.py'}:half_forward")


def test_list_names_every_row(benches: Any, here: Any, capsys: pytest.CaptureFixture[str]) -> None:
    here("--list")
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {c.op for c in benches.cases.CASES}
