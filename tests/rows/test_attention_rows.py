"""Attention at its edges: what is ruled out in more than one way, biases that are infinite, windows, groups, messages."""

import re

import numpy as np
import pytest

import handgrad as hg
from handgrad.engine.autograd import gradients
from handgrad.reference.attention import ATTENTION, attention, attention_jvp, attention_vjp
from handgrad.reference.attention_weights import attention_weights, may_attend

INF = np.inf


@pytest.fixture
def rng():
    return np.random.default_rng(20261124)


def qkv(rng, *lead, t=4, s=6, d=3, dtype=np.float64):
    return tuple(rng.standard_normal((*lead, n, d)).astype(dtype) for n in (t, s, s))


def seen(t, s, **rules):
    """Which keys each query sees, as text: a row for each query."""
    q, k = np.zeros((t, 1)), np.zeros((s, 1))
    allowed = may_attend(q, k, None, None, rules.get("causal", False), rules.get("window"))
    return ["".join("x" if a else "." for a in row) for row in allowed]


def test_who_sees_whom():
    """The last query stands where the last key does, whatever their numbers."""
    assert seen(3, 3, causal=True) == ["x..", "xx.", "xxx"]
    assert seen(2, 4, causal=True) == ["xxx.", "xxxx"]
    assert seen(4, 2, causal=True) == ["..", "..", "x.", "xx"]
    assert seen(4, 4, window=1) == ["x...", ".x..", "..x.", "...x"]
    assert seen(4, 4, window=2) == ["xx..", "xxx.", ".xxx", "..xx"]
    assert seen(2, 4, window=2) == [".xxx", "..xx"]
    assert seen(4, 2, window=2) == ["..", "x.", "xx", "xx"]
    assert seen(4, 4, window=2, causal=True) == ["x...", "xx..", ".xx.", "..xx"]
    assert seen(2, 5, window=3, causal=True) == [".xxx.", "..xxx"]


@pytest.mark.parametrize("order", [{}, {"causal": True}, {"window": 2}, {"causal": True, "window": 2}], ids=str)
@pytest.mark.parametrize("grouped", [False, True])
def test_a_mask_and_a_bias_of_minus_infinity_are_the_same(rng, order, grouped):
    """In value and in every derivative, also where they leave a query nothing; and no NaN anywhere."""
    q, k, v = qkv(rng, 2, 4)
    if grouped:
        k, v = k[:, :2], v[:, :2]
    mask = rng.random((4, 4, 6)) < 0.6
    mask[1, 2] = False
    bias = np.where(mask, 0.0, -INF)
    params = {**order, "grouped": grouped}
    with np.errstate(all="raise"):
        y, same = attention(q, k, v, mask, **params), attention(q, k, v, None, bias, **params)
        dy = rng.standard_normal(y.shape)
        dxs = attention_vjp(dy, y, q, k, v, mask, **params)
        dsame = attention_vjp(dy, y, q, k, v, None, bias, **params)
        v_q, v_k, v_v, v_bias = (rng.standard_normal(x.shape) for x in (q, k, v, bias))
        pushed = attention_jvp((v_q, v_k, v_v, None), y, (q, k, v, mask), **params)
        also = attention_jvp((v_q, v_k, v_v, None, None), y, (q, k, v, None, bias), **params)
        moved = attention_jvp((None, None, None, None, v_bias), y, (q, k, v, None, bias), **params)
    assert not y[:, 1, 2].any() and not dxs[0][:, 1, 2].any() and not moved[:, 1, 2].any()
    np.testing.assert_array_equal(y, same)
    np.testing.assert_array_equal(pushed, also)
    for a, b in zip(dxs[:3], dsame[:3], strict=True):
        np.testing.assert_array_equal(a, b)
    assert dsame[3] is None and not dsame[4][~mask].any() and dsame[4][mask].any()


