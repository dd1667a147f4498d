"""Matrix product C = A B: the ladder from three loops to more than the speed of OpenBLAS.

    C_ij = sum_k A_ik B_kj,   dA = dC B^T,   dB = A^T dC

A core can do one vector multiply-add a cycle and load two vectors, so a product is as fast as its operands are near:

    01_naive     one row of A times one column of B: a sum that waits for itself, and B read down its columns
    02_rows      a row of C += A_ik times a row of B: everything lies in lines, but C goes through the cache K times
    03_four_rows the same for four k at once: C goes through the cache a quarter as often
    04_tile      a block of C (ROWS x two vectors) stays in registers for all of K: two loads of B for 16 multiply-adds
    05_packed    A and B are copied into panels first, in the order in which the tile reads them, as much of them as a
                 cache holds: no load waits. Whichever way A and B lie, only the copying sees it (Goto and van de Geijn 2008)
    06_threads   a rectangle of C for each thread: nothing is shared

    B panel   (kc, W) for each W = two vectors of columns: line k has what one step of the tile needs
    A panel   (kc, LANES) for each LANES rows: line k has what ROWS rows, or twice ROWS, need at step k

Every C_ij is one chain of multiply-adds for each KC of k, whatever the rectangle: any number of threads gives the same bits.
Used where the vectors are of 512 bits. On narrower ones this reaches 0.9 of OpenBLAS, which then does the product.

The copying is in packing.py, which also says how an operand may lie.

Letters: A (M, K), B (K, N), C (M, N); W = two vectors.
"""

import math
import threading
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
from numba import prange

from .caches import cache_sizes
from .jit import CONTRACT, FLOATS, REDUCE, frozen, jit, lent
from .packing import ask_for, pack
from .tile import ROWS, VECTOR_BYTES, lanes_of, make_tile, never_inline

