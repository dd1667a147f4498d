"""Every `.cu` compiles for real GPUs: sm_80 and sm_90a, with nvcc where it is installed, with NVRTC where its packages are."""

import json
import os
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


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed (it comes with the CUDA toolkit)")
@every_source
def test_nvcc(source, tmp_path):
    for architecture in architectures(source.read_text()):
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
