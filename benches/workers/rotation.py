"""What the sides of ops.py have in common: passes over copies in turn, and results whose memory was poisoned beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from serve import timed_block

HELD, HELD_BYTES = 8, 1 << 30
"""So many arrays of each result's size are filled with NaN at once, as far as they fit into so many bytes: whichever free
piece of memory the next one would have come from is among them."""


class Rotation:
    """A side between requests: `steps`, a function for each copy of the inputs, and whose turn it is."""

    def turn_to(self, steps: Sequence[Callable[[], Any]]) -> None:
        """From now on a pass is one of these, in turn."""
        self.steps, self.kept, self.turn = list(steps), [None] * len(steps), 0

    def step(self) -> None:
        """One pass over the next copy. What it returns is kept until this copy's next turn: results then lie in memory that
        was last touched as long ago as the inputs were.
        """
        self.turn = turn = (self.turn + 1) % len(self.steps)
        self.kept[turn] = None
        self.kept[turn] = self.steps[turn]()

    def block(self, seconds: float, inner: int = 1) -> list[tuple[float, float]]:
        """Passes for about `seconds`."""
        return timed_block(self.step, seconds, inner=inner)


def poison(
    shapes: Sequence[Sequence[int]], full: Callable[[Any], Any] | None = None, empty: Callable[[Any], Any] | None = None
) -> bool:
    """Fill the memory that arrays of these shapes will be allocated from with NaN, and free it again.

    So a number that a kernel forgets to write is not what an earlier pass left there. full, empty: how the side allocates
    (default NumPy's). Returns whether fresh arrays did come filled with NaN: malloc may also give pages that are all zero.
    """
    import numpy as np

    full = full or (lambda shape: np.full(shape, np.nan, np.float32))
    empty = empty or (lambda shape: np.empty(shape, np.float32))
    together = 4 * sum(math.prod(shape) for shape in shapes)
    held = [full(shape) for _ in range(max(1, min(HELD, HELD_BYTES // max(1, together)))) for shape in shapes]
    del held
    fresh = [empty(shape) for shape in shapes]
    # malloc writes its own notes into the first bytes of a free piece
    return all(float(np.isnan(np.asarray(a)).mean()) > 0.99 for a in fresh if math.prod(a.shape) > 1 << 12)
