"""How a Tensor looks: as what was given to its constructor, shortened."""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import host


def shown(t: Any) -> str:
    """Its repr; fetches the numbers from where they are."""
    text = np.array2string(host(t.data), separator=", ", threshold=100, precision=4, prefix="Tensor(")
    extra = "" if t.dtype == np.float32 else f", dtype={t.dtype.name}"
    extra += "" if t.device == "cpu" else f", device={t.device!r}"
    if t.node is not None:
        extra += f", op=<{t.node.op.name}>"
    elif t.requires_grad:
        extra += ", requires_grad=True"
    return f"Tensor({text}{extra})"
