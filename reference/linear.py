r"""Matrix products: `matmul`, and `linear`, the layer y = x W + b.

    Y = A B,   Y_mn = sum_k A_mk B_kn,   dY = dA B + A dB

With the inner product <X, Y> = sum_ij X_ij Y_ij, which may be turned: <X, A B> = <X B^T, A> = <A^T X, B>,

    <dY, dA B + A dB> = <dY B^T, dA> + <A^T dY, dB>,   so the cotangents are   dA = dY B^T   and   dB = A^T dY.

(The shapes leave no other choice: dA (m, k) can only come from dY (m, n) and B (k, n) in that way.) Leading axes are a
batch; where they broadcast, the cotangent is summed over them.

`linear` reads one weight for every row of x, so with the rows as a matrix X (R, in): dX = dY W^T, dW = X^T dY, and the
bias, added to every row, gets the sum of the rows of dY.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .elementwise import random_shape
from .namespace import Array, array_namespace, lines, swap, unbroadcast
from .op import Op, Sample

# ---- matmul


def matmul(x1: Array, x2: Array) -> Array:
    """y_mn = sum_k x1_mk x2_kn. Shapes: (..., m, k), (..., k, n) -> (..., m, n), leading axes broadcast."""
    return array_namespace(x1).matmul(x1, x2)


def matmul_vjp(dy: Array, y: Any, x1: Array, x2: Array, *, wanted: tuple[bool, ...] = (True, True)) -> tuple[Any, ...]:
    """dx1 = dy x2^T and dx2 = x1^T dy."""
    xp = array_namespace(dy)
    return (
        unbroadcast(xp.matmul(dy, swap(x2)), x1.shape) if wanted[0] else None,  # (..., m, k)
        unbroadcast(xp.matmul(swap(x1), dy), x2.shape) if wanted[1] else None,  # (..., k, n)
    )


def matmul_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...]) -> Array:
    """dy = dx1 x2 + x1 dx2: the product rule, in this order. None is the direction of an input that stands still."""
    (dx1, dx2), (x1, x2) = dinputs, inputs
    if dx2 is None:
        return matmul(dx1, x2)
    return matmul(x1, dx2) if dx1 is None else matmul(dx1, x2) + matmul(x1, dx2)


def matmul_definition(x1: Array, x2: Array) -> Array:
    """One number at a time: row m of x1 meets column n of x2."""
    batch = np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
    a = np.broadcast_to(x1, (*batch, *x1.shape[-2:]))
    b = np.broadcast_to(x2, (*batch, *x2.shape[-2:]))
    y = np.empty((*batch, x1.shape[-2], x2.shape[-1]))
    for *at, m, n in np.ndindex(y.shape):
        y[*at, m, n] = math.fsum(float(a[*at, m, k]) * float(b[*at, k, n]) for k in range(x1.shape[-1]))
    return y


# ---- linear


def linear(x: Array, weight: Array, bias: Array | None = None, *, transposed: bool = False) -> Array:
    """y = x W + b for every row of x. Shapes: x (..., in), weight (in, out), bias (out,) -> (..., out).

    transposed=True: the weight is stored (out, in), as in torch.nn.Linear, and y = x W^T + b.
    """
    xp = array_namespace(x)
    y = xp.matmul(lines(x), swap(weight) if transposed else weight)  # (R, out)
    if bias is not None:
        y = y + bias
    return xp.reshape(y, (*x.shape[:-1], y.shape[-1]))  # (..., out)


def linear_vjp(
    dy: Array,
    y: Any,
    x: Array,
    weight: Array,
    *bias: Any,
    transposed: bool = False,
    wanted: tuple[bool, ...] = (True, True, True),
) -> tuple[Any, ...]:
    """dX = dY W^T, dW = X^T dY, db = sum over the rows of dY; one entry for each input that was passed."""
    xp = array_namespace(dy)
    rows = lines(dy)  # (R, out)
    dx = dweight = None
    if wanted[0]:
        dx = xp.matmul(rows, weight if transposed else swap(weight))  # (R, in)
        dx = xp.reshape(dx, x.shape)
    if wanted[1]:
        dweight = xp.matmul(swap(rows), lines(x)) if transposed else xp.matmul(swap(lines(x)), rows)
    dbias = tuple(xp.sum(rows, axis=0) if b is not None and wanted[2] else None for b in bias)
    return (dx, dweight, *dbias)


def linear_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...], *, transposed: bool = False) -> Array:
    """dy = dx W + x dW + db. None is the direction of an input that stands still."""
    (dx, dweight, *dbias), (x, weight, *_) = dinputs, inputs
    terms = [] if dx is None else [linear(dx, weight, transposed=transposed)]
    terms += [] if dweight is None else [linear(x, dweight, transposed=transposed)]
    terms += [array_namespace(y).broadcast_to(db, y.shape) for db in dbias if db is not None]
    dy = terms[0]
    for term in terms[1:]:
        dy = dy + term
    return dy


def linear_definition(x: Array, weight: Array, bias: Array | None = None, *, transposed: bool = False) -> Array:
    """One number at a time."""
    n_in, n_out = weight.shape[::-1] if transposed else weight.shape
    y = np.empty((*x.shape[:-1], n_out))
    for *at, o in np.ndindex(y.shape):
        terms = [float(x[*at, i]) * float(weight[o, i] if transposed else weight[i, o]) for i in range(n_in)]
        y[*at, o] = math.fsum(terms if bias is None else [*terms, float(bias[o])])
    return y


# ---- the rows


def _draw_matmul(rng: np.random.Generator) -> Sample:
    """Half of the matrices are square, where a missing transposition goes unnoticed by the shapes."""
    m, k, n = (int(i) for i in rng.integers(1, 5, size=3))
    if rng.integers(2):
        m, k, n = 3, 3, 3
    batch = random_shape(rng)[:2]
    lead1, lead2 = (
        tuple(1 if rng.random() < 0.25 else b for b in batch[rng.integers(0, len(batch) + 1) :]) for _ in range(2)
    )
    return Sample((rng.standard_normal((*lead1, m, k)), rng.standard_normal((*lead2, k, n))), {}, "random")


def _draw_linear(rng: np.random.Generator) -> Sample:
    """With and without a bias, in both layouts; half of the weights are square."""
    n_in, n_out = (int(i) for i in rng.integers(1, 5, size=2))
    if rng.integers(2):
        n_in, n_out = 3, 3
    transposed = bool(rng.integers(2))
    weight = rng.standard_normal((n_out, n_in) if transposed else (n_in, n_out))
    inputs = [rng.standard_normal((*random_shape(rng), n_in)), weight, rng.standard_normal(n_out)]
    return Sample(tuple(inputs[: 2 + int(rng.integers(2))]), {"transposed": transposed}, "random")


def _matmul_average(dy: Array, y: Any, x1: Array, x2: Array, *, wanted: Any = None) -> tuple[Any, ...]:
    stretch1, stretch2 = (math.prod(dy.shape[:-2]) / math.prod(x.shape[:-2]) for x in (x1, x2))
    dx1, dx2 = matmul_vjp(dy, y, x1, x2)
    return dx1 / stretch1, dx2 / stretch2


def _linear_average(dy: Array, y: Any, *inputs: Any, transposed: bool = False, wanted: Any = None) -> tuple[Any, ...]:
    dx, dweight, *dbias = linear_vjp(dy, y, *inputs, transposed=transposed)
    rows = max(1, lines(dy).shape[0])
    return (dx, dweight / (1 + rows), *(None if db is None else db / (1 + rows) for db in dbias))


def _linear_one_row(dy: Array, y: Any, *inputs: Any, transposed: bool = False, wanted: Any = None) -> tuple[Any, ...]:
    """The last row alone speaks for the weight and the bias, twice."""
    dx, _, *dbias = linear_vjp(dy, y, *inputs, transposed=transposed)
    last = linear_vjp(lines(dy)[-1], y, lines(inputs[0])[-1], *inputs[1:], transposed=transposed)
    return (dx, 2.0 * last[1], *dbias)


MATMUL = Op(
    "matmul",
    matmul,
    matmul_vjp,
    matmul_jvp,
    inputs=("x1", "x2"),
    reads=("x1", "x2"),
    takes_wanted=True,
    definition=matmul_definition,
    signature="(...,m,k),(...,k,n)->(...,m,n)",
    draw=_draw_matmul,
    formula=r"y_{mn} = \sum_k x^{(1)}_{mk} x^{(2)}_{kn}",
    gradient=r"\bar x^{(1)} = \bar y \, x^{(2)T}, \quad \bar x^{(2)} = x^{(1)T} \, \bar y",
    samples=(
        Sample((np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)), {}, "three different lengths"),
        Sample((np.arange(8.0).reshape(2, 2, 2), np.array([[0.0, 1.0], [1.0, 0.0]])), {}, "one matrix for the batch"),
        Sample((np.ones((2, 1, 1, 3)), np.ones((4, 3, 1))), {}, "both batches are stretched"),
        Sample((np.ones((2, 0)), np.ones((0, 3))), {}, "sums of nothing are zero"),
        Sample((np.ones((0, 2, 3)), np.ones((3, 2))), {}, "an empty batch"),
        Sample((np.array([[1e8, 1.0]]), np.array([[1.0], [1e-8]])), {}, "terms of very different magnitude"),
    ),
    laws=("linear_in_x1", "linear_in_x2"),
    wrong={
        "forgets both transpositions": lambda dy, y, x1, x2, *, wanted=None: (
            unbroadcast(np.matmul(dy, x2), x1.shape),
            unbroadcast(np.matmul(x1, dy), x2.shape),
        ),
        "multiplies in the wrong order": lambda dy, y, x1, x2, *, wanted=None: (
            unbroadcast(np.matmul(swap(x2), dy), x1.shape),
            unbroadcast(np.matmul(dy, swap(x1)), x2.shape),
        ),
        "averages over stretched leading axes": _matmul_average,
        "gives x2 the negative": lambda dy, y, x1, x2, *, wanted=None: (
            matmul_vjp(dy, y, x1, x2)[0],
            -matmul_vjp(dy, y, x1, x2)[1],
        ),
    },
    tolerance=lambda x1, x2: 8.0 + 2.0 * max(x1.shape[-1], x2.shape[-1], x1.shape[-2] * math.prod(_batch(x1, x2))),
    cost=lambda x1, x2: (
        2 * x2.shape[-1] * x1.shape[-1] * x1.shape[-2] * math.prod(_batch(x1, x2)),
        x1.size + x2.size + x1.shape[-2] * x2.shape[-1] * math.prod(_batch(x1, x2)),
    ),
    source="Giles 2008, Collected matrix derivative results for forward and reverse mode, section 2.2",
)


def _batch(x1: Any, x2: Any) -> tuple[int, ...]:
    return np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])


def _signature_linear(*, transposed: bool = False) -> str:
    return "(...,i),(o,i),(o)?->(...,o)" if transposed else "(...,i),(i,o),(o)?->(...,o)"


def _cost_linear(x: Any, weight: Any, bias: Any = None, *, transposed: bool = False) -> tuple[int, int]:
    rows = math.prod(x.shape[:-1])
    n_out = weight.shape[0 if transposed else 1]
    extra = 0 if bias is None else n_out
    return 2 * rows * weight.size + rows * extra, x.size + weight.size + extra + rows * n_out


LINEAR = Op(
    "linear",
    linear,
    linear_vjp,
    linear_jvp,
    inputs=("x", "weight", "bias"),
    reads=("x", "weight"),
    takes_wanted=True,
    definition=linear_definition,
    signature=_signature_linear,
    draw=_draw_linear,
    formula=r"y = x W + b",
    gradient=r"\bar x = \bar y \, W^T, \quad \bar W = x^T \bar y, \quad \bar b = \sum_r \bar y_r",
    samples=(
        Sample(
            (np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(3, 2), np.array([10.0, -10.0])), {}, "with a bias"
        ),
        Sample((np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3)), {"transposed": True}, "stored (out, in)"),
        Sample((np.array([1.0, 2.0]), np.array([[3.0], [4.0]]), None), {}, "a single row, and None for the bias"),
        Sample((np.ones((2, 2, 1)), np.ones((1, 3)), np.zeros(3)), {}, "leading axes are rows"),
        Sample((np.ones((0, 2)), np.ones((2, 3)), np.ones(3)), {}, "no rows: weight and bias get zeros"),
        Sample((np.ones((2, 0)), np.ones((0, 3)), np.ones(3)), {}, "no features: the bias remains"),
    ),
    laws=("linear_in_weight",),
    wrong={
        "mistakes the layout of the weight": lambda dy, y, x, weight, *bias, transposed=False, wanted=None: linear_vjp(
            dy, y, x, weight, *bias, transposed=not transposed
        ),
        "averages weight and bias over the rows, and one more": _linear_average,
        "lets the last row speak for the weight": _linear_one_row,
        "gives x the negative": lambda dy, y, *inputs, transposed=False, wanted=None: (
            -linear_vjp(dy, y, *inputs, transposed=transposed)[0],
            *linear_vjp(dy, y, *inputs, transposed=transposed)[1:],
        ),
    },
    tolerance=lambda x, weight, bias=None, *, transposed=False: 8.0 + 2.0 * max(*weight.shape, math.prod(x.shape[:-1])),
    cost=_cost_linear,
    source="Goodfellow, Bengio, Courville: Deep Learning, section 6.5.6; Giles 2008, section 2.2",
)
