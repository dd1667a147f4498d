import numpy as np
import pytest

from handgrad.kernels.cpu import linear


def oracle(dy, x, weight, bias=None, *, transposed=False):
    spec = "...i,oi->...o" if transposed else "...i,io->...o"
    y = np.einsum(spec, x, weight) + (0 if bias is None else bias)
    dx = np.einsum("...o,oi->...i" if transposed else "...o,io->...i", dy, weight)
    dy2, x2 = dy.reshape(-1, dy.shape[-1]), x.reshape(-1, x.shape[-1])
    dweight = np.einsum("ro,ri->oi" if transposed else "ro,ri->io", dy2, x2)
    return y, (dx, dweight) if bias is None else (dx, dweight, dy2.sum(0))


@pytest.mark.parametrize("with_bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("transposed", [False, True], ids=["in out", "out in"])
@pytest.mark.parametrize(("lead", "inputs", "outputs"), [((), 3, 2), ((4,), 1, 7), ((3, 5), 6, 4), ((257,), 33, 70)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, lead, inputs, outputs, transposed, with_bias, dtype):
    x = rng.standard_normal((*lead, inputs)).astype(dtype)
    weight = rng.standard_normal((outputs, inputs) if transposed else (inputs, outputs)).astype(dtype)
    arrays = (x, weight, rng.standard_normal(outputs).astype(dtype)) if with_bias else (x, weight)
    length = 4 * max(inputs, outputs, int(np.prod(lead))) ** 0.5
    kit.check(
        linear, arrays, oracle, inputs="x weight bias", reads="x weight", length=length, rng=rng, transposed=transposed
    )


@pytest.mark.parametrize(("lead", "inputs", "outputs"), [((0,), 3, 2), ((2,), 0, 3), ((2,), 3, 0), ((2, 0), 3, 4)])
def test_nothing(kit, lead, inputs, outputs):
    x, weight = kit.freeze(np.ones((*lead, inputs), np.float32)), kit.freeze(np.ones((inputs, outputs), np.float32))
    bias = kit.freeze(np.ones(outputs, np.float32))
    y, _ = linear.forward(x, weight, bias)
    assert y.shape == (*lead, outputs) and (y == 1 + inputs * (inputs > 0)).all()
    d = linear.vjp(y, y, x, weight, bias, residuals=None, wanted=(True,) * 3, into=(None,) * 3)
    assert [g.shape for g in d] == [x.shape, weight.shape, bias.shape]


def test_strided_and_broadcast_cotangent(kit, rng):
    x, weight = rng.standard_normal((6, 5)).T, rng.standard_normal((6, 4))
    dy = np.broadcast_to(rng.standard_normal(()), (5, 4))  # what sum's vjp returns
    want_y, want = oracle(dy, x, weight)
    y, _ = linear.forward(kit.freeze(x), kit.freeze(weight))
    kit.close(y, want_y, np.float64, 16)
    d = linear.vjp(dy, None, x, weight, residuals=None, wanted=(True, True), into=(None, None))
    for got, exact in zip(d, want, strict=True):
        kit.close(got, exact, np.float64, 16)


def test_accepts():
    x, w = np.zeros((2, 3), np.float32), np.zeros((3, 4), np.float32)
    assert (
        linear.accepts(x, w)
        and linear.accepts(x, w, np.zeros(4, np.float32))
        and linear.accepts(x, w.T, transposed=True)
    )
    assert not linear.accepts(x, w, transposed=True) and not linear.accepts(x, w, np.zeros(3, np.float32))
    assert not linear.accepts(x, w.astype(np.float64))