def test_minus_infinity_in_second_derivatives(rng):
    """A learned bias with keys ruled out, and a query without any: finite, and zero where nothing can be seen."""
    q, k, v = (hg.Tensor(x, requires_grad=True) for x in qkv(rng))
    numbers = rng.standard_normal((4, 6))
    numbers[0], numbers[2, 3] = -INF, -INF
    bias = hg.Tensor(numbers, requires_grad=True)
    y = hg.attention(q, k, v, bias=bias, causal=True)
    first = gradients(y, [q, k, v, bias], rng.standard_normal(y.shape), create_graph=True)
    for dx in first:
        for second in gradients(dx, [q, k, v, bias], rng.standard_normal(dx.shape), retain_graph=True):
            assert np.isfinite(second.numpy()).all()
    assert not first[0].detach().numpy()[0].any()
    assert not first[3].detach().numpy()[0].any() and first[3].detach().numpy()[2, 3] == 0


def test_plus_infinity_has_no_answer(rng):
    """As in softmax: inf - inf is NaN, in the row of that query and in no other; but a hidden key hides it."""
    q, k, v = qkv(rng)
    bias = np.zeros((4, 6))
    bias[1, 0] = INF
    with np.errstate(invalid="ignore"):
        y = attention(q, k, v, None, bias)
        hidden = attention(q, k, v, np.arange(6) > 0, bias)
    assert np.isnan(y[1]).all() and np.isfinite(np.delete(y, 1, axis=0)).all()
    np.testing.assert_array_equal(hidden, attention(q, k, v, np.arange(6) > 0))


def test_nan_in_the_bias_is_not_hidden(rng):
    q, k, v = qkv(rng)
    bias = np.zeros((4, 6))
    bias[1, 0] = np.nan
    y = attention(q, k, v, None, bias)
    assert np.isnan(y[1]).all() and np.isfinite(np.delete(y, 1, axis=0)).all()


def test_no_keys_take_the_batch_of_the_mask(rng):
    q, k, v = qkv(rng, s=0)
    for rest in ((np.ones((5, 1, 1), bool),), (None, np.ones((5, 1, 1)))):
        y = attention(q, k, v, *rest)
        assert y.shape == (5, 4, 3) and not y.any()
        dxs = attention_vjp(np.ones_like(y), y, q, k, v, *rest)
        assert all(dx is None or dx.shape == x.shape for dx, x in zip(dxs, (q, k, v, *rest), strict=True))


def test_grouped_heads_have_neighbours(rng):
    """Head h reads key head h // (H // G): 0 0 1 1, as in Llama, and not 0 1 0 1."""
    q, k, v = qkv(rng, 4)
    y = attention(q, k[:2], v[:2], grouped=True)
    for h, g in enumerate((0, 0, 1, 1)):
        np.testing.assert_array_equal(y[h], attention(q[h], k[g], v[g]))


def test_one_key_head_for_all_is_broadcasting(rng):
    """Multi-query attention: G = 1 says with `grouped` what broadcasting says without."""
    q, k, v = qkv(rng, 2, 4)
    k, v = k[:, :1], v[:, :1]
    y = attention(q, k, v, grouped=True, causal=True)
    np.testing.assert_array_equal(y, attention(q, k, v, causal=True))
    dy = rng.standard_normal(y.shape)
    both = (attention_vjp(dy, y, q, k, v, causal=True, grouped=g) for g in (True, False))
    for a, b in zip(*both, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-15)


def test_a_window_stops_the_gradient(rng):
    """A key outside every window gets none."""
    q, k, v = qkv(rng, t=2, s=6)
    y = attention(q, k, v, causal=True, window=3)
    _, dk, dv = attention_vjp(np.ones_like(y), y, q, k, v, causal=True, window=3)
    assert not dk[:2].any() and not dv[:2].any() and dv[2:].all()


def test_weights_of_a_bias_of_distances():
    """ALiBi: with equal contents, a key one place further back weighs e times less."""
    q, k = np.zeros((3, 2)), np.zeros((3, 2))
    distance = np.arange(3)[:, None] - np.arange(3)[None, :]
    p = attention_weights(q, k, None, -1.0 * distance, causal=True)
    np.testing.assert_allclose(p[2], np.exp([-2.0, -1.0, 0.0]) / np.exp([-2.0, -1.0, 0.0]).sum())


