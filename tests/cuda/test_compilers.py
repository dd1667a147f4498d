"""Every `.cu` compiles for real GPUs: sm_80 and sm_90a, with nvcc where it is installed, with NVRTC where its packages are."""

import shutil
import subprocess
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

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


def nvrtc() -> ModuleType:
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        pytest.skip("NVRTC is not installed (pip install nvidia-cuda-nvrtc nvidia-cuda-runtime cuda-bindings)")
    return import_module("cuda.bindings.nvrtc")


@every_source
def test_nvrtc(source):
    library = nvrtc()
    spec = find_spec("nvidia")
    assert spec is not None and spec.submodule_search_locations is not None
    headers = next(Path(next(iter(spec.submodule_search_locations))).glob("cu*/include"))
    for architecture in ("sm_80", "sm_90a"):
        options = [f"-arch={architecture}", "-std=c++17", f"-I{headers}", f"-I{FOLDER}"]
        _, program = library.nvrtcCreateProgram(source.read_bytes(), source.name.encode(), 0, None, None)
        (code,) = library.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])
        log = b" " * library.nvrtcGetProgramLogSize(program)[1]
        library.nvrtcGetProgramLog(program, log)
        assert code == library.nvrtcResult.NVRTC_SUCCESS, log.decode()
