"""Launchers on arrays of a GPU, with a stand-in for CuPy that runs kernels by on_cpu; and every mistake is one sentence."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from handgrad.kernels.cuda import (
    device,
    launch,
    layer_norm_02_warp_per_row,
    matmul_02_coalesced,
    matmul_08_mma,
    on_gpu,
    rms_norm_01_warp_per_row,
    silu_01_elementwise,
    softmax_05_registers,
)
from handgrad.kernels.cuda.on_cpu.kernel import SHARED_WITHOUT_ASKING
from handgrad.kernels.cuda.signatures import signatures

# ---- a stand-in for CuPy


class Gpu:
    """cupy.cuda.Device; in `with` it is the current one, on which arrays are made."""

    current: ClassVar = [0]

    def __init__(self, number: int | None = None) -> None:
        self.id, self.compute_capability = Gpu.current[-1] if number is None else number, "80"

    def __enter__(self) -> "Gpu":
        Gpu.current.append(self.id)
        return self

    def __exit__(self, *_: object) -> None:
        Gpu.current.pop()


class Array:
    """cupy.ndarray: numbers of NumPy, and the GPU on which they are said to lie."""

    __cuda_array_interface__ = "what launch.on_a_gpu looks for"

    def __init__(self, numbers: np.ndarray, gpu: int | None = None) -> None:
        self.numbers, self.device = numbers, Gpu(gpu)
        self.shape, self.dtype, self.ndim, self.size = numbers.shape, numbers.dtype, numbers.ndim, numbers.size
        self.strides, self.flags = numbers.strides, numbers.flags
        self.data = SimpleNamespace(ptr=numbers.ctypes.data)

    @property
    def T(self) -> "Array":
        return Array(self.numbers.T, self.device.id)

    def copy(self) -> "Array":
        return Array(self.numbers.copy(), self.device.id)

    def reshape(self, *shape: int) -> "Array":
        return Array(self.numbers.reshape(*shape), self.device.id)


class Module:
    """cupy.RawModule, of a `.cu` in the place of its cubin: kernels run on the CPU."""

    def __init__(self, *, path: str) -> None:
        self.path = path

    def get_function(self, name: str) -> Any:
        def run(grid: Any, block: Any, args: Any, *, shared_mem: int = 0) -> None:
            kernel = launch.on_cpu(Path(self.path), name)
            kernel.max_dynamic_shared_size_bytes = max(shared_mem, SHARED_WITHOUT_ASKING)
            kernel(grid, block, [a.numbers if isinstance(a, Array) else a for a in args], shared_mem=shared_mem)

        return run


class Event:
    """cupy.cuda.Event, which takes a millisecond between any two."""

    def record(self) -> None:
        pass

    synchronize = record


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in as the module cupy. Nothing is compiled for a GPU."""
    module = SimpleNamespace(
        ndarray=Array, asarray=Array, asnumpy=lambda a: a.numbers, RawModule=Module,
        empty=lambda shape, dtype: Array(np.full(shape, np.nan, dtype)),
        zeros=lambda shape, dtype: Array(np.zeros(shape, dtype)),
        ascontiguousarray=lambda a: a if a.flags.c_contiguous else Array(a.numbers.copy()),
        cuda=SimpleNamespace(
            Device=Gpu, Event=Event, get_elapsed_time=lambda start, end: 1.0,
            runtime=SimpleNamespace(
                getDeviceCount=lambda: 1, driverGetVersion=lambda: 13000, memGetInfo=lambda: (5 * 10**8, 8 * 10**10)
            ),
        ),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(on_gpu, "compiled", lambda path, architecture: path)
    monkeypatch.setattr(on_gpu, "nvrtc", lambda: SimpleNamespace(version=(13, 0)))
    on_gpu._function.cache_clear()
    yield module
    on_gpu._function.cache_clear()


class DriverError(RuntimeError):
    """As cupy.cuda.runtime.CUDARuntimeError."""


def normal(*shape: int) -> Any:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("pair", "shapes"),
    [
        (matmul_02_coalesced, [(5, 33), (33, 7)]),
        (matmul_08_mma, [(5, 33), (33, 7)]),
        (softmax_05_registers, [(3, 40)]),
        (layer_norm_02_warp_per_row, [(70, 33), (33,), (33,)]),
        (rms_norm_01_warp_per_row, [(70, 33), (33,)]),
        (silu_01_elementwise, [(300,)]),
    ],
    ids=lambda value: value.__name__.rsplit(".", 1)[-1] if hasattr(value, "__name__") else "",
)
def test_a_launcher_does_the_same_on_both_machines(cupy, pair, shapes):
    xs = [normal(*shape) for shape in shapes]
    there = [cupy.ndarray(x) for x in xs]
    y, kept = pair.forward(*xs)
    y_there, kept_there = pair.forward(*there)
    dy = normal(*y.shape)
    more = {"wanted": (True,) * len(xs), "into": (None,) * len(xs)}
    grads = pair.vjp(dy, y, *xs, residuals=kept, **more)
    grads_there = pair.vjp(cupy.ndarray(dy), y_there, *there, residuals=kept_there, **more)
    for ours, theirs in zip((y, *grads), (y_there, *grads_there), strict=True):
        assert isinstance(theirs, cupy.ndarray) and ours.tobytes() == theirs.numbers.tobytes()


def test_results_lie_on_the_gpu_of_their_inputs(cupy):
    """Though another one is the current one."""
    x, weight = cupy.ndarray(normal(70, 33), 1), cupy.ndarray(normal(33), 1)
    y, kept = rms_norm_01_warp_per_row.forward(x, weight)
    grads = rms_norm_01_warp_per_row.vjp(y, y, x, weight, residuals=kept, wanted=(True, True), into=(None, None))
    assert [a.device.id for a in (y, *grads)] == [1, 1, 1]


# ---- arguments


def good(a: Any) -> list[Any]:
    return [a(normal(3)), a(normal(3)), a(normal(4)), np.int32(3), np.float32(1)]


KERNEL = 'extern "C" __global__ void k(float* y, float const * __restrict__ x, const float4* v, int n, float e) { y[0] = n; }'

@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        (lambda a: {0: None}, TypeError, r"k takes 5 arguments \(float\* y, .* float e\), but got 4"),
        (lambda a: {0: a(normal(3).astype("d"))}, TypeError, r"k: y is an array of float64, but the kernel wants"),
        (lambda a: {1: a(normal(6)[::2])}, ValueError, r"k: x has strides \(8,\), but a kernel sees memory"),
        (lambda a: {1: a(normal(3), 1)}, ValueError, r"k: x lies on GPU 1, but y on GPU 0: bring all arrays to one GPU"),
        (lambda a: {1: normal(3)}, ValueError, r"k: argument 1 lies on the CPU, but argument 0 on a GPU: bring all"),
        (lambda a: {1: [1.0]}, TypeError, r"k: x is a list, but the kernel wants const float\*: pass an array of CuPy"),
        (lambda a: {3: 3}, TypeError, r"k: n is a Python int, but the kernel wants int: pass np.int32"),
        (lambda a: {3: np.int64(3)}, TypeError, r"k: n is int64, but the kernel wants int: pass np.int32"),
        (lambda a: {4: np.float64(3)}, TypeError, r"k: e is float64, but the kernel wants float: pass np.float32"),
    ],
)
def test_a_wrong_argument_is_one_sentence(cupy, tmp_path, change, kind, sentence):
    (tmp_path / "k.cu").write_text(KERNEL)
    kernel = launch.Kernel(str(tmp_path / "k.cu"), "k")
    changed = change(cupy.ndarray)
    args = [changed.get(k, right) for k, right in enumerate(good(cupy.ndarray))]
    with pytest.raises(kind, match=sentence) as caught:
        kernel((1,), (1,), [a for a in args if a is not None])
    assert "\n" not in str(caught.value)


def test_good_arguments_are_launched(cupy, tmp_path):
    (tmp_path / "k.cu").write_text(KERNEL)
    args = good(cupy.ndarray)
    launch.Kernel(str(tmp_path / "k.cu"), "k")((1,), (1,), args)
    assert args[0].numbers[0] == 3


def test_types_are_read_as_the_compiler_reads_them():
    text = """
    __global__ void a(const float *x, float const* const __restrict__ y, unsigned int n, __half* h) {}
    // __global__ void no(int n)
    extern "C" __global__ void __launch_bounds__(32) b(volatile int *flag, const __grid_constant__ Map map) {}
    """
    assert signatures(text) == {
        "a": [("const float*", "x"), ("const float*", "y"), ("unsigned int", "n"), ("__half*", "h")],
        "b": [("int*", "flag"), ("Map", "map")],
    }


# ---- what no launcher takes


def long(*shape: int) -> Any:
    """An array that is long and takes no memory."""
    return np.broadcast_to(np.float32(0), shape)


@pytest.mark.parametrize(
    ("pair", "xs", "sentence"),
    [
        (matmul_02_coalesced, (normal(3, 4), normal(5, 2)), r"coalesced takes float32 matrices .* got float32 \(3, 4\), flo"),
        (matmul_02_coalesced, (long(8 * 65535 + 1, 1), normal(1, 1)), r"none longer than its grid, but got .*\(524281, 1\)"),
        (matmul_08_mma, (normal(3, 4).astype("d"),) * 2, r"takes bfloat16, float16, float32, but got float64 \(3, 4\)"),
        (softmax_05_registers, (normal(3, 4).astype("d"),), r"takes float32 rows .* but got float64 \(3, 4\), axis=-1"),
        (silu_01_elementwise, (long(2**31),), r"takes float32 arrays of at most 2147418112 numbers, but got .*2147483648"),
        (layer_norm_02_warp_per_row, (normal(3, 4), normal(3)), r"takes float32 x \(\.\.\., C\), .* \(3, 4\), float32 \(3,\)"),
        (rms_norm_01_warp_per_row, (long(64 * 65535 + 1, 2), normal(2)), r"at most 4194240 rows, but got"),
    ],
)
def test_a_shape_that_no_grid_holds_is_refused(pair, xs, sentence):
    assert not pair.accepts(*xs)
    with pytest.raises(ValueError, match=sentence) as caught:
        pair.forward(*xs)
    assert "\n" not in str(caught.value)


