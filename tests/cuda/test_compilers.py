"""Every `.cu` compiles for real GPUs: sm_80 and sm_90a, with nvcc where it is installed, with NVRTC where its packages are."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import handgrad

FOLDER = Path(handgrad.__path__[0], "kernels", "cuda")
SOURCES = sorted(FOLDER.glob("*.cu"))
every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed (it comes with the CUDA toolkit)")
@every_source
def test_nvcc(source, tmp_path):
    for architecture in ("sm_80", "sm_90a"):
        command = [
            "nvcc",
            "-std=c++17",
            f"-arch={architecture}",
            "-cubin",
            f"-I{FOLDER}",
            str(source),
            "-o",
            str(tmp_path / "k"),
        ]
        done = subprocess.run([*command, "-Werror", "all-warnings"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


NVRTC = """
import sys
from pathlib import Path
try:
    import nvidia
    from cuda.bindings import nvrtc
except ImportError:
    sys.exit(77)
source, folder = Path(sys.argv[1]), sys.argv[2]
headers = next(Path(next(iter(nvidia.__path__))).glob("cu*/include"))
for architecture in ("sm_80", "sm_90a"):
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
    command = [sys.executable, "-c", NVRTC, str(source), str(FOLDER)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    if done.returncode == 77:
        pytest.skip("NVRTC is not installed (pip install nvidia-cuda-nvrtc nvidia-cuda-runtime cuda-bindings)")
    assert done.returncode == 0, done.stderr
