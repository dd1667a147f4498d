"""What compiler.py keeps, and when it compiles anew, with a stand-in for NVRTC: none of this needs the package."""

import importlib
import os
import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from handgrad.kernels.cuda import compiler
from handgrad.kernels.cuda.on_cpu.compiler import CompileError

SOURCE = '#include "c.cuh"\nextern "C" __global__ void k(float* y) { y[0] = C; }\n'


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """made.programs: what was compiled; made.log: what the next one fails with, where it is not empty."""
    found = SimpleNamespace(programs=[], log="", folder=tmp_path / "cache" / "handgrad" / "cuda")

    def program(text: str, name: str, options: tuple[str, ...], wanted: str) -> tuple[bytes | None, str]:
        if found.log:
            return None, found.log
        found.programs.append((name, options, wanted))
        return f"{wanted} {len(found.programs)}".encode(), "log"

    stand_in = compiler.Nvrtc((13, 0), compiler._named([75, 80, 86, 90, 120]), program)
    monkeypatch.setattr(compiler, "nvrtc", lambda: stand_in)
    monkeypatch.setattr(compiler, "build", lambda: "13.0, V13.0.88")
    monkeypatch.setattr(compiler, "headers", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "k.cu").write_text(SOURCE)
    (tmp_path / "c.cuh").write_text("#define C 1\n")
    return found


def test_options_are_said_aloud(made, tmp_path):
    compiler.compiled(tmp_path / "k.cu", "sm_90a")
    ((name, options, wanted),) = made.programs
    assert (name, wanted) == ("k.cu", "CUBIN")
    assert options[0] == "-arch=sm_90a" and {"-ftz=false", "-fmad=true", "-prec-div=true"} < set(options)
    assert not any("fast" in option for option in options) and f"-I{tmp_path}" in options


def test_what_changes_a_cubin_makes_a_new_one(made, tmp_path, monkeypatch):
    source = tmp_path / "k.cu"
    first = compiler.compiled(source, "sm_80")
    assert re.fullmatch(r"k-sm_80-[0-9a-f]{20}\.cubin", first.name) and first.parent == made.folder
    assert compiler.compiled(source, "sm_80") == first and len(made.programs) == 1
    others = {compiler.compiled(source, "sm_90a"), compiler.compiled(source, "sm_80", text=SOURCE + "\n")}
    (tmp_path / "c.cuh").write_text('#include "d.cuh"\n#define C D\n')
    others.add(compiler.compiled(source, "sm_80"))
    (tmp_path / "d.cuh").write_text("#define D 2\n")
    others.add(compiler.compiled(source, "sm_80"))
    (tmp_path / "d.cuh").write_text("#define D 3\n")
    others.add(compiler.compiled(source, "sm_80"))
    monkeypatch.setattr(compiler, "OPTIONS", (*compiler.OPTIONS, "-lineinfo"))
    others.add(compiler.compiled(source, "sm_80"))
    monkeypatch.setattr(compiler, "build", lambda: "13.0, V13.0.89")
    others.add(compiler.compiled(source, "sm_80"))
    assert len(others - {first}) == 7
    (tmp_path / "unrelated.cuh").write_text("")
    count = len(made.programs)
    compiler.compiled(source, "sm_80")
    assert len(made.programs) == count


def test_headers_of_cuda_count_too(made, tmp_path, monkeypatch):
    cuda = tmp_path / "include"
    cuda.mkdir()
    (cuda / "cuda_fp16.h").write_text("#include <deeper.h>")
    (cuda / "deeper.h").write_text("#include <cuda_fp16.h>\n# include  <nowhere.h>")
    monkeypatch.setattr(compiler, "headers", lambda: cuda)
    found = compiler.included("#include <cuda_fp16.h>\n", [tmp_path, cuda])
    assert sorted(path.name for path in found) == ["cuda_fp16.h", "deeper.h"]


def test_a_failed_write_leaves_nothing_behind(made, tmp_path, monkeypatch):
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        compiler.compiled(tmp_path / "k.cu", "sm_80")
    assert list(made.folder.iterdir()) == []


def test_nobody_sees_a_half_written_file(made, tmp_path):
    """While eight threads compile the same, whatever bears the final name is whole."""
    seen = []

    def look() -> None:
        path = compiler.compiled(tmp_path / "k.cu", "sm_80")
        seen.append(path.read_bytes())

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8 and all(re.fullmatch(rb"CUBIN \d", content) for content in seen)
    assert len(list(made.folder.iterdir())) == 1


