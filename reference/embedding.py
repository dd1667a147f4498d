r"""Embedding: every id reads its row of a table.

    y_r = weight_{ids_r} = sum_v onehot(ids_r)_v weight_v

With the one-hot rows as a matrix H (R, V), y = H weight: linear, so dweight = H^T dy, which adds up the cotangents of
all positions that read the same row,

    dweight_v = sum over {r: ids_r = v} of dy_r        (scatter_rows)

and scatter_rows, x -> H^T x, has the transpose H again: its backward pass is an embedding. H is never built by a
kernel: only the rows that were read are touched. The ids are integers and have no derivative.

The row `padding_idx`, what a sentence is filled up with, is read as it is but does not learn: it counts as a constant.
Its positions send no cotangent back, dy_r = 0 where ids_r = padding_idx before the rows are scattered, and along a
direction it stands still: with D = diag(1, .., 0 at padding_idx, .., 1), jvp = H D and vjp = (H D)^T = D H^T.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .elementwise import random_shape
from .extension import scatter_rows
from .namespace import Array, array_namespace, lines
from .op import Op, Sample

# ---- embedding


def _flat(ids: Array) -> Array:
    """(...) -> (R,)"""
    return array_namespace(ids).reshape(ids, (math.prod(ids.shape),))


def embedding(weight: Array, ids: Array, *, padding_idx: int | None = None) -> Array:
    """y_r = weight_{ids_r}. Shapes: weight (V, C), ids (...) of integers in [0, V) -> (..., C).

    padding_idx: a row in [0, V) that is read as it is, but gets no gradient.
    """
    xp = array_namespace(weight)
    rows = xp.take(weight, _flat(ids), axis=0)  # (R, C)
    return xp.reshape(rows, (*ids.shape, weight.shape[1]))  # (..., C)


def _learning(rows: Array, ids: Array, padding_idx: int | None) -> Array:
    """rows (..., C) that belong to ids (...), zeros where the id is padding."""
    if padding_idx is None:
        return rows
    xp = array_namespace(rows)
    return xp.where(xp.expand_dims(ids != padding_idx, axis=-1), rows, 0.0)


def embedding_vjp(dy: Array, y: Any, weight: Any, ids: Array, *, padding_idx: int | None = None) -> tuple[Array, None]:
    """dweight_v = sum over {r: ids_r = v} of dy_r; nothing for the padding row."""
    dy = _learning(dy, ids, padding_idx)
    return scatter_rows(lines(dy), _flat(ids), n=weight.shape[0]), None


def embedding_jvp(
    dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...], *, padding_idx: int | None = None
) -> Array:
    """dy_r = dweight_{ids_r}; the padding row stands still."""
    return _learning(embedding(dinputs[0], inputs[1]), inputs[1], padding_idx)


def embedding_definition(weight: Array, ids: Array, *, padding_idx: int | None = None) -> Array:
    """One number at a time. Padding is read like every other row: only learning differs."""
    y = np.empty((*ids.shape, weight.shape[1]), weight.dtype)
    for place in np.ndindex(y.shape):
        y[place] = weight[int(ids[place[:-1]]), place[-1]]
    return y


# ---- scatter_rows (the function itself is in extension.py)


def scatter_rows_vjp(dy: Array, y: Any, x: Any, ids: Array, *, n: int) -> tuple[Array, None]:
    """dx_r = dy_{ids_r}."""
    return embedding(dy, ids), None


def scatter_rows_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...], *, n: int) -> Array:
    """dy_v = sum over {r: ids_r = v} of dx_r."""
    return scatter_rows(dinputs[0], inputs[1], n=n)


def scatter_rows_definition(x: Array, ids: Array, *, n: int) -> Array:
    """One number at a time."""
    out = np.zeros((n, x.shape[1]))
    for v, c in np.ndindex(out.shape):
        out[v, c] = math.fsum(float(x[r, c]) for r in range(x.shape[0]) if int(ids[r]) == v)
    return out


# ---- the rows


def _draw_embedding(rng: np.random.Generator) -> Sample:
    """Few rows, so that some are read twice and some not at all. The padding row is among the latter: where it is read,
    its gradient is zero by decree, and finite differences know of none."""
    v, c = (int(n) for n in rng.integers((2, 1), 5))
    ids, padding_idx = rng.integers(0, v, size=random_shape(rng) or (3,)), None
    if rng.integers(2):
        padding_idx = int(rng.integers(v))
        ids = np.where(ids == padding_idx, (padding_idx + 1) % v, ids)
    return Sample((rng.standard_normal((v, c)), ids), {"padding_idx": padding_idx}, "random")


def _draw_scatter_rows(rng: np.random.Generator) -> Sample:
    r, c, n = (int(n) for n in rng.integers(1, 5, size=3))
    return Sample((rng.standard_normal((r, c)), rng.integers(0, n, size=r)), {"n": n}, "random")


def _last_wins(dy: Array, y: Any, weight: Any, ids: Array, **params: Any) -> tuple[Array, None]:
    dweight = np.zeros(weight.shape, dy.dtype)
    dweight[ids] = dy  # the bug that += would not cure either: NumPy buffers repeated indices
    return dweight, None


def _averages(dy: Array, y: Any, weight: Any, ids: Array, **params: Any) -> tuple[Array, None]:
    total, _ = embedding_vjp(dy, y, weight, ids, **params)
    times, _ = embedding_vjp(np.ones_like(dy), y, weight, ids, **params)
    return total / np.maximum(1.0, times), None


def _off_by_one(dy: Array, y: Any, weight: Any, ids: Array, **params: Any) -> tuple[Array, None]:
    return np.roll(embedding_vjp(dy, y, weight, ids, **params)[0], 1, axis=0), None


def _check_embedding(weight: Any, ids: Any, *, padding_idx: int | None = None) -> None:
    if padding_idx is not None and not 0 <= padding_idx < weight.shape[0]:
        raise ValueError(f"embedding: padding_idx is {padding_idx}, but weight has {weight.shape[0]} rows")


EMBEDDING = Op(
    "embedding",
    embedding,
    embedding_vjp,
    embedding_jvp,
    inputs=("weight", "ids"),
    reads=("ids",),
    nondiff=("ids",),
    definition=embedding_definition,
    signature="(v,c),(...):int->(...,c)",
    check=_check_embedding,
    draw=_draw_embedding,
    domain={"ids": "id:v"},
    formula=r"y_r = W_{k_r}",
    gradient=r"\bar W_v = \sum_{r : k_r = v} \bar y_r, \quad \bar W_{\mathrm{padding}} = 0",
    samples=(
        Sample((np.arange(6.0).reshape(3, 2), np.array([2, 0, 2])), {}, "a row that is read twice, and one never"),
        Sample((np.arange(6.0).reshape(3, 2), np.array([[0, 1], [1, 2]])), {}, "a batch of sentences"),
        Sample((np.arange(6.0).reshape(3, 2), np.zeros((2, 0), np.int64)), {}, "sentences without words"),
        Sample((np.arange(6.0).reshape(3, 2), np.array(1)), {}, "a single id"),
        Sample(
            (np.arange(6.0).reshape(3, 2), np.array([[1, 2], [0, 2]])),
            {"padding_idx": 2},
            "padding is read as it is, and gets no gradient",
        ),
    ),
    laws=("linear_in_weight",),
    wrong={
        "lets the last reading win": _last_wins,
        "averages repeated readings": _averages,
        "is off by one": _off_by_one,
    },
    tolerance=lambda weight, ids, **params: 8.0 + ids.size,
    cost=lambda weight, ids, **params: (0, ids.size + 2 * ids.size * weight.shape[1]),
    source="Bengio, Ducharme, Vincent, Jauvin 2003, A neural probabilistic language model, section 2",
)

SCATTER_ROWS = Op(
    "scatter_rows",
    scatter_rows,
    scatter_rows_vjp,
    scatter_rows_jvp,
    inputs=("x", "ids"),
    reads=("ids",),
    nondiff=("ids",),
    definition=scatter_rows_definition,
    signature="(r,c),(r):int->(n,c)",
    draw=_draw_scatter_rows,
    formula=r"y_v = \sum_{r : k_r = v} x_r",
    gradient=r"\bar x_r = \bar y_{k_r}",
    samples=(
        Sample((np.arange(6.0).reshape(3, 2), np.array([1, 1, 0])), {"n": 4}, "two rows meet; two places stay empty"),
        Sample((np.zeros((0, 2)), np.zeros(0, np.int64)), {"n": 3}, "no rows: zeros"),
        Sample((np.ones((4, 1)), np.zeros(4, np.int32)), {"n": 1}, "everything falls on one place"),
        Sample((np.zeros((2, 0)), np.array([0, 1])), {"n": 2}, "rows without entries"),
    ),
    laws=("linear_in_x",),
    wrong={
        "reads row r for row ids[r]": lambda dy, y, x, ids, *, n: (dy[np.arange(x.shape[0]) % n], None),
        "reads in the order of the ids": lambda dy, y, x, ids, *, n: (dy[np.sort(ids)], None),
        "divides by how many met": lambda dy, y, x, ids, *, n: (
            dy[ids] / np.sum(ids[:, None] == ids[None, :], axis=1, keepdims=True),
            None,
        ),
    },
    tolerance=lambda x, ids, *, n: 8.0 + x.shape[0],
    cost=lambda x, ids, *, n: (x.size, x.size + ids.size + n * x.shape[1]),
    source="the transpose of embedding, by its definition <H^T x, w> = <x, H w>",
)
