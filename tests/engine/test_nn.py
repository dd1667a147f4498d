"""Modules and layers: names, state, modes; and the laws of what they compute."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor, nn
from handgrad.engine.random import Generator
from handgrad.reference.transformer_block import init_parameters, transformer_block, transformer_block_vjp


class Tied(nn.Module):
    """Two layers that share a weight, a list, and something that is no parameter."""

    def __init__(self) -> None:
        self.a = nn.Linear(3, 3)
        self.blocks = nn.ModuleList([nn.Linear(3, 3, bias=False), nn.Dropout(0.5)])
        self.b = nn.Linear(3, 3, bias=False)
        self.b.weight = self.a.weight
        self.scale = nn.Parameter([2.0])
        self.name = "tied"

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x)) * self.scale


# ---- names and state


def test_named_parameters_come_once_under_their_first_name() -> None:
    m = Tied()
    assert [name for name, _ in m.named_parameters()] == ["scale", "a.weight", "a.bias", "blocks.0.weight"]
    assert m.num_parameters() == 1 + 9 + 3 + 9
    assert len(list(m.parameters())) == 4


def test_state_dict_has_every_name_and_copies() -> None:
    m = Tied()
    state = m.state_dict()
    assert list(state) == ["scale", "a.weight", "a.bias", "blocks.0.weight", "b.weight"]
    state["scale"][0] = 9.0
    assert m.scale.item() == 2.0
    assert np.array_equal(state["a.weight"], state["b.weight"])


def test_state_dict_round_trip() -> None:
    a, b, x = Tied(), Tied(), Tensor(np.ones((2, 3), np.float32))
    assert not np.array_equal(a(x).data, b(x).data)
    b.load_state_dict(a.state_dict())
    assert np.array_equal(a(x).data, b(x).data)
    assert b.a.weight is b.b.weight
    b.load_state_dict({name: Tensor(v.astype(np.float64)) for name, v in a.state_dict().items()})
    assert b.a.weight.dtype == np.float32


def test_loading_names_missing_and_unexpected_keys_and_changes_nothing() -> None:
    m = Tied()
    before = m.state_dict()
    other = {**{k: v + 1.0 for k, v in before.items()}, "c.weight": np.zeros(3)}
    del other["a.bias"], other["scale"]
    with pytest.raises(KeyError, match=r"do not fit Tied; missing: scale, a.bias; unexpected: c.weight"):
        m.load_state_dict(other)
    good = {k: v + 1.0 for k, v in before.items()}
    for name, wrong, kind, sentence in (
        ("b.weight", np.zeros((3, 4)), ValueError, r"b.weight has shape \(3, 4\), but it needs \(3, 3\)"),
        (
            "blocks.0.weight",
            np.zeros((3, 3), complex),
            TypeError,
            "blocks.0.weight is complex128, but it needs float32",
        ),
    ):
        with pytest.raises(kind, match=r"^load_state_dict: " + sentence):
            m.load_state_dict({**good, name: wrong})
    assert all(np.array_equal(before[k], v) for k, v in m.state_dict().items())
    m.load_state_dict(other, strict=False)
    assert np.array_equal(m.a.weight.data, before["a.weight"] + 1.0)
    assert m.scale.item() == 2.0


def test_loading_is_a_change_that_an_old_graph_notices() -> None:
    m = nn.Linear(2, 2)
    y = hg.sum(m(m(Tensor(np.ones((1, 2), np.float32)))))
    m.load_state_dict(m.state_dict())
    with pytest.raises(RuntimeError, match=r"was changed after the forward pass"):
        y.backward()


def test_any_tensor_is_a_parameter_that_can_be_loaded_and_trained() -> None:
    """hg.zeros and hg.ones make leaves as the constructor does."""

    class Mine(nn.Module):
        def __init__(self) -> None:
            self.first = nn.Parameter([1.0])
            self.w = hg.zeros((3,))
            self.w.requires_grad = True

        def forward(self, x: Tensor) -> Tensor:
            return hg.sum(self.w * x)

    m = Mine()
    m.load_state_dict({"first": np.array([5.0], np.float32), "w": np.ones(3, np.float32)})
    assert m.w.data.tolist() == [1.0] * 3
    optimizer = hg.optim.AdamW(m.parameters(), lr=0.1, weight_decay=0.0)
    m(Tensor([1.0, 2.0, 3.0])).backward()
    optimizer.step()
    assert np.allclose(m.w.data, 0.9, rtol=1e-5)


def test_train_and_eval_reach_every_module() -> None:
    m = Tied()
    assert m.eval() is m
    assert [child.training for child in m.modules()] == [False] * 6
    m.train()
    assert m.blocks[1].training


def test_zero_grad() -> None:
    m = nn.Linear(2, 2)
    hg.sum(m(Tensor(np.ones((1, 2), np.float32)))).backward()
    assert m.weight.grad is not None
    m.zero_grad()
    assert all(p.grad is None for p in m.parameters())


def test_astype_casts_and_keeps_what_is_shared() -> None:
    m = Tied().astype(np.float64)
    assert m.a.weight is m.b.weight
    assert {p.dtype for p in m.parameters()} == {np.dtype(np.float64)}
    assert all(p.requires_grad for p in m.parameters())


def test_astype_of_a_layer_that_stands_twice_keeps_everyones_numbers() -> None:
    """Identity by id() is a trap: an array that was dropped may have passed its id on."""
    for _ in range(50):
        twice = nn.Linear(3, 3)
        m = nn.Sequential(nn.Linear(3, 3), twice, twice, nn.Linear(3, 3))
        before = m.state_dict()
        m.astype(np.float64)
        assert all(np.array_equal(v, before[name]) for name, v in m.state_dict().items())


def test_module_lists_and_repr() -> None:
    m = nn.Sequential(nn.Linear(2, 3), nn.GELU(), nn.Dropout(0.1))
    assert len(m) == 3
    assert m[-1] is m[2]
    assert [type(c).__name__ for c in m] == ["Linear", "GELU", "Dropout"]
    with pytest.raises(IndexError, match=r"^Sequential: index 3, but it has 3 Modules"):
        m[3]
    assert repr(m).splitlines()[1] == "  0: Linear(2, 3, bias=True)"
    with pytest.raises(NotImplementedError, match=r"^Module: define forward"):
        nn.Module()(1)


# ---- layers


def test_linear_is_pytorchs() -> None:
    hg.manual_seed(1)
    m = nn.Linear(400, 50)
    assert (m.weight.shape, m.bias.shape) == ((50, 400), (50,))
    bound = 1.0 / math.sqrt(400)
    for p in (m.weight, m.bias):
        assert abs(p.data).max() <= bound
    assert abs(m.weight.data.std() - bound / math.sqrt(3)) < 5 * bound / math.sqrt(20_000)
    x = np.random.default_rng(0).standard_normal((2, 3, 400)).astype(np.float32)
    assert np.allclose(m(Tensor(x)).data, x @ m.weight.data.T + m.bias.data, atol=1e-4)
    assert nn.Linear(3, 2, bias=False).bias is None


def test_embedding_and_layer_norm() -> None:
    hg.manual_seed(2)
    e = nn.Embedding(500, 40)
    assert abs(e.weight.data.std() - 1.0) < 5 / math.sqrt(2 * 20_000)
    assert e(np.array([[1, 2, 1]])).shape == (1, 3, 40)
    n = nn.LayerNorm(8)
    assert np.array_equal(n.weight.data, np.ones(8))
    y = n(Tensor(np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32) * 7 + 3)).data
    assert np.allclose(y.mean(-1), 0.0, atol=1e-5)
    assert np.allclose(y.var(-1), 1.0, atol=1e-4)


@pytest.mark.parametrize(
    "make",
    [lambda n: nn.Linear(n, 2), lambda n: nn.Linear(2, n), lambda n: nn.Embedding(n, 2), lambda n: nn.Embedding(2, n),
     nn.LayerNorm],
)  # fmt: skip
@pytest.mark.parametrize("n", [0, -1, 2.0, True, "3"])
def test_sizes_are_positive_integers(make: Any, n: Any) -> None:
    with pytest.raises(ValueError, match=r"but it must be a positive integer"):
        make(n)


def test_dropout_statistics_scale_and_determinism() -> None:
    n, p = 40_000, 0.3
    d = nn.Dropout(p, Generator(5))
    x = Tensor(np.full((200, 200), 2.0, np.float32), requires_grad=True)
    y = d(x)
    kept = y.data != 0.0
    assert abs(kept.mean() - (1 - p)) < 5 * math.sqrt(p * (1 - p) / n)
    assert np.allclose(y.data[kept], 2.0 / (1 - p), rtol=1e-6)
    hg.sum(y).backward()
    assert np.allclose(x.grad.data, kept / np.float32(1 - p), rtol=1e-6)
    again = nn.Dropout(p, Generator(5))
    assert np.array_equal(again(x).data, y.data)
    assert not np.array_equal(again(x).data, y.data)
    d.eval()
    counter = d.generator.counter
    assert d(x) is x
    assert d.generator.counter == counter
    assert nn.Dropout(0.0)(x) is x
    for wrong in (1.0, -0.1, 1.5):
        with pytest.raises(ValueError, match=rf"^Dropout: p is {wrong}"):
            nn.Dropout(wrong)


def attention_inputs(causal: bool) -> tuple[nn.SelfAttention, np.ndarray, np.ndarray]:
    hg.manual_seed(3)
    m = nn.SelfAttention(8, 2, causal=causal).astype(np.float64)
    x = np.random.default_rng(1).standard_normal((2, 6, 8))
    mask = np.ones((2, 1, 1, 6), bool)
    mask[0, ..., 4:] = mask[1, ..., :2] = False
    return m, x, mask


@pytest.mark.parametrize("kernels", ["off", "force"])
@pytest.mark.parametrize("causal", [False, True])
def test_padded_positions_never_influence_others(kernels: str, causal: bool) -> None:
    m, x, mask = attention_inputs(causal)
    real = mask[:, 0, 0]
    other = np.where(real[..., None], x, np.random.default_rng(2).standard_normal(x.shape) * 100.0)
    with hg.use_kernels(kernels):
        t = Tensor(x, requires_grad=True)
        y = m(t, mask)
        assert np.array_equal(y.data[real], m(Tensor(other), mask).data[real])
        y.backward(np.where(real[..., None], np.random.default_rng(4).standard_normal(x.shape), 0.0))
        assert not t.grad.data[~real].any()
        assert t.grad.data[real].all()
        assert np.isfinite(t.grad.data).all()
        if not causal:  # the mask takes away exactly what is not there
            assert np.allclose(y.data[0, :4], m(Tensor(x[:1, :4])).data[0], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kernels", ["off", "force"])
def test_attention_with_and_without_a_mask_of_ones_agree(kernels: str) -> None:
    for causal in (False, True):
        m, x, _ = attention_inputs(causal)
        with hg.use_kernels(kernels):
            assert np.allclose(
                m(Tensor(x)).data, m(Tensor(x), np.ones((2, 1, 1, 6), bool)).data, rtol=1e-12, atol=1e-14
            )


@pytest.mark.parametrize("kernels", ["off", "force"])
def test_causal_attention_sees_no_later_position(kernels: str) -> None:
    m, x, _ = attention_inputs(True)
    with hg.use_kernels(kernels):
        y = m(Tensor(x)).data
        for t in range(1, 6):
            later = x.copy()
            later[:, t:] = np.random.default_rng(t).standard_normal(later[:, t:].shape) * 50.0
            changed = m(Tensor(later)).data
            assert np.array_equal(changed[:, :t], y[:, :t])
            assert not np.array_equal(changed[:, t], y[:, t])


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"^SelfAttention: n_embd is 8, which n_head 3 does not divide"):
        nn.SelfAttention(8, 3)
    for heads in (0, -2, 2.0):
        with pytest.raises(ValueError, match=rf"^SelfAttention: n_head is {heads}, but it must be a positive integer"):
            nn.SelfAttention(8, heads)  # type: ignore[arg-type]


def test_a_list_holds_modules_only() -> None:
    with pytest.raises(TypeError, match=r"^ModuleList: got a int, but it holds Modules"):
        nn.ModuleList([1])  # type: ignore[list-item]


def test_a_memory_belongs_to_the_batch_or_to_all_of_it() -> None:
    layer, x = nn.MultiheadAttention(6, 2), Tensor(np.ones((2, 3, 6), np.float32))
    one = Tensor(np.random.default_rng(0).standard_normal((1, 4, 6)).astype(np.float32))
    assert np.allclose(layer(x, one).data, layer(x, hg.concat([one, one])).data)
    with pytest.raises(
        ValueError, match=r"^MultiheadAttention: key has shape \(3, 4, 6\), but it must be \(2, length, 6\)"
    ):
        layer(x, hg.concat([one, one, one]))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernels", ["off", "force"])
def test_the_hand_derived_block_equals_the_layer(kernels: str, bias: bool) -> None:
    rng = np.random.default_rng(8)
    B, T, C, H = 2, 7, 12, 3
    params = {name: a + 0.3 * rng.standard_normal(a.shape) for name, a in init_parameters(rng, C, bias=bias).items()}
    x, dy = rng.standard_normal((B, T, C)), rng.standard_normal((B, T, C))
    block = nn.TransformerBlock(C, H, bias=bias).astype(np.float64)
    matrices = {name for name in params if params[name].ndim == 2}  # the page's (in, out), PyTorch's (out, in)
    block.load_state_dict({name: a.T if name in matrices else a for name, a in params.items()})
    t = Tensor(x, requires_grad=True)
    with hg.use_kernels(kernels) as calls:
        y = block(t)
        y.backward(dy)
    assert bool(calls) == (kernels == "force")
    want = transformer_block(x, params, n_head=H)
    dx, dparams = transformer_block_vjp(dy, None, x, params, n_head=H)

    def close(got: np.ndarray, wanted: np.ndarray) -> None:
        assert got.shape == wanted.shape
        assert np.max(np.abs(got - wanted)) <= 1e-10 * np.max(np.abs(wanted))

    close(y.data, want)
    close(t.grad.data, dx)
    found = {name: p.grad.data for name, p in block.named_parameters()}
    assert set(found) == set(dparams)
    for name, d in dparams.items():
        close(found[name], d.T if name in matrices else d)


def test_dropout_of_a_block_is_off_in_eval() -> None:
    hg.manual_seed(4)
    block, x = nn.TransformerBlock(8, 2, dropout=0.5), Tensor(np.ones((1, 3, 8), np.float32))
    assert not np.array_equal(block(x).data, block(x).data)
    block.eval()
    assert np.array_equal(block(x).data, block(x).data)


def test_a_deep_copy_is_a_module_of_its_own() -> None:
    m = nn.Linear(2, 3)
    c = copy.deepcopy(m)
    assert c.weight is not m.weight and c.weight.requires_grad and not c.weight.data.flags.writeable
    c.weight.copy_(np.zeros((3, 2)))
    assert m.weight.detach().numpy().any()
