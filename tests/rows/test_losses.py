"""Losses at special values: what is ignored, ruled out, soft, padded or empty, beside what the generic tests draw."""

import numpy as np
import pytest

import handgrad as hg
from handgrad import nn
from handgrad.engine.kernel_table import kernel
from handgrad.engine.testing.subject import frozen
from handgrad.reference.binary_cross_entropy import binary_cross_entropy_with_logits_definition
from handgrad.reference.cross_entropy import cross_entropy, cross_entropy_vjp
from handgrad.reference.embedding import embedding_jvp, embedding_vjp
from handgrad.reference.kl_divergence import kl_divergence_vjp
from handgrad.reference.linear_cross_entropy import linear_cross_entropy_vjp
from handgrad.reference.table import CROSS_ENTROPY, LINEAR_CROSS_ENTROPY

ONE = np.ones(())


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def grads(loss, *leaves):
    loss.backward()
    return [leaf.grad.numpy() for leaf in leaves]


# ---- cross entropy: ignored rows and smoothing


@pytest.mark.parametrize("mode", ["off", "force"])
@pytest.mark.parametrize("ignore_index", [-100, 2, 10**6])
def test_ignored_rows_change_nothing(rng, mode, ignore_index):
    """The loss and its gradient are those of the other rows alone, whatever the ignored logits are."""
    logits, targets = rng.standard_normal((6, 5)), np.array([0, 1, 3, 4, 1, 0])
    with hg.use_kernels(mode):
        few = hg.Tensor(logits, requires_grad=True)
        (want,) = grads(hg.cross_entropy(few, targets), few)
        more = np.insert(logits, [2, 5], [[np.nan] * 5, [-np.inf] * 5], axis=0)
        ids = np.insert(targets, [2, 5], ignore_index)
        many = hg.Tensor(more, requires_grad=True)
        loss = hg.cross_entropy(many, ids, ignore_index=ignore_index)
        (got,) = grads(loss, many)
        assert loss.item() == pytest.approx(hg.cross_entropy(few, targets).item(), rel=1e-14)
    ignored = ids == ignore_index
    assert not got[ignored].any()
    np.testing.assert_allclose(got[~ignored], want, rtol=0, atol=1e-15)


