"""Every `.cu` compiles for real GPUs, with nvcc where it is installed, with NVRTC where its packages are: for sm_80 and sm_90a,
or for sm_90a alone if it includes hopper.cuh. Nothing spills registers.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import handgrad
from handgrad.kernels.cuda.compiler import architectures
from handgrad.kernels.cuda.on_cpu.source import kernels

FOLDER = Path(handgrad.__path__[0], "kernels", "cuda")
SOURCES = sorted(FOLDER.glob("*.cu"))
every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


HOPPER = [path for path in SOURCES if architectures(path.read_text()) == ("sm_90a",)]
REFUSED = "this kernel is for sm_90a alone: compile it with -arch=sm_90a"
SERIAL = "Potential Performance Loss"
"""Words of ptxas where it cannot let wgmma run beside the threads."""


def installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


BY_NVRTC = installed("nvidia-cuda-nvrtc") and installed("cuda-bindings")
by_nvrtc = pytest.mark.skipif(not BY_NVRTC, reason="NVRTC is not installed (pip install -e '.[cuda-compile]')")
by_nvcc = pytest.mark.skipif(
    BY_NVRTC or shutil.which("nvcc") is None, reason="NVRTC does what nvcc would, or nvcc is not installed (CUDA toolkit)"
)


def nvcc(source: Path, architecture: str, target: Path) -> tuple[int, str]:
    """(exit code, what it says). Warnings are errors."""
    command = ["nvcc", "-std=c++17", f"-arch={architecture}", "-cubin", f"-I{FOLDER}", str(source), "-o", str(target)]
    options = ["-Xptxas", "-v", "-Werror", "all-warnings"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@by_nvcc
@every_source
def test_nvcc(source, tmp_path):
    for architecture in architectures(source.read_text()):
        code, said = nvcc(source, architecture, tmp_path / "k")
        assert code == 0, said
        assert "bytes spill stores" in said and not re.search(r"[1-9]\d* bytes spill", said), said
        assert SERIAL not in said, said


@by_nvcc
@pytest.mark.parametrize("source", HOPPER, ids=lambda path: path.stem)
def test_nvcc_makes_a_kernel_for_hopper_for_nothing_else(source, tmp_path):
    for architecture in ("sm_80", "sm_90"):
        code, said = nvcc(source, architecture, tmp_path / "k")
        assert code != 0 and REFUSED in said


NVRTC = """
import json, sys
from pathlib import Path
from handgrad.kernels.cuda import compiler
source, found = Path(sys.argv[1]), {}
for name in sys.argv[2:]:
    try:
        cubin, log = compiler.made(source, name)
        assert cubin.startswith(b"\\x7fELF")
        found[name] = log
    except compiler.CompileError as refused:
        found[name] = str(refused)
print(json.dumps(found))
"""
"""In a process of its own: a checkout in a folder called cuda would hide the package of that name from pytest."""


def nvrtc(source: Path, tmp_path: Path, *names: str) -> dict[str, str]:
    """What NVRTC says for each architecture."""
    command = [sys.executable, "-c", NVRTC, str(source), *names]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@by_nvrtc
@every_source
def test_nvrtc(source, tmp_path, report):
    """Without a warning; every number that a thread holds is in a register."""
    for architecture, log in nvrtc(source, tmp_path, *architectures(source.read_text())).items():
        assert "warning" not in log and SERIAL not in log, log
        usages = report.usages(log)
        assert set(usages) == set(kernels(source.read_text())), log
        for name, usage in usages.items():
            assert 0 < usage.registers <= 255
            assert usage.spill_stores == usage.spill_loads == 0, f"{name} for {architecture} spills: {usage}"


@by_nvrtc
@pytest.mark.parametrize("source", HOPPER, ids=lambda path: path.stem)
def test_nvrtc_makes_a_kernel_for_hopper_for_nothing_else(source, tmp_path):
    assert all(REFUSED in said for said in nvrtc(source, tmp_path, "sm_80", "sm_90").values())


@by_nvrtc
def test_what_nvrtc_makes_is_kept(tmp_path):
    """An ELF file, in the folder of cubins."""
    code = (
        "import sys; from pathlib import Path; from handgrad.kernels.cuda import compiler; "
        "print(compiler.compiled(Path(sys.argv[1]), 'sm_80'))"
    )
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, str(FOLDER / "relu_01_vector_loads.cu")]
    kept = Path(subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True, env=environ).stdout.strip())
    assert kept.parent == tmp_path / "handgrad" / "cuda" and kept.read_bytes().startswith(b"\x7fELF")
