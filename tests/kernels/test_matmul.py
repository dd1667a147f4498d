"""The packed product: operands as they come, edges, adding, bias, panels, and bits that no number of threads changes."""

import numpy as np
import pytest

from handgrad.engine.kernel_table import versions
from handgrad.kernels.cpu import matmul, tile
from handgrad.reference import table

FLOATS = [np.float32, np.float64]


def oracle(dy, x1, x2):
    rows = int(np.prod(x1.shape[:-1]))
    dx2 = x1.reshape(rows, x2.shape[0]).T @ dy.reshape(rows, x2.shape[1])
    return x1 @ x2, (dy @ x2.T, dx2)


def exact(a, b):
    return a.astype(np.longdouble) @ b.astype(np.longdouble)


def matrix(rng, shape, dtype, lies):
    """Numbers of that shape: in rows, in columns, or in neither (every second one of a larger array)."""
    x = rng.standard_normal(shape).astype(dtype)
    if lies == "columns":
        return np.asfortranarray(x)
    if lies == "apart":
        wide = np.full((*shape, 2), np.nan, dtype)
        wide[..., 0] = x
        return wide[..., 0]
    return x


def bound(dtype, K):
    """Of one chain of K multiply-adds over numbers of size 1: a random walk of roundings, its usual length four times."""
    return 4 * np.finfo(dtype).eps * K


