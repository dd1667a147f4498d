r"""What the array API standard lacks, as functions of it: the transposes of reading, and the error function.

Reading copies numbers, so its transpose adds cotangents up where they were read:

    y_r = x_{ids_r}        has the transpose    out_v = sum over {r: ids_r = v} of y_r      (scatter_rows)
    y   = x[key]           has the transpose    out[key] = y, zero elsewhere                (scatter_slice)

and each is the other's transpose again: <scatter_rows(y), x> = sum_r <y_r, x_{ids_r}>. So the backward pass of one is
the forward pass of the other, to any order. Rule of this file: the namespace's own version if it has one (that of the
engine's Tensors has them all, which keeps the tape), else the standard's functions. The rows stand in `embedding.py`
(SCATTER_ROWS), `indexing.py` (SCATTER_SLICE) and `erf.py` (ERF).
"""

from __future__ import annotations

import math
from typing import Any

from .constants import TWO_OVER_ROOT_PI, times
from .namespace import Array, array_namespace, swap

Key = tuple[int | slice, ...]
"""A canonical index: one int or slice an axis, ints non-negative. Steps may be negative where the library can."""


def selected_shape(key: Key, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of x[key] for an x of `shape`: a slice keeps its axis, an int drops it."""
    return tuple(len(range(n)[k]) for k, n in zip(key, shape, strict=True) if isinstance(k, slice))


def scatter_rows(x: Array, ids: Array, *, n: int) -> Array:
    """out_v = sum over {r: ids_r = v} of x_r. Shapes: x (R, C), ids (R,) of integers in [0, n) -> (n, C).

    As a product with the one-hot matrix of `ids`. (Zero times infinity: here one infinite entry of x spoils its whole
    column; a namespace's own version and the kernels add only what belongs together.)
    """
    xp: Any = array_namespace(x)
    own = getattr(xp, "scatter_rows", None)
    if own is not None:
        return own(x, ids, n=n)
    # Rows are counted in the default integer: 300 of them do not fit into the uint8 in which ids may come.
    onehot = xp.expand_dims(ids, axis=1) == xp.expand_dims(xp.arange(n), axis=0)  # (R, n)
    return xp.matmul(swap(xp.astype(onehot, x.dtype)), x)  # (n, C)


def scatter_slice(x: Array, *, key: Key, shape: tuple[int, ...]) -> Array:
    """Zeros of `shape` with x at [key]. Shapes: selected_shape(key, shape) -> shape.

    One axis after the other: what an int dropped comes back with length 1, then every axis is filled up with zeros.
    """
    xp: Any = array_namespace(x)
    own = getattr(xp, "scatter_slice", None)
    if own is not None:
        return own(x, key=key, shape=shape)
    places = [range(n)[k] if isinstance(k, slice) else range(k, k + 1) for k, n in zip(key, shape, strict=True)]
    out = xp.reshape(x, tuple(len(p) for p in places))  # an axis for every entry of `shape`
    for axis, n in enumerate(shape):
        out = _spread(out, axis, places[axis], n)
    return out


def _spread(x: Array, axis: int, places: range, n: int) -> Array:
    """Entry i of `axis` moves to places[i] of an axis of length n; zeros elsewhere. (.., m, ..) -> (.., n, ..)."""
    if places == range(n):
        return x
    if len(places) == 0:
        return _zeros(x, axis, n)
    xp: Any = array_namespace(x)
    if places.step < 0:
        x, places = xp.flip(x, axis=axis), places[::-1]
    if places.step > 1:  # zeros between: every entry becomes a group of `step`, headed by itself
        before, m, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
        groups = xp.expand_dims(x, axis=axis + 1)  # (.., m, 1, ..)
        groups = xp.concat([groups, _zeros(groups, axis + 1, places.step - 1)], axis=axis + 1)  # (.., m, step, ..)
        x = xp.reshape(groups, (*before, m * places.step, *after))
        x = x[(*[slice(None)] * axis, slice(0, places[-1] - places[0] + 1), ...)]  # no zeros after the last
    front, back = places[0], n - 1 - places[-1]
    return xp.concat([_zeros(x, axis, front), x, _zeros(x, axis, back)], axis=axis)


def _zeros(x: Array, axis: int, n: int) -> Array:
    """Zeros like x, but of length n along `axis`."""
    return array_namespace(x).zeros((*x.shape[:axis], n, *x.shape[axis + 1 :]), dtype=x.dtype)


def erf(x: Array) -> Array:
    r"""2 / sqrt(pi) * integral from 0 to x of e^(-t^2) dt, to a few eps of x's dtype. Shapes: (...) -> (...).

    Where |x| < 1, by a series; elsewhere as 1 - erfc |x| with x's sign. Beyond `reach` e^(-x^2) is below eps / 16 and
    the result is 1. Every number of terms follows from eps, so that float32, float64 and longdouble each get what they need.
    """
    xp: Any = array_namespace(x)
    own = getattr(xp, "erf", None)
    if own is not None:
        return own(x)
    eps = float(xp.finfo(x.dtype).eps)
    reach = math.sqrt(math.log(16.0 / eps))
    size = xp.where(x < 0.0, -x, x)
    near = size < 1.0  # neither branch sees numbers that it was not made for
    body = _erf_near_zero(xp.where(near, x, 0.0), eps)
    tail = _erfc_tail(xp.where(near, 1.0, xp.where(size > reach, reach, size)), reach)
    return xp.where(near, body, xp.where(x < 0.0, tail - 1.0, 1.0 - tail))


def _erf_near_zero(x: Array, eps: float) -> Array:
    r"""erf x for |x| <= 1. Shapes: (...) -> (...).

    f(x) = e^(x^2) * integral from 0 to x of e^(-t^2) dt solves f' = 1 + 2 x f with f(0) = 0. Comparing the coefficients of a
    power series, f = x + 2 x^3 / 3 + 4 x^5 / (3 * 5) + ... = sum over n of 2^n x^(2n+1) / (1 * 3 * 5 ... (2n+1)). All terms
    have the sign of x, so that nothing cancels, and n terms are summed from the last to the first (Horner's scheme).
    """
    last, term = 0, 1.0  # the terms at |x| = 1, where they are largest
    while term > eps / 8.0:
        last += 1
        term *= 2.0 / (2 * last + 1)
    xp: Any = array_namespace(x)
    square, total = x * x, xp.ones_like(x)
    twice = 2.0 * square
    for n in range(last, 0, -1):
        total = 1.0 + twice * total / (2 * n + 1)
    return times(x * xp.exp(-square) * total, TWO_OVER_ROOT_PI)


_STEP = 7.0 / 16.0  # few bits, so that (n h)^2 is exact from float32 on; e^(-pi^2 / h^2) = 4e-23


def _erfc_tail(x: Array, reach: float) -> Array:
    r"""erfc x = 1 - erf x for 1 <= x <= reach, as exact as 1 needs it. Shapes: (...) -> (...).

    erfc x = (x / pi) e^(-x^2) * integral over the real line of g(t) = e^(-t^2) / (t^2 + x^2), which the trapezoidal rule
    with the step h sums nearly without error: g is analytic but for the poles at t = +-ix, and by the residue theorem

        h sum over all n of g(n h)  =  integral of g  +  2 pi / x * e^(x^2) / (e^(2 pi x / h) - 1)  +  O(e^(-pi^2 / h^2)).

    Solved for erfc, with the terms n and -n, which are equal, taken together:

        erfc x = (2 h x / pi) e^(-x^2) [1 / (2 x^2) + sum over n >= 1 of e^(-n^2 h^2) / (n^2 h^2 + x^2)]
                 - 2 / (e^(2 pi x / h) - 1)

    Terms with n h > reach are below the rounding. (Matta and Reichel 1971, Mathematics of Computation 25; DLMF 7.7.1;
    Trefethen and Weideman 2014, SIAM Review 56, on why the trapezoidal rule is so good here.)
    """
    xp: Any = array_namespace(x)
    pi = 4.0 * xp.atan(xp.asarray(1.0, dtype=x.dtype))  # with all digits of the dtype
    square = x * x
    total = 0.5 / square
    for n in range(int(reach / _STEP), 0, -1):
        t2 = (n * _STEP) ** 2
        total = total + xp.exp(xp.asarray(-t2, dtype=x.dtype)) / (square + t2)
    turn = 2.0 / _STEP * pi * x
    poles = 2.0 * xp.exp(-turn) / -xp.expm1(-turn)  # 2 / (e^turn - 1), which would overflow in half precision
    return 2.0 * _STEP / pi * x * xp.exp(-square) * total - poles
