import numpy as np
import pytest

from handgrad.kernels.cpu import rotary_embedding


def turned(x, sign, base, offset, interleaved):
    """Pairs as complex numbers, each times e^(i phi)."""
    T, D = x.shape[-2:]
    phi = np.outer(np.arange(offset, offset + T), base ** (-2.0 * np.arange(D // 2) / D))
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., : D // 2], x[..., D // 2 :])
    z = (a + 1j * b) * np.exp(sign * 1j * phi)
    y = np.empty_like(x)
    if interleaved:
        y[..., 0::2], y[..., 1::2] = z.real, z.imag
    else:
        y[..., : D // 2], y[..., D // 2 :] = z.real, z.imag
    return y


def oracle(dy, x, *, base=10000.0, offset=0, interleaved=False):
    return turned(x, 1, base, offset, interleaved), (turned(dy, -1, base, offset, interleaved),)


@pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "neighbours"])
@pytest.mark.parametrize("shape", [(1, 2), (3, 4), (2, 3, 5, 6), (4, 7, 34), (2, 3, 61, 64)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, shape, dtype, interleaved):
    x = rng.standard_normal(shape).astype(dtype)
    params = {"base": 500.0, "offset": 3, "interleaved": interleaved}
    # in float64 an angle of p radians is known to p eps
    kit.check(rotary_embedding, (x,), oracle, inputs="x", reads="", length=8 + shape[-2], rng=rng, **params)


def test_far_positions_keep_their_digits(kit, rng):
    """Angles in float32 would be wrong by 0.06 here."""
    x = rng.standard_normal((4, 8)).astype(np.float32)
    y, _ = rotary_embedding.forward(kit.freeze(x), offset=1_000_003)
    kit.close(y, turned(x.astype(np.float64), 1, 10000.0, 1_000_003, False), np.float32, 4)


def test_tables_are_shared_and_cannot_be_written():
    first, second = (rotary_embedding.tables(5, 3, 10000.0, 2, np.dtype(np.float32)) for _ in range(2))
    assert first[0] is second[0]
    assert not any(table.flags.writeable for table in first)


@pytest.mark.parametrize("rows", [3, 700])
def test_nan_stays_in_its_pair(kit, rng, rows):
    x = rng.standard_normal((rows, 32)).astype(np.float32)
    x[1, 5] = np.nan
    y, _ = rotary_embedding.forward(kit.freeze(x))
    assert [list(at) for at in np.argwhere(np.isnan(y))] == [[1, 5], [1, 21]]


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 3, 4)], ids=str)
def test_nothing(kit, shape):
    x = kit.freeze(np.empty(shape, np.float32))
    y, kept = rotary_embedding.forward(x)
    (dx,) = rotary_embedding.vjp(x, y, x, residuals=kept, wanted=(True,), into=(None,))
    assert y.shape == dx.shape == shape


def test_strided_input(kit, rng):
    """Heads split by a transposed view, as attention has them."""
    x = rng.standard_normal((2, 5, 3, 4)).astype(np.float32).transpose(0, 2, 1, 3)
    y, _ = rotary_embedding.forward(kit.freeze(x))
    kit.close(y, oracle(np.zeros(x.shape), x.astype(np.float64))[0], np.float32, 4)


def test_accepts():
    assert rotary_embedding.accepts(np.zeros((2, 4), np.float32), offset=3)
    assert not rotary_embedding.accepts(np.zeros((2, 3), np.float32))
    assert not rotary_embedding.accepts(np.zeros((2, 4), np.int64))
