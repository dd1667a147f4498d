"""One pool of threads instead of two: OpenBLAS's products run on the OpenMP threads that our kernels run on.

A training step goes back and forth between matrix products and kernels some fifty times. With a pool each, every change
wakes sleeping threads, or the two pools spin against each other; with one, the threads are there already. Measured on two
cores, a step of nanoGPT's small model: 34.5 ms with two pools, 29.2 ms with one.

OpenBLAS has a hook for this, `openblas_set_threads_callback_function` (0.3.27 and later; NumPy's wheels have it): instead of
waking its own threads it calls a function with the jobs of a product. Ours opens an OpenMP region with one thread a job. The
jobs of one product wait for each other, so each must have its thread: where OpenMP may give fewer, nothing is joined.

It changes how NumPy multiplies in the whole process, so only the command line does it by itself; a program says `join()`.
"""

from __future__ import annotations

import ctypes
from typing import Any

_SYMBOLS = (
    "scipy_openblas_set_threads_callback_function64_",
    "scipy_openblas_set_threads_callback_function",
    "openblas_set_threads_callback_function64_",
    "openblas_set_threads_callback_function",
)

_hook: Any = None  # keeps the machine code alive


def join() -> str | None:
    """Makes NumPy's OpenBLAS use OpenMP's threads from now on. Returns None, or one sentence that says why it cannot."""
    global _hook
    if _hook is not None:
        return None
    setter = _setter()
    if setter is None:
        return "NumPy's matrix library has no hook for threads, so it keeps a pool of its own"
    try:
        gomp = ctypes.CDLL("libgomp.so.1", mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return "libgomp is not installed, so NumPy keeps a pool of threads of its own"
    if gomp.omp_get_dynamic() or gomp.omp_get_thread_limit() < gomp.omp_get_max_threads():
        return (
            "OpenMP may give fewer threads than asked for (OMP_DYNAMIC, OMP_THREAD_LIMIT), so NumPy keeps its own pool"
        )
    try:
        from ..kernels.cpu.blas_hook import compile_hook

        hook, callback = compile_hook()
    except (RuntimeError, ImportError) as error:
        return f"the hook for NumPy's threads could not be compiled ({error}), so NumPy keeps its own pool"
    gomp.omp_set_max_active_levels(2)  # a product inside somebody's parallel region gets its threads too
    setter(ctypes.c_void_p(callback))
    _hook = hook
    return None


def joined() -> bool:
    """Whether NumPy's OpenBLAS runs on OpenMP's threads."""
    return _hook is not None


def _setter() -> Any:
    """The hook of the OpenBLAS that NumPy multiplies with, or None."""
    import numpy  # noqa: F401  loads it
    from threadpoolctl import threadpool_info

    for library in threadpool_info():
        if library["internal_api"] == "openblas" and library.get("threading_layer") == "pthreads":
            blas = ctypes.CDLL(library["filepath"])
            for name in _SYMBOLS:
                if hasattr(blas, name):
                    return getattr(blas, name)
    return None
