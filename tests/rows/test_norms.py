"""Norms and rotary positions: special values, errors at the door, and their layers."""

import re

import numpy as np
import pytest

import handgrad as hg
from handgrad.engine.nn import RMSNorm
from handgrad.reference.layer_norm import layer_norm
from handgrad.reference.rotary_embedding import rotary_embedding


def test_rms_norm_without_eps_has_root_mean_square_one():
    x = np.random.default_rng(0).standard_normal((4, 9))
    y = hg.rms_norm(x, np.ones(9), eps=0.0).numpy()
    np.testing.assert_allclose(np.mean(y * y, axis=-1), 1.0, rtol=1e-14)


def test_rms_norm_is_layer_norm_on_rows_of_mean_zero():
    x = np.random.default_rng(0).standard_normal((4, 9))
    x -= x.mean(axis=-1, keepdims=True)
    weight = np.arange(1.0, 10.0)
    np.testing.assert_allclose(hg.rms_norm(x, weight, eps=1e-5).numpy(), layer_norm(x, weight), rtol=1e-13)


def test_norms_of_a_row_with_nan_are_nan():
    x = np.array([[1.0, np.nan], [1.0, 2.0]])
    assert np.isnan(hg.rms_norm(x, np.ones(2)).numpy()).tolist() == [[True, True], [False, False]]
    y, s = hg.add_layer_norm(x, x, np.ones(2))
    assert np.isnan(y.numpy()).tolist() == [[True, True], [False, False]]
    assert np.isnan(s.numpy()).tolist() == [[False, True], [False, False]]


