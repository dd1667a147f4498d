"""What attention keeps of a text that is read piece by piece, so that no position is computed twice.

B: batch, H: heads, D: channels of a head, T: new positions.

A causal model's keys and values of a position depend on nothing behind it: with those of all positions before, a piece of
T positions costs what T positions cost, whatever stands in front of it. T queries that look at all n keys so far, causal
aligned to the end, see what they would have seen in the whole text.
"""

from __future__ import annotations

import numpy as np

from ..device import library
from ..tensor import Tensor

__all__ = ["KeyValueCache"]


class KeyValueCache:
    """The keys and values of `length` positions so far, with room for `room`. Numbers without history: for no_grad."""

    def __init__(self, room: int) -> None:
        self.room, self.length = room, 0
        self._keys = self._values = np.empty((0, 0, 0, 0), np.float32)  # on the device of what comes first

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Take in k and v (B, H, T, D); return those of all positions so far, (B, H, length, D), that share our memory.

        Raises RuntimeError where a gradient would have to follow, ValueError where there is no room or B, H, D, dtype are
        not those of the positions before.
        """
        if k.requires_grad or v.requires_grad:
            raise RuntimeError("KeyValueCache: it keeps numbers without their history; read a text under no_grad()")
        B, H, T, D = k.shape
        if not self.length:
            self._keys, self._values = (library(k.data).empty((B, H, self.room, D), k.dtype) for _ in range(2))
        end = self.length + T
        if self._keys[:, :, :T].shape != k.shape or self._keys.dtype != k.dtype:
            want = (*self._keys.shape[:2], T, self._keys.shape[3])
            raise ValueError(
                f"KeyValueCache: k has shape {tuple(k.shape)} and dtype {k.dtype}, but there is room for {self.room} "
                f"positions and those before make it {want} and {self._keys.dtype}"
            )
        if end > self.room:
            raise ValueError(
                f"KeyValueCache: {self.length} and {T} positions are more than the {self.room} it has room for"
            )
        self._keys[:, :, self.length : end], self._values[:, :, self.length : end] = k.data, v.data
        self.length = end
        return Tensor(self._keys[:, :, :end], copy=False), Tensor(self._values[:, :, :end], copy=False)
