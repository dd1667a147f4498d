"""The compiler settings every CPU kernel shares: lazy types, no GIL, an honest cache, and named floating-point flags.

Numba's own `cache=True` looks only at the file of the function itself, so an edit in a callee of another file goes
unnoticed. Here the cache lies in a folder named after the hash of every source in `kernels/cpu/`: any edit starts a
fresh one. A folder that cannot be written means no cache, never a failure.

Flags. `nnan` and `ninf` are on nowhere: they would let LLVM assume that NaN and infinity never happen, and then a diverging
run would show finite nonsense. What is used is named at the function:

  CONTRACT   a * b + c may become one fused multiply-add (one rounding fewer); nothing is reordered
  REDUCE     sums may also be reordered, which is what lets a reduction run in vector lanes. The order depends on the
             length and the machine, not on the data or the number of threads: the same call gives the same bits.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numba.extending
import numpy as np

_numba: Any = numba  # its decorators and settings carry no types that a checker could use
intrinsic: Any = numba.extending.intrinsic
carray: Any = _numba.carray
numba_settings: Any = _numba.config

CONTRACT = {"contract"}
REDUCE = {"contract", "reassoc", "nsz"}


def _cache_folder() -> str | None:
    """<base>/handgrad-<hash of all sources here>, made and tried; None where nothing can be written."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    base = os.environ.get("NUMBA_CACHE_DIR")
    if not base:
        base = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "handgrad", "numba")
    folder = os.path.join(base, f"handgrad-{digest.hexdigest()[:12]}")
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None
    return folder


CACHE_FOLDER = _cache_folder()


def jit(
    *, parallel: bool = False, fastmath: set[str] | None = None, inner: bool = False
) -> Callable[[Callable[..., Any]], Any]:
    """Compile a module-level function at its first call for each dtype; `fastmath` is CONTRACT, REDUCE or nothing.

    inner: only other compiled functions call it, so it needs no entry from Python (which costs compile time).
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = _numba.njit(
            parallel=parallel, fastmath=fastmath or False, nogil=True, error_model="numpy",
            no_cfunc_wrapper=True, no_cpython_wrapper=inner,
        )(function)  # fmt: skip
        if CACHE_FOLDER is not None:
            before = numba_settings.CACHE_DIR
            numba_settings.CACHE_DIR = CACHE_FOLDER
            try:
                dispatcher.enable_caching()
            except (OSError, RuntimeError):  # the folder went away, or the source has no file: compile every time
                pass
            finally:
                numba_settings.CACHE_DIR = before
        return dispatcher

    return decorate


FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def frozen(array: np.ndarray) -> np.ndarray:
    """The array as every kernel wants its inputs: C-contiguous, aligned, read-only (itself if it is all that already).

    Numba compiles one version for each (dtype, layout, writeable): this keeps it at one.
    """
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        array = np.array(array, order="C")
        flags = array.flags
    if flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


def lent(offer: tuple[np.ndarray, bool] | None) -> tuple[np.ndarray, bool] | None:
    """The buffer lent for a gradient as (buffer, add), or None where there is none that a kernel can write through
    flat.
    """
    if offer is None or not (offer[0].flags.c_contiguous and offer[0].flags.aligned):
        return None
    return offer
