"""A character model beside the same one in PyTorch: same weights, batches, clipping and AdamW, the same losses."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is absent: pip install -e '.[peers]'")

import handgrad as hg  # noqa: E402
from handgrad.engine.models import LSTMLanguageModel  # noqa: E402
from handgrad.engine.text.batches import carried_blocks  # noqa: E402

pytestmark = pytest.mark.peers

V, H, LAYERS, B, T = 20, 16, 2, 4, 12
IDS = np.random.default_rng(0).choice(V, 1500, p=np.arange(1, V + 1) / (V * (V + 1) / 2))


class Theirs(torch.nn.Module):
    """The model with PyTorch's layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(V, H)
        self.lstm = torch.nn.LSTM(H, H, LAYERS, batch_first=True)
        self.output = torch.nn.Linear(H, V)

    def loss(self, x, y, hidden):
        states, hidden = self.lstm(self.embedding(x), hidden)
        loss = torch.nn.functional.cross_entropy(self.output(states).reshape(-1, V), y.reshape(-1))
        return loss, tuple(h.detach() for h in hidden)


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 1e-4), (np.float64, 1e-10)])
def test_twenty_losses_and_what_was_learned(dtype, bound):
    """The state is carried; float64 also compares every parameter after the last step."""
    hg.manual_seed(0)
    ours = LSTMLanguageModel(V, H, H, LAYERS).astype(dtype)
    theirs = Theirs().to(torch.float32 if dtype == np.float32 else torch.float64)
    theirs.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in ours.state_dict().items()})
    settings = {"lr": 5e-3, "betas": (0.9, 0.99), "weight_decay": 0.1}
    mine = hg.optim.AdamW(ours.parameters(), max_norm=0.5, **settings)
    other = torch.optim.AdamW(theirs.parameters(), **settings)
    hidden, their_hidden, differences = None, None, []
    for x, y in list(carried_blocks(IDS, T, B))[:20]:
        mine.zero_grad()
        loss, hidden = ours.loss(x, y, hidden)
        loss.backward()
        mine.step()
        other.zero_grad()
        their_loss, their_hidden = theirs.loss(torch.from_numpy(x), torch.from_numpy(y), their_hidden)
        their_loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        other.step()
        differences.append(abs(loss.item() - their_loss.item()))
    assert len(differences) == 20 and max(differences) <= bound
    if dtype == np.float64:
        for name, array in ours.state_dict().items():
            np.testing.assert_allclose(array, theirs.state_dict()[name].numpy(), rtol=0, atol=1e-6)
