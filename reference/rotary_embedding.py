r"""Rotary position embedding (RoPE): position p turns every pair of features by an angle of its own, p times a frequency.

Row p of x stands at position p + offset. Its d features are h = d / 2 pairs (a_i, b_i), and pair i turns at the speed w_i:

    w_i = base^(-2 i / d),   phi = (p + offset) w_i
    a_i' = a_i cos phi - b_i sin phi
    b_i' = a_i sin phi + b_i cos phi                        i = 0 ... h - 1

Fast pairs tell neighbours apart, slow ones tell far from near. A turn keeps lengths, and turning q by phi_p and k by
phi_s leaves in their inner product the difference alone: <R(phi_p) q, R(phi_s) k> = <q, R(phi_s - phi_p) k>. So an
attention score sees how far apart two tokens are and not where they stand.

The pairs are (i, i + h) as in GPT-NeoX and LLaMA; interleaved, they are the neighbours (2 i, 2 i + 1) of the paper. The
rows of the projection that makes x can be permuted from one order to the other; nothing else differs.

The map is linear, with an orthogonal matrix: R^T = R^-1. So the cotangent turns back, dx = R(-phi) dy, and a direction
turns like x. The angles hold no input; nothing of x or y is read.

Angles are computed in float64 at least, whatever x is, and only cos and sin are rounded to the dtype of x: in float32 an
angle of 10^5 would be known to 0.004 only, and the error would grow with the position.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .namespace import Array, array_namespace
from .op import Op, Sample


def _turn(x: Array, direction: float, base: float, offset: int, interleaved: bool) -> Array:
    """R(phi) x for direction 1, R(-phi) x for direction -1. Shapes: (..., t, d) -> (..., t, d)."""
    xp = array_namespace(x)
    t, h = x.shape[-2], x.shape[-1] // 2
    wide = xp.result_type(x.dtype, xp.float64)
    position = offset + xp.arange(t, dtype=wide)[:, None]  # (t, 1)
    frequency = xp.exp(xp.arange(h, dtype=wide) * (-math.log(base) / max(h, 1)))  # (h)
    phi = position * frequency  # (t, h)
    cos, sin = xp.astype(xp.cos(phi), x.dtype), xp.astype(direction * xp.sin(phi), x.dtype)
    if interleaved:
        a, b = x[..., 0::2], x[..., 1::2]  # (..., t, h)
        pairs = xp.stack((a * cos - b * sin, a * sin + b * cos), axis=-1)  # (..., t, h, 2)
        return xp.reshape(pairs, x.shape)  # (..., t, d)
    a, b = x[..., :h], x[..., h:]  # (..., t, h)
    return xp.concat((a * cos - b * sin, a * sin + b * cos), axis=-1)  # (..., t, d)


def rotary_embedding(x: Array, *, base: float = 10000.0, offset: int = 0, interleaved: bool = False) -> Array:
    """y = R(phi) x: the pairs of row p are turned by the angles (p + offset) w_i. Shapes: (..., t, d) -> (..., t, d)."""
    return _turn(x, 1.0, base, offset, interleaved)


def rotary_embedding_vjp(
    dy: Array, y: Any, x: Any, *, base: float = 10000.0, offset: int = 0, interleaved: bool = False
) -> tuple[Array]:
    """dx = R(-phi) dy: an orthogonal matrix is transposed by turning back."""
    return (_turn(dy, -1.0, base, offset, interleaved),)


def rotary_embedding_jvp(
    dinputs: tuple[Array], y: Any, inputs: Any, *, base: float = 10000.0, offset: int = 0, interleaved: bool = False
) -> Array:
    """dy = R(phi) dx: the map is linear."""
    return _turn(dinputs[0], 1.0, base, offset, interleaved)


def rotary_embedding_definition(
    x: Array, *, base: float = 10000.0, offset: int = 0, interleaved: bool = False
) -> Array:
    """One pair at a time, as a complex number: multiplying with e^(i phi) is turning by phi."""
    y = np.empty_like(x)
    d = x.shape[-1]
    for *lead, p in np.ndindex(x.shape[:-1]):
        for i in range(d // 2):
            first, second = (2 * i, 2 * i + 1) if interleaved else (i, i + d // 2)
            phi = (p + offset) / base ** (2 * i / d)
            pair = complex(x[*lead, p, first], x[*lead, p, second]) * complex(math.cos(phi), math.sin(phi))
            y[*lead, p, first], y[*lead, p, second] = pair.real, pair.imag
    return y


def _draw(rng: np.random.Generator) -> Sample:
    lead = tuple(int(length) for length in rng.integers(1, 4, size=rng.integers(0, 3)))
    t, h = int(rng.integers(2, 6)), int(rng.integers(2, 4))  # one pair alone: see the samples
    params = {
        "base": float(rng.choice([10000.0, 500.0])),
        "offset": int(rng.integers(0, 4)),
        "interleaved": bool(rng.random() < 0.5),
    }
    return Sample((rng.standard_normal((*lead, t, 2 * h)),), params, "random")


def _tolerance(x: Array, *, base: float = 10000.0, offset: int = 0, interleaved: bool = False) -> float:
    """An angle of p radians is known to a few p eps, and it turns a pair by so much too far."""
    return 8.0 + 4.0 * (abs(offset) + x.shape[-2])


def _wrong(dx_of: Any) -> Any:
    """A wrong vjp: dx_of(dy, base, offset, interleaved)."""

    def vjp(
        dy: Array, y: Any, x: Any, *, base: float = 10000.0, offset: int = 0, interleaved: bool = False
    ) -> tuple[Array]:
        return (dx_of(dy, base, offset, interleaved),)

    return vjp


_X = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 2.0, 0.0], [1.0, 0.0, 0.0, 1.0]])

ROTARY_EMBEDDING = Op(
    "rotary_embedding",
    rotary_embedding,
    rotary_embedding_vjp,
    rotary_embedding_jvp,
    inputs=("x",),
    definition=rotary_embedding_definition,
    signature="(...,t,2h)->(...,t,2h)",
    draw=_draw,
    formula=r"\begin{pmatrix} a_i' \\ b_i' \end{pmatrix} = \begin{pmatrix} \cos\varphi & -\sin\varphi \\ \sin\varphi & "
    r"\cos\varphi \end{pmatrix} \begin{pmatrix} a_i \\ b_i \end{pmatrix}, \quad \varphi = p\, \beta^{-2i/d}",
    gradient=r"\bar x = R(\varphi)^\top \bar y = R(-\varphi)\, \bar y",
    samples=(
        Sample((_X[None],), {}, "the first token stands at position 0 and is not turned"),
        Sample((_X,), {"interleaved": True}, "neighbouring features are a pair, and no leading axes"),
        Sample((_X,), {"offset": 7}, "what a cache holds came before: positions do not start at zero"),
        Sample((_X,), {"offset": 1_000_003}, "far out an angle needs its digits"),
        Sample((_X,), {"offset": -2}, "positions before zero turn the other way"),
        Sample((_X,), {"base": 500000.0}, "the slower base of models with a long context"),
        Sample((_X[:, :2],), {}, "a single pair turns one radian a position"),
        Sample((np.zeros((2, 0, 4)),), {}, "no tokens"),
        Sample((np.zeros((2, 3, 0)),), {}, "no features"),
    ),
    laws=("keeps_lengths", "sees_relative_positions", "linear_in_x"),
    wrong={
        "turns on instead of back": _wrong(lambda dy, base, offset, mix: _turn(dy, 1.0, base, offset, mix)),
        "counts positions from one": _wrong(lambda dy, base, offset, mix: _turn(dy, -1.0, base, offset + 1, mix)),
        "pairs the features the other way": _wrong(
            lambda dy, base, offset, mix: _turn(dy, -1.0, base, offset, not mix)
        ),
        "turns every pair at the speed of the first": _wrong(
            lambda dy, base, offset, mix: _turn(dy, -1.0, 1.0, offset, mix)
        ),
        "does not turn at all": _wrong(lambda dy, base, offset, mix: dy),
    },
    tolerance=_tolerance,
    cost=lambda x, *, base=10000.0, offset=0, interleaved=False: (3 * x.size, 2 * x.size),
    source="Su et al. 2021, RoFormer: Enhanced Transformer with Rotary Position Embedding, section 3.2.2",
)
