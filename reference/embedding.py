r"""Embedding: every id reads its row of a table.

    y_r = weight_{ids_r} = sum_v onehot(ids_r)_v weight_v

With the one-hot rows as a matrix H (R, V), y = H weight: linear, so dweight = H^T dy, which adds up the cotangents of
all positions that read the same row,

    dweight_v = sum over {r: ids_r = v} of dy_r        (scatter_rows)

and scatter_rows, x -> H^T x, has the transpose H again: its backward pass is an embedding. H is never built by a
kernel: only the rows that were read are touched. The ids are integers and have no derivative.
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


def embedding(weight: Array, ids: Array) -> Array:
    """y_r = weight_{ids_r}. Shapes: weight (V, C), ids (...) of integers in [0, V) -> (..., C)."""
    xp = array_namespace(weight)
    rows = xp.take(weight, _flat(ids), axis=0)  # (R, C)
    return xp.reshape(rows, (*ids.shape, weight.shape[1]))  # (..., C)


def embedding_vjp(dy: Array, y: Any, weight: Any, ids: Array) -> tuple[Array, None]:
    """dweight_v = sum over {r: ids_r = v} of dy_r."""
    return scatter_rows(lines(dy), _flat(ids), n=weight.shape[0]), None


def embedding_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...]) -> Array:
    """dy_r = dweight_{ids_r}."""
    return embedding(dinputs[0], inputs[1])


def embedding_definition(weight: Array, ids: Array) -> Array:
    """One number at a time."""
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
    """Few rows, so that some are read twice and some not at all."""
    v, c = (int(n) for n in rng.integers(1, 5, size=2))
    return Sample((rng.standard_normal((v, c)), rng.integers(0, v, size=random_shape(rng))), {}, "random")


def _draw_scatter_rows(rng: np.random.Generator) -> Sample:
    r, c, n = (int(n) for n in rng.integers(1, 5, size=3))
    return Sample((rng.standard_normal((r, c)), rng.integers(0, n, size=r)), {"n": n}, "random")


def _last_wins(dy: Array, y: Any, weight: Any, ids: Array) -> tuple[Array, None]:
    dweight = np.zeros(weight.shape, dy.dtype)
    dweight[ids] = dy  # the bug that += would not cure either: NumPy buffers repeated indices
    return dweight, None


def _averages(dy: Array, y: Any, weight: Any, ids: Array) -> tuple[Array, None]:
    total, _ = embedding_vjp(dy, y, weight, ids)
    times, _ = embedding_vjp(np.ones_like(dy), y, weight, ids)
    return total / np.maximum(1.0, times), None


def _off_by_one(dy: Array, y: Any, weight: Any, ids: Array) -> tuple[Array, None]:
    return np.roll(embedding_vjp(dy, y, weight, ids)[0], 1, axis=0), None


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
    draw=_draw_embedding,
    domain={"ids": "id:v"},
    formula=r"y_r = W_{k_r}",
    gradient=r"\bar W_v = \sum_{r : k_r = v} \bar y_r",
    samples=(
        Sample((np.arange(6.0).reshape(3, 2), np.array([2, 0, 2])), {}, "a row that is read twice, and one never"),
        Sample((np.arange(6.0).reshape(3, 2), np.array([[0, 1], [1, 2]])), {}, "a batch of sentences"),
        Sample((np.arange(6.0).reshape(3, 2), np.zeros((2, 0), np.int64)), {}, "sentences without words"),
        Sample((np.arange(6.0).reshape(3, 2), np.array(1)), {}, "a single id"),
    ),
    laws=("linear_in_weight",),
    wrong={
        "lets the last reading win": _last_wins,
        "averages repeated readings": _averages,
        "is off by one": _off_by_one,
    },
    tolerance=lambda weight, ids: 8.0 + ids.size,
    cost=lambda weight, ids: (0, ids.size + 2 * ids.size * weight.shape[1]),
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
