"""The memory of a launch: copies of the arrays, each with bytes of NaN around it and then pages that nobody may touch.

An access that misses an array by a little meets NaN, or leaves a mark there; one that misses it by more ends the launch. So
a wrong index harms nothing but the copy.
"""

import ctypes
import mmap
from typing import Any

import numpy as np

ALIGNED = 256
"""Arrays begin at multiples of this, as CuPy's do."""
FORBIDDEN = 1 << 20
"""Bytes before and after each array's pages that raise a signal."""

_libc: Any = ctypes.CDLL(None, use_errno=True)


def same(a: Any, b: Any) -> bool:
    """Whether both arguments are one array."""
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        return False
    return a.ctypes.data == b.ctypes.data and a.nbytes == b.nbytes and a.nbytes > 0


class Room:
    """One array's copy. `whole`: its pages; the array begins at `start`, as near to their end as ALIGNED allows."""

    def __init__(self, array: np.ndarray) -> None:
        page = mmap.PAGESIZE
        inside = page + -(-array.nbytes // ALIGNED) * ALIGNED  # at least a page of NaN before it
        inside = -(-inside // page) * page
        memory = np.frombuffer(mmap.mmap(-1, inside + 2 * FORBIDDEN), np.uint8)
        for start in (0, FORBIDDEN + inside):
            if _libc.mprotect(ctypes.c_void_p(memory.ctypes.data + start), ctypes.c_size_t(FORBIDDEN), 0):
                raise OSError(ctypes.get_errno(), "pages cannot be protected")
        self.whole = memory[FORBIDDEN : FORBIDDEN + inside]
        self.start = inside - -(-array.nbytes // ALIGNED) * ALIGNED
        self.bytes = array.nbytes
        self.whole[...] = 0xFF
        self.whole[self.start : self.start + self.bytes] = array.reshape(-1).view(np.uint8)

    @property
    def address(self) -> int:
        return self.whole.ctypes.data + self.start

    def untouched(self) -> bool:
        """Whether the bytes around the array are still what they were."""
        return bool((self.whole[: self.start] == 0xFF).all() and (self.whole[self.start + self.bytes :] == 0xFF).all())


class Memory:
    """The arguments of one launch: a room for each array (the same array twice is one), a value for each number."""

    def __init__(self, arguments: list[Any]) -> None:
        self._arguments = arguments
        self._rooms: list[Room | None] = []
        for k, argument in enumerate(arguments):
            if not isinstance(argument, np.ndarray):
                self._rooms.append(None)
                continue
            twin = next((j for j in range(k) if same(arguments[j], argument)), None)
            self._rooms.append(Room(argument) if twin is None else self._rooms[twin])
        self._values = [
            ctypes.create_string_buffer(a.tobytes()) if room is None else ctypes.c_void_p(room.address)
            for room, a in zip(self._rooms, arguments, strict=True)
        ]
        self.parameters = (ctypes.c_void_p * len(self._values))(*(ctypes.addressof(value) for value in self._values))
        """What cuLaunchKernel takes: the address of each argument's value."""

    def array(self, k: int) -> np.ndarray:
        room, like = self._rooms[k], self._arguments[k]
        assert room is not None
        return room.whole[room.start : room.start + room.bytes].view(like.dtype).reshape(like.shape)

    def overwritten(self) -> int | None:
        """Which array has a mark around it."""
        return next((k for k, room in enumerate(self._rooms) if room is not None and not room.untouched()), None)

    def near(self, address: int) -> tuple[int, int] | None:
        """(which array, how many bytes after its end, or negative before its start) of an address beside an array."""
        for k, room in enumerate(self._rooms):
            if room is not None:
                after, before = address - room.address - room.bytes, address - room.address
                if -FORBIDDEN - len(room.whole) < before < 0 or 0 <= after < FORBIDDEN + ALIGNED:
                    return k, min(before, 0) or after
        return None
