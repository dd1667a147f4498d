"""docs/semantics.md, Layers of a language model: layouts, masks, attention, layers. The rest is in test_training.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor
from handgrad.engine.testing import check_op

answers = pytest.mark.answers

INF = float("inf")


def numbers(seed: int, *shape: int, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def weights(q: np.ndarray, k: np.ndarray, allowed: np.ndarray, bias: Any = 0.0) -> np.ndarray:
    """What attention gives each key, as the textbook has it; allowed (..., t, s), zeros where a query sees nothing."""
    scores = np.where(allowed, q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1]) + bias, -INF)
    top = np.max(scores, axis=-1, keepdims=True)
    e = np.exp(scores - np.where(np.isfinite(top), top, 0.0))
    total = np.sum(e, axis=-1, keepdims=True)
    return e / np.where(total == 0.0, 1.0, total)


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray, allowed: np.ndarray, bias: Any = 0.0) -> np.ndarray:
    return weights(q, k, allowed, bias) @ v


def attended_slopes(q: np.ndarray, k: np.ndarray, v: np.ndarray, allowed: np.ndarray) -> list[np.ndarray]:
    """The gradients of sum(attended ** 2) by q, k and v, by the chain rule."""
    p = weights(q, k, allowed)
    dy = 2.0 * (p @ v)
    dp = dy @ np.swapaxes(v, -1, -2)
    ds = p * (dp - np.sum(dp * p, axis=-1, keepdims=True)) / np.sqrt(q.shape[-1])
    return [ds @ k, np.swapaxes(ds, -1, -2) @ q, np.swapaxes(p, -1, -2) @ dy]


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
        assert np.array_equal(
            arrays[f"transformer.h.0.{name}.weight"], ours.T
        )  # c_proj is square: the shape says nothing
    again = hg.models.GPT.from_files(*model.to_files())
    for name, array in model.state_dict().items():
        assert np.array_equal(again.state_dict()[name], array)


@answers("layout of attention and Transformer layers")
def test_the_batch_comes_first() -> None:
    x = Tensor(numbers(4, 3, 5, 8, dtype=np.float32))
    layers: tuple[Any, ...] = (
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
    slopes = pulled(lambda q, k, v: hg.attention(q, k, v, padding), q, k, v)
    for got, want in zip(slopes, attended_slopes(q, k, v, padding), strict=True):
        near(Tensor(got), want, units=64)
    one = hg.attention(q, k, v, padding)[1]
    near(one, np.broadcast_to(v[1, :, :1], one.shape))  # the only key that takes part is the answer
    if kernels == "off":  # masks of a query's own are the formula's
        own = np.random.default_rng(6).random((3, 4)) < 0.6
        near(hg.attention(q, k, v, own), attended(q, k, v, own))
    with pytest.raises(TypeError, match=r"^attention: mask"):
        hg.attention(q, k, v, np.ones((2, 1, 1, 4)))
    x = Tensor(numbers(7, 2, 4, 4, dtype=np.float32))
    for layer in (
        hg.nn.MultiheadAttention(4, 2),
        hg.nn.SelfAttention(4, 2),
        hg.nn.TransformerEncoderLayer(4, 2, 8).eval(),
    ):
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
    slopes = pulled(lambda q, k, v: hg.attention(q, k, v, causal=True), q, k, v)
    for got, want in zip(slopes, attended_slopes(q, k, v, allowed), strict=True):
        near(Tensor(got), want, units=64)
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
        slopes = pulled(lambda q, k, v, causal=causal: hg.attention(q, k, v, causal=causal, window=window), q, k, v)
        for got, want in zip(slopes, attended_slopes(q, k, v, allowed), strict=True):
            near(Tensor(got), want, units=64)


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
    near(hg.attention(q, k, v, grouped=True), attended(q, repeated[0], repeated[1], np.array(True)))
    ours = pulled(lambda q, k, v: hg.attention(q, k, v, grouped=True), q, k, v)
    theirs = pulled(lambda q, k, v: hg.attention(q, hg.repeat(k, 3, axis=1), hg.repeat(v, 3, axis=1)), q, k, v)
    for got, want in zip(ours, theirs, strict=True):
        near(Tensor(got), want, units=64)
    if kernels == "off":
        with pytest.raises(ValueError, match=r"^attention: "):
            hg.attention(q, k, v)  # 6 heads do not broadcast against 2
        near(hg.attention(q, k[:, :1], v[:, :1]), attended(q, k[:, :1], v[:, :1], np.array(True)))


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
    q, k, v = [
        np.swapaxes((a.numpy() @ w.T).reshape(2, -1, 2, 2), 1, 2)
        for a, w in zip((x, memory, memory), np.split(weight, 3), strict=True)
    ]
    near(layer(x, memory), np.swapaxes(attended(q, k, v, np.array(True)), 1, 2).reshape(2, 3, 4) @ out.T, units=64)
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
    exact, tanh = (after + layer.linear2(hg.gelu(hidden, approximate=kind)) for kind in ("none", "tanh"))
    got = layer(x).detach().numpy()
    assert np.array_equal(got, exact.detach().numpy()) and not np.array_equal(got, tanh.detach().numpy())


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


@answers("`nn.Dropout`")
def test_dropout(near: Any) -> None:
    x, layer = Tensor(np.ones((100, 50), np.float32)), hg.nn.Dropout(0.2, hg.Generator(5))
    y = layer(x).numpy()
    assert set(np.unique(y)) == {np.float32(0.0), np.float32(1.25)}
    assert abs(np.mean(y == 0.0) - 0.2) < 5 * np.sqrt(0.2 * 0.8 / x.size)  # five standard deviations
    assert layer.eval()(x) is x
    with pytest.raises(ValueError, match=r"^Dropout: p is 1"):
        hg.nn.Dropout(1.0)


@answers("`dropout_add`")
def test_dropout_add(dtype: Any, kernels: str) -> None:
    x, residual = (Tensor(numbers(40 + i, 100, 50, dtype=dtype)) for i in range(2))
    one, other = hg.Generator(5, 1), hg.Generator(5, 1)
    layer = hg.nn.Dropout(0.2, one)
    y = hg.dropout_add(x, residual, p=0.2, generator=other).numpy()
    np.testing.assert_array_equal(y, (residual + layer(x)).numpy())
    assert one.state() == other.state()
    np.testing.assert_array_equal(layer.eval().add(x, residual).numpy(), (residual + x).numpy())


@answers("`layer_norm`, `rms_norm`")
def test_norms(dtype: Any, kernels: str, near: Any) -> None:
    x, weight, bias = (numbers(30 + i, *shape, dtype=dtype) for i, shape in enumerate(((2, 3, 5), (5,), (5,))))
    eps = 0.1
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)  # var divides by n
    near(hg.layer_norm(x, weight, bias, eps=eps), normal * weight + bias)
    near(hg.rms_norm(x, weight, eps=eps), x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * weight)
    same = Tensor(np.full((2, 5), 3.0, dtype))
    near(hg.layer_norm(same, weight, bias), np.stack([bias, bias]))
    by_row = 2 * bias * weight  # the slope of y ** 2 there, of which the norm lets through what is not its mean
    dx = hg.grad(lambda x: hg.sum(hg.layer_norm(x, weight, bias, eps=eps) ** 2))(same)
    near(dx, np.stack([(by_row - by_row.mean()) / np.sqrt(eps)] * 2), units=64)
    near(hg.rms_norm(same * 0.0, weight), np.zeros((2, 5)))


@answers("`generate` with a GPT beyond its context")
def test_the_window_moves_on() -> None:
    """Behind its context a model sees the last block_size tokens as a text of their own."""
    hg.manual_seed(0)
    model = hg.models.GPT(hg.models.GPTConfig(7, 4, 1, 1, 8)).astype(np.float64)
    ids, reader = np.array([1, 2, 3, 4, 5, 6, 0]), model.reader()
    with hg.no_grad():
        for end in range(1, 8):
            got = reader.read(ids[end - 1 : end])
            want = model(ids[None, max(0, end - 4) : end])[0, -1].numpy()
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-14)
