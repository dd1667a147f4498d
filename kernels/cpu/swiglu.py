"""SwiGLU: y = silu(g) u of a gate g and what it lets through, u   (Shazeer 2020, GLU Variants Improve Transformer).

    dg = dy u (s + g s (1 - s)),   du = dy g s,   s = 1 / (1 + e^(-g))

s (1 - s) is t / (1 + t)^2 with t = e^(-|g|), as in silu.py: 1 - s would cancel. s is computed again on the way back, once for
both gradients; nothing but g and u is kept. Beyond |g| = 1000, t is 0 in both formats, so the g of dg is clamped there: no
inf * 0.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import prange

from . import silu
from .exp import exp
from .jit import CONTRACT, FLOATS, frozen, jit, lent
from .threads import CHUNK, PARALLEL_WORK, chunks


@jit(fastmath=CONTRACT)
def swiglu_forward_02_one_visit(gate, up, y, first, last):
    """silu(gate) is never stored: 4.2 times rung 01 with the threads of rung 03 (768 x 512 float32: 160 to 38
    us). Elements first to last; all flat.
    """
    one = gate.dtype.type(1)
    gate, up, y = gate[first:last], up[first:last], y[first:last]
    for i in range(gate.size):
        y[i] = gate[i] / (one + exp(-gate[i])) * up[i]


@jit(parallel=True)
def swiglu_forward_03_threads(gate, up, y, blocks):
    """Chunks on all threads."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        swiglu_forward_02_one_visit(gate, up, y, b * CHUNK, (b + 1) * CHUNK)


@jit(fastmath=CONTRACT)
def swiglu_vjp_02_one_visit(dy, gate, up, dgate, dup, add, first, last):
    """One exponential for both gradients: 3.8 times rung 01 with the threads of rung 03 (319 to 85 us). Elements
    first to last; add: for each of dgate and dup, whether it is added to or written. One that is not wanted is empty,
    and left alone.
    """
    number = gate.dtype.type
    zero, one, limit = number(0), number(1), number(1000)
    dy, gate, up = dy[first:last], gate[first:last], up[first:last]
    add_gate, add_up = add
    want_gate, want_up = dgate.size > 0, dup.size > 0
    dgate, dup = dgate[first:last], dup[first:last]
    for i in range(gate.size):
        g = gate[i]
        v = limit if g > limit else g  # NaN stays NaN: both comparisons are false
        v = -limit if v < -limit else v
        tail = exp(-abs(v))  # at most 1
        share = one / (one + tail)
        s = share if v > zero else tail * share
        if want_gate:
            dgate[i] = dy[i] * up[i] * (s + v * (tail * share * share)) + (dgate[i] if add_gate else zero)
        if want_up:
            dup[i] = dy[i] * (g * s) + (dup[i] if add_up else zero)


@jit(parallel=True)
def swiglu_vjp_03_threads(dy, gate, up, dgate, dup, add, blocks):
    """Chunks on all threads."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        swiglu_vjp_02_one_visit(dy, gate, up, dgate, dup, add, b * CHUNK, (b + 1) * CHUNK)


def accepts(gate: Any, up: Any) -> bool:
    return gate.dtype in FLOATS and up.dtype == gate.dtype and up.shape == gate.shape


def forward(gate: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, None]:
    """y of gate and up, alike in shape."""
    y = np.empty(gate.shape, gate.dtype)
    arguments = frozen(gate).reshape(-1), frozen(up).reshape(-1), y.reshape(-1)
    if y.size < PARALLEL_WORK:
        swiglu_forward_02_one_visit(*arguments, 0, y.size)
    else:
        swiglu_forward_03_threads(*arguments, chunks(y.size))
    return y, None


def vjp(dy: np.ndarray, y: Any, gate: np.ndarray, up: np.ndarray, *, residuals: None, wanted: Any, into: Any) -> tuple:
    """(dgate, dup); both may be written to, or added to, the buffers lent for them."""
    gradients, adds = [], []
    for want, offer in zip(wanted, into, strict=True):
        gradient, add = (lent(offer) or (np.empty(gate.shape, gate.dtype), False)) if want else (None, False)
        gradients.append(gradient)
        adds.append(add)
    nothing = np.empty(0, gate.dtype)
    flat = (nothing if gradient is None else gradient.reshape(-1) for gradient in gradients)
    arguments = frozen(dy).reshape(-1), frozen(gate).reshape(-1), frozen(up).reshape(-1), *flat, tuple(adds)
    if gate.size < PARALLEL_WORK:
        swiglu_vjp_02_one_visit(*arguments, 0, gate.size)
    else:
        swiglu_vjp_03_threads(*arguments, chunks(gate.size))
    return tuple(gradients)


def composed_forward(gate: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rung 01 as a pair: the kernel of silu and NumPy's product; silu(gate) is kept."""
    gated, _ = silu.forward(gate)
    return np.asarray(gated * up), gated


def composed_vjp(
    dy: np.ndarray, y: Any, gate: np.ndarray, up: np.ndarray, *, residuals: np.ndarray, wanted: Any, into: Any
) -> tuple:
    """Rung 01 as a pair: two products and the kernel of silu."""
    (dgate,) = silu.vjp(np.asarray(dy * up), None, gate, residuals=None, wanted=wanted[:1], into=into[:1])
    return dgate, np.asarray(dy * residuals) if wanted[1] else None


RUNGS = {"numba 01_composition": SimpleNamespace(forward=composed_forward, vjp=composed_vjp, accepts=accepts)}
"""The ladder's other rungs as pairs, so that they are checked and timed by name."""
