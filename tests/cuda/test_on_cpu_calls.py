"""The emulator's launcher: what is reported about wrong calls, and what is kept of a compiled kernel."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from handgrad.kernels.cuda.launch import aligned, laid
from handgrad.kernels.cuda.on_cpu import compiler
from handgrad.kernels.cuda.on_cpu.compiler import CompileError
from handgrad.kernels.cuda.on_cpu.kernel import SCHEDULES, Kernel, running
from handgrad.kernels.cuda.on_cpu.source import kernels

HERE = Path(__file__).parent


def launch(body: str, parameters: str, grid, block, args, shared_mem: int = 0, before: str = "") -> None:
    """Runs a kernel `k` of that body, whose first line is line 2."""
    text = f'{before}extern "C" __global__ void k({parameters}) {{\n{body}\n}}\n'
    Kernel(HERE / "k.cu", "k", text)(grid, block, args, shared_mem=shared_mem)


def integers(body: str, n: int = 32, grid=(1,), block=None, **more) -> np.ndarray:
    """The n numbers that a kernel with the parameter `int* y` leaves; i is the thread's own."""
    y = np.full(n, -1, np.int32)
    launch(f"const int i = threadIdx.x; (void)i; {body}", "int* y", grid, block or (n,), (y,), **more)
    return y


# ---- what is reported about calls

BAD_CALLS = [
    ({"args": lambda y: (y,)}, TypeError, r"k takes 2 arguments \(float32\* y, int32 n\), but got 1"),
    ({"args": lambda y: (y, 3)}, TypeError, r"argument 1 \(n\) is a Python int, but the kernel wants int32: pass np.int32"),
    ({"args": lambda y: (y, np.int64(3))}, TypeError, r"argument 1 \(n\) is int64, but the kernel wants int32"),
    ({"args": lambda y: (y.astype("d"), np.int32(3))}, TypeError, r"is an array of float64, but the kernel wants float32\*"),
    ({"args": lambda y: ([1.0], np.int32(3))}, TypeError, r"argument 0 \(y\) is a list, but .* pass an array"),
    ({"args": lambda y: (y[::2], np.int32(3))}, ValueError, r"has strides \(8,\), but a kernel sees memory as C-contiguous"),
    ({"args": lambda y: (np.broadcast_to(y[:1], (1,)), np.int32(3))}, ValueError, r"is read-only, but the kernel may write"),
    ({"block": (2000,)}, ValueError, r"block is \(2000,\), but it must be"),
    ({"block": (64, 32)}, ValueError, r"a block of 2048 threads, but a block has at most 1024"),
    ({"grid": (0,)}, ValueError, r"grid is \(0,\), but it must be 1 to 3 numbers"),
    ({"grid": (1, 70000)}, ValueError, r"grid is \(1, 70000\)"),
    ({"shared_mem": 50000}, ValueError, r"shared_mem is 50000 bytes, but max_dynamic_shared_size_bytes allows 49152"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "kind", "sentence"), BAD_CALLS)
def test_a_wrong_call_is_one_sentence(change, kind, sentence):
    y = np.zeros(8, np.float32)
    kernel = Kernel(HERE / "k.cu", "k", 'extern "C" __global__ void k(float* y, int n) { y[0] = n; }')
    call = {"grid": (1,), "block": (1,), "shared_mem": 0, **change}
    args = call.get("args", lambda y: (y, np.int32(1)))(y)
    with pytest.raises(kind, match=sentence) as caught:
        kernel(call["grid"], call["block"], args, shared_mem=call["shared_mem"])
    assert "\n" not in str(caught.value)


def test_arrays_that_overlap_in_part_are_refused():
    x = np.zeros(9, np.int32)
    with pytest.raises(ValueError, match="y and x overlap without being the same array"):
        launch("y[threadIdx.x] = x[threadIdx.x];", "int* y, const int* x", (1,), (8,), (x[1:], x[:-1]))


def test_too_much_static_shared_memory():
    with pytest.raises(ValueError, match=r"k.cu declares 60000 bytes of static shared memory, but only 49152 may be"):
        launch(
            "__shared__ char s[60000]; s[y[0]] = 1; __syncthreads(); y[0] = s[y[0] + 1];",
            "int* y",
            (1,),
            (1,),
            (np.zeros(1, np.int32),),
        )


