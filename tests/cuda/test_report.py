"""benches/cuda_report.py: what ptxas says is read, occupancy is NVIDIA's, and launchers are asked for their blocks."""

import subprocess
import sys
from pathlib import Path

import pytest

from handgrad.kernels.cuda.ladders import LADDERS

LOG = """ptxas info    : 56 bytes gmem, 112 bytes cmem[4]
ptxas info    : Compiling entry function 'forward' for 'sm_80'
ptxas info    : Function properties for forward
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 92 registers, used 1 barriers, 16 bytes cumulative stack size, 64 bytes smem, 388 bytes cmem[0]
ptxas info    : Compiling entry function 'vjp' for 'sm_80'
ptxas info    : Function properties for vjp
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 55 registers, 388 bytes cmem[0]
ptxas info    : Compile time = 137.481 ms
"""


def test_the_words_of_ptxas_are_read(report):
    assert report.usages(LOG) == {"forward": report.Usage(92, 64, 16, 8, 12), "vjp": report.Usage(55, 0, 0, 0, 0)}
    assert report.usages("") == {}


@pytest.mark.parametrize(
    ("registers", "shared", "threads", "dynamic", "a100", "h100"),
    [
        (32, 0, 256, 0, 8, 8),  # 8 x 8 warps: all 64
        (33, 0, 256, 0, 6, 6),  # 5 units of 256 a warp: 12 warps in each quarter, 48 in all
        (16, 0, 32, 0, 32, 32),  # no more than 32 blocks
        (16, 16384, 128, 0, 9, 13),  # 17 KB a block of 164 or 228
        (16, 0, 128, 163 * 1024, 1, 1),
        (16, 0, 128, 164 * 1024, 0, 1),
        (65, 0, 1024, 0, 0, 0),  # 72 registers x 1024 threads are more than there are
        (64, 0, 1024, 0, 1, 1),
    ],
)
def test_occupancy_by_hand(report, registers, shared, threads, dynamic, a100, h100):
    usage = report.Usage(registers, shared, 0, 0, 0)
    assert [report.blocks_at_once(gpu, usage, threads, dynamic) for gpu in report.GPUS.values()] == [a100, h100]


NVIDIAS = """
#include "cuda_occupancy.h"
#include <cstdio>
int main() {
  int major, registers, threads, fixed, dynamic;
  while (scanf("%d %d %d %d %d", &major, &registers, &threads, &fixed, &dynamic) == 5) {
    cudaOccDeviceProp gpu{};
    gpu.computeMajor = major, gpu.maxThreadsPerBlock = 1024, gpu.maxThreadsPerMultiprocessor = 2048, gpu.warpSize = 32;
    gpu.regsPerBlock = gpu.regsPerMultiprocessor = 65536, gpu.numSms = 100, gpu.sharedMemPerBlock = 49152;
    gpu.sharedMemPerMultiprocessor = (major == 8 ? 164 : 228) * 1024;
    gpu.sharedMemPerBlockOptin = gpu.sharedMemPerMultiprocessor - 1024, gpu.reservedSharedMemPerBlock = 1024;
    cudaOccFuncAttributes kernel;
    kernel.maxThreadsPerBlock = 1024, kernel.numRegs = registers, kernel.numBlockBarriers = 1;
    kernel.partitionedGCConfig = PARTITIONED_GC_OFF, kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    kernel.sharedSizeBytes = fixed, kernel.maxDynamicSharedSizeBytes = gpu.sharedMemPerBlockOptin - fixed;
    cudaOccDeviceState state;
    state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
    cudaOccResult result;
    if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &gpu, &kernel, &state, threads, dynamic)) return 1;
    printf("%d\\n", result.activeBlocksPerMultiprocessor);
  }
}
"""


def header() -> Path | None:
    """The folder of NVIDIA's own calculator, which needs neither its compiler nor a GPU."""
    return next((p.parent for base in sys.path for p in Path(base).glob("nvidia/cu*/include/cuda_occupancy.h")), None)


@pytest.mark.skipif(header() is None, reason="the headers of CUDA are not installed (pip install -e '.[cuda-compile]')")
def test_occupancy_is_nvidias(report, tmp_path):
    cases = [
        (major, registers, threads, fixed, dynamic)
        for major in (8, 9) for registers in range(1, 256, 7) for threads in range(32, 1025, 48)
        for fixed in (0, 1000, 40000) for dynamic in (0, 17000, 60000, 120000, 200000)
    ]  # fmt: skip
    (tmp_path / "occupancy.cpp").write_text(NVIDIAS)
    command = ["g++", "-w", "-O1", f"-I{header()}", str(tmp_path / "occupancy.cpp"), "-o", str(tmp_path / "occupancy")]
    subprocess.run(command, check=True)
    given = "\n".join(" ".join(map(str, case)) for case in cases)
    said = subprocess.run([tmp_path / "occupancy"], input=given, capture_output=True, text=True, check=True).stdout
    gpus = {8: report.GPUS["sm_80"], 9: report.GPUS["sm_90a"]}
    for (major, registers, threads, fixed, dynamic), want in zip(cases, map(int, said.split()), strict=True):
        usage = report.Usage(registers, fixed, 0, 0, 0)
        got = report.blocks_at_once(gpus[major], usage, threads, dynamic)
        assert got == want, f"{usage}, {threads} threads, {dynamic} bytes: {got}, but NVIDIA's calculator says {want}"


def test_ladders_end_with_the_rung_that_production_uses(report):
    found = report.rungs()
    for operation, names in LADDERS.items():
        assert [path.stem for path in found[operation]] == [f"{operation}_{name}" for name in names]


def test_launchers_say_their_blocks(report, monkeypatch):
    """Also one that has a kernel for each type, with other dynamic shared memory."""
    assert report.launches("silu") == {"silu_forward_01_elementwise": ((256,), 0), "silu_vjp_01_elementwise": ((256,), 0)}
    monkeypatch.setattr(report.cases, "CASES", [report.cases.Case("matmul", "small", ((40, 50), (50, 60)))])
    found = report.launches("matmul")
    assert found["matmul_forward_03_shared_tile"] == ((32, 32), 0)
    assert found["matmul_forward_08_mma_bfloat16"] == ((128,), 19456)
    assert found["matmul_forward_08_mma_float32"] == ((128,), 18944)
