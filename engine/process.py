"""The process settings that decide speed: threads, how long idle threads spin, what malloc does with freed memory.

Measured on two cores, a step of nanoGPT's small model: two thread pools that spin against each other, 292 ms; spinning
briefly (GOMP_SPINCOUNT, OPENBLAS_THREAD_TIMEOUT), 32 ms. Fresh arrays that fault their pages in again, 42 ms; malloc
that keeps what was freed, 30 ms. pools.py goes one step further and makes one pool of the two.

Each library reads its variables once, when it loads, so `settle` belongs before NumPy: the command line calls it first.
`settle_late` is for a program that imported NumPy already. There are two pools, OpenBLAS's and libgomp's (which Numba
shares when its threading layer is `omp`), and nothing here or elsewhere in handgrad starts a third.

A variable that the user exported is never changed, except that a thread count asked of handgrad (argument or
HANDGRAD_THREADS) outranks the libraries' own. This module imports neither NumPy nor Numba.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from . import environment, pools
from .errors import UserError

__all__ = ["Missed", "describe", "join_pools", "settings", "settle", "settle_late"]

_THREAD_COUNTS = (("NumPy", "OPENBLAS_NUM_THREADS"), ("numba", "NUMBA_NUM_THREADS"), ("libgomp", "OMP_NUM_THREADS"))
_SPIN = (("libgomp", "GOMP_SPINCOUNT", "3000"), ("NumPy", "OPENBLAS_THREAD_TIMEOUT", "12"))  # turns; log2 of cycles
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # <malloc.h> of glibc


@dataclass(frozen=True)
class Missed:
    """A setting that came too late: `library` had read `variable` before it could become `wanted`."""

    library: str
    variable: str
    wanted: str


@dataclass
class _State:
    """What this process has settled. One per process, because so are the libraries."""

    threads: int | None = None
    owned: bool = False  # settled by `settle`: the process is handgrad's own
    missed: tuple[Missed, ...] = ()
    malloc: str = "as the system has it"


_state = _State()


def settle(threads: int | None = None) -> tuple[Missed, ...]:
    """Set everything, for the command line, before NumPy loads; calling it again changes nothing.

    threads: a positive number, or None for HANDGRAD_THREADS, else the user's OMP_NUM_THREADS, else the cores that this
    process may run on. Returns what came too late. Raises UserError if `threads` is not positive.
    """
    if threads is not None and threads < 1:
        raise UserError(f"settle: threads is {threads}, but it must be a positive number")
    asked = threads if threads is not None else environment.read().threads
    count = asked or _default_threads()
    missed: list[Missed] = []
    for library, variable in _THREAD_COUNTS:
        late = _export(library, variable, str(count), outrank=asked is not None)
        missed += late if asked is not None else []  # unasked, each library takes the usable cores by itself
    _state.owned = True
    return _settle_the_rest(count, missed)


def settle_late() -> tuple[Missed, ...]:
    """Set what is harmless and still works, for the library inside someone else's program; never raises for lateness.

    Other libraries' pools keep their sizes: thread counts are touched only if HANDGRAD_THREADS asks, and then Numba's
    and OpenBLAS's only. Returns what came too late; `describe` says it in a sentence. After `settle`, does nothing.
    """
    if _state.threads is not None:
        return _state.missed
    asked = environment.read().threads
    missed: list[Missed] = []
    if asked is not None:
        for library, variable in _THREAD_COUNTS[:2]:
            missed += _export(library, variable, str(asked), outrank=True)
    return _settle_the_rest(asked or _default_threads(), missed)


def join_pools() -> None:
    """Let NumPy's products run on OpenMP's threads (see pools.py), in a process that `settle` owns; elsewhere nothing.

    Loads NumPy and LLVM. A program of your own says `pools.join()`.
    """
    if _state.owned and os.environ.get("NUMBA_THREADING_LAYER") == "omp":
        pools.join()


def settings() -> dict[str, str | int | list[str]]:
    """Return what holds in this process, for benchmark records: threads, variables, malloc, what was missed."""
    names = [variable for _, variable in _THREAD_COUNTS] + [variable for _, variable, _ in _SPIN]
    names += ["NUMBA_THREADING_LAYER", "OMP_WAIT_POLICY"]
    found: dict[str, str | int | list[str]] = {name: os.environ[name] for name in names if name in os.environ}
    found["threads"] = _state.threads or _default_threads()
    found["malloc"] = _state.malloc
    found["one_pool"] = pools.joined()
    found["missed"] = [missed.variable for missed in _state.missed]
    return found


def describe() -> str:
    """Return one line, such as `threads 2 · omp, spin 3000 · OpenBLAS timeout 12 · malloc keeps freed memory`."""
    known = os.environ.get  # a variable that came too late was not set, so what is here holds
    policy, spin, timeout = known("OMP_WAIT_POLICY"), known("GOMP_SPINCOUNT"), known("OPENBLAS_THREAD_TIMEOUT")
    layer = known("NUMBA_THREADING_LAYER") or "Numba's choice of threading layer"
    parts = [f"threads {_state.threads or _default_threads()}"]
    parts += [layer + (f", spin {spin}" if spin else f", {policy} waiting" if policy else "")]
    if pools.joined():
        parts += ["OpenBLAS on the same threads"]
    elif timeout:
        parts += [f"OpenBLAS timeout {timeout}"]
    parts += [f"malloc {_state.malloc}"]
    return " · ".join(parts) + (f" · {_sentence(_state.missed)}" if _state.missed else "")


def _settle_the_rest(count: int, missed: list[Missed]) -> tuple[Missed, ...]:
    if "OMP_WAIT_POLICY" not in os.environ:
        for library, variable, value in _SPIN:
            missed += _export(library, variable, value)
    if _libgomp_opens():  # after the variables that it reads
        missed += _export("numba", "NUMBA_THREADING_LAYER", "omp")
    _state.threads, _state.missed, _state.malloc = count, tuple(missed), _keep_freed_memory()
    return _state.missed


def _export(library: str, variable: str, value: str, *, outrank: bool = False) -> list[Missed]:
    """Set `variable` unless the user did or `library` has read it already."""
    present = os.environ.get(variable)
    if present == value or (present is not None and not outrank):
        return []
    if _is_loaded(library):
        return [Missed(library, variable, value)]
    os.environ[variable] = value  # Python hands it on to the C library's environment
    return []


def _sentence(missed: Sequence[Missed]) -> str:
    variables = _listed([each.variable for each in missed])
    libraries = _listed(list(dict.fromkeys(each.library for each in missed)))
    exports = " ".join(f"{each.variable}={each.wanted}" for each in missed)
    were = "was" if " and " not in libraries else "were"
    return (
        f"{variables} could not be set because {libraries} {were} loaded first: "
        f"start with handgrad's command line or export {exports}"
    )


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _default_threads() -> int:
    """The user's OMP_NUM_THREADS (its first number: it may be a list by nesting level), else the usable cores."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isascii() and first.isdigit() and int(first) > 0 else _usable_cores()


