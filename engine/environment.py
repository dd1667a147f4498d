"""Every HANDGRAD_* environment variable: its legal values, read and validated here and nowhere else.

    HANDGRAD_DEBUG     0 to 4, default 0. Each level does what the ones below it do:
                       1 prints operations, 2 also shapes and times, 3 compares every kernel call with its formula,
                       4 stops at the first NaN and names the operation that made it.
    HANDGRAD_KERNELS   auto | off | force, default auto. auto runs a kernel where one accepts the arrays and the formula
                       elsewhere; off runs formulas only; force refuses to run a formula in a kernel's place.
    HANDGRAD_THREADS   a positive number of threads, default: the cores that this process may run on.

An empty value counts as not set.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from .errors import UserError

__all__ = ["Environment", "Kernels", "read"]

Kernels = Literal["auto", "off", "force"]


@dataclass(frozen=True)
class Environment:
    """What the HANDGRAD_* variables ask for; `threads=None` means that nothing was asked."""

    debug: int = 0
    kernels: Kernels = "auto"
    threads: int | None = None


def read(environ: Mapping[str, str] = os.environ) -> Environment:
    """Return the settings in `environ`; raise UserError, a ValueError, naming the variable whose value is wrong."""
    debug = _value(environ, "HANDGRAD_DEBUG", "0")
    if debug not in ("0", "1", "2", "3", "4"):
        raise UserError(f"HANDGRAD_DEBUG is {debug!r}, but it must be 0, 1, 2, 3 or 4")
    kernels = _value(environ, "HANDGRAD_KERNELS", "auto")
    if kernels not in ("auto", "off", "force"):
        raise UserError(f"HANDGRAD_KERNELS is {kernels!r}, but it must be auto, off or force")
    threads = _value(environ, "HANDGRAD_THREADS", "")
    if threads and not (threads.isascii() and threads.isdigit() and int(threads) > 0):
        raise UserError(f"HANDGRAD_THREADS is {threads!r}, but it must be a positive whole number such as 4")
    return Environment(int(debug), cast(Kernels, kernels), int(threads) if threads else None)


def _value(environ: Mapping[str, str], name: str, default: str) -> str:
    return environ.get(name, "").strip() or default
