"""Every `.cu` compiles for real GPUs, with nvcc where it is installed, with NVRTC where its packages are: for sm_80 and sm_90a,
or for sm_90a alone if it includes hopper.cuh. Nothing spills registers.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import handgrad

FOLDER = Path(handgrad.__path__[0], "kernels", "cuda")
SOURCES = sorted(FOLDER.glob("*.cu"))
every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


HOPPER = [path for path in SOURCES if '#include "hopper.cuh"' in path.read_text()]


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
    for architecture in ("sm_90a",) if source in HOPPER else ("sm_80", "sm_90a"):
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
import sys
from pathlib import Path
try:
    import nvidia
    from cuda.bindings import nvrtc
except ImportError:
    sys.exit(77)
source, folder, architectures = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
headers = next(Path(next(iter(nvidia.__path__))).glob("cu*/include"))
for architecture in architectures:
    options = [f"-arch={architecture}", "-std=c++17", f"-I{headers}", f"-I{folder}"]
    _, program = nvrtc.nvrtcCreateProgram(source.read_bytes(), source.name.encode(), 0, None, None)
    (code,) = nvrtc.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])
    log = b" " * nvrtc.nvrtcGetProgramLogSize(program)[1]
    nvrtc.nvrtcGetProgramLog(program, log)
    if code != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        sys.exit(log.decode())
"""
"""In a process of its own: a checkout in a folder called cuda would hide the package of that name from pytest."""


@every_source
def test_nvrtc(source, tmp_path):
    architectures = ("sm_90a",) if source in HOPPER else ("sm_80", "sm_90a")
    command = [sys.executable, "-c", NVRTC, str(source), str(FOLDER), *architectures]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    if done.returncode == 77:
        pytest.skip("NVRTC is not installed (pip install nvidia-cuda-nvrtc nvidia-cuda-runtime cuda-bindings)")
    assert done.returncode == 0, done.stderr
