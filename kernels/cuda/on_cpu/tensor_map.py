"""What a kernel's parameter `const __grid_constant__ TensorMap` is made of: an array and the box that a TMA load copies of it.

On a GPU the driver encodes it (cuTensorMapEncodeTiled); the emulator reads the plain struct of tma.hpp. The driver's rules are
held to here, so that a map that it would refuse is refused on either machine.
"""

import struct
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TensorMap:
    """A vector, matrix or several matrices (C-contiguous) of which a load copies a box: (numbers along a row, rows, matrices).

    swizzled: 16-byte pieces are spread over the banks as the 128-byte swizzle says. Raises ValueError for what TMA cannot do.
    """

    array: Any
    box: tuple[int, ...]
    swizzled: bool = True

    def __post_init__(self) -> None:
        array, size = self.array, self.array.dtype.itemsize
        if array.ndim not in (1, 2, 3) or array.ndim != len(self.box) or not array.flags.c_contiguous or not array.size:
            raise ValueError(
                f"a tensor map is of a C-contiguous vector or matrix (or several) that is not empty, a box of as many sides; "
                f"got {array.shape} with strides {array.strides} and {self.box}"
            )
        if array.ndim > 1 and array.strides[-2] % 16:
            raise ValueError(f"rows of {array.strides[-2]} bytes, but TMA needs a multiple of 16")
        if not all(1 <= side <= 256 for side in self.box) or self.box[0] * size % 16:
            raise ValueError(
                f"a box of {self.box} with {size} bytes a number: sides are 1 to 256, a row a multiple of 16 bytes"
            )
        if self.swizzled and self.box[0] * size != 128:
            raise ValueError(
                f"a row of the box has {self.box[0] * size} bytes, but it is swizzled in pieces of 128 bytes"
            )

    def packed(self, address: int) -> bytes:
        """The struct of tma.hpp, for a copy of the array at that address."""
        strides = (*self.array.strides[-2::-1], 0, 0)[:2]
        sizes, box = (*self.array.shape[::-1], 1, 1)[:3], (*self.box, 1, 1)[:3]
        words = (self.array.ndim, self.array.dtype.itemsize, self.swizzled, *sizes, *box)
        return struct.pack("=QQQ9I68x", address, *strides, *words)
