"""The LSTM language model: carried state, weight tying, truncated backpropagation, batches that follow each other."""

import re

import numpy as np
import pytest

import handgrad as hg
from handgrad.engine.errors import UserError
from handgrad.engine.models import LSTMLanguageModel, generate
from handgrad.engine.text.batches import carried_blocks
from handgrad.engine.text.tokenizer import CharacterTokenizer

V, E, H, L, B, T = 11, 6, 8, 2, 3, 10
IDS = np.random.default_rng(0).integers(0, V, (B, T))
TARGETS = np.random.default_rng(1).integers(0, V, (B, T))


def model_of(**options):
    hg.manual_seed(0)
    return LSTMLanguageModel(V, E, H, L, **options).astype(np.float64)


def test_shapes_and_the_first_state():
    model = model_of()
    logits, (h, c) = model(IDS)
    assert logits.shape == (B, T, V) and h.shape == c.shape == (L, B, H)
    again, _ = model(IDS, model.init_hidden(B))
    np.testing.assert_array_equal(logits.detach().numpy(), again.detach().numpy())


def test_a_carried_state_makes_two_chunks_equal_one_long_forward():
    model = model_of()
    whole, end = model(IDS)
    one, hidden = model(IDS[:, :4])
    two, hidden = model(IDS[:, 4:], hidden)
    got = np.concatenate([one.detach().numpy(), two.detach().numpy()], axis=1)
    np.testing.assert_allclose(got, whole.detach().numpy(), rtol=1e-12, atol=1e-14)
    for a, b in zip(hidden, end, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-12, atol=1e-14)


def test_the_gradient_stops_at_the_chunk_and_the_state_does_not():
    """The state is detached; the second chunk's loss is that of the long forward, its gradient is not."""
    model = model_of()
    _, hidden = model.loss(IDS[:, :4], TARGETS[:, :4])
    assert not any(s.requires_grad for s in hidden)
    loss, _ = model.loss(IDS[:, 4:], TARGETS[:, 4:], hidden)
    loss.backward()
    truncated = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
    model.zero_grad()
    logits, _ = model(IDS)
    full = hg.cross_entropy(logits[:, 4:], TARGETS[:, 4:])
    assert full.item() == pytest.approx(loss.item(), rel=1e-12)
    full.backward()
    grads = {name: p.grad.numpy() for name, p in model.named_parameters()}
    np.testing.assert_allclose(truncated["output.weight"], grads["output.weight"], rtol=1e-10, atol=1e-13)
    assert not np.allclose(truncated["lstm.weight_hh_l0"], grads["lstm.weight_hh_l0"], rtol=1e-3)


def test_tied_weights_are_one_parameter():
    hg.manual_seed(0)
    model = LSTMLanguageModel(V, H, H, 1, tie_weights=True)
    assert model.output.weight is model.embedding.weight
    names = [name for name, _ in model.named_parameters()]
    assert "embedding.weight" in names and "output.weight" not in names
    untied = LSTMLanguageModel(V, H, H, 1)
    assert untied.num_parameters() - model.num_parameters() == V * H
    model.loss(IDS, TARGETS)[0].backward()
    assert model.embedding.weight.grad.shape == (V, H)


def test_dropout_only_in_training():
    model = model_of(dropout=0.5)
    assert model(IDS)[0].detach().numpy().tobytes() != model(IDS)[0].detach().numpy().tobytes()
    model.eval()
    assert model(IDS)[0].detach().numpy().tobytes() == model(IDS)[0].detach().numpy().tobytes()


@pytest.mark.parametrize("cuts", [[T], [1] * T, [3, 7], [9, 1]], ids=str)
def test_a_text_read_in_pieces_gives_the_logits_of_the_whole(cuts):
    model = model_of().eval()
    logits = model(IDS[:1])[0].detach().numpy()[0]
    reader, place = model.reader(), 0
    for cut in cuts:
        read = reader.read(IDS[0, place : place + cut])
        place += cut
        np.testing.assert_allclose(read, logits[place - 1], rtol=1e-12, atol=1e-14)


def test_it_learns_a_text_by_truncated_backpropagation_and_goes_on_with_it():
    """Every character of this text follows from the one before; chunks of 7 do not divide its period of 10."""
    text = "abcdefghij" * 40
    tokenizer = CharacterTokenizer.train(text)
    ids = np.asarray(tokenizer.encode(text))
    hg.manual_seed(1)
    model = LSTMLanguageModel(len(tokenizer), 8, 16, 1)
    optimizer = hg.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(12):
        hidden = model.init_hidden(4)
        for x, y in carried_blocks(ids, 7, 4):
            optimizer.zero_grad()
            loss, hidden = model.loss(x, y, hidden)
            loss.backward()
            optimizer.step()
    assert loss.item() < 0.1
    drawn = list(generate(model.eval(), ids[:3], 9, temperature=0.0))
    assert tokenizer.decode(drawn) == "defghijab"


def test_carried_blocks_follow_each_other_row_by_row():
    ids = np.arange(32)
    batches = list(carried_blocks(ids, 4, 3))
    assert [x.shape for x, _ in batches] == [(3, 4), (3, 4), (3, 2)]
    rows = np.concatenate([x for x, _ in batches], axis=1)
    np.testing.assert_array_equal(rows, np.arange(30).reshape(3, 10))
    for x, y in batches:
        assert x.dtype == np.int64
        np.testing.assert_array_equal(y, x + 1)


def test_errors():
    with pytest.raises(ValueError, match="tie_weights needs equal sizes, but embed_size is 6 and hidden_size 8"):
        LSTMLanguageModel(V, E, H, 1, tie_weights=True)
    with pytest.raises(ValueError, match="LSTMLanguageModel: vocab_size is 0, but it must be a positive integer"):
        LSTMLanguageModel(0, E, H, 1)
    with pytest.raises(UserError, match=re.escape("the text has 12 tokens, but 3 streams of 4 need at least 13")):
        carried_blocks(np.arange(12), 4, 3)
    with pytest.raises(ValueError, match="carried_blocks: batch_size is 0, but it must be at least 1"):
        carried_blocks(np.arange(12), 4, 0)
