"""The memory of a launch: copies of the arrays, each with bytes of NaN around it and then pages that nobody may touch.

An access that misses an array by a little meets NaN, or leaves a mark there; one that misses it by more ends the launch. So
a wrong index harms nothing but the copy.
"""

import ctypes
import mmap
from typing import Any

import numpy as np

from .tensor_map import TensorMap

ALIGNED = 256
"""Arrays begin at multiples of this, as CuPy's do."""
FORBIDDEN = 1 << 20
"""Bytes before and after each array's pages that raise a signal."""

_libc: Any = ctypes.CDLL(None, use_errno=True)


def array_of(argument: Any) -> np.ndarray | None:
    """The array of an argument: itself, or that of a tensor map; None for a number."""
    array = argument.array if isinstance(argument, TensorMap) else argument
    return array if isinstance(array, np.ndarray) else None


def same(a: Any, b: Any) -> bool:
    """Whether both arguments are one array."""
    a, b = array_of(a), array_of(b)
    if a is None or b is None:
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


def _value(room: Room | None, argument: Any) -> Any:
    """What a kernel gets: a number, the address of an array, or the struct of a tensor map."""
    if room is None:
        return ctypes.create_string_buffer(argument.tobytes())
    if isinstance(argument, TensorMap):
        return ctypes.create_string_buffer(argument.packed(room.address))
    return ctypes.c_void_p(room.address)


class Memory:
    """The arguments of one launch: a room for each array (the same array twice is one), a value for each number."""

    def __init__(self, arguments: list[Any]) -> None:
        self._arguments = arguments
        self._rooms: list[Room | None] = []
        for k, argument in enumerate(arguments):
            array = array_of(argument)
            if array is None:
                self._rooms.append(None)
                continue
            twin = next((j for j in range(k) if same(arguments[j], argument)), None)
            self._rooms.append(Room(array) if twin is None else self._rooms[twin])
        self._values = [_value(room, a) for room, a in zip(self._rooms, arguments, strict=True)]
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
