"""`handgrad bench --kernel my.cu`: a kernel of one's own is right, or its mistake is one sentence; and --ptx, --sass."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from handgrad.kernels.cuda import compiler

SOFTMAX = """
// my_forward<<<R, 64>>>, a block for each row
extern "C" __global__ void my_forward(float* y, const float* __restrict__ x, int R, int N) {
  __shared__ float part[64];
  const int t = threadIdx.x;
  x += (size_t)blockIdx.x * N;
  y += (size_t)blockIdx.x * N;
  float m = -3.4e38f;
  for (int j = t; j < N; j += 64) m = fmaxf(m, x[j]);
  part[t] = m;
  __syncthreads();
  for (int i = 0; i < 64; i++) m = fmaxf(m, part[i]);
  __syncthreads();
  float total = 0;
  for (int j = t; j < N; j += 64) total += expf(x[j] - m);
  part[t] = total;
  __syncthreads();  // all sums are there
  total = 0;
  for (int i = 0; i < 64; i++) total += part[i];
  for (int j = t; j < N; j += 64) y[j] = expf(x[j] - m) / total;
}
// my_vjp<<<(R + 31) / 32, dim3(32)>>>
extern "C" __global__ void my_vjp(float* dx, const float* dy, const float* y, int R, int N) {
  const size_t row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= R) return;
  float inner = 0.0f;
  for (int j = 0; j < N; j++) inner += dy[row * N + j] * y[row * N + j];
  for (int j = 0; j < N; j++) dx[row * N + j] = y[row * N + j] * (dy[row * N + j] - inner);
}
"""
MATMUL = """
// matmul_forward<<<dim3((N + 7) / 8, (M + 3) / 4), dim3(8, 4), 4 * N>>>
extern "C" __global__ void matmul_forward(float* c, const float* a, const float* b, int M, int K, int N) {
  const int row = blockIdx.y * 4 + threadIdx.y, column = blockIdx.x * 8 + threadIdx.x;
  if (row >= M || column >= N) return;
  float sum = 0.0f;
  for (int k = 0; k < K; k++) sum += a[(size_t)row * K + k] * b[(size_t)k * N + column];
  c[(size_t)row * N + column] = sum;
}
"""


@pytest.fixture
def bench(benches: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """bench("softmax", text) -> what `handgrad bench --kernel my.cu --as softmax` prints; of a BenchError its words after !."""

    def run(operation: str, text: str, *more: str, name: str = "") -> str:
        (tmp_path / "my.cu").write_text(text)
        words = ["--kernel", f"{tmp_path / 'my.cu'}{name}", *(["--as", operation] if operation else []), *more]
        monkeypatch.setattr(sys, "argv", ["ops.py", *words])
        try:
            benches.own_cuda.run(benches.ops_options.parse(None))
        except benches.own_cuda.BenchError as error:
            return f"! {error}"
        return capsys.readouterr().out

    return run


def test_a_right_kernel_with_its_vjp(bench):
    said = bench("softmax", SOFTMAX)
    assert "my.cu: my_forward, my_vjp, as softmax" in said
    assert re.search(r"right under all 6 schedules, and under AddressSanitizer: error of the value \S+ of \S+ allowed,", said)
    assert "How fast it is shows on a GPU alone" in said


def test_a_product_in_a_grid_of_two_directions(bench):
    assert "right under all 6 schedules" in bench("matmul", MATMUL)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("  __syncthreads();  // all", "  // all", "! my_forward: a race, because y depends on who runs first: at [0, "),
        ("j < N; j += 64) y", "j <= N; j += 64) y", "! my_forward: reads 4 bytes outside of x in line 20"),
        ("- inner", "+ inner", "! softmax [my.cu]: gradient float32: the gradient of x at"),
        ("expf(x[j] - m) /", "exxpf(x[j] - m) /", "! my.cu does not compile: line 20: 'exxpf' was not declared"),
    ],
)
def test_a_wrong_kernel_is_one_sentence(bench, old, new, sentence):
    assert old in SOFTMAX
    said = bench("softmax", SOFTMAX.replace(old, new))
    assert said.startswith(sentence) and "\n" not in said, said


NEVER = 'extern "C" __global__ void other(int* y) { y[0] = 1; }'


@pytest.mark.parametrize(
    ("operation", "text", "name", "sentence"),
    [
        ("exp", SOFTMAX, "", "! exp has no CUDA kernels to stand beside; there are some for "),
        ("softmax", SOFTMAX, ":her_forward", "! my.cu has no kernel called her_forward; there are my_forward, my_vjp"),
        ("softmax", SOFTMAX + NEVER, "", "! my.cu has my_forward, other: --kernel my.cu:NAME must say which one is meant"),
        ("softmax", NEVER[11:], "", '! my.cu: a kernel is found by its name, so it must be declared extern "C"'),
        ("softmax", "", "", "! my.cu has no kernel: --kernel my.cu:NAME must say"),
        ("softmax", NEVER, "", '! my.cu: other takes (int* y), but it must be extern "C" __global__ void other(float* y, c'),
        ("softmax", SOFTMAX, ".cu", "! --kernel is "),
        ("", SOFTMAX, "", "! --kernel needs the one OP that the kernel computes"),
    ],
)
def test_what_cannot_stand_in_is_one_sentence(bench, operation, text, name, sentence):
    said = bench(operation, text, name=name)
    assert said.startswith(sentence) and "\n" not in said


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--backend", "cuda", "numba"], "! --backend cuda numba: cuda stands alone"),
        (["--backend", "cuda"], "! CuPy is not installed, without which nothing runs on a GPU: pip install"),
        (["--kernel-vjp", "a.py:f"], "! --kernel-vjp belongs to --kernel FILE.py:FUNCTION"),
        (["--sass"], "! --sass needs a disassembler: pip install 'handgrad[cuda-compile]', or the CUDA"),
        (["--kernel", "own.py:f", "--ptx"], "! --ptx shows the code of CUDA kernels, but --kernel own.py:f is no .cu file"),
    ],
)
def test_what_cannot_be_is_one_sentence(bench, benches, monkeypatch, more, sentence):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(benches.own_cuda, "find_spec", lambda name: None)
    assert bench("softmax", SOFTMAX, *more).startswith(sentence)


# ---- launch lines


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("R, 256", ((100,), (256,), 0)),
        ("(R + 31) / 32, 32 * 4, 4 * N", ((4,), (128,), 28)),
        ("dim3((N + 3) / 4, min(R, 8)), dim3(4, 8, 1)", ((2, 8), (4, 8, 1), 0)),
        ("R % 7 - 1, max(N, 32)", ((1,), (32,), 0)),
        ("R", "has 1 parts, but it must be <<<grid, block>>>"),
        ("R, 2 **", "cannot be read: it must be"),
        ("rows, 2", "cannot be read at rows: it may hold R, N, numbers and dim3"),
        ("__import__('os'), 2", "cannot be read at __import__('os')"),
        ("R / 0, 2", "cannot be computed"),
        ("dim3(2) + 1, 2", "cannot be computed"),
    ],
)
def test_launch_lines(benches, line, want):
    own, sizes = benches.own_cuda, {"R": 100, "N": 7}
    if isinstance(want, tuple):
        assert own.launched("it", line, sizes) == want
    else:
        with pytest.raises(own.BenchError, match=f"^it {re.escape(want)}"):
            own.launched("it", line, sizes)


def test_a_launch_line_belongs_to_its_kernel(benches):
    assert benches.own_cuda.launch_line(SOFTMAX, "my_vjp") == "(R + 31) / 32, dim3(32)"
    assert benches.own_cuda.launch_line(SOFTMAX, "vjp") == benches.own_cuda.launch_line("", "my_vjp") == ""


# ---- code


def command(*words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "handgrad", "bench", *words]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_ptx_of_a_rung_and_of_a_kernel(bench, benches, monkeypatch, capsys):
    def made(path: Path, architecture: str, *, wanted: str) -> tuple[bytes, str]:
        return f"// {wanted} of {path.name} for {architecture}\n\0".encode(), ""

    monkeypatch.setattr(compiler, "made", made)
    assert bench("", SOFTMAX, "--ptx", "--arch", "sm_90a") == "// PTX of my.cu for sm_90a\n"
    found = SimpleNamespace(list=False, ptx=True, sass=False, kernel_file=None, op=["matmul_03"], arch=None)
    benches.own_cuda.run(found)
    assert capsys.readouterr().out == "// PTX of matmul_03_shared_tile.cu for sm_80\n"


@pytest.mark.parametrize(("tool", "flags"), [("nvdisasm", "-c"), ("cuobjdump", "-sass")])
@pytest.mark.parametrize("packaged", [False, True])
def test_sass_by_the_toolkits_disassembler(bench, benches, monkeypatch, tmp_path, tool, flags, packaged):
    folder = tmp_path / "cu13" / "bin"
    folder.mkdir(parents=True)
    (folder / tool).write_text('#!/bin/sh\necho "of $@"\n')
    (folder / tool).chmod(0o755)
    monkeypatch.setenv("PATH", "" if packaged else str(folder))
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(benches.own_cuda, "find_spec", lambda name: spec if packaged else None)
    monkeypatch.setattr(compiler, "compiled", lambda path, architecture: Path(f"my-{architecture}.cubin"))
    ran = []
    monkeypatch.setattr(sys.stdout, "write", ran.append)
    bench("", SOFTMAX, "--sass")
    assert ran == [f"of {flags} my-sm_80.cubin\n"]


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
def test_tensor_cores_and_copies_are_there_in_machine_code(architecture):
    """What ptx.cuh asks for comes out of the assembler: mma.sync as HMMA in each of the types, cp.async as LDGSTS."""
    done = command("matmul_08", "--sass", "--arch", architecture)
    if done.returncode == 2 and "pip install" in done.stderr:
        pytest.skip("NVRTC or nvdisasm is not installed (pip install -e '.[cuda-compile]')")
    assert done.returncode == 0, done.stderr
    for words in ("HMMA.16816.F32.BF16", "HMMA.16816.F32 ", "HMMA.1688.F32.TF32", "LDGSTS.E.BYPASS.128"):
        assert words in done.stdout, f"no {words} for {architecture}"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["softmax", "--ptx"], "--ptx needs one rung of softmax: softmax_01, softmax_02"),
        (["exp", "--sass"], "exp is no rung of a CUDA ladder; there are ladders for "),
        (["--ptx"], "--ptx needs the one rung whose code is wanted, as in: bench matmul_03 --ptx"),
        (["silu", "--backend", "cuda"], "--backend cuda is for a CUDA kernel of your own: --kernel FILE.cu --as OP"),
        (["--kernel", "absent.cu", "--as", "silu"], "--kernel is absent.cu, but it must be FILE.cu or FILE.cu:KERNEL"),
    ],
)
def test_the_command_says_what_is_wrong(words, sentence):
    done = command(*words)
    assert done.returncode == 2 and done.stderr.startswith(f"handgrad bench: {sentence}") and done.stderr.count("\n") == 1


def test_the_list_says_what_each_kernel_takes():
    done = command("--list", "--backend", "cuda-on-cpu")
    assert done.returncode == 0, done.stderr
    assert "softmax, launched as rung 01_thread_per_row is: 128 rows a block.\n" in done.stdout
    assert '    extern "C" __global__ void NAME(float* y, const float* x, int R, int N)\n' in done.stdout
