"""One example for the properties: a sample, and what is done to its arrays without changing what is to be computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...reference.op import Op, Sample
from .arrays import cast, is_float
from .layouts import LAYOUTS

CHANGES = ("huge", "tiny", "nan", "inf", "-inf")
SCALABLE = ("real", "positive", "nonzero", "distinct")


@dataclass(frozen=True)
class Example:
    """What hypothesis draws; it can be written down as it prints itself (numpy's names imported) to be tried again.

    dtype: of the floating point inputs; layouts: one an input, a name in LAYOUTS or "" (contiguous); frozen: read-only
    arrays; change: "" or one of CHANGES, done to the input number `at`, or to all (None): huge and tiny numbers, whose
    cubes are still in range, or one special value among ordinary ones; seed: of directions and places.
    """

    sample: Sample
    dtype: str = "float64"
    layouts: tuple[str, ...] = ()
    frozen: bool = True
    change: str = ""
    at: int | None = None
    seed: int = 0

    def arrays(self, op: Op) -> tuple[Any, ...]:
        """The inputs: other memory each time, so that what writes into them harms nobody."""
        return tuple(self._array(op, i, x) for i, x in enumerate(self.sample.inputs))

    def _array(self, op: Op, i: int, x: Any) -> Any:
        if isinstance(x, np.generic):
            x = np.asarray(x)
        if not isinstance(x, np.ndarray):
            return x
        a = np.array(cast(x, np.dtype(self.dtype)), order="C")
        if (
            self.change
            and self.at in (None, i)
            and a.size
            and is_float(a)
            and op.differentiable[0 if op.variadic else i]
        ):
            domain = op.domain.get(op.inputs[0 if op.variadic else i], "real")
            if self.change in ("huge", "tiny"):
                if domain in SCALABLE:
                    a *= a.dtype.type(2.0 ** (np.finfo(a.dtype).maxexp // 4 * (1 if self.change == "huge" else -1)))
            elif self.change != "-inf" or domain == "real":
                a.flat[self.seed % a.size] = float(self.change)
        layout = self.layouts[i] if i < len(self.layouts) else ""
        if layout:
            a = LAYOUTS[layout](a)
        if self.frozen:
            a = a.view()
            a.flags.writeable = False
        return a
