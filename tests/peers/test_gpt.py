"""The whole model: nanoGPT's CPU configuration with the same weights and batches in PyTorch.

float32: the first 20 losses agree to 1e-4. float64: every parameter's gradient agrees to 1e-10 relative, by kernels and by
formulas.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is absent: pip install -e '.[peers]'")

import handgrad as hg  # noqa: E402

pytestmark = pytest.mark.peers

VOCAB, BLOCK, LAYERS, HEADS, WIDTH, BATCH = 65, 64, 4, 4, 128, 12
STEPS = 20


def pair(torch_gpt: Any, dtype: str, *, bias: bool = False, layers: int = LAYERS) -> tuple[Any, Any]:
    """Our model and PyTorch's with the same random weights, vectors included, in `dtype`."""
    config = hg.models.GPTConfig(VOCAB, BLOCK, layers, HEADS, WIDTH, bias=bias)
    ours = hg.models.GPT(config, generator=hg.Generator(3))
    rng = np.random.default_rng(5)
    for parameter in ours.parameters():
        if parameter.ndim == 1:  # norms that only scale by 1, and biases of 0, would hide mistakes
            parameter.copy_(parameter.detach().numpy() + rng.normal(0, 0.1, parameter.shape).astype(np.float32))
    ours.astype(dtype)
    theirs = torch_gpt.TorchGPT(VOCAB, BLOCK, layers, HEADS, WIDTH, bias=bias).to(getattr(torch, dtype))
    return ours, theirs.load_arrays(ours.state_dict())


def batch(seed: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.random.default_rng(seed).integers(0, VOCAB, (BATCH, BLOCK + 1))
    return tokens[:, :-1].copy(), tokens[:, 1:].copy()


@pytest.mark.parametrize("kernels", ["auto", "off"])
def test_first_twenty_losses_agree_in_float32(torch_gpt: Any, kernels: str) -> None:
    ours, theirs = pair(torch_gpt, "float32")
    optimizer = hg.optim.AdamW(ours.parameter_groups(0.1), lr=1e-3, betas=(0.9, 0.99), max_norm=1.0)
    peer = torch_gpt.adamw(theirs, 1e-3, (0.9, 0.99), 0.1)
    found, wanted = [], []
    with hg.use_kernels(kernels) as calls:
        for step in range(STEPS):
            x, y = batch(step)
            loss = ours.loss(x, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
            expected = theirs.loss(torch.from_numpy(x), torch.from_numpy(y))
            peer.zero_grad()
            expected.backward()
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
            peer.step()
            wanted.append(expected.item())
    assert bool(calls) == (kernels != "off")
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("kernels", ["auto", "off"])
def test_all_gradients_agree_in_float64(torch_gpt: Any, kernels: str, bias: bool) -> None:
    ours, theirs = pair(torch_gpt, "float64", bias=bias)
    x, y = batch(99)
    with hg.use_kernels(kernels) as calls:
        loss = ours.loss(x, y)
        loss.backward()
    expected = theirs.loss(torch.from_numpy(x), torch.from_numpy(y))
    expected.backward()
    assert bool(calls) == (kernels != "off")
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    wanted = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    found = {name: p.grad.numpy() for name, p in ours.named_parameters()}
    assert list(found) == list(wanted)
    for name, gradient in wanted.items():
        error = np.linalg.norm(found[name] - gradient) / np.linalg.norm(gradient)
        assert error <= 1e-10, f"gradient of {name} is off by {error:.1e} relative"


def test_float64_kernels_really_run(torch_gpt: Any) -> None:
    """`auto` above must not have meant formulas: every row of the model that has a kernel ran by it, both ways."""
    ours, _ = pair(torch_gpt, "float64", layers=1)
    with hg.use_kernels("force") as calls:
        ours.loss(*batch(0)).backward()
    rows = ("cross_entropy", "embedding", "gelu", "layer_norm", "linear", "packed_attention")
    assert [name for row in rows for name in (f"{row} forward", f"{row} backward") if not calls[name]] == []
