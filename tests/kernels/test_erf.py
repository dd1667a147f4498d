import math

import numba
import numpy as np
import pytest

from handgrad.kernels.cpu import erf as module

intrinsic = module.erf


@numba.njit(fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
def erfs(x, y):
    for i in range(x.size):
        y[i] = intrinsic(x[i])


def exact(v):
    """erf by its power series in whole numbers, rounded to extended precision once."""
    if not math.isfinite(v):
        return v / abs(v) if v == v else v
    p, q = float(v).as_integer_ratio()
    one = 1 << 400  # the terms grow to e^(v^2) before they shrink
    term = total = (p * one) // q
    n = 0
    while term:
        n += 1
        term = -term * p * p // (q * q * n)
        total += term // (2 * n + 1)
    places = total.bit_length() - 64  # all that a longdouble holds; >> rounds down
    digits = total >> places if places > 0 else total
    return np.ldexp(np.longdouble(digits), max(places, 0) - 400) * 2 / np.sqrt(PI)


PI = np.longdouble(3.141592653589793) + np.longdouble(1.2246467991473532e-16)


@pytest.mark.parametrize(("dtype", "ulp"), [(np.float32, 4), (np.float64, 1.2)])
def test_erf(kit, rng, dtype, ulp):
    x = np.concatenate([rng.uniform(-6, 6, 2000), rng.uniform(-1.2, 1.2, 2000), 10.0 ** rng.uniform(-30, 0, 500)])
    x = np.concatenate([x, [1.0, np.nextafter(1, 0), 0.999999, 3.9, 4.0, 6.0, 0.0]]).astype(dtype)
    y = np.empty_like(x)
    erfs(kit.freeze(x), y)
    want = np.array([exact(v) for v in x], np.longdouble)
    spacing = np.spacing(np.abs(want).astype(dtype)).astype(np.longdouble)
    assert float((np.abs(y - want) / spacing).max()) <= ulp


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_values(kit, dtype):
    big = np.finfo(dtype).max
    x = kit.freeze(np.array([np.nan, -np.inf, np.inf, big, -big, 0.0, -0.0, 5.99, 7.0], dtype))
    y = np.empty_like(x)
    erfs(x, y)
    np.testing.assert_array_equal(y, np.array([np.nan, -1, 1, 1, -1, 0, 0, 1, 1], dtype))
    assert np.signbit(y[6])


def test_the_oracle(kit):
    """The series agrees with the C library's erf in double."""
    for v in (0.1, -0.7, 1.0, 2.5, 4.0):
        assert abs(float(exact(v)) - math.erf(v)) <= 4e-16
