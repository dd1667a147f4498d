"""A kernel of a `.cu`, run on the CPU. The call has the shape of cupy.RawKernel's:

    kernel = Kernel(Path("softmax.cu"), "softmax_forward")
    kernel((rows,), (256,), (x, y, np.int32(n)), shared_mem=4 * n)

A launch runs under each schedule that is asked for, each time on fresh copies of the arrays. Whatever differs by a bit is
a race (or a floating-point atomic, whose order shows in the last bits just as a race does).
"""

import ctypes
import math
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from .compiler import compiled
from .memory import Memory, array_of, same
from .sanitizer import run_sanitized
from .source import kernels
from .tensor_map import TensorMap

SCHEDULES = {"forward": 0, "reverse": 1, "greedy": 2, "greedy reverse": 3, "random 1": 4, "random 2": 5}
"""Who runs next, wherever there is a choice: the first thread, the last one, one warp as far as it gets, anyone. The numbers
are state.hpp's."""

MOST_SHARED = 227 * 1024
SHARED_WITHOUT_ASKING = 48 * 1024
_LIMITS = (("grid", (2**31 - 1, 65535, 65535)), ("block", (1024, 1024, 64)))


class KernelError(RuntimeError):
    """What a kernel did wrong while it ran: a race, a divergent barrier, a wild access. One sentence."""


_chosen: ContextVar[tuple[str, ...]] = ContextVar("schedules", default=tuple(SCHEDULES))
_sanitizing: ContextVar[bool] = ContextVar("sanitizing", default=False)


@contextmanager
def running(schedules: Sequence[str] = tuple(SCHEDULES), *, sanitize: bool = False) -> Iterator[None]:
    """How launches inside of `with` run: under which schedules, and with AddressSanitizer (slow, exact) or without.

    Raises ValueError for an unknown schedule.
    """
    for name in schedules:
        if name not in SCHEDULES:
            raise ValueError(f"there is no schedule called {name!r}; there are {', '.join(SCHEDULES)}")
    if not schedules:
        raise ValueError(f"no schedule is named; there are {', '.join(SCHEDULES)}")
    tokens = _chosen.set(tuple(schedules)), _sanitizing.set(sanitize)
    try:
        yield
    finally:
        _chosen.reset(tokens[0])
        _sanitizing.reset(tokens[1])