_tile, _tile_half, _tile_narrow = make_tile(ROWS, 2), make_tile(ROWS // 2, 2), make_tile(ROWS, 1)
_tile_and_bias, _tile_row = make_tile(ROWS, 2, takes_row=True), make_tile(1, 2)

KC, PANELS = (256, 24) if cache_sizes().get("L2", 0) >= 2 << 20 else (384, 12)
"""Most of k at a time, so that an A panel (16 or 24 KB in float32) fits the first cache; most panels of B at a time (0.75 or
0.6 MB), in the second. A is packed anew for each so many panels: where there is room for more, that is 5% (Intel, 2 MB).
"""

MC = 32
"""Rows of A packed at a time: with the panels of B they fit the second cache."""

SMALLEST = 32
"""Rows and columns of C from which packing pays: each packed number is used so many times."""

PACKED_WORK = 1 << 20
"""Multiply-adds from which a packed product is faster than NumPy's, about 9 us on a core."""


# ---- rungs 01 to 04: the operands as they lie, contiguous


@jit(fastmath=REDUCE)
def matmul_01_naive(a, b, c):
    """The textbook, a sum for each number of C: 0.6 GFLOP/s at 1024^3 in float32 on a core of 118."""
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            total = c.dtype.type(0)
            for k in range(a.shape[1]):
                total += a[i, k] * b[k, j]
            c[i, j] = total


@jit(fastmath=CONTRACT)
def matmul_02_rows(a, b, c):
    """Vector lanes along a row. 34 GFLOP/s."""
    for i in range(a.shape[0]):
        row = c[i]
        row[:] = c.dtype.type(0)
        for k in range(a.shape[1]):
            a_ik, b_row = a[i, k], b[k]
            for j in range(row.size):
                row[j] += a_ik * b_row[j]


@jit(fastmath=CONTRACT)
def matmul_03_four_rows(a, b, c):
    """Four rows of B at once: a row of C is loaded and stored for four multiply-adds instead of each. 40 GFLOP/s."""
    K = a.shape[1]
    four = K // 4 * 4
    for i in range(a.shape[0]):
        row = c[i]
        row[:] = c.dtype.type(0)
        for k in range(0, four, 4):
            p, q, r, s = a[i, k], a[i, k + 1], a[i, k + 2], a[i, k + 3]
            b_p, b_q, b_r, b_s = b[k], b[k + 1], b[k + 2], b[k + 3]
            for j in range(row.size):
                row[j] = row[j] + p * b_p[j] + q * b_q[j] + r * b_r[j] + s * b_s[j]
        for k in range(four, K):
            a_ik, b_row = a[i, k], b[k]
            for j in range(row.size):
                row[j] += a_ik * b_row[j]


@jit(fastmath=CONTRACT)
def matmul_04_tile(a, b, c):
    """Blocks of C in registers, down one strip of B after the other; what is left over one number at a time.

    103 GFLOP/s; at 2048^3, where a strip of B no longer stays near, 70.
    """
    M, K = a.shape
    N = b.shape[1]
    a_flat, b_flat, c_flat = a.reshape(-1), b.reshape(-1), c.reshape(-1)
    lanes = lanes_of(c)
    rows, columns = M // ROWS * ROWS, N // (2 * lanes) * (2 * lanes) if K else 0
    for j in range(0, columns, 2 * lanes):
        for i in range(0, rows, ROWS):
            _tile(K, a_flat, i * K, K, 1, b_flat, j, N, c_flat, i * N + j, N, 0)
        for i in range(rows, M):
            _tile_row(K, a_flat, i * K, K, 1, b_flat, j, N, c_flat, i * N + j, N, 0)
    for i in range(M):
        for j in range(columns, N):
            total = c.dtype.type(0)
            for k in range(K):
                total += a[i, k] * b[k, j]
            c[i, j] = total


# ---- rungs 05 and 06: packed


@jit(inner=True)
def _edge(rows, columns, kc, a, a0, b, b0, c, at, c_i, add, bias, j0, corner):
    """A block of C that the tile overhangs: computed beside it in `corner`, and as much as there is copied or added.

    add: as for the tile.
    """
    never_inline()
    lanes = lanes_of(c)
    W = 2 * lanes
    if columns <= lanes:
        _tile_narrow(kc, a, a0, 1, lanes, b, b0, W, corner, 0, W, 0)
    elif rows <= ROWS // 2:
        _tile_half(kc, a, a0, 1, lanes, b, b0, W, corner, 0, W, 0)
    else:
        _tile(kc, a, a0, 1, lanes, b, b0, W, corner, 0, W, 0)
    for i in range(rows):
        line = c[at + i * c_i : at + i * c_i + columns]
        if add == 1:
            for j in range(columns):
                line[j] += corner[i * W + j]
        elif add == 2:
            for j in range(columns):
                line[j] = corner[i * W + j] + bias[j0 + j]
        else:
            for j in range(columns):
                line[j] = corner[i * W + j]


@jit()
def matmul_05_packed(
    a, a_i, a_k, a_jump, b, b_k, b_j, b_jump, c, c_i, c_jump, bias, K, kc, most, i0, i1, j0, j1, add, space
):  # fmt: skip
    """Both operands packed into panels that the caches hold, in the order in which tiles read them: 105 GFLOP/s at 1024^3 and
    2048^3. Rows i0 to i1, columns j0 to j1 of C (+)= A B (+ bias); i0 is a multiple of LANES, j0 of W. At a time, kc of k
    and at most `most` panels of B; space: the panels.
    """
    never_inline()
    lanes = lanes_of(c)
    W, NC = 2 * lanes, most * 2 * lanes
    a_panels, b_panels, corner = space[: MC * kc], space[MC * kc : (MC + NC) * kc], space[(MC + NC) * kc :]
    panels = (j1 - j0 + W - 1) // W
    step = (panels + (panels - 1) // most) // ((panels - 1) // most + 1) * W  # equal parts of at most NC columns
    for jb in range(j0, j1, step):
        je = min(j1, jb + step)
        for kb in range(0, K, kc):
            depth = min(kc, K - kb)
            adds = 1 if add or kb > 0 else 2 if bias.size else 0
            pack(b, b_k, b_j, b_jump, kb, jb, depth, je - jb, W, b_panels)
            for ib in range(i0, i1, MC):
                ie = min(i1, ib + MC)
                pack(a, a_k, a_i, a_jump, kb, ib, depth, ie - ib, lanes, a_panels)
                next_k, next_i = (kb, ie) if ie < i1 else (kb + kc, i0)
                next_depth, next_rows = min(kc, K - next_k), min(MC, i1 - next_i)
                part, parts = 0, ((ie - ib + ROWS - 1) // ROWS) * ((je - jb + W - 1) // W)
                for i in range(ib, ie, ROWS):
                    rows = min(ROWS, ie - i)
                    a0 = (i - ib) // lanes * depth * lanes + (i - ib) % lanes
                    for j in range(jb, je, W):
                        columns, at, b0 = min(W, je - j), i * c_i + j // W * c_jump, (j - jb) * depth
                        if next_depth > 0:
                            ask_for(a, a_k, a_i, a_jump, next_k, next_i, next_depth, next_rows, part, parts)
                        part += 1
                        if rows == ROWS and columns == W:
                            _tile_and_bias(depth, a_panels, a0, 1, lanes, b_panels, b0, W, c, at, c_i, adds, bias, j)
                        else:
                            _edge(rows, columns, depth, a_panels, a0, b_panels, b0, c, at, c_i, adds, bias, j, corner)


@jit(parallel=True)
def matmul_06_threads(
    a, a_i, a_k, a_jump, b, b_k, b_j, b_jump, c, c_i, c_jump, bias, M, K, N, kc, most, add, parts, across, spaces
):  # fmt: skip
    """A rectangle of C for each thread: 207 GFLOP/s on two cores; OpenBLAS 203. There are parts // across by `across`."""
    lanes = lanes_of(c)
    down = parts // across
    m, n = (M + lanes - 1) // lanes, (N + 2 * lanes - 1) // (2 * lanes)
    for index in prange(parts):
        part = np.int64(index)  # not the unsigned index: one compiled version of the callee
        x, y = part // across, part % across
        i0, i1 = m * x // down * lanes, min(M, m * (x + 1) // down * lanes)
        j0, j1 = n * y // across * 2 * lanes, min(N, n * (y + 1) // across * 2 * lanes)
        matmul_05_packed(
            a, a_i, a_k, a_jump, b, b_k, b_j, b_jump, c, c_i, c_jump, bias, K, kc, most, i0, i1, j0, j1, add, spaces[part]
        )


# ---- from arrays to rungs


@cache
def _cut(threads: int, M: int, N: int, lanes: int) -> int:
    """How many of the threads' rectangles lie side by side: the cheapest largest one. Packing a number costs about as
    much as a tile's step for 16 of C.
    """
    m, n = -(-M // lanes), -(-N // (2 * lanes))

    def cost(across: int) -> float:
        rows, columns = -(-m // (threads // across)) * lanes, -(-n // across) * 2 * lanes
        return rows * columns / 16 + rows + columns

    return min((across for across in range(1, threads + 1) if threads % across == 0), key=cost)


class _Spaces(threading.local):
    """The panels' memory, kept by each Python thread: (parts, numbers) for each dtype."""

    def __init__(self) -> None:
        self.kept: dict[Any, np.ndarray] = {}

    def of(self, parts: int, dtype: np.dtype) -> np.ndarray:
        held = self.kept.get(dtype)
        if held is None or held.shape[0] < parts:
            lanes = VECTOR_BYTES // dtype.itemsize
            numbers = (MC + PANELS * 2 * lanes) * KC + ROWS * 2 * lanes
            raw = np.empty(parts * numbers * dtype.itemsize + VECTOR_BYTES, np.uint8)
            start = -raw.__array_interface__["data"][0] % VECTOR_BYTES  # no line of a panel lies in two of the cache
            held = raw[start : start + parts * numbers * dtype.itemsize].view(dtype).reshape(parts, numbers)
            self.kept[dtype] = held
        return held


_spaces = _Spaces()
_NO_BIAS = {dtype: frozen(np.empty(0, dtype)) for dtype in FLOATS}

Operand = tuple[np.ndarray, int, int, int]


def operand(x: np.ndarray) -> Operand:
    """A matrix as it lies where one axis is contiguous, else a copy."""
    W = 2 * VECTOR_BYTES // x.itemsize
    if x.flags.f_contiguous and not x.flags.c_contiguous:
        return frozen(x.T).reshape(-1), 1, x.shape[0], W
    return frozen(x).reshape(-1), x.shape[1], 1, W


def packs(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether `packed` does it: with up to a fifth of its panels empty, since BLAS leaves threads spinning against ours."""
    (M, K), N, lanes = a.shape, b.shape[1], VECTOR_BYTES // a.itemsize
    return (
        VECTOR_BYTES == 64
        and M >= SMALLEST
        and N >= SMALLEST
        and M * K * N >= PACKED_WORK
        and 4 * lanes * -(-N // lanes) <= 5 * N
    )


def packed(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, *, add: bool = False, bias: np.ndarray | None = None,
    threads: int | None = None,
) -> None:  # fmt: skip
    """c (M, N) = a (M, K) b (K, N) [+ bias (N,)], or c += with `add`; c contiguous. threads: as many as there are."""
    (M, K), N = a.shape, b.shape[1]
    line = c.reshape(-1), N, 1, 2 * VECTOR_BYTES // c.itemsize
    multiply(operand(a), operand(b), line, M, K, N, add=add, bias=bias, threads=threads)


def multiply(
    a: Operand, b: Operand, c: Operand, M: int, K: int, N: int, *, add: bool = False, bias: np.ndarray | None = None,
    threads: int | None = None,
) -> None:  # fmt: skip
    """C (M, N) = A (M, K) B (K, N) [+ bias (N,)], or C += with `add`; rows of C are contiguous, none of M, K, N is 0."""
    dtype = c[0].dtype
    kc = -(-K // -(-K // KC))  # K in equal parts
    kc = min(KC, -(-kc // 16) * 16)
    operands = (*a, *b, *c[:2], c[3], _NO_BIAS[dtype] if bias is None else frozen(bias))
    threads = threads or numba.get_num_threads()
    if threads == 1:
        matmul_05_packed(*operands, K, kc, PANELS, 0, M, 0, N, add, _spaces.of(1, dtype)[0])
    else:
        across = _cut(threads, M, N, VECTOR_BYTES // dtype.itemsize)
        matmul_06_threads(*operands, M, K, N, kc, PANELS, add, threads, across, _spaces.of(threads, dtype))


def product(a: np.ndarray, b: np.ndarray, c: np.ndarray, *, add: bool = False) -> np.ndarray:
    """c (M, N), contiguous, = a (M, K) b (K, N), or c += with `add`: by what is fastest for their sizes."""
    if packs(a, b):
        packed(a, b, c, add=add)
    elif add:
        c += np.dot(a, b)
    else:
        np.dot(a, b, out=c)
    return c


Product = Callable[[np.ndarray, np.ndarray, np.ndarray, bool], Any]


def pair(multiply: Product) -> SimpleNamespace:
    """forward, vjp and accepts of the row from multiply(a, b, c, add)."""

    def forward(x1: np.ndarray, x2: np.ndarray) -> tuple[np.ndarray, None]:
        """y (..., N) of x1 (..., K) and one matrix x2 (K, N), or stacks of matrices, which NumPy multiplies one by one."""
        if x2.ndim > 2:
            return np.matmul(x1, x2), None
        K, N = x2.shape
        y = np.empty((*x1.shape[:-1], N), x1.dtype)
        rows = math.prod(x1.shape[:-1])
        multiply(frozen(x1).reshape(rows, K), x2, y.reshape(rows, N), False)
        return y, None

    def vjp(
        dy: np.ndarray, y: Any, x1: np.ndarray, x2: np.ndarray, *, residuals: None, wanted: Any, into: Any
    ) -> tuple[Any, ...]:
        """dx1 = dy x2^T, dx2 = x1^T dy; both may be written to, or added to, the buffers lent for them."""
        if x2.ndim > 2:
            return _stacks_vjp(dy, x1, x2, wanted)
        K, N = x2.shape
        rows = math.prod(x1.shape[:-1])
        dy, x1_rows = frozen(dy).reshape(rows, N), frozen(x1).reshape(rows, K)
        gradients: list[Any] = [None, None]
        for k, (like, a, b) in enumerate(((x1, dy, x2.T), (x2, x1_rows.T, dy))):
            if wanted[k]:
                gradient, add = lent(into[k]) or (np.empty(like.shape, like.dtype), False)
                multiply(a, b, gradient.reshape(a.shape[0], b.shape[1]), add)
                gradients[k] = gradient
        return tuple(gradients)

    return SimpleNamespace(forward=forward, vjp=vjp, accepts=accepts)


def _stacks_vjp(dy: np.ndarray, x1: np.ndarray, x2: np.ndarray, wanted: Any) -> tuple[Any, ...]:
    """(dx1, dx2) of stacks of matrices: where a matrix met several, its cotangent is the sum over them."""

    def met(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        d = np.matmul(a, b)
        d = d.sum(tuple(range(d.ndim - x.ndim)))
        return d.sum(tuple(i for i, n in enumerate(x.shape) if n != d.shape[i]), keepdims=True)

    dx1 = met(x1, dy, x2.swapaxes(-1, -2)) if wanted[0] else None
    return dx1, met(x2, x1.swapaxes(-1, -2), dy) if wanted[1] else None


def accepts(x1: Any, x2: Any) -> bool:
    """A matrix or a stack of them on either side."""
    return x1.dtype in FLOATS and x2.dtype == x1.dtype and min(x1.ndim, x2.ndim) >= 2 and x1.shape[-1] == x2.shape[-2]


def rung(loops: Any) -> Product:
    """One of the rungs 01 to 04 as multiply(a, b, c, add)."""

    def multiply(a: np.ndarray, b: np.ndarray, c: np.ndarray, add: bool) -> None:
        target = np.empty(c.shape, c.dtype) if add else c
        loops(frozen(a), frozen(b), target)
        if add:
            c += target

    return multiply


def one_thread(a: np.ndarray, b: np.ndarray, c: np.ndarray, add: bool) -> None:
    """Rung 05."""
    if a.size and b.size:
        packed(a, b, c, add=add, threads=1)
    elif not add:
        c[...] = 0


_production = pair(lambda a, b, c, add: product(a, b, c, add=add))
forward, vjp = _production.forward, _production.vjp

RUNGS = {
    "numba 01_naive": pair(rung(matmul_01_naive)),
    "numba 02_rows": pair(rung(matmul_02_rows)),
    "numba 03_four_rows": pair(rung(matmul_03_four_rows)),
    "numba 04_tile": pair(rung(matmul_04_tile)),
    "numba 05_packed": pair(one_thread),
}
"""The ladder's other rungs as pairs, so that they are checked and timed by name."""
