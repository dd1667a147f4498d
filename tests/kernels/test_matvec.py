import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handgrad.kernels.cpu import linear, matvec
from handgrad.kernels.cpu.jit import frozen

QUICK = settings(deadline=None, derandomize=True, max_examples=60)
LENGTHS = st.one_of(st.integers(0, 140), st.sampled_from([255, 256, 257]))
FORMS = ("float32", "float64", "bfloat16", "float16", "int8")


def stored(weight, form):
    """(the array that a kernel takes, the numbers that it means in float64)"""
    if form == "int8":
        array = np.clip(np.round(weight * 40), -128, 127).astype(np.int8)
        return frozen(array), array.astype(np.float64)
    array = weight.astype(ml_dtypes.bfloat16 if form == "bfloat16" else form)
    bits = {"bfloat16": np.uint16, "float16": np.int16}.get(form)
    return frozen(array if bits is None else array.view(bits)), array.astype(np.float64)


def rungs(w, scale, x, bias, dtype):
    """Every rung's y by name."""
    O = len(w)
    calls = {
        "01": (matvec.matvec_forward_01_naive,),
        "02": (matvec.matvec_forward_02_lanes,),
        "03": (matvec.matvec_forward_03_rows, 0, O),
        "04, blocks of 4": (matvec.matvec_forward_04_threads, 4),
        "04, blocks of 12": (matvec.matvec_forward_04_threads, 12),
    }
    found = {}
    for name, (rung, *work) in calls.items():
        found[name] = np.full((len(x), O), np.nan, dtype)
        rung(w, scale, x, bias, found[name], *work)
    return found


@pytest.mark.parametrize("form", FORMS)
@QUICK
@given(st.integers(1, 5), st.integers(0, 19), LENGTHS, st.booleans(), st.booleans(), st.integers(0, 99))
def test_rungs(form, R, O, I, with_scale, with_bias, seed):
    """Any length; and the rungs in vector lanes give the same bits, however the rows are cut into blocks."""
    rng, dtype = np.random.default_rng(seed), np.dtype("float64" if form == "float64" else "float32")
    w, exact = stored(rng.standard_normal((O, I)), form)
    x = frozen(rng.standard_normal((R, I)).astype(dtype))
    scale, bias = (frozen(rng.standard_normal(O if on else 0).astype(dtype)) for on in (with_scale, with_bias))
    want = x.astype(np.float64) @ exact.T * (scale if with_scale else 1) + (bias if with_bias else 0)
    size = np.abs(x.astype(np.float64)) @ np.abs(exact).T * (np.abs(scale) if with_scale else 1)
    size += np.abs(bias) if with_bias else 0
    found = rungs(w, scale, x, bias, dtype)
    for name, y in found.items():
        assert np.all(np.abs(y - want) <= (I + 3) * np.finfo(dtype).eps * size), name
    assert found["03"].tobytes() == found["04, blocks of 4"].tobytes() == found["04, blocks of 12"].tobytes()


@pytest.mark.parametrize("form", FORMS)
def test_a_row_has_the_same_bits_wherever_it_stands(form, rng):
    """Alone or among others, and wherever the arrays lie."""
    dtype = np.dtype("float64" if form == "float64" else "float32")
    w, _ = stored(rng.standard_normal((11, 77)), form)
    x, none = frozen(rng.standard_normal((5, 77)).astype(dtype)), matvec.NOTHING[dtype]
    together = np.empty((5, 11), dtype)
    matvec.matvec_forward_03_rows(w, none, x, none, together, 0, 11)
    for shift in (0, 1, 3):
        moved = np.empty(w.size + shift, w.dtype)[shift:].reshape(w.shape)
        moved[...] = w
        for r in range(5):
            for o in range(11):
                y = np.empty((1, 1), dtype)
                matvec.matvec_forward_03_rows(frozen(moved[o : o + 1]), none, x[r : r + 1], none, y, 0, 1)
                assert y[0, 0] == together[r, o]


