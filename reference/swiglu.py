r"""SwiGLU: one linear layer says how far the gate of another opens, with silu for the gate.

    y = silu(g) u,   silu(g) = g s,   s = 1 / (1 + e^-g)

In LLaMA's feed-forward net g = x W_gate and u = x W_up, and y goes through W_down. By the product rule, with the slope of silu
from `activations.py`,

    du = dy silu(g),    dg = dy u silu'(g),    silu'(g) = s + g s (1 - s).

y is linear in u: no bound on the slope there, and a gate that is shut passes neither numbers nor gradients. Kernels make s once
for both gradients, and silu(g) is never stored.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .activations import SILU, silu, silu_vjp
from .elementwise import random_shape
from .namespace import Array
from .op import Op, Sample


def swiglu(gate: Array, up: Array) -> Array:
    """y = silu(gate) up. Shapes: (...), (...) -> (...), both alike."""
    return silu(gate) * up


def swiglu_vjp(dy: Array, y: Any, gate: Array, up: Array) -> tuple[Array, Array]:
    """dgate = dy up silu'(gate), dup = dy silu(gate)."""
    return silu_vjp(dy * up, y, gate)[0], dy * silu(gate)


def swiglu_jvp(dinputs: tuple[Array, ...], y: Any, inputs: tuple[Array, ...]) -> Array:
    """dy = silu'(gate) dgate up + silu(gate) dup. None is the direction of an input that stands still."""
    (dgate, dup), (gate, up) = dinputs, inputs
    parts = [] if dgate is None else [silu_vjp(dgate, y, gate)[0] * up]
    parts += [] if dup is None else [silu(gate) * dup]
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def swiglu_definition(gate: Array, up: Array) -> Array:
    """One number at a time."""
    y = np.zeros(gate.shape)
    for place in np.ndindex(gate.shape):
        g = float(gate[place])
        s = 1.0 / (1.0 + math.exp(-g)) if g > -700.0 else math.exp(g)
        y[place] = g * s * float(up[place])
    return y


def _check(gate: Any, up: Any) -> None:
    if tuple(up.shape) != tuple(gate.shape):
        raise ValueError(
            f"swiglu: up has shape {tuple(up.shape)}, but gate {tuple(gate.shape)} needs one of its own shape"
        )


def _draw(rng: np.random.Generator) -> Sample:
    shape = random_shape(rng)
    return Sample((2.0 * rng.standard_normal(shape), rng.standard_normal(shape)), {}, "random")


def _s(gate: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-gate))


SWIGLU = Op(
    "swiglu",
    swiglu,
    swiglu_vjp,
    swiglu_jvp,
    inputs=("gate", "up"),
    reads=("gate", "up"),
    definition=swiglu_definition,
    signature="(...),(...)->(...)",
    check=_check,
    draw=_draw,
    formula=r"y = \frac{g}{1 + e^{-g}} \, u",
    gradient=r"\bar g = \bar y \, u \left(s + g s (1 - s)\right), \quad \bar u = \bar y \, g s,"
    r" \quad s = \frac{1}{1 + e^{-g}}",
    samples=(
        Sample((np.array([0.0, 1.0, -1.0]), np.array([5.0, 2.0, -3.0])), {}, "at 0 the gate is shut, with slope 1/2"),
        Sample(
            (np.array([-1.2785, -1.278]), np.array([1.0, 1.0])), {}, "beside the gate's minimum, where its slope turns"
        ),
        Sample((np.array([1000.0, -1000.0]), np.array([0.5, 1e30])), {}, "far out it is the product, or zero"),
        Sample((np.array([2.0, -3.0]), np.array([0.0, 0.0])), {}, "nothing to let through: only up has a gradient"),
        Sample((np.array(0.5), np.array(-2.0)), {}, "arrays without axes"),
        Sample((np.zeros((2, 0)), np.zeros((2, 0))), {}, "nothing in, nothing out"),
    ),
    laws=("linear_in_up",),
    wrong={
        "exchanges the two": lambda dy, y, gate, up: swiglu_vjp(dy, y, gate, up)[::-1],
        "forgets up in the gate's gradient": lambda dy, y, gate, up: (silu_vjp(dy, y, gate)[0], dy * silu(gate)),
        "forgets that the gate holds g too": lambda dy, y, gate, up: (dy * up * _s(gate), dy * silu(gate)),
        "takes the sigmoid for the gate": lambda dy, y, gate, up: (silu_vjp(dy * up, y, gate)[0], dy * _s(gate)),
    },
    cost=lambda gate, up: (SILU.cost(gate)[0] + gate.size, 3 * gate.size),
    source="Shazeer 2020, GLU Variants Improve Transformer, section 2; Touvron et al. 2023 (LLaMA), section 2.2",
)