def test_a_compile_error_shows_its_first_line():
    with pytest.raises(
        CompileError, match=r"^k.cu does not compile: line 3: .*nonsense.* was not declared in this scope$"
    ):
        launch("y[0] = 1;\ny[0] = nonsense;", "int* y", (1,), (1,), (np.zeros(1, np.int32),))


def test_an_unknown_kernel_names_those_that_are_there():
    with pytest.raises(ValueError, match=r"k.cu has no kernel called 'j'; there are: k, l"):
        Kernel(
            HERE / "k.cu",
            "j",
            '// extern "C" __global__ void j() {}\n__global__ void k() {} __global__ void l(int a) {}',
        )


def test_without_a_compiler_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    compiler.compiler.cache_clear()
    try:
        with pytest.raises(OSError, match=r"needs g\+\+: install it \(apt install g\+\+\)"):
            integers("y[i] = i; // without a compiler")
    finally:
        compiler.compiler.cache_clear()


def test_unknown_schedules_are_refused():
    with (
        pytest.raises(ValueError, match="there is no schedule called 'backwards'; there are forward, reverse"),
        running(["backwards"]),
    ):
        pass


def test_source_is_read_without_comments():
    text = (
        '/* __global__ void no(int a) */ extern "C" __global__ void __launch_bounds__(32) yes(const float* x, int n) {}'
    )
    assert kernels(text) == {"yes": ["x", "n"]}


def test_a_slice_is_laid_where_four_numbers_can_be_loaded_at_once():
    x = np.arange(9, dtype=np.float32)
    assert aligned(x) and not aligned(x, x[1:]) and laid(x) is x
    assert aligned(laid(x[1:])) and np.array_equal(laid(x[1:]), x[1:])


# ---- the cache


def test_an_edit_beside_the_source_compiles_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "k.cu"
    source.write_text('#include "c.cuh"\nextern "C" __global__ void k(int* y) { y[0] = C; }\n')
    y = np.zeros(1, np.int32)
    for value in (1, 2, 1):
        (tmp_path / "c.cuh").write_text(f"#define C {value}\n")
        Kernel(source, "k")((1,), (1,), (y,))
        assert y[0] == value
    made = [p.name for p in (tmp_path / "cache" / "handgrad" / "cuda_on_cpu").iterdir()]
    assert len(made) == 2 and all(re.fullmatch(r"k-[0-9a-f]{20}\.so", name) for name in made)


def test_the_fallback_without_assembly_gives_the_same(monkeypatch):
    monkeypatch.setattr(compiler, "OPTIONS", (*compiler.OPTIONS, "-DON_CPU_UCONTEXT"))
    for _ in range(2):
        assert (
            integers("__shared__ int s[64]; s[i] = i; __syncthreads(); y[i] = s[63 - i];", 64) == 63 - np.arange(64)
        ).all()


def test_ctrl_c_ends_a_kernel_that_never_ends():
    code = (
        "import numpy as np, os, signal, threading, time\n"
        "from pathlib import Path\n"
        "from handgrad.kernels.cuda.on_cpu.kernel import Kernel\n"
        "k = Kernel(Path('k.cu'), 'k', 'extern \"C\" __global__ void k(volatile int* y) { while (y[0] == 0) {} }')\n"
        "k.types\n"
        "threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "try:\n    k((1,), (1,), (np.zeros(1, np.int32),))\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=os.environ, check=False
    )
    assert done.stdout == "interrupted\n", done.stderr


def test_schedules_are_those_of_the_emulator():
    text = (Path(compiler.HERE) / "state.hpp").read_text()
    named = re.search(r"enum Schedule : unsigned \{ ([\w, ]+) \}", text)
    assert named is not None
    words = named[1].replace("_", " ").split(", ")
    assert {name: number for number, name in enumerate(words[:-1])} == {
        n: k for n, k in SCHEDULES.items() if "random" not in n
    }
    assert sorted(k for n, k in SCHEDULES.items() if "random" in n) == [
        words.index("seeded"),
        words.index("seeded") + 1,
    ]
