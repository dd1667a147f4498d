"""Dropout with the residual, a bias with its activation, the gated layer: equal to their compositions, here and in layers."""

import numpy as np
import pytest

import handgrad as hg
from handgrad import nn

KERNELS = pytest.mark.parametrize("kernels", ["off", "force"])


def numbers(seed, *shape, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def gradients_of(f, *arrays, dy=None):
    """[y, the gradients of all arrays for a random cotangent]."""
    tensors = [hg.Tensor(a, requires_grad=True) for a in arrays]
    y = f(*tensors)
    y.backward(numbers(99, *y.shape, dtype=y.dtype) if dy is None else dy)
    return [y.detach().numpy(), *(t.grad.numpy() for t in tensors)]


@pytest.mark.parametrize("kernels", ["off", "auto"])
def test_dropout_add_is_dropout_then_addition_to_the_bit(kernels):
    x, residual = numbers(0, 41, 51), numbers(1, 41, 51)  # not a multiple of a block's four words
    one, other = hg.Generator(7, 3), hg.Generator(7, 3)
    layer = nn.Dropout(0.3, other)
    for _ in range(3):  # the streams stay together from one call to the next
        with hg.use_kernels(kernels):
            fused = gradients_of(lambda x, r: hg.dropout_add(x, r, p=0.3, generator=one), x, residual)
            plain = gradients_of(lambda x, r: r + layer(x), x, residual)
        for got, want in zip(fused, plain, strict=True):
            np.testing.assert_array_equal(got, want)
        assert one.state() == other.state()


@KERNELS
def test_the_average_over_masks_is_the_plain_sum(kernels):
    """Five standard deviations: one entry varies by x^2 p / (1 - p)."""
    n, p, generator = 200_000, 0.25, hg.Generator(11)
    with hg.use_kernels(kernels):
        y = hg.dropout_add(np.full(n, 3.0), np.full(n, 2.0), p=p, generator=generator).numpy()
    assert set(np.unique(y)) == {2.0, 6.0}
    assert abs(y.mean() - 5.0) < 5 * 3.0 * np.sqrt(p / (1 - p) / n)


@KERNELS
def test_one_tensor_twice(kernels):
    """x is its own residual: the cotangent handed through must not be added to in place."""
    x = numbers(2, 2000, dtype=np.float64)
    with hg.use_kernels(kernels):
        got = gradients_of(lambda x: hg.dropout_add(x * 1.0, x * 1.0, p=0.5, generator=hg.Generator(1)), x)
        z = gradients_of(lambda x: (lambda z: hg.dropout_add(z, z, p=0.5, generator=hg.Generator(1)))(x * 1.0), x)
    np.testing.assert_array_equal(got[1], z[1])


@KERNELS
@pytest.mark.parametrize("fused, plain", [(hg.bias_gelu, hg.gelu), (hg.bias_silu, hg.silu)], ids=["gelu", "silu"])
def test_bias_and_activation_are_their_composition(kernels, fused, plain):
    """Both round the sum once and then run the same formula; sums over 60 rows differ by their order."""
    x, bias = numbers(3, 60, 33, dtype=np.float64), numbers(4, 33, dtype=np.float64)
    with hg.use_kernels(kernels):
        got, want = gradients_of(fused, x, bias), gradients_of(lambda x, b: plain(x + b), x, bias)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=60 * np.finfo(float).eps * np.abs(b).max())


@KERNELS
def test_swiglu_is_its_composition(kernels):
    gate, up = numbers(5, 60, 33, dtype=np.float64), numbers(6, 60, 33, dtype=np.float64)
    with hg.use_kernels(kernels):
        got, want = gradients_of(hg.swiglu, gate, up), gradients_of(lambda g, u: hg.silu(g) * u, gate, up)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=8 * np.finfo(float).eps * np.abs(b).max())


def test_the_feed_forward_net_of_llama():
    hg.manual_seed(0)
    layer, x = nn.SwiGLU(6, 16).astype(np.float64), numbers(7, 2, 3, 6, dtype=np.float64)
    names = [f"{part}_proj.weight" for part in ("gate", "up", "down")]
    assert list(layer.state_dict()) == names
    gate, up, down = (np.asarray(layer.state_dict()[name]) for name in names)
    a = x @ gate.T
    np.testing.assert_allclose(
        layer(hg.Tensor(x)).detach().numpy(), (a / (1 + np.exp(-a)) * (x @ up.T)) @ down.T, atol=1e-14
    )


@pytest.mark.parametrize("make", [
    lambda: nn.TransformerBlock(16, 2, dropout=0.3),
    lambda: nn.TransformerEncoderLayer(16, 2, 32, dropout=0.3),
    lambda: nn.TransformerEncoderLayer(16, 2, 32, dropout=0.3, norm_first=True),
], ids=["GPT-2", "post-norm", "pre-norm"])  # fmt: skip
def test_blocks_drop_as_before(make, monkeypatch):
    """The fused row in a block gives the bits that dropout and an addition give, and moves the generator as far."""

    def train():
        hg.manual_seed(5)
        block = make()
        found = gradients_of(block, numbers(8, 4, 20, 16))
        return [*found, *(p.grad.numpy() for p in block.parameters()), hg.Generator.state(hg.engine.random.default)]

    fused = train()
    monkeypatch.setattr(nn.Dropout, "add", lambda self, x, residual: residual + self(x))
    for got, want in zip(fused, train(), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("call, sentence", [
    (lambda x: hg.dropout_add(x, x, p=1.0), "^dropout_add: p is 1.0, but a probability of dropping"),
    (lambda x: hg.dropout_add(x, x[0], p=0.5), r"^dropout_add: residual has shape \(3,\), but x \(2, 3\) needs"),
    (lambda x: hg.swiglu(x, x[0]), r"^swiglu: up has shape \(3,\), but gate \(2, 3\) needs"),
    (lambda x: hg.bias_gelu(x, x), r"^bias_gelu: bias has shape \(2, 3\), but it needs the axes \(n\)"),
])  # fmt: skip
def test_mistakes_at_the_door(call, sentence):
    before = hg.engine.random.default.state()
    with pytest.raises(ValueError, match=sentence):
        call(numbers(9, 2, 3))
    assert hg.engine.random.default.state() == before
