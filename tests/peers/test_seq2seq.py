"""Sequence to sequence beside the same computation with PyTorch's layers: the loss and every gradient, in float64."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is absent: pip install -e '.[peers]'")

import handgrad as hg  # noqa: E402
from handgrad.engine.models import Seq2SeqLSTM  # noqa: E402
from handgrad.engine.text.pairs import padded  # noqa: E402

pytestmark = pytest.mark.peers

V, E, H, L, B, S = 7, 5, 6, 2, 3, 6
SOURCE = np.random.default_rng(0).integers(0, V, (B, S))
LENGTHS = np.array([6, 3, 1])


def their_loss(p, attention, source, lengths, target, pad):
    """The docstring of models/seq2seq.py, in PyTorch; p: parameters by our names."""

    def lstm(name, width, bidirectional):
        made = torch.nn.LSTM(width, H, L, batch_first=True, bidirectional=bidirectional).double()
        own = {key.removeprefix(name + "."): value for key, value in p.items() if key.startswith(name + ".")}
        return lambda *inputs: torch.func.functional_call(made, own, inputs)

    pack = torch.nn.utils.rnn.pack_padded_sequence
    packed = pack(p["embedding.weight"][source], lengths, batch_first=True, enforce_sorted=False)
    states, (h, c) = lstm("encoder", E, True)(packed)
    states, _ = torch.nn.utils.rnn.pad_packed_sequence(states, batch_first=True, total_length=source.shape[1])

    def bridge(last, name):
        ends = last.reshape(L, 2, B, H)
        return torch.tanh(torch.cat([ends[:, 0], ends[:, 1]], -1) @ p[name + ".weight"].T + p[name + ".bias"])

    state = bridge(h, "bridge_h"), bridge(c, "bridge_c")
    hidden = torch.arange(source.shape[1]) >= lengths[:, None]

    def look(query):
        q = query @ p["attention.query.weight"].T
        if attention == "luong":
            scores = torch.einsum("btd,bsd->bts", q, states)
        else:
            keys = states @ p["attention.key.weight"].T
            scores = torch.tanh(q[:, :, None] + keys[:, None]) @ p["attention.v"]
        return torch.softmax(scores.masked_fill(hidden[:, None], -torch.inf), -1) @ states

    embedded = p["embedding.weight"][target[:, :-1]]
    if attention == "luong":
        outputs, _ = lstm("decoder", E, False)(embedded, state)
        contexts = look(outputs)
    else:
        decoder, found = lstm("decoder", E + 2 * H, False), []
        for t in range(embedded.shape[1]):
            context = look(state[0][-1][:, None])
            output, state = decoder(torch.cat([embedded[:, t : t + 1], context], -1), state)
            found.append((output, context))
        outputs, contexts = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
    mixed = torch.tanh(torch.cat([outputs, contexts], -1) @ p["combine.weight"].T + p["combine.bias"])
    logits = mixed @ p["output.weight"].T + p["output.bias"]
    return torch.nn.functional.cross_entropy(logits.reshape(-1, V + 3), target[:, 1:].reshape(-1), ignore_index=pad)


@pytest.mark.parametrize("attention", ["bahdanau", "luong"])
def test_loss_and_gradients(attention):
    hg.manual_seed(0)
    ours = Seq2SeqLSTM(V, E, H, L, attention=attention).astype(np.float64)
    target, _ = padded([[ours.begin, 1, 2, 3, ours.end], [ours.begin, 4, ours.end], [ours.begin, ours.end]], ours.pad)
    p = {name: torch.from_numpy(a.copy()).requires_grad_() for name, a in ours.state_dict().items()}
    loss = ours.loss(SOURCE, LENGTHS, target)
    loss.backward()
    theirs = their_loss(
        p, attention, torch.from_numpy(SOURCE), torch.from_numpy(LENGTHS), torch.from_numpy(target), ours.pad
    )
    theirs.backward()
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-12)
    for name, parameter in ours.named_parameters():
        np.testing.assert_allclose(parameter.grad.numpy(), p[name].grad.numpy(), rtol=1e-10, atol=1e-13, err_msg=name)
