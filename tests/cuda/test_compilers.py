"""Every `.cu` compiles for real GPUs, with nvcc where it is installed, with NVRTC where its packages are: for sm_80 and sm_90a,
or for sm_90a alone if it includes hopper.cuh. Nothing spills registers.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import handgrad
from handgrad.kernels.cuda.compiler import architectures
from handgrad.kernels.cuda.on_cpu.source import kernels

FOLDER = Path(handgrad.__path__[0], "kernels", "cuda")
SOURCES = sorted(FOLDER.glob("*.cu"))
every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


HOPPER = [path for path in SOURCES if architectures(path.read_text()) == ("sm_90a",)]


def nvcc(source: Path, architecture: str, target: Path) -> tuple[int, str]:
    """(exit code, what it says). Warnings are errors."""
    command = ["nvcc", "-std=c++17", f"-arch={architecture}", "-cubin", f"-I{FOLDER}", str(source), "-o", str(target)]
    options = ["-Xptxas", "-v", "-Werror", "all-warnings"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


needs_nvcc = pytest.mark.skipif(
    shutil.which("nvcc") is None, reason="nvcc is not installed (it comes with the CUDA toolkit)"
)


@needs_nvcc
@every_source
def test_nvcc(source, tmp_path):
    for architecture in architectures(source.read_text()):
        code, said = nvcc(source, architecture, tmp_path / "k")
        assert code == 0, said
        assert "bytes spill stores" in said and not re.search(r"[1-9]\d* bytes spill", said), said
        assert "Potential Performance Loss" not in said, said  # ptxas, where it cannot let wgmma run beside the threads


@needs_nvcc
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("source", HOPPER, ids=lambda path: path.stem)
def test_a_kernel_for_hopper_says_so_elsewhere(source, architecture, tmp_path):
    code, said = nvcc(source, architecture, tmp_path / "k")
    assert code != 0 and "this kernel is for sm_90a alone: compile it with -arch=sm_90a" in said


NVRTC = """
import json, sys
from pathlib import Path
from handgrad.kernels.cuda import compiler
try:
    compiler.nvrtc()
except OSError:
    sys.exit(77)
source = Path(sys.argv[1])
logs = {name: compiler.made(source, name)[1] for name in compiler.architectures(source.read_text())}
print(json.dumps({"kept": str(compiler.compiled(source, "sm_90a")), "logs": logs}))
"""
"""In a process of its own: a checkout in a folder called cuda would hide the package of that name from pytest."""


@every_source
def test_nvrtc(source, tmp_path, report):
    """Without a warning; what is kept is an ELF file; and the rung that production uses keeps all its numbers in registers."""
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", NVRTC, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, env=environ)
    if done.returncode == 77:
        pytest.skip("NVRTC is not installed (pip install -e '.[cuda-compile]')")
    assert done.returncode == 0, done.stderr
    found, last = json.loads(done.stdout), [paths[-1] for paths in report.rungs().values()]
    assert Path(found["kept"]).read_bytes().startswith(b"\x7fELF")
    for architecture, log in found["logs"].items():
        assert "warning" not in log, log
        usages = report.usages(log)
        assert set(usages) == set(kernels(source.read_text())), log
        for name, usage in usages.items():
            assert 0 < usage.registers <= 255
            if source in last:
                assert usage.spill_stores == usage.spill_loads == 0, f"{name} for {architecture} spills: {usage}"
