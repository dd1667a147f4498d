"""Index arrays at the door: Numba checks no bounds, so ids are checked before any memory is touched."""

import numpy as np

from .jit import frozen, jit


@jit()
def _smallest_and_largest(ids):
    low, high = ids[0], ids[0]
    for i in range(ids.size):
        low, high = min(low, ids[i]), max(high, ids[i])
    return low, high


def flat_ids(ids: np.ndarray) -> np.ndarray:
    """ids flat as int64, as kernels want them."""
    return frozen(ids if ids.dtype == np.int64 else ids.astype(np.int64)).reshape(-1)


def checked_ids(ids: np.ndarray, limit: int, what: str, against: str) -> np.ndarray:
    """ids flat as int64; IndexError `<what> holds 70, but <against>` unless all lie in [0, limit)."""
    flat = flat_ids(ids)
    if flat.size:
        low, high = _smallest_and_largest(flat)
        if low < 0 or high >= limit:
            raise IndexError(f"{what} holds {low if low < 0 else high}, but {against}")
    return flat
