r"""One step of an LSTM: a cell that keeps what its gates let it keep.

Letters: b rows of the batch, i input features, h hidden units; gates in PyTorch's order i, f, g, o.

    z = x W + h U + bias                       (b, 4h)    z = [z_i, z_f, z_g, z_o], (b, h) each
    i = sigma(z_i), f = sigma(z_f), o = sigma(z_o)        input, forget and output gate, between 0 and 1
    g = tanh(z_g)                                         the candidate, between -1 and 1
    c' = f * c + i * g                         (b, h)     the cell: forget some, add some
    h' = o * tanh(c')                          (b, h)     what the outside sees of it

Backwards, a bar for the cotangent (`d` in the code). The cell is read twice, by the next step and by h', so its
cotangent is a sum; v = tanh c' has the slope 1 - v^2:

    e = c'bar + h'bar * o * (1 - v^2)                     everything that flows through the cell
    cbar = e * f                                          the highway: no matrix and no squashing on the way to c
    ibar = e * g,   fbar = e * c,   gbar = e * i,   obar = h'bar * v
    zbar = [ibar i (1 - i), fbar f (1 - f), gbar (1 - g^2), obar o (1 - o)]          sigma' = sigma (1 - sigma)
    xbar = zbar W^T,   hbar = zbar U^T,   Wbar = x^T zbar,   Ubar = h^T zbar,   biasbar = sum of zbar over rows
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .namespace import Array, array_namespace, swap
from .op import Op, Sample


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)), written with tanh, which does not overflow."""
    return 0.5 + 0.5 * array_namespace(z).tanh(0.5 * z)


def _parts(z: Array) -> tuple[Array, Array, Array, Array]:
    """(b, 4h) -> the four parts i, f, g, o: (b, h) each."""
    n = z.shape[-1] // 4
    return z[:, :n], z[:, n : 2 * n], z[:, 2 * n : 3 * n], z[:, 3 * n :]


def activated(z: Array) -> tuple[Array, Array, Array, Array]:
    """i, f, g, o of z (b, 4h): (b, h) each."""
    i, f, g, o = _parts(z)
    return sigmoid(i), sigmoid(f), array_namespace(z).tanh(g), sigmoid(o)


def _gates(x: Array, h: Array, w: Array, u: Array, b: Array) -> tuple[Array, Array, Array, Array]:
    """i, f, g, o: (b, h) each."""
    xp = array_namespace(x)
    return activated(xp.matmul(x, w) + xp.matmul(h, u) + b)


def lstm_cell(x: Array, h: Array, c: Array, w: Array, u: Array, b: Array) -> tuple[Array, Array]:
    """(h_new, c_new). Shapes: (b, i), (b, h), (b, h), (i, 4h), (h, 4h), (4h) -> (b, h), (b, h)."""
    i, f, g, o = _gates(x, h, w, u, b)
    c_new = f * c + i * g
    return o * array_namespace(x).tanh(c_new), c_new


def through_cell(
    dh_new: Array, dc_new: Array, c: Array, c_new: Array, gates: tuple[Array, Array, Array, Array]
) -> tuple[Array, Array]:
    """(dz, dc), (b, 4h) and (b, h):  e = dc_new + dh_new o (1 - v^2), v = tanh c_new;  dc = e f;  dz as above."""
    xp = array_namespace(c)
    i, f, g, o = gates
    v = xp.tanh(c_new)
    e = dc_new + dh_new * o * (1.0 - v * v)  # (b, h)
    dz = xp.concat(
        [
            e * g * i * (1.0 - i),
            e * c * f * (1.0 - f),
            e * i * (1.0 - g * g),
            dh_new * v * o * (1.0 - o),
        ],
        axis=-1,
    )  # (b, 4h)
    return dz, e * f


