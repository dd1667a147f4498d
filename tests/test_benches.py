"""The benches' own arithmetic, and one run of them: what is timed is checked first, and what cannot be is said."""

from __future__ import annotations

import ast
import json
import subprocess
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


@pytest.fixture(scope="module")
def benches() -> Any:
    """benches/*.py, which find each other by their bare names, and cases.py."""
    before, old = sys.path[:], set(sys.modules)
    sys.path[:0] = [str(BENCHES), str(BENCHES / "workers")]
    try:
        import cases  # pyright: ignore[reportMissingImports]
        import compare  # pyright: ignore[reportMissingImports]
        import harness  # pyright: ignore[reportMissingImports]
        import ops  # pyright: ignore[reportMissingImports]
        import roofline  # pyright: ignore[reportMissingImports]

        yield SimpleNamespace(cases=cases, compare=compare, harness=harness, ops=ops, roofline=roofline)
    finally:
        sys.path[:] = before
        for name in set(sys.modules) - old:
            if name in ("cases", "compare", "harness", "ops", "roofline"):
                del sys.modules[name]


def test_every_case_fits_its_row_and_has_a_rival(benches: Any) -> None:
    source = ast.parse((BENCHES / "workers" / "ops_torch.py").read_text())
    tables = [node for node in ast.walk(source) if isinstance(node, ast.Dict)]
    keys = [key.value for table in tables for key in table.keys if isinstance(key, ast.Constant)]
    names = [case.name for case in benches.cases.CASES]
    assert len(set(names)) == len(names)
    for case in benches.cases.CASES:
        op = ROW[case.op]
        assert case.op in keys, f"ops_torch.py does not know {case.op}"
        specs = [Spec(s[1], np.int64) if s[:1] == ("ids",) else Spec(s, np.float32) for s in case.inputs]
        assert len(specs) <= len(op.inputs)
        flops, elements = op.cost(*specs, **case.params)
        assert flops >= 0 and elements > 0


def test_inputs_are_the_same_on_every_side_and_differ_from_copy_to_copy(benches: Any) -> None:
    case = benches.cases.case("layer_norm 768x128")
    first, again, other = case.arrays(), case.arrays(), case.arrays(1)
    assert [a.dtype for a in first] == [np.float32] * 3 and sum(a.nbytes for a in first) == case.bytes
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_wrong_result_is_not_timed(benches: Any) -> None:
    """A number off, a NaN, another shape, another cotangent; and what float32 explains passes."""
    case, error = benches.cases.case("softmax 4096x64"), benches.harness.BenchError
    want, _, cost = benches.ops.expected(case, "forward")
    assert cost == (5 * 4096 * 64, 4.0 * 2 * 4096 * 64)
    right = want[0].astype(np.float32)

    def judge(y: np.ndarray) -> float:
        return benches.ops.difference(case, "forward", "it", {"arr_0": y}, want, None)

    assert 0 < judge(right) < 1e-6
    for wrong, sentence in (
        (right * 1.001, "off by"), (np.where(right == right[0, 0], np.nan, right), "is finite elsewhere"), (right[1:], "shape"),
    ):  # fmt: skip
        with pytest.raises(error, match=f"softmax 4096x64, forward: it .*{sentence}"):
            judge(wrong)
    want, dy, _ = benches.ops.expected(case, "backward")
    with pytest.raises(error, match="another cotangent"):
        benches.ops.difference(case, "backward", "it", {"arr_0": want[0], "dy": dy + 1}, want, dy)


def test_limits_by_hand(benches: Any) -> None:
    levels = {"L1": {"holds": 100, "bandwidth": 10.0}, "memory": {"holds": None, "bandwidth": 2.0}}
    limits = {"peak": 50.0, "levels": levels}
    limit = benches.roofline.limit
    assert limit(limits, 1e9, 100) == {"seconds": 0.02, "bound": "peak"}
    assert limit(limits, 0, 100) == {"seconds": pytest.approx(10e-9), "bound": "L1"}
    assert limit(limits, 0, 140) == {"seconds": pytest.approx(10e-9 + 20e-9), "bound": "memory"}  # 40 do not fit
    assert limit(limits, 0, 100, far=60) == {"seconds": pytest.approx(30e-9 + 4e-9), "bound": "memory"}
    assert limit(limits, 0, 100, far=500)["seconds"] == pytest.approx(50e-9)
    faster = {"peak": 40.0, "levels": {"L1": {"bandwidth": 15.0}, "memory": {"bandwidth": 2.0}}}
    assert benches.roofline.grown(limits, faster) == 1.5 and benches.roofline.grown(limits, limits) == 1.0
    row = {"of_limit": 1.2}
    results = {"silu 10 forward": {"times": {"warm": {"numba": row, "torch": {"of_limit": 1.05}}}}}
    assert benches.ops.too_fast(results, 1.0) == ["silu 10 forward (warm, numba)"] and not benches.ops.too_fast(
        results, 1.5
    )
    sizes = benches.roofline.cache_sizes()
    assert sizes and all(1 << 12 <= size <= 1 << 32 for size in sizes.values())


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


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "handgrad", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def test_a_run_of_the_command(tmp_path: Path) -> None:
    """A kernel of one's own beside ours: checked, timed, kept; a wrong one ends in a sentence."""
    own = tmp_path / "own.py"
    own.write_text(
        "import numpy as np\n"
        "def mine(x):\n    return x / (1 + np.exp(-x))\n"
        "def wrong(x):\n    return x / (1 + np.exp(-x)) + np.float32(1e-3)\n"
    )
    short = ["--rounds", 1, "--seconds", 0.01, "--against", "numpy", "--caches", "warm", "--directions", "forward"]
    out = tmp_path / "ops.json"
    done = run("sigmoid", *short, "--out", out)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result["limits"]["peak"] > 0 and result["threads"] >= 1
    (found,) = result["results"].values()
    assert (
        set(found["times"]["warm"]) >= {"numba", "formula", "numba 01_naive"} and max(found["errors"].values()) < 1e-5
    )
    assert all(row["of_limit"] > 0 and row["median"] > 0 for row in found["times"]["warm"].values())
    done = run("silu", *short, "--kernel", f"{own}:mine", "--no-ladders", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "mine" in json.loads(out.read_text())["results"]["silu 768x512 forward"]["times"]["warm"]
    before = out.read_bytes()
    done = run("silu", *short, "--kernel", f"{own}:wrong", "--no-ladders", "--out", out)
    assert (done.returncode, out.read_bytes()) == (2, before)
    assert "silu 768x512, forward: wrong is off by" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing"], "nothing has no sizes to be timed at; there are matmul, linear"),
        (["silu", "--kernel", "absent.py:f"], "--kernel is absent.py:f, but it must be FILE.py:FUNCTION"),
        (["--kernel", f"{__file__}:f"], "--kernel needs the one OP"),
    ],
)
def test_bad_arguments_are_a_sentence(arguments: list[str], sentence: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr
