"""The two machines that gpu.py runs its plan on: a GPU through CuPy, and a rehearsal on NumPy arrays by on_cpu.

Both make inputs, poison the memory that results will come from, and run blocks of passes. The rehearsal runs each pass once
and has no clock.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from harness import BenchError

Pass = Callable[[], Any]

HOLD = r"""
extern "C" __global__ void hold(long long cycles) {
    const long long begin = clock64();
    while (clock64() - begin < cycles) {}
}
"""
"""Keeps the GPU busy while the processor queues a block: without it, short kernels would wait for their own launches."""

QUEUED = 200
"""Passes in one block at most, well below what the driver queues."""

LONGEST_HOLD = 0.05
CYCLES_A_SECOND = 2e9


class Machine:
    """What both have in common: inputs. xp: NumPy or CuPy."""

    xp: Any = np
    name = ""
    cache = 0
    is_gpu = False

    def array(self, shape: Any, dtype: str, seed: Sequence[int]) -> Any:
        """One input: numbers from N(0, 1), ids or a mask; the same for the same seed."""
        rng = self.xp.random.default_rng(list(seed))
        if shape[:1] == ("ids",):
            return rng.integers(0, shape[2], shape[1]).astype(np.int64)
        if shape[:1] == ("mask",):
            return rng.random(shape[1], dtype=np.float32) >= shape[2]
        return self.rounded(rng.standard_normal(shape, dtype=np.float32), dtype)

    def rounded(self, array: Any, dtype: str) -> Any:
        """float32 numbers in `dtype`. PyTorch rounds to bfloat16: CuPy need not be able to."""
        return self.array_of(self.tensor(array).bfloat16()) if dtype == "bfloat16" else array

    def tensor(self, array: Any) -> Any:
        """The same memory as a PyTorch tensor."""
        import torch

        if array.dtype.name == "bfloat16":
            return torch.from_dlpack(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_dlpack(array)

    def array_of(self, tensor: Any) -> Any:
        """The same memory as an array."""
        import ml_dtypes
        import torch

        tensor = tensor.detach().contiguous()
        if tensor.dtype == torch.bfloat16:
            return self.xp.from_dlpack(tensor.view(torch.int16)).view(np.dtype(ml_dtypes.bfloat16))
        return self.xp.from_dlpack(tensor)

    def exact(self, array: Any) -> Any:
        """The numbers in float64; ids and masks as they are."""
        if array.dtype.name == "bfloat16":
            return self.array_of(self.tensor(array).double())
        return array.astype(np.float64) if array.dtype.kind == "f" else array

    def poison(self, shapes: Sequence[tuple[tuple[int, ...], Any]]) -> None:
        """Fill memory of these shapes and types with NaN (all bits one) and free it: fresh results come from there."""
        held = [self.xp.full(np.prod(shape, dtype=int) * np.dtype(kind).itemsize, 255, np.uint8) for shape, kind in shapes]
        del held

    def state(self) -> dict[str, str]:
        """Clocks, power, temperature."""
        return {}

    def wait(self) -> None:
        """Until all that was launched is done."""

    def works(self) -> bool:
        """Whether the device still answers: after a kernel's wild read or write it does not, until the process ends."""
        try:
            self.wait()
        except Exception:  # whatever the driver calls it
            return False
        return True

    def free(self) -> None:
        """Give back what no array needs."""

    def block(self, passes: Sequence[Pass], seconds: float, least: int) -> tuple[list[float], Any]:
        """(seconds of each pass, the last result). The rehearsal runs each pass once and times none."""
        last = None
        for run in passes:
            last = run()
        return [], last


class Rehearsal(Machine):
    """NumPy arrays of tiny sizes."""

    name = "no GPU: a rehearsal on NumPy arrays"


class Gpu(Machine):
    """The current CUDA device. BenchError, in one sentence, where there is none that will do."""

    is_gpu = True

    def __init__(self) -> None:
        try:
            import cupy  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise BenchError(f"CuPy cannot be imported ({error}); install it with: pip install 'handgrad[cuda13]'") from error
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise BenchError(f"there is no NVIDIA driver or GPU here ({error}); --rehearse needs neither") from error
        if not count:
            raise BenchError("there is no NVIDIA GPU here; --rehearse needs none")
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())
        self.name = properties["name"].decode()
        self.capability = need_sm80(self.name, properties["major"], properties["minor"])
        self.cache = int(properties["l2CacheSize"])
        self.xp = cupy
        self._hold = cupy.RawKernel(HOLD, "hold")

    def wait(self) -> None:
        self.xp.cuda.runtime.deviceSynchronize()

    def free(self) -> None:
        import torch

        self.xp.get_default_memory_pool().free_all_blocks()
        torch.cuda.empty_cache()

    def poison(self, shapes: Sequence[tuple[tuple[int, ...], Any]]) -> None:
        super().poison(shapes)
        self.wait()

    def block(self, passes: Sequence[Pass], seconds: float, least: int) -> tuple[list[float], Any]:
        """Passes in turn for about `seconds`, at least `least`, each between two events; CuPy and PyTorch share a stream.

        The first pass is not counted: it says how many fit, and how long the processor takes to launch one. With `least` 1
        there is none: a pass is slow then.
        """
        cuda, last, count, launched = self.xp.cuda, None, 1, 0.0
        self.wait()
        if least > 1:
            began = time.perf_counter()
            last = passes[0]()
            launched = time.perf_counter() - began
            self.wait()
            each = max(time.perf_counter() - began, 1e-6)
            count = max(least, min(QUEUED, int(seconds / each)))
        hold = min(LONGEST_HOLD, 1.5 * count * (launched + 2e-5))
        marks = [(cuda.Event(), cuda.Event()) for _ in range(count)]
        kept: list[Any] = [None] * len(passes)
        self._hold((1,), (1,), (np.int64(hold * CYCLES_A_SECOND),))
        for k, (before, after) in enumerate(marks):
            turn = (k + 1) % len(passes)
            kept[turn] = None  # results too lie in memory that was last touched a whole turn ago
            before.record()
            last = kept[turn] = passes[turn]()
            after.record()
        self.wait()
        return [cuda.get_elapsed_time(before, after) * 1e-3 for before, after in marks], last

    def state(self) -> dict[str, str]:
        """As nvidia-smi says; empty where it is not installed."""
        fields = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "clocks_throttle_reasons.active")
        query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
        try:
            done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=10)
        except (OSError, subprocess.SubprocessError):
            return {}
        return dict(zip(fields, (cell.strip() for cell in done.stdout.splitlines()[0].split(",")), strict=False))


def need_sm80(name: str, major: int, minor: int) -> str:
    """The compute capability as "9.0"; BenchError below 8.0."""
    if major < 8:
        raise BenchError(f"{name} is sm_{major}{minor}, and the kernels need sm_80 or later")
    return f"{major}.{minor}"
