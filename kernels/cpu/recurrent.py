"""What lstm, gru and rnn share: what is done for the whole sequence at once, before and after the walk through time.

    a = x W + b                    all steps and sequences as rows of one product, before
    walk                           one product of the state with U and one fused pass over its result a step
    dx = da W^T, dW = x^T da, db   one product each, after the walk back
    dU = hbefore^T dq              likewise; within a sequence the state before is the output of the step before

Per step only h U is left, which needs the state before. T: steps, B: sequences, I: inputs, H: hidden units, G: a
multiple of H. `ends` (B,) says at which step each sequence ends; behind it a sequence rests.
"""

from typing import Any

import numpy as np

from . import linear
from .jit import FLOATS, frozen


def order(steps: int, reverse: bool) -> range:
    """0, 1, .. steps - 1, or the other way round."""
    return range(steps - 1, -1, -1) if reverse else range(steps)


def sequence_ends(lengths: np.ndarray | None, x: np.ndarray) -> np.ndarray:
    """(B,) int64, at most T: T where there are no lengths."""
    T, B = x.shape[:2]
    ends = np.full(B, T, np.int64) if lengths is None else np.minimum(lengths, T).astype(np.int64)
    ends.flags.writeable = False
    return ends


def fits(x: Any, w: Any, u: Any, states: tuple[Any, ...], biases: tuple[Any, ...], lengths: Any) -> bool:
    """Whether shapes and dtypes are what the kernels are compiled for: Numba checks no bounds."""
    arrays = (x, w, u, *states, *biases)
    if x.dtype not in FLOATS or any(a.dtype != x.dtype for a in arrays) or x.ndim != 3 or u.ndim != 2:
        return False
    H, G = u.shape
    return (
        w.shape == (x.shape[2], G)
        and all(s.shape == (x.shape[1], H) for s in states)
        and all(b.shape == (G,) for b in biases)
        and (lengths is None or (lengths.shape == (x.shape[1],) and lengths.dtype.kind in "iu"))
    )


def projected(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """x W + b (T, B, G), an array of our own: one product instead of T."""
    return linear.forward(x, w, b)[0]


def projected_by_step(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The same with a product for every step: what the lowest rungs of the ladders do."""
    a = np.empty((*x.shape[:2], w.shape[1]), x.dtype)
    for t in range(x.shape[0]):
        np.dot(x[t], w, out=a[t])
        a[t] += b
    return a


def laid_out(matrix: np.ndarray) -> np.ndarray:
    """The matrix of the walk's products, contiguous; a copy where it is a transposed view, as nn.LSTM's U is.

    OpenBLAS multiplies few rows by a transposed view at half speed: (20, 200) by (200, 800) in 151 us, here in 80.
    """
    return np.ascontiguousarray(matrix)


def state_after(y: np.ndarray, before: np.ndarray, t: int, ends: np.ndarray, ragged: bool) -> np.ndarray:
    """h (B, H) behind step t: the output y where a sequence runs, what it was where it rests."""
    return frozen(np.where((ends > t)[:, None], y, before)) if ragged else frozen(y)


def state_before(ys: np.ndarray, h: np.ndarray, t: int, ends: np.ndarray, reverse: bool) -> np.ndarray:
    """h (B, H) in front of step t, right where a sequence runs: another step's output, or the first state."""
    if not reverse:
        return frozen(ys[t - 1]) if t else h
    following = ys[t + 1] if t + 1 < ys.shape[0] else h
    return frozen(np.where((ends > t + 1)[:, None], following, h))


def input_gradients(
    da: np.ndarray, x: np.ndarray, w: np.ndarray, b: Any, ends: np.ndarray, wanted: tuple, into: tuple
) -> tuple[Any, ...]:
    """(dx, dw, db) from da (T, B, G), which is zero where a sequence rests; so is then x: 0 * NaN would be NaN."""
    if wanted[1]:
        x = without_rests(x, ends)
    if not lies_transposed(w, into[1]):
        return linear.vjp(da, None, x, w, b, residuals=None, wanted=wanted, into=into)
    dx, dw, db = linear.vjp(da, None, x, w.T, b, residuals=None, wanted=wanted, into=into, transposed=True)
    return dx, None if dw is None else dw.T, db


def without_rests(x: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """x (T, B, I), contiguous, with zeros where a sequence rests."""
    T = x.shape[0]
    if np.all(ends >= T):
        return frozen(x)
    return np.where((np.arange(T)[:, None] < ends)[:, :, None], x, x.dtype.type(0))


def lies_transposed(matrix: np.ndarray, offer: Any) -> bool:
    """Whether the matrix is the transpose of what lies in memory, as nn.LSTM's weights are: its gradient is best that too,
    so that it is added to the leaf's line by line. Not where a buffer is offered.
    """
    return offer is None and matrix.T.flags.c_contiguous and not matrix.flags.c_contiguous


def state_weight_gradient(
    dq: np.ndarray, ys: np.ndarray, h: np.ndarray, u: np.ndarray, ends: np.ndarray, reverse: bool, offer: Any
) -> np.ndarray:
    """dU (H, G) = sum over t of hbefore_t^T dq_t. The first step of each sequence met h, all others an output.

    Outputs are zero where a sequence rests, and so is dq: neither adds anything.
    """
    T, B, _ = dq.shape
    before, later = (ys[1:], dq[:-1]) if reverse else (ys[:-1], dq[1:])
    transposed = lies_transposed(u, offer)
    _, du = linear.vjp(
        later, None, before, u.T if transposed else u, residuals=None, wanted=(False, True), into=(None, offer),
        transposed=transposed,
    )  # fmt: skip
    if T:
        first = dq[ends - 1, np.arange(B)] if reverse else dq[0]
        du += np.dot(first.T, h) if transposed else np.dot(h.T, first)
    return du.T if transposed else du


def start(d: Any, like: np.ndarray) -> np.ndarray:
    """A copy of the cotangent of a last state, (B, H); zeros where nobody used that state."""
    return np.zeros(like.shape, like.dtype) if d is None else np.array(d, order="C")


def outputs_cotangent(dys: Any, ys: np.ndarray) -> np.ndarray:
    """dys (T, B, H), contiguous; zeros where nobody used the outputs."""
    return frozen(np.zeros(ys.shape, ys.dtype) if dys is None else dys)