class Kernel:
    """One `__global__` function of a `.cu` file. It is compiled at the first launch.

    text: the source, where it is not what lies at `path` now. Raises ValueError where there is no such kernel.
    """

    def __init__(self, path: Path, name: str, text: str | None = None) -> None:
        self.path, self.name = Path(path), name
        self.text = self.path.read_text(encoding="utf-8") if text is None else text
        self.max_dynamic_shared_size_bytes = SHARED_WITHOUT_ASKING
        """As CuPy's attribute: a launch with more than 48 KB of dynamic shared memory must say so before."""
        found = kernels(self.text)
        if name not in found:
            there = ", ".join(found) or "none"
            raise ValueError(f"{self.path.name} has no kernel called {name!r}; there are: {there}")
        self._number = list(found).index(name)
        self.parameters = found[name]

    def __repr__(self) -> str:
        return f"Kernel({str(self.path)!r}, {self.name!r})"

    @cached_property
    def _library(self) -> Any:
        library = ctypes.CDLL(str(compiled(self.path, self.text)))
        library.on_cpu_signature.restype = ctypes.c_char_p
        library.on_cpu_message.restype = ctypes.c_char_p
        library.on_cpu_static_shared.restype = ctypes.c_uint64
        return library

    @cached_property
    def types(self) -> list[str]:
        """Such as ["const float32*", "float32*", "int32"], as the compiler sees the parameters."""
        return self._library.on_cpu_signature(self._number).decode().split(";")[:-1]

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], *, shared_mem: int = 0) -> None:
        """Runs the kernel; arrays are changed in place. Raises TypeError or ValueError for a call that cannot be,
        KernelError for a kernel that went wrong.
        """
        sizes = self._sizes(grid, block, shared_mem)
        arguments = self._arguments(args)
        first: list[np.ndarray | None] = []
        names = _chosen.get()
        for name in names:
            run = self._sanitized if _sanitizing.get() else self._here
            found = run(sizes, arguments, shared_mem, name)
            first = first or found
            self._compare(first, found, names[0], name)
        for argument, result in zip(arguments, first, strict=True):
            if result is not None:
                argument[...] = result

    # ---- one launch

    def _here(self, sizes: Any, arguments: list[Any], shared_mem: int, schedule: str) -> list[np.ndarray | None]:
        """What the kernel wrote, for each argument that it may write to; in this process."""
        library, memory = self._library, Memory(arguments)
        three = ctypes.c_uint * 3
        with _running:
            failed = library.on_cpu_launch(
                self._number, three(*sizes[0]), three(*sizes[1]), shared_mem, SCHEDULES[schedule], memory.parameters
            )
            said = library.on_cpu_message().decode()
        if failed and said == "interrupted":
            raise KeyboardInterrupt
        if failed:
            raise KernelError(f"{self.name}: {self._located(said, memory)} (schedule {schedule})")
        beyond = memory.overwritten()
        if beyond is not None:
            raise KernelError(f"{self.name} writes outside of {self.parameters[beyond]} (schedule {schedule})")
        return [memory.array(k) if self._written(k) else None for k in range(len(arguments))]

    def _located(self, said: str, memory: Memory) -> str:
        """A sentence about an address as one about the array that lies beside it."""
        wild = re.search(r"memory at (0x[0-9a-f]+|\(nil\))", said)
        if wild is None:
            return said
        address = int(wild[1], 16) if wild[1].startswith("0x") else 0
        near = memory.near(address)
        if near is None:
            return said.replace(wild[0], f"{wild[0]}, which is near no array")
        k, distance = near
        where = f"{distance} bytes after the end" if distance >= 0 else f"{-distance} bytes before the start"
        return said.replace(wild[0], f"memory {where} of {self.parameters[k]}")

    def _sanitized(self, sizes: Any, arguments: list[Any], shared_mem: int, schedule: str) -> list[np.ndarray | None]:
        """The same, in a process of its own."""
        program = compiled(self.path, self.text, sanitize=True)
        head = [self._number, *sizes[0], *sizes[1], shared_mem, SCHEDULES[schedule]]
        said, results = run_sanitized(program, head, arguments, self.parameters, self.path.name)
        if said is not None:
            raise KernelError(f"{self.name}: {said} (schedule {schedule})")
        return [result if self._written(k) else None for k, result in enumerate(results)]

    def _written(self, k: int) -> bool:
        return self.types[k].endswith("*") and not self.types[k].startswith("const")

    def _compare(self, first: list[Any], other: list[Any], name: str, other_name: str) -> None:
        for k, (ours, theirs) in enumerate(zip(first, other, strict=True)):
            if ours is None:
                continue
            differs = _bits(ours) != _bits(theirs)
            if differs.any():
                at = tuple(int(i) for i in np.argwhere(differs)[0])
                raise KernelError(
                    f"{self.name}: a race, because {self.parameters[k]} depends on who runs first: "
                    f"at {list(at)} it is {ours[at]} under the schedule {name}, {theirs[at]} under {other_name}"
                )

    # ---- what may be passed

    def _sizes(self, grid: Sequence[int], block: Sequence[int], shared_mem: int) -> tuple[Any, Any]:
        sizes = []
        for given, (what, limits) in zip((grid, block), _LIMITS, strict=True):
            three = (*(int(n) for n in given), 1, 1)[:3] if 1 <= len(given) <= 3 else ()
            if not three or min(three) < 1 or any(n > most for n, most in zip(three, limits, strict=True)):
                raise ValueError(
                    f"{self.name}: {what} is {tuple(given)}, but it must be 1 to 3 numbers from 1 to {limits}"
                )
            sizes.append(three)
        if math.prod(sizes[1]) > 1024:
            raise ValueError(f"{self.name}: a block of {math.prod(sizes[1])} threads, but a block has at most 1024")
        if math.prod(sizes[0]) >= 2**32:
            raise ValueError(
                f"{self.name}: a grid of {math.prod(sizes[0])} blocks is more than the emulator counts (2^32)"
            )
        if not 0 <= shared_mem <= self.max_dynamic_shared_size_bytes <= MOST_SHARED:
            raise ValueError(
                f"{self.name}: shared_mem is {shared_mem} bytes, but max_dynamic_shared_size_bytes allows "
                f"{self.max_dynamic_shared_size_bytes} (raise it up to {MOST_SHARED})"
            )
        if self._library.on_cpu_static_shared() > SHARED_WITHOUT_ASKING:
            raise ValueError(
                f"{self.path.name} declares {self._library.on_cpu_static_shared()} bytes of static shared memory, "
                f"but only {SHARED_WITHOUT_ASKING} may be static"
            )
        return sizes[0], sizes[1]

    def _arguments(self, args: Sequence[Any]) -> list[Any]:
        if len(args) != len(self.types):
            wanted = ", ".join(f"{t} {n}" for t, n in zip(self.types, self.parameters, strict=True))
            raise TypeError(f"{self.name} takes {len(self.types)} arguments ({wanted}), but got {len(args)}")
        checked = [self._checked(k, argument) for k, argument in enumerate(args)]
        arrays = [(k, array) for k, a in enumerate(checked) if (array := array_of(a)) is not None]
        for (j, a), (k, b) in combinations(arrays, 2):
            if not same(a, b) and np.may_share_memory(a, b):
                both = f"{self.parameters[j]} and {self.parameters[k]}"
                raise ValueError(f"{self.name}: {both} overlap without being the same array")
        return checked

    def _checked(self, k: int, given: Any) -> Any:
        wanted, what = self.types[k], f"{self.name}: argument {k} ({self.parameters[k]})"
        if wanted == "tensor map" or isinstance(given, TensorMap):
            if wanted != "tensor map" or not isinstance(given, TensorMap):
                raise TypeError(f"{what} is a {type(given).__name__}, but the kernel wants a {wanted}")
            return given
        if not wanted.endswith("*"):
            if not isinstance(given, np.generic) or given.dtype.name != wanted:
                got = given.dtype.name if hasattr(given, "dtype") else f"a Python {type(given).__name__}"
                raise TypeError(f"{what} is {got}, but the kernel wants {wanted}: pass np.{wanted}(...)")
            return given
        if not isinstance(given, np.ndarray):
            raise TypeError(f"{what} is a {type(given).__name__}, but the kernel wants {wanted}: pass an array")
        dtype = wanted.removeprefix("const ").removesuffix("*")
        if given.dtype.name != dtype and dtype != "?":
            raise TypeError(f"{what} is an array of {given.dtype.name}, but the kernel wants {wanted}")
        if not given.flags.c_contiguous:
            raise ValueError(
                f"{what} has strides {given.strides}, but a kernel sees memory as C-contiguous: copy it first"
            )
        if not wanted.startswith("const") and not given.flags.writeable:
            raise ValueError(f"{what} is read-only, but the kernel may write to it ({wanted})")
        return given


_running = threading.Lock()
"""One launch at a time: a library holds the state of one cluster of blocks."""


def _bits(array: np.ndarray) -> np.ndarray:
    """Integers of the same bits: NaN equals itself, -0 is not 0."""
    return array.view(f"u{array.dtype.itemsize}")