@pytest.mark.parametrize(
    ("log", "kind", "sentence"),
    [
        ('k.cu(3): error: identifier "x" is undefined\n  x', CompileError, 'k.cu does not compile: line 3: identifier "x" is'),
        ("/a/c.cuh(2): error #20: no", CompileError, "k.cu does not compile: c.cuh line 2: no"),
        ("ptxas fatal: nothing", CompileError, "k.cu does not compile: ptxas fatal: nothing"),
        (
            'k.cu(1): catastrophic error: cannot open source file "cuda_fp16.h" (no', OSError,
            "k.cu includes cuda_fp16.h, but no headers of CUDA are there: pip install",
        ),
    ],
)  # fmt: skip
def test_a_compile_error_is_one_sentence(made, tmp_path, log, kind, sentence):
    made.log = log
    with pytest.raises(kind, match=re.escape(sentence)) as caught:
        compiler.compiled(tmp_path / "k.cu", "sm_80")
    assert "\n" not in str(caught.value) and not any(made.folder.iterdir())


def test_an_architecture_that_nvrtc_does_not_know(made, tmp_path):
    for name in ("sm_75", "sm_100"):
        with pytest.raises(OSError, match=f"^NVRTC 13.0 cannot compile for {name}, only for sm_80, sm_86, sm_90, sm_90a, "):
            compiler.compiled(tmp_path / "k.cu", name)


def test_what_is_meant_for_which_gpu():
    assert compiler.architectures('// "hopper.cuh"\n#include "ptx.cuh"\n') == ("sm_80", "sm_90a")
    assert compiler.architectures('#include <cuda_bf16.h>\n\n#include "hopper.cuh"\n') == ("sm_90a",)


# ---- where NVRTC comes from


def test_without_nvrtc_the_sentence_says_what_to_install(monkeypatch):
    def missing(name: str) -> Any:
        raise RuntimeError("libnvrtc.so.13: cannot open shared object file") if "bindings" in name else ImportError(name)

    monkeypatch.setattr(compiler, "import_module", missing)
    with pytest.raises(OSError, match=r"^compiling CUDA kernels needs NVRTC: pip install 'handgrad\[cuda-compile\]'"):
        compiler.nvrtc.__wrapped__()


def test_cupys_nvrtc_where_there_is_no_other(monkeypatch):
    class NVRTCError(RuntimeError):
        pass

    def compile_program(program: list[Any], options: tuple[str, ...]) -> None:
        program.append(options)
        if "wrong" in program[0]:
            raise NVRTCError("NVRTC_ERROR_COMPILATION (6)")
        if "bug" in program[0]:
            raise NVRTCError("NVRTC_ERROR_INTERNAL_ERROR (11)")

    nvrtc = SimpleNamespace(
        NVRTCError=NVRTCError, getVersion=lambda: (12, 9), getSupportedArchs=lambda: [75, 80, 90],
        createProgram=lambda text, name, headers, names: [text, name], compileProgram=compile_program,
        getCUBIN=lambda program: b"cubin", getPTX=lambda program: "ptx", getProgramLog=lambda program: "words\n",
        destroyProgram=lambda program: None,
    )  # fmt: skip
    real = importlib.import_module

    def found(name: str) -> Any:
        if name == "cuda.bindings.nvrtc":
            raise ImportError(name)
        return SimpleNamespace(nvrtc=nvrtc) if name == "cupy.cuda" else real(name)

    monkeypatch.setattr(compiler, "import_module", found)
    bound = compiler.nvrtc.__wrapped__()
    assert bound.version == (12, 9) and bound.architectures == {"sm_80", "sm_90", "sm_90a"}
    assert bound.program("right", "k.cu", ("-a",), "CUBIN") == (b"cubin", "words")
    assert bound.program("right", "k.cu", ("-a",), "PTX") == (b"ptx", "words")
    assert bound.program("wrong", "k.cu", ("-a",), "CUBIN") == (None, "words")
    with pytest.raises(NVRTCError):
        bound.program("bug", "k.cu", ("-a",), "CUBIN")


def test_headers_lie_beside_the_packages_or_in_a_toolkit(monkeypatch, tmp_path):
    def folder(*parts: str) -> Path:
        place = tmp_path.joinpath(*parts)
        place.mkdir(parents=True)
        (place / "cuda_fp16.h").write_text("")
        return place

    toolkit, packaged = folder("toolkit", "include"), folder("nvidia", "cu13", "include")
    monkeypatch.setattr(compiler, "nvrtc", lambda: compiler.Nvrtc((13, 0), frozenset(), None))
    monkeypatch.setenv("CUDA_HOME", str(toolkit.parent))
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path / "nvidia")])
    monkeypatch.setattr(compiler, "find_spec", lambda name: spec if name == "nvidia" else None)
    assert compiler.headers.__wrapped__() == packaged
    monkeypatch.setattr(compiler, "find_spec", lambda name: None)
    assert compiler.headers.__wrapped__() == toolkit