@pytest.mark.parametrize("kernels", ["off", "auto"])
def test_the_function_takes_a_bias_without_a_mask(rng, kernels):
    q, k, v = qkv(rng, 2, 4, t=20, s=20, d=16, dtype=np.float32)
    bias = rng.standard_normal((4, 1, 20)).astype(np.float32)
    tensors = [hg.Tensor(x, requires_grad=True) for x in (q, k[:, :2], v[:, :2], bias)]
    with hg.use_kernels(kernels):
        y = hg.attention(*tensors[:3], bias=tensors[3], window=5, grouped=True, causal=True)
        y.backward(np.ones(y.shape, np.float32))
    want = attention(q, k[:, :2], v[:, :2], None, bias, window=5, grouped=True, causal=True)
    np.testing.assert_allclose(y.detach().numpy(), want, atol=1e-6)
    assert tensors[3].grad is not None and tensors[3].grad.shape == bias.shape


@pytest.mark.parametrize(
    ("inputs", "params", "sentence"),
    [
        ([(3, 4), (5, 4), (5, 4)], {"window": 0}, "attention: window is 0, but it must be None or an integer of at least 1"),
        ([(3, 4), (5, 4), (5, 4)], {"window": 2.5}, "attention: window is 2.5, but it must be None or an integer"),
        ([(6, 3, 4), (4, 5, 4), (4, 5, 4)], {"grouped": True}, "the 6 heads of q must be a multiple of the 4 heads of k"),
        ([(2, 3, 4), (4, 5, 4), (4, 5, 4)], {"grouped": True}, "the 2 heads of q must be a multiple of the 4 heads of k"),
        ([(4, 3, 4), (2, 5, 4), (1, 5, 4)], {"grouped": True}, "attention: v has shape (1, 5, 4), but k (2, 5, 4) needs"),
        ([(3, 4), (5, 4), (5, 4)], {"grouped": True}, "attention: q has shape (3, 4), but it needs the axes (..., h, t, d)"),
        ([(6, 3, 4), (2, 5, 4), (2, 5, 4)], {}, "whose leading axes (2,) do not broadcast with (6,) of q (6, 3, 4)"),
        (
            [(3, 4), (5, 4), (5, 4), None, (3, 4)],
            {},
            "attention: bias has shape (3, 4), which does not broadcast to the scores' (3, 5) of q (3, 4), k (5, 4), v (5, 4)",
        ),
        (
            [(4, 3, 4), (2, 5, 4), (2, 5, 4), None, (2, 3, 5)],
            {"grouped": True},
            "attention: bias has shape (2, 3, 5), which does not broadcast to the scores' (4, 3, 5)",
        ),
    ],
)  # fmt: skip
def test_sentences(inputs, params, sentence):
    arrays = [None if shape is None else np.ones(shape) for shape in inputs]
    with pytest.raises(ValueError, match=re.escape(sentence)):
        ATTENTION.validate(*arrays, **params)


def test_a_window_may_be_a_numpy_integer(rng):
    q, k, v = qkv(rng)
    np.testing.assert_array_equal(hg.attention(q, k, v, window=np.int64(2)).numpy(), attention(q, k, v, window=2))


def test_kinds_of_mask_bias_and_scale():
    q = np.ones((3, 4))
    with pytest.raises(TypeError, match=r"^attention: mask is float64, but it must be a boolean array$"):
        hg.attention(q, q, q, np.ones((3, 3)))
    with pytest.raises(TypeError, match=r"^attention: scale is 'a', but it must be a number or None$"):
        hg.attention(q, q, q, scale="a")  # type: ignore[arg-type]
    narrow = q.astype(np.float32)
    assert hg.attention(narrow, narrow, narrow, scale=np.float64(0.5)).dtype == np.float32  # a NumPy scalar does not promote
    with pytest.raises(TypeError, match=r"^attention: bias is bool, but it must be a floating point array$"):
        hg.attention(q, q, q, bias=np.ones((3, 3), bool))
    with pytest.raises(TypeError, match=r"float32 and float64|float64 and float32"):
        hg.attention(q, q, q, bias=np.ones((3, 3), np.float32))
