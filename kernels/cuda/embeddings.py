"""From kernels to the pair of embedding: ids are checked and laid out here, and dweight begins as zeros."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .launch import Kernel, empty, laid, namespace
from .pairs import FLOAT32, Launch


@dataclass(frozen=True)
class Embedding:
    """forward_kernel(y, weight, ids, R, C), and add_rows(dweight, dy, ids, padding), which launches what it needs."""

    forward_kernel: Kernel
    launch: Launch
    add_rows: Callable[..., None]

    def accepts(self, weight: Any, ids: Any, *, padding_idx: int | None = None) -> bool:
        return weight.dtype == FLOAT32 and weight.ndim == 2 and ids.dtype.kind in "iu"

    def forward(self, weight: Any, ids: Any, *, padding_idx: int | None = None) -> tuple[Any, None]:
        """y (..., C) of weight (V, C) and ids (...). Raises IndexError when an id is no row."""
        V, C = weight.shape
        flat = _checked(ids, V)
        y = empty((*ids.shape, C), weight)
        if y.size:
            numbers = np.int32(flat.size), np.int32(C)
            self.forward_kernel(*self.launch(flat.size, C), (y, laid(weight), flat, *numbers))
        return y, None

    def vjp(
        self, dy: Any, y: Any, weight: Any, ids: Any, *,
        residuals: None, wanted: Any, into: Any, padding_idx: int | None = None,
    ) -> tuple:  # fmt: skip
        """(dweight (V, C), None)."""
        if not wanted[0]:
            return None, None
        dweight = namespace(dy).zeros(weight.shape, dy.dtype)
        if dy.size:
            flat = _checked(ids, weight.shape[0])
            self.add_rows(
                dweight, laid(dy).reshape(flat.size, -1), flat, -1 if padding_idx is None else int(padding_idx)
            )
        return dweight, None


def _checked(ids: Any, V: int) -> Any:
    """The ids (R,) as int64, all of them in [0, V). Looking costs a wait for the GPU; a kernel would read anywhere."""
    flat = laid(ids).reshape(-1).astype(np.int64)
    if flat.size:
        low, high = int(flat.min()), int(flat.max())
        if low < 0 or high >= V:
            raise IndexError(f"embedding: ids holds {low if low < 0 else high}, but weight has {V} rows")
    return flat
