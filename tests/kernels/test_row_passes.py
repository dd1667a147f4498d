"""Every pass over a row, at every length around a vector and at every place around a boundary of the cache's lines."""

import numba
import numpy as np
import pytest

from handgrad.kernels.cpu import row_passes as p

LENGTHS = [0, 1, 7, 16, 17, 63, 64, 65, 200]
WRITE, ADD, STREAM = p.WRITE, p.ADD, p.STREAM


@numba.njit
def reductions(size, a, a0, b, b0, shift):
    return (
        p.row_largest(size, a, a0), p.row_sum(size, a, a0), p.row_dot(size, a, a0, b, b0),
        p.row_exp_sum(size, a, a0, shift),
    )  # fmt: skip


@numba.njit
def kept(size, x, x0, y, y0, shift):
    return p.row_exp_kept(size, x, x0, y, y0, shift)


@numba.njit
def maps(which, size, a, a0, b, b0, y, y0, first, second, mode):
    if which == 0:
        p.row_exp(size, a, a0, y, y0, first, second, mode)
    elif which == 1:
        p.row_scale(size, a, a0, y, y0, first, second, mode)
    elif which == 2:
        p.row_shift(size, a, a0, y, y0, first, second, mode)
    elif which == 3:
        p.row_softmax_vjp(size, a, a0, b, b0, y, y0, first, mode)
    elif which == 4:
        p.row_plus(size, a, a0, b, b0, y, y0, mode)
    elif which == 5:
        p.row_times(size, a, a0, b, b0, y, y0, mode)
    else:
        p.row_log_vjp(size, a, a0, b, b0, y, y0, first, mode)


EXACT = (
    lambda a, b, first, second: np.exp(a - first) * second,
    lambda a, b, first, second: a * first + second,
    lambda a, b, first, second: (a - first) - second,
    lambda a, b, first, second: b * (a - first),
    lambda a, b, first, second: a + b,
    lambda a, b, first, second: a * b,
    lambda a, b, first, second: a + np.exp(b) * first,
)


@numba.njit
def largest_where(size, x, x0, allowed, allowed0):
    return p.row_largest_where(size, x, x0, allowed, allowed0)


@numba.njit
def exp_sum_where(size, x, x0, allowed, allowed0, shift):
    return p.row_exp_sum_where(size, x, x0, allowed, allowed0, shift)


@numba.njit
def exp_where(size, x, x0, allowed, allowed0, y, y0, shift, scale, mode):
    p.row_exp_where(size, x, x0, allowed, allowed0, y, y0, shift, scale, mode)


@numba.njit
def kept_by_bits(size, x, x0, other, other0, bits, bits0, y, y0, scale, mode):
    if other.size:
        p.row_kept_add(size, x, x0, other, other0, bits, bits0, y, y0, scale, mode)
    else:
        p.row_kept(size, x, x0, bits, bits0, y, y0, scale, mode)


@numba.njit
def mode(y, add):
    return p.mode_for(y, add)


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.mark.parametrize("n", LENGTHS)
def test_reductions(kit, rng, dtype, n):
    a, b = (rng.standard_normal(n + 5).astype(dtype) for _ in range(2))
    shift, x, z = dtype(0.5), a[2 : 2 + n].astype(float), b[3 : 3 + n].astype(float)
    largest, total, dot, exps = reductions(n, a, 2, b, 3, shift)
    assert largest == x.max(initial=-np.inf)
    for got, terms in ((total, x), (dot, x * z), (exps, np.exp(x - 0.5))):
        assert abs(got - terms.sum()) <= np.finfo(dtype).eps * (2 + n / 8) * (1 + np.abs(terms).sum())
    y = np.full(n + 9, dtype(7))
    assert abs(kept(n, a, 2, y, 1, shift) - exps) <= np.finfo(dtype).eps * (1 + n) * exps
    kit.close(y[1 : 1 + n], np.exp(x - 0.5), dtype, 4)
    assert (np.delete(y, slice(1, 1 + n)) == 7).all()


