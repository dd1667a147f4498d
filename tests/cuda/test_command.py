"""`handgrad check --backend cuda-on-cpu`: what it prints, its exit codes, and one sentence for each mistake."""

import pytest

from handgrad.engine.cli import check_cuda
from handgrad.engine.cli.main import run
from handgrad.kernels.cuda import launch
from handgrad.kernels.cuda.on_cpu import compiler
from handgrad.kernels.cuda.on_cpu.kernel import Kernel


def command(capsys, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        run(["check", "--backend", *words])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_a_line_for_each_rung_and_a_verdict(capsys):
    code, out, _ = command(capsys, "cuda-on-cpu", "gelu", "silu")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[:2] for line in lines[2:5]] == [
        ["gelu", "01_elementwise"], ["gelu", "02_vector_loads"], ["silu", "01_elementwise"],
    ]  # fmt: skip
    assert all(line.endswith("pass") for line in lines[2:5])
    assert lines[5].startswith("2 operations in 3 rungs: all passed; every launch under 6 schedules")


@pytest.mark.parametrize("name", ["gelu_02", "gelu_02_vector_loads"])
def test_one_rung_by_name(capsys, name):
    code, out, _ = command(capsys, "cuda-on-cpu", name)
    assert code == 0 and "1 operations in 1 rungs: all passed" in out and "02_vector_loads" in out


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("(1.0f - s)", "(1.0f + s)", "silu [01_elementwise] FAILED: silu [01_elementwise]: gradient float32"),
        (
            "if (i >= n) return;",
            "",
            "silu [01_elementwise] FAILED: silu_forward_01_elementwise: reads 4 bytes outside of x",
        ),
        (
            "y[i] = x[i]",
            "y[i] = 2 * z[i]",
            "silu [01_elementwise] FAILED: silu_01_elementwise.cu does not compile: line 8",
        ),
    ],
)
def test_a_wrong_kernel_fails_with_a_sentence(capsys, monkeypatch, old, new, sentence):
    def mutated(path, name):
        return Kernel(path, name, path.read_text().replace(old, new))

    monkeypatch.setattr(launch, "on_cpu", mutated)
    assert check_cuda.run(["silu"]) == 1
    out = capsys.readouterr().out
    assert sentence in out and "1 operations in 1 rungs: 1 FAILED" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("cuda",), "there is no backend called 'cuda' to check; there is cuda-on-cpu"),
        (("cuda-on-cpu", "exp"), "exp has no CUDA kernels; there are some for "),
        (("cuda-on-cpu", "sofmax"), "there is no operation called 'sofmax'; did you mean softmax"),
        (("cuda-on-cpu", "silu", "--mutants"), "--mutants cannot be used with --backend cuda-on-cpu"),
        (("cuda-on-cpu", "silu", "--seed", "-1"), "--seed is -1, but it must be at least 0"),
    ],
)
def test_a_mistake_is_one_sentence(capsys, words, sentence):
    code, _, err = command(capsys, *words)
    assert code == 2 and err.startswith(f"handgrad: {sentence}") and err.count("\n") == 1


def test_without_a_compiler(capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    compiler.compiler.cache_clear()
    try:
        code, _, err = command(capsys, "cuda-on-cpu", "silu")
    finally:
        compiler.compiler.cache_clear()
    assert code == 2 and "needs g++: install it" in err
