"""From walks through time to the pair of lstm: what is one product for all steps is made here, before and after the walk.

States and cells are kept as T + 1 arrays in the order of time: forwards, step t goes from entry t to entry t + 1; in
reverse, from entry t + 1 to entry t. Products are the matmul ladder's last rung in float32.

T: steps, B: sequences, I: inputs, H: units.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import matmul_07_warp_tile
from .launch import empty, laid, namespace
from .pairs import FLOAT32

product = matmul_07_warp_tile.production.multiply


@dataclass(frozen=True)
class Lstm:
    """walk(ys, gates, states, cells, u, bias, ends, reverse) and walk_back(da, dh, dc, dys, gates, cells, u, ends, reverse),
    as lstm_01_steps.py describes them; neither is called where T, B or H is 0.
    """

    walk: Callable[..., None]
    walk_back: Callable[..., None]

    def accepts(
        self, x: Any, h: Any, c: Any, w: Any, u: Any, b: Any, lengths: Any = None, *, reverse: bool = False
    ) -> bool:
        if any(a.dtype != FLOAT32 for a in (x, h, c, w, u, b)) or x.ndim != 3 or u.ndim != 2:
            return False
        (_, B, I), H = x.shape, u.shape[0]
        return (
            h.shape == c.shape == (B, H)
            and w.shape == (I, 4 * H)
            and u.shape == (H, 4 * H)
            and b.shape == (4 * H,)
            and (lengths is None or (lengths.shape == (B,) and lengths.dtype.kind in "iu"))
        )

    def forward(
        self, x: Any, h: Any, c: Any, w: Any, u: Any, b: Any, lengths: Any = None, *, reverse: bool = False
    ) -> tuple[tuple[Any, Any, Any], tuple[Any, ...]]:
        """ys (T, B, H), the last h and c (B, H) of x (T, B, I), h, c (B, H), w (I, 4H), u (H, 4H), b (4H,), lengths (B,).

        Residuals: the gates (T, B, 4H), states and cells (T + 1, B, H), and where each sequence ends.
        """
        (T, B, I), H, xp = x.shape, u.shape[0], namespace(x)
        ends = xp.full(B, T, np.int32) if lengths is None else xp.minimum(lengths, T).astype(np.int32)
        gates = product(laid(x).reshape(T * B, I), w).reshape(T, B, 4 * H)
        ys, states, cells = empty((T, B, H), x), empty((T + 1, B, H), x), empty((T + 1, B, H), x)
        first, last = (T, 0) if reverse else (0, T)
        states[first], cells[first] = h, c
        if ys.size:
            self.walk(ys, gates, states, cells, laid(u), laid(b), ends, reverse)
        return (ys, states[last].copy(), cells[last].copy()), (gates, states, cells, ends)

    def vjp(
        self, dy: tuple[Any, Any, Any], y: Any, x: Any, h: Any, c: Any, w: Any, u: Any, b: Any, *lengths: Any,
        residuals: tuple[Any, ...], wanted: Any, into: Any, reverse: bool = False,
    ) -> tuple:  # fmt: skip
        """(dx, dh, dc, dw, du, db[, None])."""
        gates, states, cells, ends = residuals
        (T, B, I), xp = x.shape, namespace(x)
        da = empty(gates.shape, gates)
        dys, dh, dc = (
            xp.zeros(shape, gates.dtype) if d is None else d
            for d, shape in zip(dy, ((T, *h.shape), h.shape, c.shape), strict=True)
        )
        dh, dc = (xp.array(d, order="C") for d in (dh, dc))  # of our own: the walk changes them
        if dys.size:
            self.walk_back(da, dh, dc, laid(dys), gates, cells, laid(u), ends, reverse)
        rows = da.reshape(T * B, gates.shape[-1])
        dx = product(rows, w.T).reshape(x.shape) if wanted[0] else None
        dw = du = db = None
        if wanted[3]:
            dw = product(_without_rests(x, ends, lengths).reshape(T * B, I).T, rows)
        if wanted[4]:
            before = states[1:] if reverse else states[:-1]
            du = product(before.reshape(T * B, -1).T if before.size else xp.zeros((len(u), T * B), da.dtype), rows)
        if wanted[5]:
            db = product(xp.ones((1, T * B), da.dtype), rows)[0]
        return dx, dh if wanted[1] else None, dc if wanted[2] else None, dw, du, db, *(None for _ in lengths)


def _without_rests(x: Any, ends: Any, lengths: tuple[Any, ...]) -> Any:
    """x (T, B, I) with zeros where a sequence rests: what lies there may be NaN, and 0 * NaN is NaN."""
    if not lengths or lengths[0] is None:
        return x
    xp = namespace(x)
    running = xp.arange(len(x))[:, None] < ends  # (T, B)
    return xp.where(running[:, :, None], x, x.dtype.type(0))