def _through_gates(
    dz: Array, dc: Array, x: Array, h: Array, w: Array, u: Array
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """The cotangents of all inputs from that of z (b, 4h)."""
    xp = array_namespace(dz)
    dx, dh = xp.matmul(dz, swap(w)), xp.matmul(dz, swap(u))  # (b, i), (b, h)
    dw, du = xp.matmul(swap(x), dz), xp.matmul(swap(h), dz)  # (i, 4h), (h, 4h)
    return dx, dh, dc, dw, du, xp.sum(dz, axis=0)


def lstm_cell_vjp(
    dy: tuple[Array, Array], y: tuple[Array, Array], x: Array, h: Array, c: Array, w: Array, u: Array, b: Array
) -> tuple[Array, ...]:
    """Through the cell to z, then through the matrix products."""
    dz, dc = through_cell(*dy, c, y[1], _gates(x, h, w, u, b))
    return _through_gates(dz, dc, x, h, w, u)


def lstm_cell_jvp(dinputs: tuple[Array, ...], y: tuple[Array, Array], inputs: tuple[Array, ...]) -> tuple[Array, Array]:
    """dz = dx W + x dW + dh U + h dU + db, then the product rule through the gates. None stands still."""
    x, h, c, w, u, b = inputs
    xp = array_namespace(x)
    dx, dh, dc, dw, du, db = (xp.zeros_like(a) if da is None else da for da, a in zip(dinputs, inputs, strict=True))
    i, f, g, o = _gates(x, h, w, u, b)
    di, df, dg, do = _parts(xp.matmul(dx, w) + xp.matmul(x, dw) + xp.matmul(dh, u) + xp.matmul(h, du) + db)
    di, df, dg, do = i * (1.0 - i) * di, f * (1.0 - f) * df, (1.0 - g * g) * dg, o * (1.0 - o) * do
    dc_new = df * c + f * dc + di * g + i * dg
    v = xp.tanh(y[1])
    return do * v + o * (1.0 - v * v) * dc_new, dc_new


def lstm_cell_definition(x: Array, h: Array, c: Array, w: Array, u: Array, b: Array) -> tuple[Array, Array]:
    """One unit of one row at a time."""

    def sigma(v: float) -> float:
        return 1 / (1 + math.exp(-v)) if v >= 0 else math.exp(v) / (1 + math.exp(v))

    h_new, c_new = np.empty_like(h), np.empty_like(c)
    n = h.shape[-1]
    for row, unit in np.ndindex(h.shape):
        z = []
        for column in (unit, n + unit, 2 * n + unit, 3 * n + unit):
            terms = [float(x[row, k]) * float(w[k, column]) for k in range(x.shape[1])]
            terms += [float(h[row, k]) * float(u[k, column]) for k in range(n)]
            z.append(math.fsum([*terms, float(b[column])]))
        cell = sigma(z[1]) * float(c[row, unit]) + sigma(z[0]) * math.tanh(z[2])
        h_new[row, unit] = sigma(z[3]) * math.tanh(cell)
        c_new[row, unit] = cell
    return h_new, c_new


def _tolerance(x: Array, h: Array, c: Array, w: Array, u: Array, b: Array) -> float:
    """Two sums of products, and f c + i g, which may cancel."""
    smallest = min(float(np.max(np.abs(out), initial=0.0)) for out in lstm_cell(x, h, c, w, u, b))
    cancelled = float(np.max(np.abs(c), initial=1.0)) / smallest if smallest > 0.0 else 1.0
    return float(4 + x.shape[1] + h.shape[1]) * cancelled


def _wrong(kind: str) -> Any:
    """The right vjp with one thing wrong."""

    def vjp(
        dy: tuple[Array, Array], y: tuple[Array, Array], x: Array, h: Array, c: Array, w: Array, u: Array, b: Array
    ) -> tuple[Array, ...]:
        dh_new, dc_new = dy
        i, f, g, o = _gates(x, h, w, u, b)
        v = np.tanh(y[1])
        e = dc_new + (0 if kind == "no path from h' into c'" else dh_new * o * (1 - v**2))
        di, df, do = e * g * i * (1 - i), e * c * f * (1 - f), dh_new * v * o * (1 - o)
        dg = e * i * (g * (1 - g) if kind == "sigmoid's slope for the candidate" else 1 - g**2)
        order = [di, df, do, dg] if kind == "gates in the order i, f, o, g" else [di, df, dg, do]
        dc = e if kind == "cell without its forget gate" else e * f
        return _through_gates(np.concatenate(order, axis=-1), dc, x, h, w, u)

    return vjp


def _sample(c: float, b: list[float], why: str) -> Sample:
    """Two rows, one input feature, one unit; the gates are set by the bias `b` alone."""
    x, h = np.array([[1.0], [-2.0]]), np.array([[0.5], [-0.5]])
    return Sample((x, h, np.full((2, 1), c), np.zeros((1, 4)), np.zeros((1, 4)), np.array(b)), {}, why)


LSTM_CELL = Op(
    "lstm_cell",
    lstm_cell,
    lstm_cell_vjp,
    lstm_cell_jvp,
    inputs=("x", "h", "c", "w", "u", "b"),
    outputs=("h_new", "c_new"),
    reads=("x", "h", "c", "w", "u", "b", "y"),
    definition=lstm_cell_definition,
    signature="(b,i),(b,h),(b,h),(i,4h),(h,4h),(4h)->(b,h),(b,h)",
    formula=r"c' = f \odot c + i \odot g, \quad h' = o \odot \tanh c', \quad"
    r" [i, f, g, o] = [\sigma, \sigma, \tanh, \sigma](x W + h U + b)",
    gradient=r"e = \bar c' + \bar h' \odot o \odot (1 - \tanh^2 c'), \quad \bar c = e \odot f, \quad"
    r" \bar z = [e g\, i (1 - i),\ e c\, f (1 - f),\ e i (1 - g^2),\ \bar h' \tanh(c')\, o (1 - o)]",
    samples=(
        _sample(3.0, [0.0, 0.0, 0.0, 0.0], "all gates half open"),
        _sample(3.0, [-50.0, 50.0, 1.0, 50.0], "closed input and open forget gate: the cell is kept"),
        _sample(3.0, [50.0, -50.0, 1.0, 50.0], "open input and closed forget gate: the cell is replaced"),
        _sample(0.0, [1.0, 2.0, -1.0, -1000.0], "a gate far out does not overflow"),
        Sample(
            (np.zeros((0, 2)), np.zeros((0, 1)), np.zeros((0, 1)), np.ones((2, 4)), np.ones((1, 4)), np.ones(4)),
            {},
            "no rows: the gradients of the weights are zero",
        ),
    ),
    laws=("rows_independent", "bounded_by_one"),
    wrong={
        kind: _wrong(kind)
        for kind in (
            "no path from h' into c'",
            "gates in the order i, f, o, g",
            "cell without its forget gate",
            "sigmoid's slope for the candidate",
        )
    },
    tolerance=_tolerance,
    cost=lambda x, h, c, w, u, b: (
        2 * x.shape[0] * (w.size + u.size) + 30 * h.size,
        x.size + 4 * h.size + w.size + u.size + b.size,
    ),
    source="Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000 (forget gate); PyTorch's nn.LSTMCell",
)
