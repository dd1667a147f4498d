"""The emulator: what CUDA C++ means by its words, and what is reported about wrong kernels."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from handgrad.kernels.cuda.on_cpu.kernel import Kernel, KernelError, running

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


# ---- what the words mean


def test_indices_of_threads_and_blocks():
    y = np.zeros((2, 3, 4, 5), np.int32)
    body = (
        "int t = threadIdx.x + 5 * threadIdx.y, b = blockIdx.x + gridDim.x * blockIdx.y; y[b * 20 + t] = b * 100 + t;"
        "if (blockDim.x != 5 || blockDim.y != 4 || blockDim.z != 1 || gridDim.z != 1 || warpSize != 32) y[0] = -1;"
    )
    launch(body, "int* y", (3, 2), (5, 4), (y,))
    want = np.arange(6)[:, None] * 100 + np.arange(20)
    assert (y.reshape(6, 20) == want).all()


@pytest.mark.parametrize(
    ("call", "want"),
    [
        ("__shfl_sync(~0u, i, 3)", lambda i: np.full(32, 3)),
        ("__shfl_sync(~0u, i, i + 1)", lambda i: (i + 1) % 32),
        ("__shfl_sync(~0u, i, 2, 8)", lambda i: i // 8 * 8 + 2),
        ("__shfl_up_sync(~0u, i, 2)", lambda i: np.where(i >= 2, i - 2, i)),
        ("__shfl_up_sync(~0u, i, 2, 8)", lambda i: np.where(i % 8 >= 2, i - 2, i)),
        ("__shfl_down_sync(~0u, i, 3)", lambda i: np.where(i + 3 < 32, i + 3, i)),
        ("__shfl_down_sync(~0u, i, 3, 4)", lambda i: np.where(i % 4 + 3 < 4, i + 3, i)),
        ("__shfl_xor_sync(~0u, i, 5)", lambda i: i ^ 5),
        ("__shfl_xor_sync(~0u, i, 9, 8)", lambda i: np.where((i ^ 9) < i // 8 * 8 + 8, i ^ 9, i)),
        ("(int)__ballot_sync(~0u, i % 3 == 0)", lambda i: np.full(32, 0x49249249)),
        ("__any_sync(~0u, i == 7)", lambda i: np.full(32, 1)),
        ("__all_sync(~0u, i != 7)", lambda i: np.full(32, 0)),
        ("__popc(i) + 100 * __ffs(i) + 10000 * __clz(i)", lambda i: [
            v.bit_count() + 100 * (v & -v).bit_length() + 10000 * (32 - v.bit_length()) for v in i.tolist()
        ]),
        ("min(i, 7) + max(i, 9)", lambda i: np.minimum(i, 7) + np.maximum(i, 9)),
    ],
)  # fmt: skip
def test_operations_of_a_warp(call, want):
    assert (integers(f"y[i] = {call};") == want(np.arange(32))).all()


def test_half_a_warp_by_itself_and_then_all_of_it():
    body = """int v = i;
    if (i < 16) for (int k = 0; k < 3; k++) v = __shfl_xor_sync(0x0000ffffu, v, 1);
    else v = __shfl_xor_sync(0xffff0000u, v, 2);
    y[i] = __shfl_xor_sync(~0u, v, 16);"""
    i = np.arange(32)
    assert (integers(body) == np.where(i < 16, i ^ 1, i ^ 2)[i ^ 16]).all()


def test_a_shuffle_from_a_lane_that_did_not_come_is_poisoned():
    y = integers("if (i < 8) y[i] = __shfl_sync(0xffu, i, i + 4);")
    assert (y[:4] == [4, 5, 6, 7]).all() and (y[4:] == -1).all()


def test_lanes_that_have_ended_are_not_waited_for():
    assert (integers("if (i >= 20) return; y[i] = __popc(__ballot_sync(~0u, 1));")[:20] == 20).all()


def test_barriers_count_the_votes():
    body = "y[i] = __syncthreads_count(i % 2) + 1000 * __syncthreads_and(i < 100) + 10000 * __syncthreads_or(i == 3);"
    assert (integers(body, 96) == 48 + 1000 + 10000).all()


@pytest.mark.parametrize(
    ("call", "start", "want"),
    [
        ("atomicAdd(y, i)", 0, 64 * 63 // 2), ("atomicMax(y, i)", 0, 63), ("atomicMin(y, i)", 99, 0),
        ("atomicSub(y, 1)", 64, 0), ("atomicOr(y, i)", 0, 63), ("atomicAnd(y, ~i)", 63, 0), ("atomicXor(y, 1)", 5, 5),
        ("atomicExch(y, 7)", 0, 7), ("atomicCAS(y, 3, 9)", 3, 9),
    ],
)  # fmt: skip
def test_atomics(call, start, want):
    y = np.array([start], np.int32)
    launch(f"int i = threadIdx.x; {call};", "int* y", (1,), (64,), (y,))
    assert y[0] == want


def test_atomics_on_other_types():
    f, u = np.zeros(1, np.float32), np.zeros(1, np.uint32)
    launch("atomicAdd(f, 1); atomicMax(u, threadIdx.x);", "float* f, unsigned* u", (2,), (64,), (f, u))
    assert f[0] == 128 and u[0] == 63


def test_vector_loads_and_stores():
    x, y = np.arange(8, dtype=np.float32), np.empty(8, np.float32)
    body = "float4 v = __ldg(reinterpret_cast<const float4*>(x) + threadIdx.x);"
    body += "reinterpret_cast<float4*>(y)[threadIdx.x] = make_float4(v.w, v.z, v.y, v.x);"
    launch(body, "const float* __restrict__ x, float* __restrict__ y", (1,), (2,), (x, y))
    assert (y == [3, 2, 1, 0, 7, 6, 5, 4]).all()


def test_dynamic_shared_memory_begins_with_nan():
    y = np.zeros(64, np.float32)
    body = "extern __shared__ __align__(16) float row[]; y[threadIdx.x] = row[threadIdx.x]; __syncthreads();"
    launch(body, "float* y", (1,), (64,), (y,), shared_mem=256)
    assert np.isnan(y).all()


def test_static_shared_memory_begins_with_nan_in_every_block():
    y = np.zeros(6, np.float32)
    body = "__shared__ float a, b; y[2 * blockIdx.x] = a; y[2 * blockIdx.x + 1] = b; a = b = 1.0f;"
    launch(body, "float* y", (3,), (1,), (y,))
    assert np.isnan(y).all()


@pytest.mark.parametrize(
    ("name", "dtype", "to", "back"),
    [
        ("__nv_bfloat16", ml_dtypes.bfloat16, "__float2bfloat16", "__bfloat162float"),
        ("__half", np.float16, "__float2half", "__half2float"),
    ],
)
def test_sixteen_bit_types_round_as_numpy_does(name, dtype, to, back):
    rng = np.random.default_rng(0)
    x = np.concatenate([
        rng.integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32), rng.standard_normal(2000).astype(np.float32),
        np.arange(-70000, 70000, 13, dtype=np.float32),
        np.float32([0, -0.0, np.inf, -np.inf, np.nan, 65519.9, 65520, 6e-8, 2e-8]),
        (np.arange(65536, dtype=np.uint32) << 16).view(np.float32),
        np.arange(65536, dtype=np.uint16).view(np.float16).astype("f"),
    ])  # fmt: skip
    with np.errstate(all="ignore"):
        want = x.astype(dtype)
    y, z = np.zeros(x.size, dtype), np.zeros_like(x)
    body = f"int i = blockIdx.x * 256 + threadIdx.x; if (i < n) {{ y[i] = {to}(x[i]); z[i] = {back}(y[i]); }}"
    args = (y, z, x, np.int32(x.size))
    launch(body, f"{name}* y, float* z, const float* x, int n", (-(-x.size // 256),), (256,), args)
    nan = np.isnan(x)
    assert (y.view(np.uint16)[~nan] == want.view(np.uint16)[~nan]).all() and np.isnan(y.astype("f")[nan]).all()
    assert np.array_equal(z, y.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize(("kind", "depth"), [("bf16", 16), ("f16", 16), ("tf32", 8)])
def test_mma_multiplies_tiles(kind, depth):
    rng = np.random.default_rng(1)
    dtype = {"bf16": ml_dtypes.bfloat16, "f16": np.float16, "tf32": np.float32}[kind]
    a, b = rng.standard_normal((16, depth)).astype(dtype), rng.standard_normal((8, depth)).astype(dtype)  # b transposed
    c = rng.standard_normal((16, 8)).astype(np.float32)
    d = c.copy()
    if kind == "tf32":
        fragments = """for (int i = 0; i < 4; i++) ra[i] = to_tf32(a[(g + 8 * (i % 2)) * 8 + m + 4 * (i / 2)]);
        for (int i = 0; i < 2; i++) rb[i] = to_tf32(b[g * 8 + m + 4 * i]);"""
        name, element = "mma_m16n8k8_tf32", "float"
    else:
        fragments = """for (int i = 0; i < 4; i++) ra[i] = *(const unsigned*)&a[(g + 8 * (i % 2)) * 16 + 2 * m + 8 * (i / 2)];
        for (int i = 0; i < 2; i++) rb[i] = *(const unsigned*)&b[g * 16 + 2 * m + 8 * i];"""
        name, element = f"mma_m16n8k16_{kind}", "__nv_bfloat16" if kind == "bf16" else "__half"
    body = f"""int g = threadIdx.x / 4, m = threadIdx.x % 4; unsigned ra[4], rb[2]; float rd[4]; {fragments}
    for (int i = 0; i < 4; i++) rd[i] = d[(g + 8 * (i / 2)) * 8 + 2 * m + i % 2];
    {name}(rd, ra, rb);
    for (int i = 0; i < 4; i++) d[(g + 8 * (i / 2)) * 8 + 2 * m + i % 2] = rd[i];"""
    launch(
        body, f"float* d, const {element}* a, const {element}* b", (1,), (32,), (d, a, b), before='#include "ptx.cuh"\n'
    )
    want = c + a.astype(np.float64) @ b.astype(np.float64).T
    np.testing.assert_allclose(d, want, atol=2e-2 if kind == "tf32" else 1e-5)  # tf32 keeps 10 bits: 2^-11 a factor


COPY = """__shared__ __align__(16) float tile[32]; int i = threadIdx.x;
if (i < 8) cp_async_16(&tile[4 * i], &x[4 * i], i < 7 ? 16 : 8);
cp_async_commit();
cp_async_wait<0>();
__syncthreads();
y[i] = tile[i];"""


def test_cp_async_is_there_after_its_group_was_waited_for():
    x, y = np.arange(32, dtype=np.float32), np.zeros(32, np.float32)
    launch(COPY, "const float* x, float* y", (1,), (32,), (x, y))
    assert (y[:30] == x[:30]).all() and (y[30:] == 0).all()


def test_cp_async_from_a_crooked_address():
    x, y = np.arange(36, dtype=np.float32), np.zeros(32, np.float32)
    with pytest.raises(
        KernelError, match=r"cp.async in line 3 copies 16 bytes from or to an address that is no multiple of 16"
    ):
        launch(COPY.replace("&x[4 * i]", "&x[4 * i + 1]"), "const float* x, float* y", (1,), (32,), (x, y))


def test_cp_async_without_a_wait_is_a_race():
    x, y = np.arange(32, dtype=np.float32), np.zeros(32, np.float32)
    with pytest.raises(KernelError, match=r"k: a race, because y depends on who runs first: at \[0\] it is 0.0 under"):
        launch(COPY.replace("<0>", "<1>"), "const float* x, float* y", (1,), (32,), (x, y))


# ---- what is reported about kernels


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("__shared__ int s; if (i == 40) s = 7; y[i] = s;", r"k: a race, because y depends on who runs first: at \[0\] it is"),
        ("y[blockIdx.x ? 0 : 0] = blockIdx.x;", r"a race"),
        ("__shared__ int s[64]; s[i] = i; y[i] = s[i ^ 1];", r"a race"),  # inside of a warp too
        ("if (i < 32) __syncthreads();\nelse __syncthreads();", r"k: divergent barrier: thread .* line 2, .* line 3 \(sche"),
        ("if (i < 9) return; __syncthreads();", r"barrier in line 2 is not reached by all: thread .* has ended before it"),
        ("if (i == 63) return; __syncthreads();", r"k: the barrier in line 2 is not reached by all"),
        ("if (i < 16) __syncwarp();\nelse __shfl_sync(~0u, i, 0);", r"divergent warp: .* in line 2 .* in line 3"),
        ("if (i < 16) __syncwarp(); else __syncthreads();", r"deadlock: thread .* its warp in line 2 .* its block in line 2"),
        ("__shfl_sync(1u, i, 0);", r"in line 2 with mask 0x1, which leaves out its own lane 1"),
        ("y[i + 100000] = 1;", r"touches memory \d+ bytes after the end of y"),
        ("y[i - 5000] = 1;", r"touches memory \d+ bytes before the start of y"),
        ("y[i + 1] = 1;", r"k writes outside of y|bytes after the end of y"),
        ("*(int*)(size_t)64 = 1;", r"which is near no array"),
    ],
)  # fmt: skip
def test_a_wrong_kernel_is_reported(body, sentence):
    with pytest.raises(KernelError, match=sentence):
        integers(body, 64, grid=(2,), block=(64,))


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("y[i + 1] = 1;", r"k: writes 4 bytes outside of y in line 2 \(schedule forward\)"),
        ("y[i] = y[i - 1];", r"k: reads 4 bytes outside of y in line 2"),
        (
            "__shared__ int s[32]; s[i] = i; __syncthreads(); y[i] = s[i];",
            r"writes 4 bytes outside of the shared variable s",
        ),
        ("y[i] = *(const long long*)(y + 1);", r"k: a load of a .*long long.* in line 2 at an address that"),
        ("extern __shared__ int d[]; d[i + 1] = i;", r"outside of the dynamic shared memory in line 2"),
        ("if (i < 9) return; __syncthreads();", r"is not reached by all"),
    ],
)
def test_the_sanitizer_sees_every_byte(body, sentence):
    with running(sanitize=True), pytest.raises(KernelError, match=sentence):
        integers(body, 64, shared_mem=256)


def test_the_sanitizer_gives_the_same_results():
    with running(sanitize=True):
        assert (integers("y[i] += i + 1;") == np.arange(32)).all()


def test_a_result_that_does_not_depend_on_the_schedule_is_no_race():
    assert (
        integers("__shared__ int s[64]; s[i] = i; __syncthreads(); y[i] = s[63 - i];", 64) == 63 - np.arange(64)
    ).all()


def test_a_failed_launch_leaves_the_arrays_as_they_were():
    y = np.zeros(64, np.int32)
    with pytest.raises(KernelError):
        launch("y[threadIdx.x] = 1; if (threadIdx.x) __syncthreads();", "int* y", (1,), (64,), (y,))
    assert (y == 0).all()


def test_the_same_array_twice_is_one_array():
    x = np.arange(32, dtype=np.int32)
    launch("y[threadIdx.x] = x[threadIdx.x] + 1;", "int* y, const int* x", (1,), (32,), (x, x))
    assert (x == np.arange(1, 33)).all()
