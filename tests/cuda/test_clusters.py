"""What the emulator knows of named barriers, clusters of blocks and ldmatrix, and what it reports about mistakes."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from handgrad.kernels.cuda.on_cpu import compiler
from handgrad.kernels.cuda.on_cpu.kernel import Kernel, KernelError
from handgrad.kernels.cuda.on_cpu.tensor_map import TensorMap

KIT = runpy.run_path(str(Path(__file__).with_name("hopper_kit.py")))
launch, integers, box, NUMBERS, HERE = (KIT[name] for name in ("launch", "integers", "box", "NUMBERS", "HERE"))


@pytest.fixture(autouse=True)
def compile_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here runs long."""
    monkeypatch.setattr(compiler, "OPTIONS", (*compiler.OPTIONS, "-O0"))


# ---- named barriers


def test_a_named_barrier_holds_some_warps():
    body = """__shared__ int s[128];
    s[i] = i;
    named_barrier_sync(1 + i / 64, 64);
    y[i] = s[i / 64 * 64 + 63 - i % 64];"""
    assert (integers(body, 128).reshape(2, 64) == [[*range(63, -1, -1)], [*range(127, 63, -1)]]).all()


def test_some_warps_arrive_at_a_named_barrier_and_others_wait_there():
    body = """__shared__ int s[32];
    for (int t = 0; t < 3; t++)
      if (i < 32) { s[i] = 100 * t + i; named_barrier_arrive(1, 64); named_barrier_sync(2, 64); }
      else { named_barrier_sync(1, 64); y[i] = s[63 - i]; named_barrier_arrive(2, 64); }
    if (i < 32) y[i] = i;"""
    assert (integers(body, 64) == [*range(32), *range(231, 199, -1)]).all()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("if (i < 32) named_barrier_arrive(1, 64);", r"nobody has waited for 32 threads that arrived at named barrier 1 of 64"),
        ("if (i < 32) named_barrier_sync(1, 64);", r"in line 3 for a named barrier that 32 of 64 threads have reached"),
        ("named_barrier_sync(1, i < 32 ? 64 : 32);", r"barrier 1 is for \d+ threads here, and for \d+ where others wait"),
        ("named_barrier_sync(0, 64);", r"bar.sync in line 3: barrier 0 of 64 threads; there are 1 to 15"),
        ("named_barrier_sync(1, 40);", r"barrier 1 of 40 threads; .* for whole warps of a block of 64"),
        ("__shared__ int s[64]; s[i] = i; named_barrier_sync(1 + i / 32, 32); y[i] = s[63 - i];", r"a race"),
    ],
)
def test_a_wrong_named_barrier_is_reported(body, sentence):
    with pytest.raises(KernelError, match=sentence):
        integers(body, 64)


# ---- clusters


def test_blocks_of_a_cluster_read_each_others_memory():
    body = """int* mine = (int*)memory; int block = blockIdx.x;
    mine[i] = 100 * block + i;
    cluster_sync();
    y[block * 32 + i] = cluster_map(mine, cluster_rank() ^ 1)[31 - i];
    cluster_sync();"""
    y = integers(body, 128, (4,), cluster=2)
    assert (y.reshape(4, 32) == 100 * np.array([1, 0, 3, 2])[:, None] + np.arange(31, -1, -1)).all()


MULTICAST = """Mbarrier* there = (Mbarrier*)(memory + 8192); unsigned short* tile = (unsigned short*)memory;
if (i == 0) { mbarrier_init(there, 1); mbarrier_init_fence(); }
cluster_sync();
if (i == 0) mbarrier_arrive_expecting(there, 8192);
if (i == 0 && cluster_rank() == 1) tma_load_2d_to(3, tile, map, 16, 36, there);
mbarrier_wait(there, 0);
for (int j = i; j < 64 * 64; j += 64) y[blockIdx.x * 4096 + j] = tile[j];
cluster_sync();"""


def multicast(body: str = MULTICAST) -> np.ndarray:
    y = np.zeros((2, 64, 64), np.uint16)
    args = (y, TensorMap(NUMBERS, (64, 64), False))
    launch(body, "unsigned short* y, const __grid_constant__ TensorMap map", (2,), (64,), args, cluster=2)
    return y