def test_nan_is_ignored_by_the_maximum_and_by_nothing_else(dtype):
    for place in (0, 15, 63, 64, 99):
        a = np.linspace(-1, 1, 100).astype(dtype)
        a[place] = np.nan
        largest, total, dot, exps = reductions(100, a, 0, a, 0, dtype(0))
        assert largest == np.nanmax(a)
        assert np.isnan([total, dot, exps]).all()


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("mode", [WRITE, ADD, STREAM])
def test_maps(kit, rng, dtype, n, mode):
    """Nothing beside the row is touched, and the bits depend neither on where it lies nor on how it is stored."""
    a, b = (rng.standard_normal(n + 5).astype(dtype) for _ in range(2))
    first, second = dtype(0.75), dtype(-0.25)
    for which, exact in enumerate(EXACT):
        want = exact(a[2 : 2 + n].astype(float), b[3 : 3 + n].astype(float), 0.75, -0.25)
        seen = []
        for y0 in range(17):
            y = np.full(n + 40, dtype(7))
            maps(which, n, a, 2, b, 3, y, y0, first, second, mode)
            row = y[y0 : y0 + n]
            kit.close(row, want + (7 if mode == ADD else 0), dtype, 6)
            assert (np.delete(y, slice(y0, y0 + n)) == 7).all()
            seen.append(row.copy())
        assert all(np.array_equal(row, seen[0]) for row in seen)


@pytest.mark.parametrize("n", LENGTHS)
def test_where(kit, rng, dtype, n):
    """What the mask hides may be anything."""
    x, allowed = rng.standard_normal(n + 5).astype(dtype), rng.random(n + 5) < 0.5
    hidden = x.copy()
    hidden[1 : n + 1][~allowed[4 : n + 4]] = np.nan
    row, keep = x[1 : n + 1].astype(float), allowed[4 : n + 4]
    assert largest_where(n, hidden, 1, allowed, 4) == row[keep].max(initial=-np.inf)
    want = np.where(keep, np.exp(row - 0.5), 0)
    got = exp_sum_where(n, hidden, 1, allowed, 4, dtype(0.5))
    assert abs(got - want.sum()) <= np.finfo(dtype).eps * (2 + n / 8) * (1 + want.sum())
    for kind in (WRITE, STREAM):
        y = np.full(n + 9, dtype(7))
        exp_where(n, hidden, 1, allowed, 4, y, 3, dtype(0.5), dtype(2), kind)
        kit.close(y[3 : n + 3], 2 * want, dtype, 4)
        assert (y[3 : n + 3][~keep] == 0).all() and (np.delete(y, slice(3, n + 3)) == 7).all()


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("mode", [WRITE, ADD, STREAM])
def test_kept(rng, dtype, n, mode):
    """To the bit, wherever the row lies; what is dropped may be anything."""
    x, other, flags = rng.standard_normal(n + 5).astype(dtype), rng.standard_normal(n + 5).astype(dtype), rng.random(n) < 0.5
    bits = np.zeros((n + 31) // 32 + 3, np.uint32)
    packed = np.packbits(flags, bitorder="little")
    bits[2:].view(np.uint8)[: packed.size] = packed
    x[1 : n + 1][~flags] = np.nan
    want = np.where(flags, x[1 : n + 1] * dtype(1.25), dtype(0))
    for y0 in range(17):
        for added in (other[:0], other):
            y = np.full(n + 40, dtype(7))
            kept_by_bits(n, x, 1, added, 2, bits, 2, y, y0, dtype(1.25), mode)
            expected = want + (added[2 : n + 2] if added.size else 0)
            np.testing.assert_array_equal(y[y0 : y0 + n], expected + dtype(7) if mode == ADD else expected)
            assert (np.delete(y, slice(y0, y0 + n)) == 7).all()


def test_large_results_are_streamed_unless_they_are_added_to(dtype):
    for size, want in ((1, WRITE), (p.STREAM_BYTES // np.dtype(dtype).itemsize, STREAM)):
        y = np.empty(size, dtype)
        assert mode(y, False) == want and mode(y, True) == ADD
