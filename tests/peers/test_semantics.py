"""What docs/semantics.md says of PyTorch, asked of PyTorch itself, beside what handgrad does."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is absent: pip install -e '.[peers]'")

import handgrad as hg  # noqa: E402
from handgrad import Tensor  # noqa: E402

F = torch.nn.functional
answers = pytest.mark.answers
pytestmark = pytest.mark.peers


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def near(got: Any, want: Any, bound: float = 1e-12) -> None:
    got, want = (x.detach().numpy() if hasattr(x, "detach") else np.asarray(x) for x in (got, want))
    np.testing.assert_allclose(got, want, rtol=0, atol=bound)


@answers("autograd, `nn`, `optim`, state dicts")
def test_names_and_layouts() -> None:
    for name in ("requires_grad", "grad", "is_leaf", "backward", "detach", "item", "numpy"):
        assert hasattr(Tensor(1.0), name) and hasattr(torch.tensor(1.0), name)
    for name in ("retain_graph", "create_graph"):
        assert name in inspect.signature(Tensor.backward).parameters
        assert name in inspect.signature(torch.Tensor.backward).parameters
    for name, sizes in {"Linear": (3, 2), "Embedding": (5, 2), "LayerNorm": (4,), "MultiheadAttention": (4, 2)}.items():
        ours, theirs = getattr(hg.nn, name)(*sizes).state_dict(), getattr(torch.nn, name)(*sizes).state_dict()
        assert {n: a.shape for n, a in ours.items()} == {n: tuple(a.shape) for n, a in theirs.items()}
    for name in ("SGD", "Adagrad", "Adam", "AdamW"):
        ours, theirs = (inspect.signature(getattr(m, name)).parameters for m in (hg.optim, torch.optim))
        assert ours.keys() - {"max_norm"} <= theirs.keys()
        assert all(ours[n].default == theirs[n].default for n in ours.keys() - {"max_norm", "params"})


@answers("`split(x, 3)`, `split(x, [1, 2])`")
def test_an_integer_is_a_length_in_split() -> None:
    x = np.arange(6.0)
    assert [len(p) for p in torch.split(torch.tensor(x), 3)] == [3, 3]
    assert [len(p) for p in hg.split(Tensor(x), 3)] == [2, 2, 2]
    for ours, theirs in zip(hg.split(Tensor(x), [1, 5]), torch.split(torch.tensor(x), [1, 5]), strict=True):
        near(ours, theirs)


@answers("`logsumexp` of nothing but -inf")
def test_logsumexp_of_impossible_things() -> None:
    x = torch.full((3,), -math.inf, requires_grad=True)
    y = torch.logsumexp(x, 0)
    y.backward()
    assert y.item() == -math.inf and bool(torch.isnan(x.grad).all())
    near(hg.grad(hg.logsumexp)(np.full(3, -math.inf)), np.zeros(3))


@answers("`softplus`")
def test_softplus_above_the_threshold() -> None:
    x = np.array([20.5])
    assert F.softplus(torch.tensor(x)).item() == 20.5  # the identity above 20
    assert hg.softplus(Tensor(x)).item() == pytest.approx(20.5 + math.exp(-20.5), abs=1e-14)
    assert hg.softplus(Tensor(x)).item() > 20.5


@answers("masks")
def test_masks_of_layers_are_inverted() -> None:
    layer = torch.nn.MultiheadAttention(4, 2, batch_first=True)
    ours = hg.nn.MultiheadAttention(4, 2)
    ours.load_state_dict({name: a.numpy() for name, a in layer.state_dict().items()})
    x, takes_part = numbers(1, 2, 3, 4).astype(np.float32), np.array([[True, True, False], [True, False, True]])
    want = layer(*[torch.tensor(x)] * 3, key_padding_mask=torch.tensor(~takes_part))[0]
    near(ours(Tensor(x), mask=takes_part[:, None, None]), want, 1e-6)
    q = numbers(2, 2, 1, 3, 4)
    t = torch.tensor(q)
    want = F.scaled_dot_product_attention(t, t, t, torch.tensor(takes_part[:, None, None]))
    near(hg.attention(q, q, q, takes_part[:, None, None]), want)  # the function says True for what takes part


@answers("`nn.MultiheadAttention`")
def test_multihead_attention_returns_the_output_alone() -> None:
    x = numbers(3, 2, 3, 4).astype(np.float32)
    assert len(torch.nn.MultiheadAttention(4, 2)(*[torch.tensor(x)] * 3)) == 2
    assert type(hg.nn.MultiheadAttention(4, 2)(Tensor(x))) is Tensor


@answers("`ignore_index`")
def test_a_batch_that_is_ignored_as_a_whole() -> None:
    assert math.isnan(F.cross_entropy(torch.zeros(2, 3), torch.tensor([-100, -100])).item())
    assert hg.cross_entropy(np.zeros((2, 3)), np.array([-100, -100]), ignore_index=-100).item() == 0.0
    logits, targets = numbers(4, 3, 4), np.array([1, -100, 2])
    near(
        hg.cross_entropy(logits, targets, ignore_index=-100),
        F.cross_entropy(torch.tensor(logits), torch.tensor(targets)),
    )


@answers("`kl_divergence`")
def test_kl_divergence() -> None:
    log_q, p = np.log([[0.25, 0.75], [0.5, 0.5]]), np.array([[0.0, 1.0], [0.3, 0.7]])
    for reduction in ("none", "sum", "mean", "batchmean"):
        q, target = torch.tensor(log_q, requires_grad=True), torch.tensor(p, requires_grad=True)
        if reduction == "mean":
            with pytest.warns(UserWarning, match="batchmean"):
                want = F.kl_div(q, target, reduction=reduction)
        else:
            want = F.kl_div(q, target, reduction=reduction)
        near(hg.kl_divergence(log_q, p, reduction=reduction), want)
        want.sum().backward()
        dq, dp = hg.grad(lambda q, p, r=reduction: hg.sum(hg.kl_divergence(q, p, reduction=r)), (0, 1))(log_q, p)
        near(dq, q.grad)
        near(dp[1], target.grad[1])
        assert dp[0, 0].item() == 0.0


@answers("`grouped=True` in attention")
def test_grouped_queries() -> None:
    q, k, v = numbers(5, 2, 6, 3, 4), numbers(6, 2, 2, 5, 4), numbers(7, 2, 2, 5, 4)
    want = F.scaled_dot_product_attention(*map(torch.tensor, (q, k, v)), enable_gqa=True)
    near(hg.attention(q, k, v, grouped=True), want)


@answers("`nn.TransformerDecoderLayer`")
def test_pytorchs_decoder_layer_is_not_causal() -> None:
    theirs = torch.nn.TransformerDecoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    ours = hg.nn.TransformerDecoderLayer(4, 2, 8, dropout=0.0)
    ours.load_state_dict({name: a.numpy() for name, a in theirs.state_dict().items()})
    x, memory = (numbers(8 + i, 1, 3, 4).astype(np.float32) for i in range(2))
    t = torch.tensor(x), torch.tensor(memory)
    near(ours(Tensor(x), Tensor(memory), causal=False), theirs(*t), 2e-6)
    order = torch.nn.Transformer.generate_square_subsequent_mask(3)
    near(ours(Tensor(x), Tensor(memory)), theirs(*t, tgt_mask=order), 2e-6)
    assert np.abs(ours(Tensor(x), Tensor(memory)).detach().numpy() - theirs(*t).detach().numpy()).max() > 1e-3


@answers('`activation="gelu"` in encoder and decoder layers')
def test_gelu_of_layers_is_exact() -> None:
    theirs = torch.nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, activation="gelu", batch_first=True)
    assert theirs.activation is F.gelu and F.gelu(torch.tensor(1.0)).item() == pytest.approx(0.8413447, abs=1e-6)


@answers("`nn.Dropout`")
def test_dropping_everything() -> None:
    assert not torch.nn.Dropout(1.0)(torch.ones(3)).any()
    with pytest.raises(ValueError, match=r"^Dropout: p is 1"):
        hg.nn.Dropout(1.0)


@answers("a gradient norm that is NaN")
def test_nan_norms() -> None:
    p, q = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    p.grad, q.grad = torch.tensor([float("nan"), 1.0]), torch.ones(2)
    torch.nn.utils.clip_grad_norm_([p, q], 1.0)
    assert torch.isnan(q.grad).all()


@answers("binary cross entropy of an infinite logit that is right")
def test_infinite_logits() -> None:
    loss = F.binary_cross_entropy_with_logits(torch.tensor([float("inf")]), torch.tensor([1.0]))
    assert torch.isnan(loss)


@answers("an unknown setting of an optimizer's group")
def test_unknown_settings() -> None:
    group = {"params": [torch.nn.Parameter(torch.ones(2))], "learning_rate": 0.1}
    assert torch.optim.AdamW([group]).param_groups[0]["learning_rate"] == 0.1


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@answers("order of gates, and biases")
def test_weights_of_recurrent_layers_mean_the_same(kind: str) -> None:
    """PyTorch's state dict loads; moving a number from one bias to the other changes an LSTM and an RNN as little there."""
    theirs, ours = getattr(torch.nn, kind)(2, 4).double(), getattr(hg.nn, kind)(2, 4).astype(np.float64)
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    x = numbers(0, 5, 3, 2)
    before = theirs(torch.tensor(x))[0]
    near(ours(Tensor(x))[0], before)
    with torch.no_grad():
        theirs.bias_ih_l0 += 0.5
        theirs.bias_hh_l0 -= 0.5
    moved = bool((theirs(torch.tensor(x))[0] - before).abs().max() > 1e-3)
    assert moved == (kind == "GRU")


@answers("`lengths`")
def test_lengths_are_packed_sequences() -> None:
    theirs, ours = torch.nn.LSTM(2, 4, bidirectional=True).double(), hg.nn.LSTM(2, 4, bidirectional=True)
    ours = ours.astype(np.float64)
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    x, lengths = numbers(0, 5, 3, 2), [2, 5, 3]
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.tensor(x), torch.tensor(lengths), enforce_sorted=False)
    y, (h, c) = theirs(packed)
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(y)
    got, (got_h, got_c) = ours(Tensor(x), lengths=np.array(lengths))
    for a, b in ((got, y), (got_h, h), (got_c, c)):
        near(a, b)