def test_one_load_for_both_blocks():
    assert (multicast() == box(NUMBERS, (16, 36))).all()


def test_an_arrival_at_the_other_block():
    body = """Mbarrier* b = (Mbarrier*)memory; int* s = (int*)(memory + 64);
    if (i == 0) { mbarrier_init(b, 32); mbarrier_init_fence(); }
    cluster_sync();
    *cluster_map(s + i, cluster_rank() ^ 1) = 10 * cluster_rank() + i;
    mbarrier_arrive_at(b, cluster_rank() ^ 1);
    mbarrier_wait_cluster(b, 0);
    y[32 * blockIdx.x + i] = s[31 - i];
    cluster_sync();"""
    y = integers(body, 64, (2,), cluster=2).reshape(2, 32)
    assert (y == np.array([[10], [0]]) + np.arange(31, -1, -1)).all()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("cluster_sync();\nif (i == 0) mb", "__syncthreads();\nif (i == 0) mb", r"that nobody has initialised"),
        ("tma_load_2d_to(3,", "tma_load_2d_to(1,", r"deadlock: .* lacks 0 of 1 arrivals and 8192 bytes"),
        ("tma_load_2d_to(3,", "tma_load_2d_to(4,", r"is for the blocks 0x4 of a cluster of 2"),
        ("mbarrier_wait(there, 0);", "if (!cluster_rank()) return;", r"into block 0 of the cluster, which has ended"),
        ("&& cluster_rank() == 1", "", r"a race|is still under way"),
        ("for (int j", "__shared__ int s[64]; s[i] = i; y[0] = s[i ^ 1]; for (int j", r"a kernel with clusters keeps all"),
    ],
)  # fmt: skip
def test_a_wrong_multicast_is_reported(old, new, sentence):
    assert old in MULTICAST
    with pytest.raises(KernelError, match=sentence):
        multicast(MULTICAST.replace(old, new))


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("s[i] = i; y[blockIdx.x * 32 + i] = cluster_map(s, cluster_rank() ^ 1)[i];", r"a race"),
        ("s[i] = i; cluster_sync(); y[blockIdx.x * 32 + i] = cluster_map(s, cluster_rank() ^ 1)[i];", r"a race"),
        ("if (i < 31) cluster_sync(); else mbarrier_wait((Mbarrier*)memory, 0);", r"that nobody has initialised yet"),
        ("cluster_map(memory, 2);", r"block 2 of the cluster is asked for in line 3, but there are 2"),
    ],
)  # fmt: skip
def test_a_wrong_cluster_is_reported(body, sentence):
    with pytest.raises(KernelError, match=sentence):
        integers(f"int* s = (int*)memory; {body}", 64, (2,), cluster=2)


def test_a_grid_is_cut_into_whole_clusters():
    with pytest.raises(KernelError, match=r"a grid of \(3,1,1\) blocks cannot be cut into clusters of \(2,1,1\)"):
        integers("y[0] = 0;", 96, (3,), cluster=2)


# ---- ldmatrix (sm_75 and later)


@pytest.mark.parametrize("transposed", [False, True])
def test_ldmatrix_gives_what_mma_wants(transposed):
    x, y = np.arange(256, dtype=np.uint16).reshape(4, 8, 8), np.zeros((32, 4, 2), np.uint16)
    name = "ldmatrix_x4_transposed" if transposed else "ldmatrix_x4"
    text = (
        '#include "ptx.cuh"\nextern "C" __global__ void k(unsigned short* y, const unsigned short* x) {\n'
        "__shared__ __align__(16) unsigned short s[256]; unsigned r[4]; int i = threadIdx.x;\n"
        f"for (int j = i; j < 256; j += 32) s[j] = x[j];\n__syncwarp();\n{name}(r, s + 8 * i);\n"
        "for (int j = 0; j < 8; j++) y[8 * i + j] = r[j / 2] >> 16 * (j % 2); }"
    )
    Kernel(HERE / "k.cu", "k", text)((1,), (32,), (y, x))
    matrices = x.swapaxes(1, 2) if transposed else x
    for lane in range(32):
        assert (y[lane] == matrices[:, lane // 4, lane % 4 * 2 : lane % 4 * 2 + 2]).all()
