"""Training an LSTM: the state is carried, also through a checkpoint, and `handgrad generate` goes on with it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handgrad.engine import random
from handgrad.engine.cli.main import run as cli_run
from handgrad.engine.files import load_tensors
from handgrad.engine.models import LSTMLanguageModel, load_model
from handgrad.engine.text.tokenizer import CharacterTokenizer
from handgrad.engine.training.feed import CarriedFeed
from handgrad.engine.training.loop import TrainingConfig, open_run, train

TEXT = "the cat sat on the mat. " * 60
TOKENIZER = CharacterTokenizer.train(TEXT)
IDS = TOKENIZER.encode(TEXT)
CONFIG = TrainingConfig(
    steps=17, batch_size=10, lr=3e-3, min_lr=3e-4, warmup=2, seed=3, eval_every=5, log_every=2, checkpoint_every=4
)
CHUNKS = 15  # of a stream: 1,200 characters in 10 streams of 119, cut at 8


@pytest.fixture(autouse=True)
def _default_generator_is_as_it_was() -> Any:
    before = random.default.state()
    yield
    random.default.set_state(before)


def model() -> LSTMLanguageModel:
    random.manual_seed(CONFIG.seed)
    return LSTMLanguageModel(len(TOKENIZER), 8, 8, 2, dropout=0.2)


def feed() -> CarriedFeed:
    return CarriedFeed(IDS[:1200], IDS[1200:], 8, CONFIG.batch_size)


def files(folder: Path) -> dict[str, bytes]:
    arrays, metadata = load_tensors(folder / "checkpoint.safetensors")
    return {name: a.tobytes() for name, a in arrays.items()} | {"state": metadata["state"].encode()}


class StopAfter(CarriedFeed):
    """Ctrl-C at a step, as the loop sees it."""

    def __init__(self, *arguments: Any, stop: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.left = stop

    def loss(self, model: Any) -> Any:
        self.left -= 1
        if not self.left:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(model)


@pytest.mark.parametrize("stop", [3, CHUNKS - 1, CHUNKS, CHUNKS + 1])
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(tmp_path: Path, stop: int) -> None:
    """In the middle of the text, at its end, and in its second reading."""
    assert len(feed().blocks) == CHUNKS
    open_run(tmp_path / "whole", resume=False, overwrite=False)
    train(model(), TOKENIZER, feed(), CONFIG, tmp_path / "whole")
    open_run(tmp_path / "cut", resume=False, overwrite=False)
    data = StopAfter(IDS[:1200], IDS[1200:], 8, CONFIG.batch_size, stop=stop)
    result = train(model(), TOKENIZER, data, CONFIG, tmp_path / "cut")
    assert result.step == stop and not result.finished
    random.manual_seed(999)
    resumed = train(LSTMLanguageModel(len(TOKENIZER), 8, 8, 2, dropout=0.2), TOKENIZER, feed(), CONFIG, tmp_path / "cut",
                    resume=True)  # fmt: skip
    assert resumed.finished and files(tmp_path / "cut") == files(tmp_path / "whole")


def test_the_state_matters_to_a_checkpoint(tmp_path: Path) -> None:
    """Planted: a feed that forgets its state when it is resumed. The run must end otherwise, or the test above is blind."""

    class Forgetful(CarriedFeed):
        def set_state(self, arrays: Any, state: Any) -> None:
            super().set_state({}, state)

    for name, kind in (("whole", CarriedFeed), ("cut", Forgetful)):
        open_run(tmp_path / name, resume=False, overwrite=False)
        data = StopAfter(IDS[:1200], IDS[1200:], 8, CONFIG.batch_size, stop=3)
        train(model(), TOKENIZER, data, CONFIG, tmp_path / name)
        again = kind(IDS[:1200], IDS[1200:], 8, CONFIG.batch_size)
        train(model(), TOKENIZER, again, CONFIG, tmp_path / name, resume=True)
    assert files(tmp_path / "cut") != files(tmp_path / "whole")


def test_batches_begin_in_the_state_where_the_one_before_ended() -> None:
    """The losses of two batches are those of the long sequence; after the last batch the text begins anew."""
    network, data = model().eval(), feed()
    losses = [data.loss(network).item() for _ in range(2)]
    (x1, y1), (x2, y2) = data.blocks[0], data.blocks[1]
    whole, _ = network.loss(np.hstack([x1, x2]), np.hstack([y1, y2]))
    assert np.mean(losses) == pytest.approx(whole.item(), rel=1e-5)  # float32
    alone, _ = network.loss(x2, y2)
    assert abs(losses[1] - alone.item()) > 1e-3  # planted: a state that is not carried
    for _ in range(CHUNKS - 2):
        data.loss(network)
    assert data.loss(network).item() == losses[0]


def test_validation_reads_the_text_in_order() -> None:
    network, data = model().eval(), feed()
    x, y = data.validation.x, data.validation.y
    assert data.validate(network) == pytest.approx(network.loss(x, y)[0].item(), rel=1e-5)
    assert not network.training


# ---- the command


def cli(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        cli_run([str(argument) for argument in arguments])
    return int(left.value.code or 0)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path / "text.txt"


@pytest.mark.parametrize("level", ["character", "bpe", "word"])
def test_train_resume_and_generate(level: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    tiny = ["--steps", 6, "--hidden", 8, "--context", 5, "--batch", 2, "--level", level, "--tie-weights"]
    assert cli("train", "lstm", "--text", text, "--out", out, *tiny) == 0
    settings = json.loads((out / "run.json").read_text())
    assert settings["tokens"] == {"level": level} and settings["context"] == 5
    assert settings["training"]["lr"] == 0.005 and settings["model"]["model_type"] == "lstm"
    capsys.readouterr()
    assert cli("train", "lstm", "--resume", "--out", out) == 0
    assert "is finished" in capsys.readouterr().out
    network, tokenizer = load_model(out / "model")
    assert isinstance(network, LSTMLanguageModel) and network.output.weight is network.embedding.weight
    said = []
    for _ in range(2):
        assert cli("generate", out, "--prompt", "the cat", "--tokens", 9, "--seed", 4) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and said[0].startswith("the cat") and "<unk>" not in said[0]
    assert len(tokenizer.encode(said[0].removesuffix("\n"))) >= 9


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--hidden", "0"], "--hidden is 0, but it must be a positive integer"),
        (["--embed", "4", "--tie-weights"], "--tie-weights needs equal sizes, but --embed is 4 and --hidden 128"),
        (["--dropout", "1"], "--dropout is 1.0, but it must be at least 0 and below 1"),
        (["--level", "syllable"], "--level is 'syllable', but it must be one of character, bpe, word"),
        (["--vocab-size", "9"], "--vocab-size is for the levels bpe and word"),
        (["--level", "bpe", "--vocab-size", "9"], "--vocab-size is 9, but byte-pair encoding needs at least 256"),
        (["--context", "500"], "a batch of 12 streams with a context of 500 needs at least 6001: give more text or a"),
        (["--context", "0"], "--context is 0, but it must be at least 1"),
        (["--batch", "0"], "--batch is 0, but it must be positive"),
        (["--heads", "2"], "--heads"),
    ],
    ids=lambda o: " ".join(o)[:30] if isinstance(o, list) else "",
)
def test_mistakes_are_one_sentence(
    options: list[str], sentence: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("train", "lstm", "--text", text, "--out", tmp_path / "run", *options) == 2
    assert re.search(sentence, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_an_lstm_run_is_no_gpt_run(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = ["--steps", 2, "--hidden", 4, "--context", 5, "--batch", 2]
    assert cli("train", "lstm", "--text", text, "--out", tmp_path / "run", *tiny) == 0
    capsys.readouterr()
    assert cli("train", "gpt", "--resume", "--out", tmp_path / "run") == 2
    assert "says model_type 'lstm', but a GPT needs 'gpt2'" in capsys.readouterr().err
