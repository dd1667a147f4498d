"""Model folders of Hugging Face: what we save loads there, what is saved there loads here; the same logits, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is absent: pip install -e '.[peers]'")
transformers = pytest.importorskip("transformers", reason="transformers is absent: pip install -e '.[peers]'")

import handgrad as hg  # noqa: E402
from handgrad.engine.files import load_tensors  # noqa: E402
from handgrad.engine.models.folder import read_config  # noqa: E402

pytestmark = pytest.mark.peers

IDS = np.random.default_rng(0).integers(0, 65, (3, 24))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may reach for the network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")


def our_logits(model: Any) -> np.ndarray:
    with hg.no_grad():
        return model.eval()(IDS).numpy()


def their_logits(model: Any) -> np.ndarray:
    with torch.no_grad():
        return model.eval()(torch.from_numpy(IDS)).logits.numpy()


def shaken(model: Any) -> Any:
    """All parameters random, vectors included: norms that scale by 1 and biases of 0 would hide a swapped name."""
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.copy_((parameter.detach().numpy() + rng.normal(0, 0.2, parameter.shape)).astype(np.float32))
    return model


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_what_we_save_loads_in_transformers(tmp_path: Path, bias: bool) -> None:
    ours = shaken(hg.models.GPT(hg.models.GPTConfig(65, 32, 2, 4, 48, bias=bias)))
    hg.models.save_model(tmp_path / "model", ours)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "model", local_files_only=True)
    np.testing.assert_allclose(our_logits(ours), their_logits(theirs), rtol=0, atol=1e-4)


SIZES: dict[str, dict[str, Any]] = {
    "small": {"vocab_size": 65, "n_positions": 32, "n_embd": 48, "n_layer": 2, "n_head": 4},
    "defaults that config.json might leave out": {"vocab_size": 65, "n_embd": 24},
}


@pytest.mark.parametrize("sizes", SIZES)
def test_what_transformers_saves_loads_here(tmp_path: Path, sizes: str) -> None:
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES[sizes]))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path / "model")
    arrays, _ = load_tensors(tmp_path / "model" / "model.safetensors")
    ours = hg.models.GPT.from_files(read_config(tmp_path / "model"), arrays)
    np.testing.assert_allclose(our_logits(ours), their_logits(theirs), rtol=0, atol=1e-4)


def test_a_body_without_a_head_loads_here(tmp_path: Path) -> None:
    """GPT2Model saves its weights without the name `transformer.`, as the published gpt2 files do."""
    body = transformers.GPT2Model(transformers.GPT2Config(**SIZES["small"]))
    body.save_pretrained(tmp_path / "model")
    arrays, _ = load_tensors(tmp_path / "model" / "model.safetensors")
    assert not any(name.startswith("transformer.") for name in arrays)
    ours = hg.models.GPT.from_files(read_config(tmp_path / "model"), arrays)
    with torch.no_grad():
        hidden = body.eval()(torch.from_numpy(IDS)).last_hidden_state
        want = (hidden @ body.wte.weight.T).numpy()
    np.testing.assert_allclose(our_logits(ours), want, rtol=0, atol=1e-4)


def test_there_and_back_changes_no_bit(tmp_path: Path) -> None:
    ours = shaken(hg.models.GPT(hg.models.GPTConfig(65, 32, 2, 4, 48)))
    hg.models.save_model(tmp_path / "ours", ours)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours", local_files_only=True)
    theirs.save_pretrained(tmp_path / "theirs")
    arrays, _ = load_tensors(tmp_path / "theirs" / "model.safetensors")
    back = hg.models.GPT.from_files(read_config(tmp_path / "theirs"), arrays)
    for (name, a), (other, b) in zip(ours.named_parameters(), back.named_parameters(), strict=True):
        assert name == other
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy(), err_msg=name)


OTHER_MODELS: dict[str, dict[str, Any]] = {
    "another activation": {"activation_function": "relu"},
    "untied output weight": {"tie_word_embeddings": False},
    "scores that are not scaled": {"scale_attn_weights": False},
    "scores scaled by the layer's number": {"scale_attn_by_inverse_layer_idx": True},
    "another epsilon": {"layer_norm_epsilon": 1e-2},
}


@pytest.mark.parametrize("difference", OTHER_MODELS)
def test_another_model_under_gpt2s_name_is_refused_or_right(tmp_path: Path, difference: str) -> None:
    """A config.json that asks for something we lack must not load into a model that computes something else."""
    config = transformers.GPT2Config(**SIZES["small"] | OTHER_MODELS[difference])
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path / "model")
    arrays, _ = load_tensors(tmp_path / "model" / "model.safetensors")
    try:
        ours = hg.models.GPT.from_files(read_config(tmp_path / "model"), arrays)
    except ValueError:  # UserError
        return
    np.testing.assert_allclose(our_logits(ours), their_logits(theirs), rtol=0, atol=1e-4)