def test_what_is_no_array_is_refused():
    with pytest.raises(TypeError, match=r"^kernels take arrays of NumPy or CuPy, but got a list$"):
        launch.namespace([1.0])


def test_a_gpu_that_is_full(cupy):
    def full(*_: Any) -> None:
        raise MemoryError("Out of memory allocating 12 bytes")

    cupy.empty = full
    with pytest.raises(
        MemoryError, match=r"^the GPU has no room for an array of shape \(3,\): 0.50 of its 80.00 GB are free; take a smaller"
    ):
        silu_01_elementwise.forward(cupy.ndarray(normal(3)))


# ---- the machine


def test_what_is_compiled_for_which_gpu(cupy, monkeypatch):
    for capability, name in (("80", "sm_80"), ("86", "sm_86"), ("90", "sm_90a"), ("120", "sm_120")):
        monkeypatch.setattr(cupy.cuda, "Device", lambda k=0, c=capability: SimpleNamespace(id=k, compute_capability=c))
        assert device.architecture() == device.architecture(1) == name


def test_an_old_gpu(cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda, "Device", lambda k=0: SimpleNamespace(id=k, compute_capability="75"))
    with pytest.raises(OSError, match=r"^GPU 0 is of sm_75, but these kernels need sm_80 \(A100\) or newer; NumPy arrays run"):
        silu_01_elementwise.forward(cupy.ndarray(normal(3)))


def test_no_driver(cupy):
    def missing() -> int:
        raise DriverError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")

    cupy.cuda.runtime.getDeviceCount = missing
    with pytest.raises(OSError, match=r"^there is no GPU to run on \(cudaErrorInsufficientDriver\): install NVIDIA's driver"):
        silu_01_elementwise.forward(cupy.ndarray(normal(3)))
    cupy.cuda.runtime.getDeviceCount = lambda: 0
    with pytest.raises(OSError, match=r"^there is no GPU to run on: nvidia-smi must list one"):
        device.architecture()


def test_a_driver_older_than_nvrtc(cupy):
    cupy.cuda.runtime.driverGetVersion = lambda: 12080
    with pytest.raises(OSError, match=r"^the driver is of CUDA 12 and cannot load what NVRTC 13 makes: update the driver, or"):
        silu_01_elementwise.forward(cupy.ndarray(normal(3)))


def test_no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(OSError, match=r"^CuPy is not installed, .*: pip install 'handgrad\[cuda13\]'") as caught:
        device.cupy()
    assert "\n" not in str(caught.value)


def test_a_cupy_that_cannot_be_imported(monkeypatch, tmp_path):
    words = "====\nFailed to import CuPy.\n\nOriginal error:\n  ModuleNotFoundError: No module named 'fast'\n===="
    (tmp_path / "cupy.py").write_text(f"raise ImportError({words!r})")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    sentence = "CuPy is installed but cannot be imported: ModuleNotFoundError: No module named 'fast'"
    with pytest.raises(OSError, match=re.escape(sentence)):
        device.cupy()


# ---- a kernel of one's own

OWN = """
extern "C" __global__ void my_forward(float* y, const float* x, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i] / (1.0f + expf(-x[i]));
}
"""


def test_a_kernel_of_ones_own_is_checked_on_the_gpu_and_then_timed(cupy, benches, monkeypatch, tmp_path, capsys):
    own = benches.own_cuda
    monkeypatch.setattr(own.compiler, "compiled", lambda path, architecture: path)
    monkeypatch.setattr(own.cases, "CASES", [own.cases.Case("silu", "3x40", ((3, 40),))])
    (tmp_path / "my.cu").write_text(OWN)
    words = f"ops.py silu --kernel {tmp_path / 'my.cu'} --backend cuda --rounds 1"
    monkeypatch.setattr(sys, "argv", words.split())
    own.run(benches.ops_options.parse(None))
    said = capsys.readouterr().out
    assert "my.cu: my_forward, as silu\nright on the GPU: error of the value" in said
    table = said[said.index("silu 3x40, forward") :].splitlines()
    assert [line.split() for line in table[2:]] == [
        [name, *["1.0000"] * 3, "1.00"] for name in ("my.cu", "01_elementwise")
    ]