def _usable_cores() -> int:
    """The cores that this process may run on: fewer than the machine's under taskset, slurm or a container's cpuset."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS has no affinity


def _is_loaded(library: str) -> bool:
    if library != "libgomp":
        return library.lower() in sys.modules
    try:
        ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD)  # PyTorch loads it too
    except OSError:
        return False
    return True


def _libgomp_opens() -> bool:
    """Whether Numba's omp layer could open libgomp: asked of the loader itself, which on macOS says no."""
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return False
    return True


def _keep_freed_memory() -> str:
    """Tell glibc to keep big freed blocks instead of giving their pages back, unless the user tuned it; say which.

    That is how the buffers of a training step are reused, also those of 32 MiB and more: from the second step on it asks the
    system for nothing (tests/engine/test_page_faults.py). Blocks beyond 1 GiB are mapped and given back where glibc can say
    so; older ones take no threshold above 32 MiB, and there nothing is mapped at all.
    """
    tuned = [name for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_") if name in os.environ]
    if tuned or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return "as the user set it"
    if not _is_glibc():
        return "as the system has it"
    mallopt = ctypes.CDLL(None).mallopt
    kept = mallopt(_M_MMAP_THRESHOLD, 1 << 30) or mallopt(_M_MMAP_MAX, 0)
    return "keeps freed memory" if kept and mallopt(_M_TRIM_THRESHOLD, -1) else "as the system has it"


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # Windows, macOS, musl
        return False
