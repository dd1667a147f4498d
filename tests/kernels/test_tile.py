import numba
import numpy as np
import pytest

from handgrad.kernels.cpu import tile

largest_, product_, move_, lanes_of_, prefetch_ = tile.largest, tile.product, tile.move, tile.lanes_of, tile.prefetch
tile_and_row = tile.make_tile(tile.ROWS, 2, takes_row=True)


@numba.njit
def largest(row, start, size):
    return largest_(row, start, size)


@numba.njit
def product(rows, K, a, a0, a_i, a_k, b, b0, b_k, c, c0, c_i, columns, add):
    product_(rows, K, a, a0, a_i, a_k, b, b0, b_k, c, c0, c_i, columns, add)


@numba.njit
def block(K, a, a0, a_i, a_k, b, b0, b_k, c, c0, c_i, add, row, row0):
    tile_and_row(K, a, a0, a_i, a_k, b, b0, b_k, c, c0, c_i, add, row, row0)


@numba.njit
def move(a, a0, b, b0):
    move_(a, a0, b, b0)


@numba.njit
def lanes_of(array):
    return lanes_of_(array)


@numba.njit
def ask_for(array, index):
    prefetch_(array, index)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_product(kit, rng, dtype):
    """All row counts, odd and even numbers of vectors, both orders of A, adding and not; only C is written."""
    lanes = tile.VECTOR_BYTES // np.dtype(dtype).itemsize
    for rows in (1, tile.ROWS):
        for columns in (lanes, 2 * lanes, 3 * lanes):
            for K in (1, 2, 7):
                for add in (0, 1):
                    a = rng.standard_normal((tile.ROWS, K + 2)).astype(dtype)
                    if rows == 1 or K == 7:
                        a = np.asfortranarray(a)
                    stride_i, stride_k = (s // a.itemsize for s in a.strides)
                    b = rng.standard_normal((K, columns + 3)).astype(dtype)
                    c = rng.standard_normal((rows + 1, columns + 5)).astype(dtype)
                    want = c.astype(np.float64)
                    exact = a[:rows, 1 : K + 1].astype(np.float64) @ b[:, 2 : columns + 2]
                    want[:rows, 1 : columns + 1] = exact + (want[:rows, 1 : columns + 1] if add else 0)
                    product(
                        rows, K, a.ravel("K"), stride_k, stride_i, stride_k, b.reshape(-1), 2, columns + 3,
                        c.reshape(-1), 1, columns + 5, columns, add,
                    )  # fmt: skip
                    kit.close(c, want, dtype, 4)


@pytest.mark.parametrize("add", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tile_that_takes_a_row(kit, rng, dtype, add):
    """C = A B, C += A B, and C = A B + row."""
    W, K, rows = 2 * tile.VECTOR_BYTES // np.dtype(dtype).itemsize, 5, tile.ROWS
    a, b = rng.standard_normal((K, rows)).astype(dtype), rng.standard_normal((K, W)).astype(dtype)
    c, row = rng.standard_normal((rows, W + 1)).astype(dtype), rng.standard_normal(W + 3).astype(dtype)
    want = c.astype(np.float64)
    want[:, 1:] = a.T.astype(np.float64) @ b + (0, want[:, 1:], row[2 : 2 + W])[add]
    block(K, a.reshape(-1), 0, 1, rows, b.reshape(-1), 0, W, c.reshape(-1), 1, W + 1, add, row, 2)
    kit.close(c, want, dtype, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_move(rng, dtype):
    a, b = rng.standard_normal(100).astype(dtype), np.zeros(100, dtype)
    lanes = lanes_of(a)
    assert lanes == tile.VECTOR_BYTES // a.itemsize
    move(a, 7, b, 3)
    np.testing.assert_array_equal(b[3 : 3 + lanes], a[7 : 7 + lanes])
    assert not b[:3].any() and not b[3 + lanes :].any()


def test_no_address_is_wrong_to_prefetch():
    array = np.zeros(1, np.float32)
    for index in (0, -(1 << 40), 1 << 40):
        ask_for(array, index)
    assert array[0] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 1, 7, 8, 16, 33, 100])
def test_largest(rng, dtype, n):
    x = rng.standard_normal(n + 3).astype(dtype)
    assert largest(x, 2, n) == x[2 : 2 + n].max(initial=-np.inf)
    if n:
        x[2 + n // 2] = np.nan
        want = np.nanmax(x[2 : 2 + n]) if n > 1 else -np.inf
        assert largest(x, 2, n) == want