@pytest.mark.parametrize("mode", ["off", "force"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_rows_ignored_cost_nothing(mode, dtype):
    """The loss is 0, as an empty sum is, and so are the gradients; PyTorch divides 0 by 0."""
    with hg.use_kernels(mode):
        logits, x = (hg.Tensor(np.ones((3, 4), dtype), requires_grad=True) for _ in range(2))
        weight, ids = hg.Tensor(np.ones((4, 2), dtype), requires_grad=True), np.full(3, -1)
        loss = hg.cross_entropy(logits, ids, ignore_index=-1, label_smoothing=0.1)
        fused = hg.linear_cross_entropy(x, weight, ids, ignore_index=-1)
        assert loss.item() == 0.0 and fused.item() == 0.0 and loss.dtype == dtype
        assert not any(g.any() for g in [*grads(loss, logits), *grads(fused, x, weight)])


def test_second_derivatives_do_not_see_ignored_rows(rng):
    logits = rng.standard_normal((3, 4))
    logits[1] = np.nan
    x = hg.Tensor(logits, requires_grad=True)
    (g,) = hg.gradients(hg.cross_entropy(x, np.array([0, -100, 2]), ignore_index=-100), [x], create_graph=True)
    (h,) = hg.gradients((g * g).sum(), [x])
    assert np.isfinite(h.numpy()).all() and not h.numpy()[1].any()


@pytest.mark.parametrize("mode", ["off", "force"])
@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_a_share_on_a_class_that_is_ruled_out_costs_infinity(mode, smoothing):
    """Also where the target itself is ruled out, and also where nothing of it is left (1 - eps = 0)."""
    logits = np.array([[0.5, -np.inf, 1.5]])
    with hg.use_kernels(mode), np.errstate(all="ignore"):
        for target in (1, 2):
            assert hg.cross_entropy(logits, np.array([target]), label_smoothing=smoothing).item() == np.inf
        assert np.isfinite(hg.cross_entropy(logits, np.array([2])).item())


def test_smoothed_gradient_vanishes_at_the_smoothed_target():
    """The model that gives q itself cannot do better."""
    q = np.array([0.1 / 4, 0.1 / 4, 0.9 + 0.1 / 4, 0.1 / 4])
    dlogits, _ = cross_entropy_vjp(ONE, None, np.log(q), np.array(2), label_smoothing=0.1)
    np.testing.assert_allclose(dlogits, 0.0, atol=1e-15)
    entropy = cross_entropy(np.log(q), np.array(2), label_smoothing=0.1)
    assert entropy == pytest.approx(-np.sum(q * np.log(q)), rel=1e-14)


@pytest.mark.parametrize("op", [CROSS_ENTROPY, LINEAR_CROSS_ENTROPY], ids=lambda op: op.name)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_ids_of_every_integer_dtype(rng, op, dtype):
    """ignore_index=-100 with unsigned targets: nothing is ignored, and nothing overflows."""
    ids = np.array([0, 3, 1], dtype)
    arrays = (rng.standard_normal((3, 4)), ids)
    if op is LINEAR_CROSS_ENTROPY:
        arrays = (rng.standard_normal((3, 2)), rng.standard_normal((2, 4)), ids)
    want = op.definition(*arrays, ignore_index=-100)
    assert op.forward(*arrays, ignore_index=-100) == pytest.approx(want, rel=1e-14)
    y, _ = kernel(op).forward(*frozen(arrays), ignore_index=-100)
    assert y == pytest.approx(want, rel=1e-14)


# ---- linear_cross_entropy


@pytest.mark.parametrize("transposed", [False, True])
def test_linear_cross_entropy_is_the_two_rows(rng, transposed):
    """Bit for bit where the formulas run; its kernel, on a block of rows at a time, to rounding."""
    x, weight, bias = rng.standard_normal((40, 6)), rng.standard_normal((6, 30)), rng.standard_normal(30)
    ids = rng.integers(0, 30, 40)
    ids[3] = -100
    params = {"ignore_index": -100, "label_smoothing": 0.2}
    weight = weight.T.copy() if transposed else weight

    def leaves():
        return [hg.Tensor(a, requires_grad=True) for a in (x, weight, bias)]

    def run(together):
        a, w, b = leaves()
        if together:
            loss = hg.linear_cross_entropy(a, w, ids, b, transposed=transposed, **params)
        else:
            loss = hg.cross_entropy(hg.linear(a, w, b, transposed=transposed), ids, **params)
        return [loss.detach().numpy(), *grads(loss, a, w, b)]

    with hg.use_kernels("off"):
        want = run(together=False)
        for got, exact in zip(run(together=True), want, strict=True):
            np.testing.assert_array_equal(got, exact)
    with hg.use_kernels("force"):
        for got, exact in zip(run(together=True), want, strict=True):
            np.testing.assert_allclose(got, exact, rtol=0, atol=1e-14)


def test_linear_cross_entropy_gives_only_what_is_wanted(rng):
    arrays = (rng.standard_normal((3, 2)), rng.standard_normal((2, 4)), np.array([0, 1, 2]), np.zeros(4))
    for i in (0, 1, 3):
        wanted = tuple(j == i for j in range(4))
        dxs = linear_cross_entropy_vjp(ONE, None, *arrays, wanted=wanted)
        assert [dx is not None for dx in dxs] == list(wanted)


# ---- binary cross entropy, KL divergence, mse


def test_binary_cross_entropy_keeps_the_digits_of_a_small_loss():
    loss = hg.binary_cross_entropy_with_logits(np.array([-50.0, 50.0]), np.array([0.0, 1.0]), reduction="none")
    np.testing.assert_allclose(loss.numpy(), np.exp(-50.0), rtol=1e-15)


def test_binary_cross_entropy_is_smooth_at_zero():
    """The branches for x < 0 and x >= 0 are one function: slopes 1/2 - t, 1/4 and 0 at x = 0."""
    x = hg.Tensor(np.zeros(1), requires_grad=True)
    y = hg.binary_cross_entropy_with_logits(x, np.array([0.25]), reduction="sum")
    found = []
    for _ in range(3):
        (y,) = hg.gradients(y, [x], create_graph=True)
        y = y.sum()
        found.append(y.item())
    assert found == pytest.approx([0.25, 0.25, 0.0], abs=1e-15)


def test_kl_divergence_leaves_out_what_never_happens():
    """p = 0: no loss and no gradient, of any order, even where q = 0 too."""
    log_q, p = np.log(np.array([0.5, 0.5, 1.0])), np.array([0.25, 0.75, 0.0])
    log_q[2] = -np.inf
    dlog_q, dp = kl_divergence_vjp(ONE, None, log_q, p, reduction="sum")
    np.testing.assert_allclose(dlog_q, -p)
    np.testing.assert_allclose(dp, [np.log(0.5) + 1.0, np.log(1.5) + 1.0, 0.0])
    a, b = hg.Tensor(log_q, requires_grad=True), hg.Tensor(p, requires_grad=True)
    first = hg.gradients(hg.kl_divergence(a, b, reduction="sum"), [a, b], create_graph=True)
    for h in hg.gradients(sum((g * g).sum() for g in first), [a, b]):
        assert np.isfinite(h.numpy()).all() and h.numpy()[2] == 0.0


def test_reductions_agree(rng):
    x, t = rng.standard_normal((2, 4, 3))
    for loss in (hg.mse, hg.binary_cross_entropy_with_logits, hg.kl_divergence):
        t = np.abs(t)
        each = loss(x, t, reduction="none").numpy()
        assert each.shape == x.shape
        assert loss(x, t, reduction="sum").item() == pytest.approx(each.sum(), rel=1e-13)
        assert loss(x, t).item() == pytest.approx(each.mean(), rel=1e-13)
    assert hg.kl_divergence(x, t, reduction="batchmean").item() == pytest.approx(each.sum() / 4, rel=1e-13)


def test_numbers_take_the_other_dtype():
    x = hg.Tensor(np.array(3.0), requires_grad=True)
    assert hg.mse(x, 1.0).dtype == np.float64 and hg.mse(x, np.float32(1.0)).item() == 4.0
    assert hg.mse(2.0, 1.0).dtype == np.float32


# ---- embedding: the padding row


@pytest.mark.parametrize("mode", ["off", "force"])
def test_padding_is_read_but_does_not_learn(rng, mode):
    table, ids = rng.standard_normal((4, 3)), np.array([[1, 3], [0, 3]])
    with hg.use_kernels(mode):
        for padding_idx in (3, -1):
            weight = hg.Tensor(table, requires_grad=True)
            y = hg.embedding(weight, ids, padding_idx=padding_idx)
            np.testing.assert_array_equal(y.detach().numpy(), table[ids])
            (dweight,) = grads(y.sum(), weight)
            np.testing.assert_array_equal(dweight, [[1.0] * 3, [1.0] * 3, [0.0] * 3, [0.0] * 3])


def test_padding_keeps_jvp_and_vjp_transposes(rng):
    ids, v, dy = np.array([2, 0, 2, 1]), rng.standard_normal((3, 2)), rng.standard_normal((4, 2))
    dweight, _ = embedding_vjp(dy, None, v, ids, padding_idx=2)
    pushed = embedding_jvp((v, None), dy, (v, ids), padding_idx=2)
    assert np.sum(dweight * v) == pytest.approx(np.sum(dy * pushed), rel=1e-14)
    assert not dweight[2].any() and not pushed[ids == 2].any()


def test_embedding_layer_with_padding():
    layer = nn.Embedding(5, 3, padding_idx=-2)
    assert layer.padding_idx == 3 and "padding_idx=3" in repr(layer)
    assert not layer.weight.detach().numpy()[3].any()
    layer(np.array([3, 1, 3])).sum().backward()
    assert layer.weight.grad.numpy()[:, 0].tolist() == [0.0, 1.0, 0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="Embedding: padding_idx is 5, but there are 5 embeddings"):
        nn.Embedding(5, 3, padding_idx=5)


def test_infinitely_sure_and_right_costs_nothing():
    """A logit of minus infinity rules yes out; where no was right, 0 times infinity must not become NaN (PyTorch: NaN)."""
    logits, targets = hg.Tensor([-np.inf, np.inf], requires_grad=True), np.array([0.0, 1.0], np.float32)
    loss = hg.binary_cross_entropy_with_logits(logits, targets)
    assert loss.item() == binary_cross_entropy_with_logits_definition(logits.data, targets) == 0.0
    assert grads(loss, logits)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("mode", ["off", "force"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_ids_of_a_narrow_dtype_name_few_of_many_rows(rng, mode, dtype):
    """Counted in uint8, class 300 would look like class 44, and be a target as well."""
    logits, wide = rng.standard_normal((3, 600)), np.array([44, 7, 0])
    with hg.use_kernels(mode):
        assert hg.cross_entropy(logits, wide.astype(dtype)).item() == hg.cross_entropy(logits, wide).item()
        table = hg.scatter_rows(logits, wide.astype(dtype), n=600).numpy()
    assert np.flatnonzero(table.any(axis=1)).tolist() == [0, 7, 44]


# ---- mistakes are sentences

X = np.zeros((3, 4))
MISTAKES = [
    (lambda: hg.cross_entropy(X, np.array([1, 2, -7]), ignore_index=-100), IndexError, "targets holds -7, but logits has 4"),
    (lambda: hg.cross_entropy(X, np.array([1, 2, -100])), IndexError, "targets holds -100, but logits has 4 classes"),
    (lambda: hg.cross_entropy(X, np.zeros(3, int), ignore_index=0.5), TypeError, "ignore_index is 0.5, but it must be"),
    (lambda: hg.cross_entropy(X, np.zeros(3, int), label_smoothing=1.5), ValueError, "label_smoothing is 1.5, but"),
    (lambda: hg.cross_entropy(X, np.zeros(3, int), label_smoothing="1"), TypeError, "label_smoothing is '1', but"),
    (lambda: hg.cross_entropy(1.0, 0), ValueError, r"logits has shape \(\), but it needs an axis of classes"),
    (lambda: hg.cross_entropy(X, None), TypeError, "targets is None, but it must be an integer array"),
    (lambda: hg.scatter_rows(X, np.zeros(3, int), n=1.5), TypeError, "n is 1.5, but it must be an integer"),
    (lambda: hg.scatter_rows(X[:0], np.zeros(0, int), n=-1), ValueError, "n is -1, but it must be at least 0"),
    (lambda: nn.Embedding(3, 2, padding_idx=1.5), TypeError, "padding_idx is 1.5, but it must be an integer or None"),
    (lambda: hg.linear_cross_entropy(X, np.zeros((4, 2)), np.array([0, 1, 2])), IndexError, "weight has 2 classes"),
    (lambda: hg.linear_cross_entropy(X, np.zeros((4, 2)), np.array([0])), ValueError, r"x \(3, 4\) needs \(3,\)"),
    (lambda: hg.linear_cross_entropy(X, np.zeros(4), np.array([0])), ValueError, "weight has shape .*needs two axes"),
    (lambda: hg.linear_cross_entropy(X[:0], np.zeros((4, 2)), np.zeros(0, int)), ValueError, "at least one row"),
    (lambda: hg.mse(X, np.zeros(4)), ValueError, r"target has shape \(4,\), but prediction \(3, 4\) needs the same"),
    (lambda: hg.mse(X, X, reduction="average"), ValueError, "reduction is 'average', but it must be 'mean', 'sum' or 'none'"),
    (lambda: hg.mse(X[:0], X[:0]), ValueError, "a mean needs at least one entry"),
    (lambda: hg.mse(X, None), TypeError, "got None, but it takes two arrays"),
    (lambda: hg.kl_divergence(0.0, 1.0, reduction="batchmean"), ValueError, "needs an axis of examples"),
    (lambda: hg.binary_cross_entropy_with_logits(X, np.zeros((3, 4), int)), TypeError, "targets is int64, but it must be"),
    (lambda: hg.embedding(X, np.array([1]), padding_idx=3), ValueError, "padding_idx is 3, but weight has 3 rows"),
    (lambda: hg.embedding(X, np.array([1]), padding_idx=1.0), TypeError, "padding_idx is 1.0, but it must be an integer"),
]  # fmt: skip


@pytest.mark.parametrize("call, error, sentence", MISTAKES, ids=[s for _, _, s in MISTAKES])
def test_mistakes(call, error, sentence):
    with pytest.raises(error, match=sentence) as raised:
        call()
    assert "\n" not in str(raised.value)
