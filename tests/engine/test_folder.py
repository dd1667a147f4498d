"""Model folders: what is written is what is read, and whatever is broken is one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from handgrad.engine.errors import UserError
from handgrad.engine.files import load_tensors, save_tensors
from handgrad.engine.models import load_model, save_model
from handgrad.engine.models.gpt import GPT, GPTConfig
from handgrad.engine.random import Generator
from handgrad.engine.text.tokenizer import CharacterTokenizer

TOKENIZER = CharacterTokenizer("\n abcdé")


def model(*, bias: bool = True) -> GPT:
    made = GPT(
        GPTConfig(len(TOKENIZER), block_size=4, n_layer=2, n_head=2, n_embd=8, bias=bias), generator=Generator(2)
    )
    for p in made.parameters():
        p.copy_(np.random.default_rng(p.size).standard_normal(p.shape).astype(np.float32))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "m", model(), TOKENIZER)
    return tmp_path / "m"


@pytest.mark.parametrize("bias", [True, False])
def test_round_trip_is_bit_identical(tmp_path: Path, bias: bool) -> None:
    first = model(bias=bias)
    save_model(tmp_path / "new" / "m", first, TOKENIZER)
    second, tokenizer = load_model(tmp_path / "new" / "m")
    assert tokenizer == TOKENIZER
    assert second.config == first.config
    assert not second.training
    state = second.state_dict()
    assert all(a.tobytes() == state[name].tobytes() for name, a in first.state_dict().items())
    save_model(tmp_path / "again", second, tokenizer)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "new" / "m" / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_saving_over_another_model_replaces_it(folder: Path) -> None:
    other = GPT(GPTConfig(len(TOKENIZER), block_size=4, n_layer=1, n_head=1, n_embd=4), generator=Generator(9))
    save_model(folder, other, TOKENIZER)
    assert load_model(folder)[0].config == other.config


def config(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        change(content)
        (folder / "config.json").write_text(json.dumps(content))

    return apply


def weights(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        arrays, metadata = load_tensors(folder / "model.safetensors")
        change(arrays)
        save_tensors(folder / "model.safetensors", arrays, metadata)

    return apply


def cut(name: str, keep: float) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * keep)])

    return apply


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "is not a model folder: it has no config.json"),
    "config is a folder": (lambda f: ((f / "config.json").unlink(), (f / "config.json").mkdir()), "is a folder, but"),
    "config is not JSON": (text("config.json", "{no"), "config.json is broken: it is not JSON"),
    "config is cut": (cut("config.json", 0.5), "config.json is broken: it is not JSON"),
    "config is empty": (text("config.json", ""), "config.json is empty"),
    "config is a list": (text("config.json", "[1]"), "config.json is broken: it holds a list, but it must be an object"),
    "config is null": (text("config.json", "null"), "config.json is broken: it holds a NoneType"),
    "config is binary": (lambda f: (f / "config.json").write_bytes(b"\x00\x01"), "config.json is a binary file"),
    "no model type": (config(lambda c: c.pop("model_type")), "says model_type None, but known are gpt2"),
    "another model type": (config(lambda c: c.update(model_type="llama")), "says model_type 'llama', but known are gpt2"),
    "model type is a list": (config(lambda c: c.update(model_type=["gpt2"])), "model_type"),
    "size is missing": (config(lambda c: c.pop("n_embd")), "lacks n_embd"),
    "size is a string": (config(lambda c: c.update(n_embd="8")), "n_embd is '8'"),
    "dropout is a string": (config(lambda c: c.update(resid_pdrop="x")), "resid_pdrop"),
    "dropout is null": (config(lambda c: c.update(resid_pdrop=None)), "resid_pdrop"),
    "another size": (config(lambda c: c.update(n_positions=9)), "does not fit config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors does not exist"),
    "weights are empty": (text("model.safetensors", ""), "model.safetensors is not a whole safetensors file"),
    "weights are text": (text("model.safetensors", "hello world, hello"), "is not a whole safetensors file"),
    "weights are cut": (cut("model.safetensors", 0.9), "is not a whole safetensors file"),
    "weights' header is cut": (cut("model.safetensors", 0.05), "is not a whole safetensors file"),
    "a weight is missing": (weights(lambda a: a.pop("transformer.ln_f.bias")), "missing: transformer.ln_f.bias"),
    "a weight too many": (weights(lambda a: a.update(x=np.zeros(1))), "unexpected: .*x"),
    "a weight of another shape": (weights(lambda a: a.update({"transformer.ln_f.bias": np.zeros(3)})), "ln_f.bias has shape"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json does not exist"),
    "tokenizer is broken": (text("tokenizer.json", '{"model": 1}'), "tokenizer.json is not a tokenizer file"),
    "tokenizer is another's": (lambda f: CharacterTokenizer("ab").save(f), "knows 2 tokens, but config.json says"),
}  # fmt: skip


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_folder_is_one_sentence(folder: Path, how: str) -> None:
    damage, sentence = BROKEN[how]
    damage(folder)
    with pytest.raises(UserError, match=sentence) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is not a model folder: there is no such folder"):
        load_model(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"file is not a model folder: it is a file$"):
        load_model(tmp_path / "file")


def test_every_cut_of_the_weights_is_noticed(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    for length in [0, 1, 7, 8, 9, 100, *np.random.default_rng(0).integers(0, len(data), 30).tolist(), len(data) - 1]:
        (folder / "model.safetensors").write_bytes(data[:length])
        with pytest.raises(UserError, match=r"is not a whole safetensors file"):
            load_model(folder)