@pytest.mark.parametrize(("lead", "K", "N"), [((5,), 3, 4), ((2, 3), 7, 5), ((130,), 97, 160), ((2, 65), 400, 64)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_pair(kit, rng, lead, K, N, dtype):
    x1, x2 = rng.standard_normal((*lead, K)).astype(dtype), rng.standard_normal((K, N)).astype(dtype)
    length = 4 * max(K, N, int(np.prod(lead))) ** 0.5
    kit.check(matmul, (x1, x2), oracle, inputs="x1 x2", reads="x1 x2", length=length, rng=rng)


@pytest.mark.parametrize(
    ("left", "right"), [((5, 3, 4), (5, 4, 2)), ((3, 4), (5, 4, 2)), ((2, 1, 3, 4), (5, 4, 2)), ((2, 5, 3, 4), (1, 4, 2))]
)
@pytest.mark.parametrize("dtype", FLOATS)
def test_stacks_of_matrices(kit, rng, left, right, dtype):
    def einsum(dy, x1, x2):
        y = x1 @ x2
        whole = dy @ x2.swapaxes(-1, -2), x1.swapaxes(-1, -2) @ dy
        lead = [np.broadcast_to(x, (*y.shape[:-2], *x.shape[-2:])).shape for x in (x1, x2)]
        found = []
        for x, d, shape in zip((x1, x2), whole, lead, strict=True):
            d = np.broadcast_to(d, shape)
            axes = tuple(range(d.ndim - x.ndim))
            d = d.sum(axes)
            found.append(d.sum(tuple(i for i in range(d.ndim) if x.shape[i] == 1 != d.shape[i]), keepdims=True))
        return y, tuple(found)

    x1, x2 = rng.standard_normal(left).astype(dtype), rng.standard_normal(right).astype(dtype)
    kit.check(matmul, (x1, x2), einsum, inputs="x1 x2", reads="x1 x2", length=32, rng=rng)


@pytest.mark.parametrize("rung", [name for name in versions(table.MATMUL) if name != "numba"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_rungs(kit, rng, rung, dtype):
    """Tails on every side, several blocks of k and of rows, one number, and nothing."""
    for M, K, N in ((1, 1, 1), (9, 5, 33), (37, 386, 70), (33, 800, 31), (0, 3, 2), (2, 0, 3), (3, 2, 0)):
        x1, x2 = rng.standard_normal((M, K)).astype(dtype), rng.standard_normal((K, N)).astype(dtype)
        length = 4 * max(M, K, N) ** 0.5
        kit.check(versions(table.MATMUL)[rung], (x1, x2), oracle, inputs="x1 x2", reads="x1 x2", length=length, rng=rng)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("a_lies", ["rows", "columns", "apart"])
@pytest.mark.parametrize("b_lies", ["rows", "columns", "apart"])
def test_packed_whatever_way_the_operands_lie(rng, dtype, a_lies, b_lies):
    W = 2 * tile.VECTOR_BYTES // np.dtype(dtype).itemsize
    beside = matmul.KC + 21
    for M, K, N in ((1, 1, 1), (tile.ROWS, 3, W), (matmul.MC + 5, beside, W + 3), (17, 16, matmul.PANELS * W + W + 1)):
        a, b = matrix(rng, (M, K), dtype, a_lies), matrix(rng, (K, N), dtype, b_lies)
        want, start, bias = exact(a, b), rng.standard_normal((M, N)).astype(dtype), rng.standard_normal(N).astype(dtype)
        for add, row, threads in (
            (False, None, 1),
            (True, None, 2),
            (False, bias, 2),
            (True, None, 1),
            (False, bias, 1),
        ):
            around = np.full((M + 2, N), 7, dtype)  # what lies in front of C and behind it stays
            c = around[1:-1]
            c[:] = start if add else np.nan
            matmul.packed(a, b, c, add=add, bias=row, threads=threads)
            error = c - (want + (start if add else 0) + (0 if row is None else row))
            assert np.abs(error).max() <= bound(dtype, K + 2) * (1 + np.abs(want).max() / K**0.5)
            assert (around[0] == 7).all() and (around[-1] == 7).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_same_bits_for_any_number_of_threads(rng, dtype):
    a, b = rng.standard_normal((135, 777)).astype(dtype), rng.standard_normal((777, 203)).astype(dtype)
    results = []
    for threads in (1, 2, 3, 4, 6):
        c = np.full((135, 203), np.nan, dtype)
        matmul.packed(a, b, c, threads=threads)
        results.append(c)
    for c in results[1:]:
        np.testing.assert_array_equal(c, results[0])
    part = np.full((48, 203), np.nan, dtype)
    matmul.packed(a[48:96], b, part)  # nor on what else is multiplied with it
    np.testing.assert_array_equal(part, results[0][48:96])


def blocks_of(matrix, W, gap):
    """(P, rows, W): the columns W at a time, a gap between the blocks and NaN in it and behind the last column."""
    rows, columns = matrix.shape
    count = -(-columns // W)
    blocks = np.full((count, rows + gap, W), np.nan, matrix.dtype)
    for p in range(count):
        part = matrix[:, p * W : (p + 1) * W]
        blocks[p, :rows, : part.shape[1]] = part
    return blocks


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("columns", [1.0, 3.0, 2.4])
def test_operands_in_panels(rng, dtype, columns):
    """The layout that the LSTM keeps its gates in, as A, as its transpose, as B and as C, whole panels and a part of one."""
    W = 2 * tile.VECTOR_BYTES // np.dtype(dtype).itemsize
    M, K, N = 37, int(columns * W), 41
    a, b = rng.standard_normal((M, K)).astype(dtype), rng.standard_normal((K, N)).astype(dtype)
    blocks = blocks_of(a, W, 3)
    in_panels = blocks.reshape(-1), W, 1, (M + 3) * W

    def line(c):
        return c.reshape(-1), c.shape[1], 1, W

    limit = bound(dtype, max(M, K)) * 4
    c = np.empty((M, N), dtype)
    matmul.multiply(in_panels, matmul.operand(b), line(c), M, K, N)
    assert np.abs(c - exact(a, b)).max() <= limit
    other = rng.standard_normal((M, N)).astype(dtype)
    c = np.empty((K, N), dtype)
    numbers, first, second, jump = in_panels
    matmul.multiply((numbers, second, first, jump), matmul.operand(other), line(c), K, M, N)
    assert np.abs(c - exact(a.T, other)).max() <= limit
    c = np.empty((N, K), dtype)
    matmul.multiply(matmul.operand(other.T), in_panels, line(c), N, M, K)
    assert np.abs(c - exact(other.T, a)).max() <= limit
    d = rng.standard_normal((N, K)).astype(dtype)
    target = blocks_of(np.zeros((M, K), dtype), W, 3)
    matmul.multiply(matmul.operand(other), matmul.operand(d), (target.reshape(-1), W, 1, (M + 3) * W), M, N, K)
    got = np.concatenate(list(target[:, :M]), axis=1)
    assert np.abs(got[:, :K] - exact(other, d)).max() <= limit
    assert np.isnan(got[:, K:]).all() and np.isnan(target[:, M:]).all()  # the gap is nobody's


def test_nan_and_infinity_stay_in_their_row_and_column(rng):
    a, b = rng.standard_normal((64, 64)).astype(np.float32), rng.standard_normal((64, 64)).astype(np.float32)
    a[3, 5], b[7, 11] = np.nan, np.inf
    c = np.empty((64, 64), np.float32)
    matmul.packed(a, b, c)
    wrong = ~np.isfinite(c)
    want = np.zeros((64, 64), bool)
    want[3], want[:, 11] = True, True
    np.testing.assert_array_equal(wrong, want)


def test_which_products_are_packed():
    def packs(M, K, N):
        return matmul.packs(np.empty((M, K), np.float32), np.empty((K, N), np.float32))

    assert packs(128, 128, 128) == (tile.VECTOR_BYTES == 64)
    assert not packs(8, 4096, 4096)  # few rows: a copy of B would cost more than it saves
    assert packs(768, 128, 65) == packs(128, 128, 128)  # nanoGPT's logits: a fifth would be empty
    assert not packs(4096, 4096, 33)  # nearly half of the last panel would be empty
    assert not packs(32, 32, 32)


def test_accepts():
    x = np.zeros((2, 3), np.float32)
    assert matmul.accepts(x, np.zeros((3, 4), np.float32)) and matmul.accepts(
        x[None, None], np.zeros((3, 4), np.float32)
    )
    assert not matmul.accepts(x, np.zeros((2, 3), np.float32)) and not matmul.accepts(
        x[0], np.zeros((3, 4), np.float32)
    )
    assert not matmul.accepts(x, np.zeros((3, 4))) and not matmul.accepts(x.astype(int), np.zeros((3, 4), int))
    assert matmul.accepts(np.zeros((2, 2, 3)), np.zeros((2, 3, 4)))


def test_how_the_threads_share_c():
    lanes = 16
    assert matmul._cut(2, 4096, 64, lanes) == 1 and matmul._cut(2, 64, 4096, lanes) == 2
    assert matmul._cut(4, 1024, 1024, lanes) == 2 and matmul._cut(1, 5, 5, lanes) == 1


def test_a_thread_keeps_its_panels():
    first = matmul._spaces.of(1, np.dtype(np.float32))
    assert matmul._spaces.of(1, np.dtype(np.float32)) is first
    assert first.ctypes.data % tile.VECTOR_BYTES == 0