@pytest.mark.parametrize("kernels", ["off", "auto"])
def test_add_layer_norm_is_its_composition(kernels):
    """Values and gradients of both outputs, in float32, with the kernel and without."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((40, 32), (40, 32), 32, 32)]
    da, db = (rng.standard_normal((40, 32)).astype(np.float32) for _ in range(2))
    results = []
    for fused in (True, False):
        x, residual, weight, bias = (hg.Tensor(a, requires_grad=True) for a in arrays)
        with hg.use_kernels(kernels) as calls:
            if fused:
                y, s = hg.add_layer_norm(x, residual, weight, bias)
            else:
                s = x + residual
                y = hg.layer_norm(s, weight, bias)
            (y * da + s * db).sum().backward()
        assert calls["add_layer_norm backward"] == (fused and kernels == "auto")
        results.append([y.detach().numpy(), s.detach().numpy(), *(t.grad.numpy() for t in (x, residual, weight, bias))])
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernels", ["off", "force"])
def test_add_layer_norm_passes_on_the_stream_alone(kernels):
    """Where only s is used, x and residual get its cotangent, and the weight gets nothing."""
    x, residual, weight = (hg.Tensor(np.arange(3.0), requires_grad=True) for _ in range(3))
    with hg.use_kernels(kernels):
        _, s = hg.add_layer_norm(x, residual, weight)
        s.backward(np.array([1.0, 2.0, 3.0]))
    assert x.grad.numpy().tolist() == residual.grad.numpy().tolist() == [1.0, 2.0, 3.0]
    assert not weight.grad.numpy().any()


@pytest.mark.parametrize("kernels", ["off", "force"])
def test_one_tensor_added_to_itself(kernels):
    """dx and dresidual are one array; the sum must not be made inside it."""
    x = hg.Tensor(np.arange(3.0), requires_grad=True)
    with hg.use_kernels(kernels):
        z = x * 1.0
        _, s = hg.add_layer_norm(z, z, np.ones(3))
        s.backward(np.array([1.0, 2.0, 3.0]))
    assert x.grad.numpy().tolist() == [2.0, 4.0, 6.0]


def test_rotary_embedding_by_hand():
    """A quarter turn: base 1 gives every pair the speed of one radian a position."""
    x = np.array([[1.0, 0.0], [1.0, 0.0]])
    y = hg.rotary_embedding(x, base=1.0).numpy()
    np.testing.assert_allclose(y, [[1.0, 0.0], [np.cos(1.0), np.sin(1.0)]], rtol=1e-15)
    both = hg.rotary_embedding(np.array([[1.0, 2.0, 0.0, 0.0]] * 2), base=1.0).numpy()
    np.testing.assert_allclose(both[1], [np.cos(1.0), 2 * np.cos(1.0), np.sin(1.0), 2 * np.sin(1.0)], rtol=1e-15)


def test_rotary_embedding_of_a_part_is_the_part_of_the_whole():
    """What a key-value cache relies on: the offset says where the new tokens stand."""
    x = np.random.default_rng(0).standard_normal((2, 7, 6))
    whole = hg.rotary_embedding(x).numpy()
    np.testing.assert_allclose(hg.rotary_embedding(x[:, 4:], offset=4).numpy(), whole[:, 4:], rtol=1e-14)


def test_the_two_ways_to_pair_differ_by_a_permutation():
    x = np.random.default_rng(0).standard_normal((5, 8))
    order = np.arange(8).reshape(4, 2).T.reshape(8)  # neighbours to halves
    halves, neighbours = rotary_embedding(x[:, order]), rotary_embedding(x, interleaved=True)
    np.testing.assert_allclose(halves, neighbours[:, order], rtol=1e-15)


def test_angles_keep_their_digits_in_float32():
    """At position 100,000 an angle in float32 is off by 0.004; the turned pair is not."""
    x = np.random.default_rng(0).standard_normal((3, 8))
    narrow = rotary_embedding(x.astype(np.float32), offset=100_000)
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, rotary_embedding(x, offset=100_000), atol=1e-6)


MISTAKES = {
    "rotary_embedding: x has shape (4, 3), but its last axis must be a multiple of 2": (
        lambda: hg.rotary_embedding(np.zeros((4, 3)))
    ),
    "rotary_embedding: x has shape (4,), but it needs the axes (..., t, 2h)": lambda: hg.rotary_embedding(np.zeros(4)),
    "rotary_embedding: base is 0.0, but it must be positive": lambda: hg.rotary_embedding(np.zeros((2, 4)), base=0.0),
    "rms_norm: weight has shape (3,), but x (2, 4) needs its last axis to be 4": (
        lambda: hg.rms_norm(np.zeros((2, 4)), np.ones(3))
    ),
    "add_layer_norm: residual has shape (3, 4), whose leading axes (3,) do not broadcast with (2,)": (
        lambda: hg.add_layer_norm(np.zeros((2, 4)), np.zeros((3, 4)), np.ones(4))
    ),
    "RMSNorm: normalized_shape is 0, but it must be a positive integer": lambda: RMSNorm(0),
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_mistakes_are_a_sentence(sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        MISTAKES[sentence]()


@pytest.mark.parametrize(
    "function, wrong, sentence",
    [
        (hg.rotary_embedding, {"base": "a"}, "rotary_embedding: base is 'a', but it must be a number"),
        (hg.rotary_embedding, {"offset": 1.5}, "rotary_embedding: offset is 1.5, but it must be an integer"),
        (hg.rms_norm, {"weight": np.ones(4), "eps": "a"}, "rms_norm: eps is 'a', but it must be a number"),
        (hg.layer_norm, {"weight": np.ones(4), "eps": None}, "layer_norm: eps is None, but it must be a number"),
    ],
)
def test_settings_that_are_no_numbers_are_a_sentence(function, wrong, sentence):
    with pytest.raises(TypeError, match=re.escape(sentence)):
        function(np.zeros((2, 4)), **wrong)


def test_rms_norm_layer():
    layer = RMSNorm(4, eps=1e-5)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        layer(hg.Tensor(x)).detach().numpy(), hg.rms_norm(x, np.ones(4, np.float32), eps=1e-5).numpy()
    )
    assert repr(layer) == "RMSNorm(4, eps=1e-05)"
