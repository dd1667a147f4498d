import numpy as np
import pytest

from handgrad.kernels.cpu import cross_entropy, linear_cross_entropy


def oracle(dy, x, weight, targets, bias=None, *, ignore_index=None, label_smoothing=0.0, transposed=False):
    """(loss, gradients) with all logits at once."""
    matrix = weight.T if transposed else weight
    flat, ids = x.reshape(-1, x.shape[-1]), targets.reshape(-1)
    z = flat @ matrix + (0.0 if bias is None else bias)
    V, counts = z.shape[1], ids != (-(10**9) if ignore_index is None else ignore_index)
    q = (1.0 - label_smoothing) * (ids[:, None] == np.arange(V)) + label_smoothing / V
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rows = max(int(counts.sum()), 1)
    loss = -np.sum((q * np.log(p))[counts]) / rows
    dz = np.where(counts[:, None], p - q, 0.0) * dy / rows
    dweight = flat.T @ dz
    gradients = ((dz @ matrix.T).reshape(x.shape), dweight.T if transposed else dweight, None)
    return np.asarray(loss), gradients if bias is None else (*gradients, dz.sum(axis=0))


@pytest.mark.parametrize(
    ("shape", "V", "params"),
    [
        ((3,), 5, {}),
        ((7, 3), 1, {}),
        ((12, 64, 16), 65, {"ignore_index": -100}),
        ((300, 20), 129, {"transposed": True, "label_smoothing": 0.1}),
    ],
    ids=str,
)
@pytest.mark.parametrize("block", [1 << 20, 1000])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair(kit, rng, monkeypatch, shape, V, params, block, with_bias, dtype):
    """In one block and in many."""
    monkeypatch.setattr(linear_cross_entropy, "BLOCK", block)
    x = rng.standard_normal(shape).astype(dtype)
    weight = rng.standard_normal((V, shape[-1]) if params.get("transposed") else (shape[-1], V)).astype(dtype)
    targets = np.asarray(rng.integers(0, V, shape[:-1]))
    if "ignore_index" in params:
        targets = np.where(rng.random(targets.shape) < 0.3, params["ignore_index"], targets)
    arrays = (x, weight, targets, *([rng.standard_normal(V).astype(dtype)] if with_bias else []))
    names = "x weight targets bias"
    kit.check(linear_cross_entropy, arrays, oracle, inputs=names, reads=names, length=16 + shape[-1], rng=rng, **params)


def test_what_is_kept_is_no_larger_than_the_weight_or_one_block(kit, rng):
    """Fewer rows than features, or rows of one block: dz is kept. More: nothing is, and dz is computed again."""
    for R, C, kept in ((300, 300, True), (200, 2, True), (300, 2, False)):
        x, weight = (kit.freeze(rng.standard_normal(shape)) for shape in ((R, C), (C, 5000)))
        targets = kit.freeze(rng.integers(0, 5000, R))
        _, residual = linear_cross_entropy.forward(x, weight, targets)
        assert (residual is not None) == kept


@pytest.mark.parametrize("bad", [4, -1])
def test_targets_out_of_range(kit, bad):
    x, weight = kit.freeze(np.zeros((2, 3))), kit.freeze(np.zeros((3, 4)))
    with pytest.raises(IndexError, match=f"linear_cross_entropy: targets holds {bad}, but weight has 4 classes"):
        linear_cross_entropy.forward(x, weight, kit.freeze(np.array([0, bad])))


def test_no_rows_is_nan(kit):
    x, weight = kit.freeze(np.zeros((0, 3), np.float32)), kit.freeze(np.zeros((3, 4), np.float32))
    loss, residual = linear_cross_entropy.forward(x, weight, kit.freeze(np.zeros(0, np.int64)))
    assert np.isnan(loss) and loss.dtype == np.float32 and residual.shape == (0, 4)


@pytest.mark.parametrize("shape", [(5, 3), (300, 65)], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_of_given_logits(kit, rng, shape, smoothing, dtype):
    """The same oracle with the identity for a weight: cross_entropy's own parameters, serial and on all threads."""
    logits = rng.standard_normal(shape).astype(dtype)
    targets = rng.integers(0, shape[1], shape[0])
    targets[::4] = -7
    params = {"ignore_index": -7, "label_smoothing": smoothing}

    def two(dy, logits, targets, **params):
        loss, (dlogits, *_) = oracle(dy, logits, np.eye(shape[1]), targets, **params)
        return loss, (dlogits, None)

    kit.check(
        cross_entropy,
        (logits, targets),
        two,
        inputs="logits targets",
        reads="logits targets",
        length=8,
        rng=rng,
        **params,
    )