@pytest.mark.parametrize("form", FORMS[:4])
@pytest.mark.parametrize("I", [1, 16, 37, 64, 100])
def test_nothing_outside_a_row_is_read_into_it(form, I, rng):
    """Its neighbours, of W and of x, are NaN and infinities."""
    dtype = np.dtype("float64" if form == "float64" else "float32")
    weight, x = np.full((9, I), np.nan), np.full((3, I), np.inf, dtype)
    weight[4], x[1] = rng.standard_normal(I), rng.standard_normal(I)
    w, exact = stored(weight, form)
    for name, y in rungs(w, matvec.NOTHING[dtype], frozen(x), matvec.NOTHING[dtype], dtype).items():
        assert abs(y[1, 4] - x[1].astype(np.float64) @ exact[4]) < 1e-4, name
        assert np.isnan(np.delete(y, 4, axis=1)).all(), name


def test_extreme_numbers():
    """All that a bfloat16 and an int8 can be, times one."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    one, none = frozen(np.ones((1, 1), np.float32)), matvec.NOTHING[np.dtype("float32")]
    y = np.empty((1, 1 << 16), np.float32)
    matvec.matvec_forward_04_threads(frozen(bits[:, None]), none, one, none, y, 64)
    np.testing.assert_array_equal(y[0], bits.view(ml_dtypes.bfloat16).astype(np.float32))
    matvec.matvec_forward_04_threads(frozen(bits.view(np.int16)[:, None]), none, one, none, y, 64)
    np.testing.assert_array_equal(y[0], bits.view(np.float16).astype(np.float32))
    y = np.empty((1, 256), np.float32)
    matvec.matvec_forward_04_threads(frozen(np.arange(-128, 128).astype(np.int8)[:, None]), none, one, none, y, 64)
    np.testing.assert_array_equal(y[0], np.arange(-128, 128))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@QUICK
@given(st.integers(1, 5), st.integers(0, 300), st.integers(0, 20), st.booleans(), st.integers(0, 99))
def test_columns(dtype, R, O, I, with_bias, seed):
    rng = np.random.default_rng(seed)
    w, x = rng.standard_normal((I, O)).astype(dtype), rng.standard_normal((R, I)).astype(dtype)
    bias = rng.standard_normal(O).astype(dtype) if with_bias else None
    want = x.astype(np.float64) @ w + (bias if with_bias else 0)
    size = np.abs(x).astype(np.float64) @ np.abs(w) + (np.abs(bias) if with_bias else 0)
    y, threaded = np.full((R, O), np.nan, dtype), np.full((R, O), np.nan, dtype)
    matvec.product_by_columns(w, x, bias, y)
    none = matvec.NOTHING[y.dtype]
    matvec.matvec_columns_02_threads(frozen(w), frozen(x), none if bias is None else frozen(bias), threaded, 32)
    assert np.all(np.abs(y - want) <= (I + 3) * np.finfo(dtype).eps * size)
    assert y.tobytes() == threaded.tobytes()


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("R", [1, 2, 4, 5, matvec.FEW, matvec.FEW + 1])
def test_linear_takes_them_for_a_few_rows(R, transposed, rng, monkeypatch):
    """And large enough that it runs on all threads."""
    taken = []
    for name in ("product", "product_by_columns"):
        real = getattr(matvec, name)
        monkeypatch.setattr(matvec, name, lambda *a, name=name, real=real: taken.append(name) or real(*a))
    weight = rng.standard_normal((400, 700) if transposed else (700, 400)).astype(np.float32)
    x, bias = rng.standard_normal((R, 700)).astype(np.float32), rng.standard_normal(400).astype(np.float32)
    y, _ = linear.forward(x, weight, bias, transposed=transposed)
    most = matvec.FEW if transposed else matvec.FEW_BY_COLUMNS
    name = "product" if transposed else "product_by_columns"
    assert taken == [name] * (1 < R <= most)
    np.testing.assert_allclose(y, x @ (weight.T if transposed else weight) + bias, rtol=0, atol=700 * 1e-6)
