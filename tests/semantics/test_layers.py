"""docs/semantics.md, Layers of a language model: masks, losses, attention, optimizers, random numbers."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor
from handgrad.engine.testing import check_op

answers = pytest.mark.answers

INF, NAN = float("inf"), float("nan")


def numbers(seed: int, *shape: int, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray, allowed: np.ndarray, bias: Any = 0.0) -> np.ndarray:
    """Attention as the textbook has it, in float64; allowed (..., t, s), and zeros for a query that may see nothing."""
    scores = np.where(allowed, q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1]) + bias, -INF)
    top = np.max(scores, axis=-1, keepdims=True)
    e = np.exp(scores - np.where(np.isfinite(top), top, 0.0))
    total = np.sum(e, axis=-1, keepdims=True)
    return e / np.where(total == 0.0, 1.0, total) @ v


def three(seed: int, t: int, s: int, dtype: Any = np.float64) -> list[np.ndarray]:
    """q (2, 2, t, 4), k and v (2, 2, s, 4)"""
    return [numbers(seed + i, 2, 2, n, 4, dtype=dtype) for i, n in enumerate((t, s, s))]


def pulled(f: Any, *xs: Any) -> list[np.ndarray]:
    """The gradients of sum(f ** 2)."""
    found = hg.grad(lambda *xs: hg.sum(f(*xs) ** 2), tuple(range(len(xs))))(*xs)
    return [d.detach().numpy() for d in found]


# ---- layouts


@answers("linear")
def test_layout_of_weights(dtype: Any, kernels: str, near: Any) -> None:
    x, w, b = numbers(1, 5, 3, dtype=dtype), numbers(2, 3, 2, dtype=dtype), numbers(3, 2, dtype=dtype)
    near(hg.linear(x, Tensor(w), b), x @ w + b)
    near(hg.linear(x, Tensor(w.T), b, transposed=True), x @ w + b)
    near(hg.grad(lambda w: hg.sum(hg.linear(x, w, b, transposed=True)))(Tensor(w.T)), np.ones((2, 1)) * x.sum(0))
    layer = hg.nn.Linear(3, 2)
    layer.load_state_dict({"weight": w.T.astype(np.float32), "bias": b.astype(np.float32)})
    near(layer(Tensor(x.astype(np.float32))), x.astype(np.float32) @ w.astype(np.float32) + b.astype(np.float32))


@answers("linear")
def test_files_of_gpt2_are_turned_by_name() -> None:
    model = hg.models.GPT(hg.models.GPTConfig(vocab_size=7, block_size=4, n_layer=1, n_head=2, n_embd=4))
    arrays = model.to_files()[1]
    for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
        ours = model.state_dict()[f"transformer.h.0.{name}.weight"]
        assert np.array_equal(arrays[f"transformer.h.0.{name}.weight"], ours.T)  # c_proj is square: the shape says nothing
    again = hg.models.GPT.from_files(*model.to_files())
    for name, array in model.state_dict().items():
        assert np.array_equal(again.state_dict()[name], array)


@answers("layout of attention and Transformer layers")
def test_the_batch_comes_first() -> None:
    x = Tensor(numbers(4, 3, 5, 8, dtype=np.float32))
    layers = (
        hg.nn.MultiheadAttention(8, 2), hg.nn.TransformerEncoderLayer(8, 2, 16), hg.nn.SelfAttention(8, 2),
        hg.nn.TransformerBlock(8, 2),
    )  # fmt: skip
    for layer in layers:
        y = layer.eval()(x)
        alone = layer(x[1:2])  # an entry of the batch does not see the others
        np.testing.assert_allclose(y[1:2].detach().numpy(), alone.detach().numpy(), rtol=0, atol=1e-5)
    for cls in (hg.nn.MultiheadAttention, hg.nn.TransformerEncoderLayer, hg.nn.TransformerDecoderLayer):
        with pytest.raises(TypeError, match="batch_first"):
            cls(8, 2, batch_first=True)  # type: ignore[call-arg]


# ---- masks


@answers("masks")
def test_true_takes_part(dtype: Any, kernels: str, near: Any) -> None:
    q, k, v = three(5, 3, 4, dtype)
    padding = np.array([[True, True, False, True], [True, False, False, False]])[:, None, None, :]  # (B, 1, 1, S)
    near(hg.attention(q, k, v, padding), attended(q, k, v, padding))
    one = hg.attention(q, k, v, padding)[1]
    near(one, np.broadcast_to(v[1, :, :1], one.shape))  # the only key that takes part is the answer
    if kernels == "off":  # masks of a query's own are the formula's
        own = np.random.default_rng(6).random((3, 4)) < 0.6
        near(hg.attention(q, k, v, own), attended(q, k, v, own))
    with pytest.raises(TypeError, match=r"^attention: mask"):
        hg.attention(q, k, v, np.ones((2, 1, 1, 4)))
    x = Tensor(numbers(7, 2, 4, 4, dtype=np.float32))
    for layer in (hg.nn.MultiheadAttention(4, 2), hg.nn.SelfAttention(4, 2), hg.nn.TransformerEncoderLayer(4, 2, 8).eval()):
        short = layer(x[1:, :1])
        np.testing.assert_allclose(
            layer(x, mask=padding)[1:, :1].detach().numpy(), short.detach().numpy(), rtol=0, atol=1e-5
        )


@answers("`causal`")
@pytest.mark.parametrize("t, s", [(4, 4), (2, 5), (5, 2)])
def test_causal_is_aligned_to_the_end(t: int, s: int, dtype: Any, kernels: str, near: Any) -> None:
    q, k, v = three(8, t, s, dtype)
    allowed = np.array([[j <= i + s - t for j in range(s)] for i in range(t)])
    near(hg.attention(q, k, v, causal=True), attended(q, k, v, allowed))
    if s > t:  # a cache of keys: the last t of s queries
        full = np.concatenate([numbers(9, 2, 2, s - t, 4, dtype=dtype), q], axis=2)
        near(hg.attention(q, k, v, causal=True), hg.attention(full, k, v, causal=True).numpy()[:, :, s - t :])


@answers("`window`")
@pytest.mark.parametrize("t, s", [(5, 5), (3, 6), (6, 3)])
@pytest.mark.parametrize("window", [1, 2, 9])
def test_window(t: int, s: int, window: int, dtype: Any, kernels: str, near: Any) -> None:
    q, k, v = three(10, t, s, dtype)
    for causal in (False, True):
        allowed = np.array(
            [[abs(i + s - t - j) < window and (j <= i + s - t or not causal) for j in range(s)] for i in range(t)]
        )
        assert not causal or allowed.sum(1).max() <= window
        near(hg.attention(q, k, v, causal=causal, window=window), attended(q, k, v, allowed))


@answers("`bias` of attention")
def test_bias_of_attention(dtype: Any, near: Any) -> None:
    q, k, v = three(11, 3, 4, dtype)
    bias = numbers(12, 2, 3, 4, dtype=dtype)  # one for the whole batch
    near(hg.attention(q, k, v, None, bias), attended(q, k, v, np.array(True), bias))
    check_op(lambda q, k, v, b: hg.attention(q, k, v, None, b), (q, k, v, bias), samples=2)
    mask = np.array([True, False, True, True])
    ruled = np.where(mask, bias, -INF).astype(dtype)
    near(hg.attention(q, k, v, None, ruled), hg.attention(q, k, v, mask, bias).numpy(), units=0)
    by_bias = pulled(lambda q, k, v, b: hg.attention(q, k, v, None, b), q, k, v, ruled)
    by_mask = pulled(lambda q, k, v, b: hg.attention(q, k, v, mask, b), q, k, v, bias)
    for got, want in zip(by_bias, by_mask, strict=True):
        near(Tensor(got), want, units=0)
    assert not by_bias[3][..., 1].any() and by_bias[3][..., 0].any()


@answers("a query that may attend to nothing")
def test_a_query_that_sees_nothing(dtype: Any, near: Any) -> None:
    q, k, v = three(13, 3, 2, dtype)
    none, rows = np.zeros((2, 1, 1, 2), bool), np.array([[False, False], [True, False], [True, True]])
    blind = np.where(rows, 0.0, -INF).astype(dtype)
    ways: list[tuple[list[int], bool, Any]] = [  # which queries see nothing, whether there is a kernel, how
        ([0, 1, 2], True, lambda q, k, v: hg.attention(q, k, v, none)),
        ([0], False, lambda q, k, v: hg.attention(q, k, v, rows)),
        ([0], False, lambda q, k, v: hg.attention(q, k, v, None, blind)),
        ([0], True, lambda q, k, v: hg.attention(q, k, v, causal=True)),  # three queries, two keys
        ([0, 2], True, lambda q, k, v: hg.attention(q, k, v, np.array([True, False]), causal=True, window=1)),
        ([0, 1], False, lambda q, k, v: hg.attention(q, k, v, np.array([False, True]), blind, causal=True)),
    ]
    for nothing, kernel, f in ways:
        for kernels in ("off", "force") if kernel else ("off",):
            with hg.use_kernels(kernels):
                seen = [i for i in range(3) if i not in nothing]
                y, (dq, *_) = f(q, k, v).numpy(), pulled(f, q, k, v)
                assert not y[:, :, nothing].any() and not dq[:, :, nothing].any()
                assert not seen or (y[:, :, seen].any() and np.isfinite(y).all())
                assert all(np.isfinite(d).all() for d in pulled(f, q, k, v))
                if not seen:
                    assert not any(d.any() for d in pulled(f, q, k, v))
                curved = hg.hvp(lambda q, f=f: hg.sum(f(q, k, v) ** 2), Tensor(q), Tensor(np.ones_like(q)))
                assert not curved.numpy()[:, :, nothing].any() and np.isfinite(curved.numpy()).all()


@answers("`grouped=True` in attention")
def test_grouped_queries(dtype: Any, kernels: str, near: Any) -> None:
    q, (k, v) = numbers(14, 2, 6, 3, 4, dtype=dtype), (numbers(15 + i, 2, 2, 5, 4, dtype=dtype) for i in range(2))
    repeated = [np.repeat(x, 3, axis=1) for x in (k, v)]  # head h reads h // (6 // 2)
    near(hg.attention(q, k, v, grouped=True), attended(q, *repeated, np.array(True)))
    ours = pulled(lambda q, k, v: hg.attention(q, k, v, grouped=True), q, k, v)
    theirs = pulled(lambda q, k, v: hg.attention(q, hg.repeat(k, 3, axis=1), hg.repeat(v, 3, axis=1)), q, k, v)
    for got, want in zip(ours, theirs, strict=True):
        near(Tensor(got), want, units=64)
    if kernels == "off":
        with pytest.raises(ValueError, match=r"^attention: "):
            hg.attention(q, k, v)  # 6 heads do not broadcast against 2
        near(hg.attention(q, k[:, :1], v[:, :1]), attended(q, k[:, :1], v[:, :1], np.array(True)))


# ---- losses


@answers("`ignore_index`")
def test_ignored_targets(dtype: Any, kernels: str, near: Any) -> None:
    logits, targets = numbers(16, 4, 3, dtype=dtype), np.array([0, -100, 2, -100])
    unseen = logits.copy()
    unseen[[1, 3]] = [[NAN, INF, 0.0], [-INF, NAN, 1.0]]
    weight, x = numbers(17, 2, 3, dtype=dtype), numbers(18, 4, 2, dtype=dtype)
    want = hg.cross_entropy(logits[[0, 2]], targets[[0, 2]])
    near(hg.cross_entropy(unseen, targets, ignore_index=-100), want.numpy())
    d = hg.grad(lambda z: hg.cross_entropy(z, targets, ignore_index=-100))(unseen)
    near(d[1], [0, 0, 0])
    near(d[2], hg.grad(lambda z: hg.cross_entropy(z, targets[[0, 2]]))(logits[[0, 2]]).numpy()[1])
    near(
        hg.linear_cross_entropy(x, weight, targets, ignore_index=-100),
        hg.cross_entropy(x[[0, 2]] @ weight, targets[[0, 2]]).numpy(),
    )
    for f in (
        lambda z: hg.cross_entropy(z, np.full(4, 7), ignore_index=7),
        lambda z: hg.linear_cross_entropy(z, np.eye(3, dtype=dtype), np.full(4, -1), ignore_index=-1),
    ):
        near(f(Tensor(unseen)), 0.0)
        near(hg.grad(f)(unseen), np.zeros((4, 3)))
        near(hg.hvp(f, Tensor(logits), Tensor(logits)), np.zeros((4, 3)))
    with pytest.raises(IndexError, match="-100"):
        hg.cross_entropy(logits, targets)  # None by default


@answers("`label_smoothing` with a logit of -inf")
def test_smoothing_over_impossible_classes(dtype: Any, kernels: str, near: Any) -> None:
    logits = np.array([[0.0, -INF, 1.0]], dtype)
    near(hg.cross_entropy(logits, np.array([0]), label_smoothing=0.1), INF)
    near(hg.cross_entropy(logits, np.array([0])), np.log(1 + np.e))
    near(hg.grad(lambda z: hg.cross_entropy(z, np.array([0])))(logits), [[-np.e / (1 + np.e), 0.0, np.e / (1 + np.e)]])


@answers("shapes in a loss")
def test_nothing_is_broadcast_in_a_loss() -> None:
    a, b = Tensor(numbers(19, 3, 1)), Tensor(numbers(20, 3))
    for loss in (hg.mse, hg.binary_cross_entropy_with_logits, hg.kl_divergence):
        for pair in ((a, b), (b, a), (b, b[:1])):
            with pytest.raises(ValueError, match=r"nothing is broadcast in a loss"):
                loss(*pair)
        assert loss(b, b).shape == ()
    with pytest.raises(ValueError, match=r"^cross_entropy: targets has shape"):
        hg.cross_entropy(Tensor(numbers(21, 3, 4)), np.array([[0], [1], [2]]))


@answers("mean of an empty loss")
def test_losses_of_nothing(near: Any) -> None:
    none = Tensor(np.zeros((0, 3)))
    for loss in (hg.mse, hg.binary_cross_entropy_with_logits, hg.kl_divergence):
        with pytest.raises(ValueError, match="a mean needs at least one"):
            loss(none, none)
        near(loss(none, none, reduction="sum"), 0.0)
        assert hg.grad(lambda x, loss=loss: loss(x, none, reduction="sum"))(none).shape == (0, 3)
    ids = np.zeros(0, np.int64)
    for call in (lambda: hg.cross_entropy(none, ids), lambda: hg.linear_cross_entropy(none, Tensor(np.eye(3)), ids)):
        with pytest.raises(ValueError, match="a mean needs at least one"):
            call()


@answers("`kl_divergence`")
def test_kl_divergence(dtype: Any, near: Any) -> None:
    p, q = np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]]), np.array([[0.25, 0.5, 0.25], [0.1, 0.2, 0.7]])
    each = np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0) / q), 0.0)
    log_q, target = Tensor(np.log(q).astype(dtype)), Tensor(p.astype(dtype))
    wants = {"none": each, "sum": each.sum(), "mean": each.mean(), "batchmean": each.sum() / 2}
    for reduction, want in wants.items():
        near(hg.kl_divergence(log_q, target, reduction=reduction), want)
        log_p = Tensor(np.log(p).astype(dtype))
        near(hg.kl_divergence(log_q, log_p, log_target=True, reduction=reduction), want)
    near(hg.kl_divergence(log_q, target), each.mean())
    dq, dp = hg.grad(lambda q, p: hg.kl_divergence(q, p, reduction="sum"), (0, 1))(log_q, target)
    near(dq, -p)
    near(dp, np.where(p > 0, np.log(np.where(p > 0, p, 1.0)) + 1 - np.log(q), 0.0))
    impossible = Tensor(np.array([[-INF, 0.0]], dtype)), Tensor(np.array([[0.0, 1.0]], dtype))
    near(hg.kl_divergence(*impossible, reduction="sum"), 0.0)
    near(hg.grad(lambda q: hg.kl_divergence(q, impossible[1], reduction="sum"))(impossible[0]), [[0.0, -1.0]])


@answers("`padding_idx`")
def test_padding_idx(dtype: Any, kernels: str, near: Any) -> None:
    weight, ids = numbers(22, 4, 2, dtype=dtype), np.array([[1, 3], [3, 0]])
    for padding in (3, -1):
        near(hg.embedding(weight, ids, padding_idx=padding), weight[ids])
        d = hg.grad(lambda w, padding=padding: hg.sum(hg.embedding(w, ids, padding_idx=padding) ** 2))(weight)
        near(d, 2 * weight * [[1], [1], [0], [0]])
    layer = hg.nn.Embedding(4, 2, padding_idx=-1)
    assert not layer.weight.detach().numpy()[3].any() and layer.weight.detach().numpy()[:3].all()
    optimizer = hg.optim.AdamW(layer.parameters(), weight_decay=0.5)
    hg.sum(layer(ids) ** 2).backward()
    optimizer.step()
    assert not layer.weight.detach().numpy()[3].any()


# ---- layers


@answers("`nn.MultiheadAttention`")
def test_multihead_attention(kernels: str, near: Any) -> None:
    hg.manual_seed(1)
    layer = hg.nn.MultiheadAttention(4, 2)
    x, memory = (Tensor(numbers(23 + i, 2, n, 4, dtype=np.float32)) for i, n in enumerate((3, 5)))
    y = layer(x)
    assert type(y) is Tensor and y.shape == (2, 3, 4)
    near(y, layer(x, x, x).detach().numpy())
    near(layer(x, memory), layer(x, memory, memory).detach().numpy())
    weight, out = (w.detach().numpy() for w in (layer.in_proj_weight, layer.out_proj.weight))
    parts = [
        np.swapaxes((a.numpy() @ w.T).reshape(2, -1, 2, 2), 1, 2)
        for a, w in zip((x, memory, memory), np.split(weight, 3), strict=True)
    ]
    near(layer(x, memory), np.swapaxes(attended(*parts, np.array(True)), 1, 2).reshape(2, 3, 4) @ out.T, units=64)
    names = set(hg.nn.SelfAttention(4, 2).state_dict())
    assert names == {"c_attn.weight", "c_attn.bias", "c_proj.weight", "c_proj.bias"}  # as in GPT-2's files


@answers("`nn.TransformerDecoderLayer`")
def test_a_decoder_is_causal() -> None:
    layer = hg.nn.TransformerDecoderLayer(4, 2, 8).eval()
    a = numbers(25, 1, 3, 4, dtype=np.float32)
    b = a.copy()
    b[:, 2] += 1.0
    memory = numbers(26, 1, 2, 4, dtype=np.float32)

    def first(x: np.ndarray, **params: Any) -> np.ndarray:
        return layer(Tensor(x), Tensor(memory), **params)[:, :2].detach().numpy()

    np.testing.assert_allclose(first(a), first(b), rtol=0, atol=1e-6)
    assert np.abs(first(a, causal=False) - first(b, causal=False)).max() > 1e-3
    stack = hg.nn.TransformerDecoder([layer])
    np.testing.assert_array_equal(stack(Tensor(a), Tensor(memory))[:, :2].detach().numpy(), first(a))


@answers('`activation="gelu"` in encoder and decoder layers')
def test_gelu_of_encoder_layers_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = hg.nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, activation="gelu", norm_first=True)
    x = Tensor(4.0 * numbers(27, 2, 3, 4, dtype=np.float32))
    after = x + layer.self_attn(layer.norm1(x))
    hidden = layer.linear1(layer.norm2(after)) * 1.0
    exact, tanh = (
        after + layer.linear2(hg.gelu(hidden, approximate=kind)) for kind in ("none", "tanh")
    )
    got = layer(x).detach().numpy()
    assert np.array_equal(got, exact.detach().numpy()) and not np.array_equal(got, tanh.detach().numpy())


# ---- optimizers


@answers("`weight_decay`")
@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Adam", "AdamW"])
def test_weight_decay(name: str, near: Any) -> None:
    w0, g, lr, decay = np.array([1.0, -2.0]), np.array([0.5, 0.25]), 0.1, 0.3

    def stepped(w0: np.ndarray, g: np.ndarray, decay: float) -> Tensor:
        w = Tensor(w0, requires_grad=True)
        optimizer = getattr(hg.optim, name)([w], lr=lr, weight_decay=decay)
        hg.sum(w * Tensor(g)).backward()
        optimizer.step()
        assert w.grad is not None and w.grad.numpy().tolist() == g.tolist()
        return w

    if name == "AdamW":
        near(stepped(w0, g, decay), stepped(w0, g, 0.0).detach().numpy() - lr * decay * w0)
        near(stepped(w0, np.zeros(2), decay), w0 * (1 - lr * decay))
    else:
        near(stepped(w0, g, decay), stepped(w0, g + decay * w0, 0.0).detach().numpy())


@answers("`max_norm` of an optimizer")
def test_clipping_comes_before_the_decay(near: Any) -> None:
    w0, g = np.array([1.0, -2.0]), np.array([3.0, 4.0])
    w = Tensor(w0, requires_grad=True)
    optimizer = hg.optim.SGD([w], lr=0.5, weight_decay=0.1, max_norm=1.0)
    hg.sum(w * Tensor(g)).backward()
    assert optimizer.step() == pytest.approx(5.0, rel=1e-12)
    np.testing.assert_allclose(w.detach().numpy(), w0 - 0.5 * (g / 5.0 + 0.1 * w0), rtol=1e-6)  # norm + 1e-6 divides
    for cls in (hg.optim.SGD, hg.optim.Adagrad, hg.optim.Adam, hg.optim.AdamW):
        x = Tensor(w0, requires_grad=True)
        hg.sum(x * x).backward()
        assert np.isnan(cls([x], lr=0.1).step())
        assert cls([x], lr=0.1, max_norm=100.0).step() == pytest.approx(np.sqrt(20.0), rel=1e-12)  # x.grad is still 2 w0


# ---- random numbers


@answers("random numbers")
def test_random_numbers_are_philox() -> None:
    """Known answers from kat_vectors of Random123, the authors' library."""
    assert hg.Generator().words(4).tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    pi = hg.Generator(0x299F31D0A4093822, 0x0370734413198A2E)
    pi.set_state({**pi.state(), "counter": 0x85A308D3243F6A88})
    assert pi.words(4).tolist() == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]
    assert not np.array_equal(hg.Generator(1, 0).words(4), hg.Generator(1, 1).words(4))
    walked, jumped = hg.Generator(3), hg.Generator(3)
    walked.uniform((8,))
    jumped.set_state({"seed": 3, "stream": 0, "counter": 2})
    assert np.array_equal(walked.normal((5,)), jumped.normal((5,)))


@answers("random numbers")
@pytest.mark.parametrize("n", [16_383, 100_001])
def test_threads_and_kernels_do_not_change_random_numbers(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def draws() -> list[np.ndarray]:
        return [hg.Generator(7).bernoulli((n,), 0.3), hg.Generator(7).words(n)]

    every, before = draws(), numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        for got, want in zip(draws(), every, strict=True):
            assert np.array_equal(got, want)
    finally:
        numba.set_num_threads(before)
    monkeypatch.setattr("handgrad.engine.random._FAST_FROM", n + 1)  # the formula
    for got, want in zip(draws(), every, strict=True):
        assert np.array_equal(got, want)
