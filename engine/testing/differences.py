"""Derivatives without calculus: central differences, extrapolated, with an error estimate that can be believed.

Along a direction v the central difference D(h) = (f(x + h v) - f(x - h v)) / 2h has an error in even powers of h alone,

    D(h) = f'(x) v + c_2 h^2 + c_4 h^4 + ...

so two of them, at h and h/2, cancel the first power: (4 D(h/2) - D(h)) / 3. Repeating that on the results (Richardson
1911; Romberg 1955; Press et al., Numerical Recipes, section 5.7, after Ridders 1982) gives a triangle

    T[k][j] = (4^j T[k][j-1] - T[k-1][j-1]) / (4^j - 1),   T[k][0] = D(h 2^-k)

whose last entry has an error of order h^(2 LEVELS). Two things can be wrong with it, and both are estimated here:

- truncation, or a kink nearby: then the last entries of the triangle disagree with each other. At a kink itself they
  agree, on the mean of the two slopes; but then (f(x + h v) - 2 f(x) + f(x - h v)) / 2h, which has odd powers of h
  alone, does not go to zero, and its limit is half of the difference between the slopes;
- rounding: f carries an error of eps |f|, which dividing by the smallest h magnifies. How sensitive f is to the rounding
  of its inputs is measured, by jittering them by half an eps (Higham: Accuracy and Stability, section 1.5: a good
  algorithm loses as much as such a jitter does).

No tolerance is chosen by hand: what a check allows is this estimate. Where the function can be run in longdouble
(eps 1e-19 on x86) the estimate is a thousand times smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arrays import JITTERS, inner, jitter, largest, unseen

LEVELS = 5
STEPS = (2.0**-4, 2.0**-7, 2.0**-11)  # where to start: the smaller ones for functions with a kink or a pole nearby

CONCLUSIVE = 1e-4
"""How much of the derivative's size its own error estimate may be: a factor of 1.001 must stand out ten times over."""

Arrays = Sequence[Any]


class Redraw(Exception):
    """This trial cannot decide (its error estimate is too poor here): draw another one."""


def _weights() -> np.ndarray:
    """What D(h 2^-k) counts in T[-1][-1]: the extrapolation is linear."""
    rows = [np.eye(LEVELS)[k] for k in range(LEVELS)]
    for j in range(1, LEVELS):
        rows = [(4.0**j * rows[k] - rows[k - 1]) / (4.0**j - 1) for k in range(1, len(rows))]
    return rows[0]


_WEIGHTS = np.abs(_weights())


def moved(xs: Arrays, vs: Arrays, t: float) -> list[Any]:
    """x + t v for every input that has a direction."""
    return [
        x if v is None else x + np.asarray(v, x.dtype) * np.asarray(t, x.dtype) for x, v in zip(xs, vs, strict=True)
    ]


def noise(f: Callable[[list[Any]], Arrays], xs: Arrays, ys: Arrays, eps: float, rng: np.random.Generator) -> list[Any]:
    """How far each result moves when the inputs are rounded differently, plus one rounding of the result itself."""
    spread = [np.abs(y) * eps for y in ys]
    for _ in range(JITTERS):
        for i, (y, other) in enumerate(zip(ys, f([jitter(x, eps, rng) for x in xs]), strict=True)):
            spread[i] = np.maximum(spread[i], np.abs(other - y))
    return spread


def derivative(
    f: Callable[[list[Any]], Arrays], xs: Arrays, vs: Arrays, rng: np.random.Generator, *, start: float
) -> list[tuple[Any, Any]]:
    """d/dt f(x + t v) at t = 0: for each result of f the pair (derivative, error estimate), entry by entry.

    f: takes and returns a list of arrays. xs: its inputs; vs: a direction for each, or None where an input stays.
    start: the largest step h.
    """
    ys = f(list(xs))
    eps = max((float(np.finfo(y.dtype).eps) for y in ys), default=0.0)
    steps = [start * 2.0**-k for k in range(LEVELS)]
    with np.errstate(all="ignore"):
        values = [(f(moved(xs, vs, h)), f(moved(xs, vs, -h))) for h in steps]
        rounding = noise(f, xs, ys, eps, rng)
        magnified = float(sum(w / h for w, h in zip(_WEIGHTS, steps, strict=True)))
        results = []
        for i, y in enumerate(ys):
            row = [(up[i] - down[i]) / np.asarray(2 * h, y.dtype) for h, (up, down) in zip(steps, values, strict=True)]
            triangle = [row]
            for j in range(1, LEVELS):
                factor = np.asarray(4.0**j, y.dtype)
                row = [(factor * row[k] - row[k - 1]) / (factor - 1) for k in range(1, len(row))]
                triangle.append(row)
            best = triangle[-1][-1]
            rivals = (triangle[-2][-1], triangle[-2][-2], triangle[-3][-1])
            truncation = np.maximum.reduce([np.abs(best - rival) for rival in rivals])
            truncation = truncation + np.abs(_bend(y, [(up[i], down[i]) for up, down in values], steps))
            floor = eps * max(unseen(xs), largest(y, *(up[i] for up, _ in values)))
            error = 4 * truncation + 4 * magnified * (rounding[i] + floor)
            results.append((best, np.where(np.isfinite(best), error, np.inf)))
    return results


def _bend(y: Any, pairs: list[tuple[Any, Any]], steps: list[float]) -> Any:
    """Half the difference between the slopes to the right and to the left, extrapolated: zero where f is smooth."""
    row = [(up - 2 * y + down) / np.asarray(2 * h, y.dtype) for h, (up, down) in zip(steps, pairs, strict=True)]
    for j in range(1, LEVELS):
        factor = np.asarray(2.0 ** (2 * j - 1), y.dtype)
        row = [(factor * row[k] - row[k - 1]) / (factor - 1) for k in range(1, len(row))]
    return row[0]


def slope(
    f: Callable[[list[Any]], Arrays], xs: Arrays, vs: Arrays, weights: Arrays, rng: np.random.Generator, check: str
) -> tuple[Any, Any, list[tuple[Any, Any]]]:
    """d/dt <weights, f(x + t v)>: (value, allowed error, and what `derivative` gave for each result).

    Starts with a large step and goes on to smaller ones until the estimate is good. Raises Redraw, with `check` in its
    sentence, where no step lets the check conclude.
    """
    best: Any = None  # (value, allowed, found, scale)
    sizes = [np.abs(w) for w in weights]
    for start in STEPS:
        found = derivative(f, xs, vs, rng, start=start)
        value, size = inner(weights, [d for d, _ in found])
        allowed = inner(sizes, [error for _, error in found])[0]
        scale = size + inner(sizes, [np.abs(y) for y in f(list(xs))])[0]
        if np.isfinite(value) and np.isfinite(allowed) and (best is None or allowed < best[1]):
            best = (value, allowed, found, scale)
        if best is not None and best[1] <= CONCLUSIVE * 1e-4 * best[3]:
            break
    if best is None:
        raise Redraw(f"{check}: the function is not finite in the neighbourhood of this point")
    eps = max((float(np.finfo(y.dtype).eps) for y in f(list(xs))), default=0.0)
    nothing = 2.0**20 * eps * unseen(xs) * sum(float(np.sum(size)) for size in sizes)  # zero, as far as one can see
    if best[1] > max(CONCLUSIVE * best[3], nothing):
        raise Redraw(
            f"{check}: finite differences know the derivative only to {float(best[1]):.1e} at a size of "
            f"{float(best[3]):.1e}, which is too poor to conclude (is this point at a kink or a jump?)"
        )
    return best[0], best[1], best[2]
