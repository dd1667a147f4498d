"""The training loop: it learns, and a run that was interrupted ends as one that was not, bit for bit."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handgrad.engine import random
from handgrad.engine.errors import UserError
from handgrad.engine.files import load_tensors
from handgrad.engine.models import load_model
from handgrad.engine.models.gpt import GPT, GPTConfig
from handgrad.engine.optim import AdamW
from handgrad.engine.text.batches import consecutive_blocks
from handgrad.engine.text.corpora import train_validation_split
from handgrad.engine.text.tokenizer import CharacterTokenizer
from handgrad.engine.training import loop
from handgrad.engine.training.feed import RandomFeed, validation_loss
from handgrad.engine.training.loop import Result, TrainingConfig, open_run, train
from handgrad.engine.training.metrics import read_metrics

TEXT = "the cat sat on the mat. " * 60
TOKENIZER = CharacterTokenizer.train(TEXT)
TRAIN, VALIDATION = train_validation_split(TOKENIZER.encode(TEXT))
CONFIG = TrainingConfig(
    steps=14, batch_size=4, lr=3e-3, min_lr=3e-4, warmup=2, seed=3, eval_every=5, log_every=2, checkpoint_every=4
)


@pytest.fixture(autouse=True)
def _default_generator_is_as_it_was() -> Any:
    before = random.default.state()
    yield
    random.default.set_state(before)


def gpt(dropout: float = 0.2) -> GPT:
    random.manual_seed(CONFIG.seed)
    return GPT(GPTConfig(len(TOKENIZER), block_size=8, n_layer=2, n_head=2, n_embd=16, dropout=dropout))


def feed(config: TrainingConfig) -> RandomFeed:
    return RandomFeed(TRAIN, VALIDATION, 8, config.batch_size, config.seed)


def run(folder: Path, config: TrainingConfig = CONFIG, *, resume: bool = False, dropout: float = 0.2) -> Result:
    open_run(folder, resume=resume, overwrite=False)
    model = gpt(dropout)
    if resume:  # whatever the process drew meanwhile must not matter
        random.manual_seed(999)
        model = GPT(model.config)
    return train(model, TOKENIZER, feed(config), config, folder, resume=resume)


def everything(folder: Path) -> tuple[Any, ...]:
    """Parameters, moments, generators, the model folder, and the metrics except times."""
    arrays, metadata = load_tensors(folder / "checkpoint.safetensors")
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(folder / "metrics.jsonl")]
    weights = (folder / "model" / "model.safetensors").read_bytes()
    return {n: (a.dtype, a.tobytes()) for n, a in arrays.items()}, json.loads(metadata["state"]), lines, weights


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "straight"
    run(folder)
    return folder


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, what: Any) -> None:
    original = loop._Run.step

    def stepped(self: Any, k: int) -> Any:
        found = original(self, k)
        if k == step:
            what()
        return found

    monkeypatch.setattr(loop._Run, "step", stepped)


def test_the_loss_falls_on_a_repeating_text(tmp_path: Path) -> None:
    config = replace(CONFIG, steps=120, eval_every=40, lr=1e-2, checkpoint_every=1000)
    result = run(tmp_path / "r", config, dropout=0.0)
    assert result.finished
    assert result.step == 120
    assert abs(result.first_validation - math.log(len(TOKENIZER))) < 0.3
    assert result.last_validation < 0.5 * result.first_validation
    lines = read_metrics(tmp_path / "r" / "metrics.jsonl")
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.6 * losses[0]
    assert [line["step"] for line in lines if "validation_loss" in line] == [0, 40, 80, 120]
    assert lines[-1]["validation_loss"] == result.last_validation
    model, tokenizer = load_model(tmp_path / "r" / "model")
    blocks = consecutive_blocks(VALIDATION, 8, 16)
    assert validation_loss(model, blocks) == result.last_validation
    assert tokenizer == TOKENIZER
    names = {p.name for p in (tmp_path / "r").iterdir()}
    assert names == {"model", "metrics.jsonl", "loss.svg", "run.json", "checkpoint.safetensors"}


def test_validation_loss_is_the_mean_over_all_tokens_without_dropout() -> None:
    model = gpt(0.5)
    model.train()
    counter = random.default.counter
    ragged = validation_loss(model, consecutive_blocks(VALIDATION, 8, 5))  # the last batch is smaller
    assert model.training
    assert random.default.counter == counter
    model.eval()
    (batch,) = consecutive_blocks(VALIDATION, 8, 10_000)
    assert np.isclose(ragged, model.loss(*batch).item(), rtol=1e-5)


def test_the_same_seed_gives_the_same_run(straight: Path, tmp_path: Path) -> None:
    run(tmp_path / "again")
    assert everything(tmp_path / "again") == everything(straight)


@pytest.mark.parametrize("step", range(13))
def test_interrupted_and_resumed_is_bit_identical(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    with monkeypatch.context() as patched:
        at_step(patched, step, lambda: signal.raise_signal(signal.SIGINT))
        result = run(tmp_path / "r")
    assert not result.finished
    assert result.step == step + 1
    assert load_model(tmp_path / "r" / "model")[0].config.dropout == 0.2
    result = run(tmp_path / "r", resume=True)
    assert result.finished
    assert everything(tmp_path / "r") == everything(straight)


@pytest.mark.parametrize("step", [5, 10])
def test_a_run_that_died_goes_on_from_its_last_checkpoint(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    def die() -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        at_step(patched, step, die)
        with pytest.raises(MemoryError):
            run(tmp_path / "r")
    with (tmp_path / "r" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "lo')  # killed while it wrote
    assert run(tmp_path / "r", resume=True).finished
    assert everything(tmp_path / "r") == everything(straight)


def test_two_interruptions_and_a_resume_of_a_finished_run(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step, resume in ((2, False), (9, True)):
        with monkeypatch.context() as patched:
            at_step(patched, step, lambda: signal.raise_signal(signal.SIGTERM))
            assert not run(tmp_path / "r", resume=resume).finished
    assert run(tmp_path / "r", resume=True).finished
    assert everything(tmp_path / "r") == everything(straight)
    result = run(tmp_path / "r", resume=True)
    assert result.finished
    assert result.start == result.step == CONFIG.steps
    assert everything(tmp_path / "r") == everything(straight)


def test_signal_handlers_are_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    at_step(monkeypatch, 1, lambda: signal.raise_signal(signal.SIGINT))
    run(tmp_path / "r")
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_interruption_stops_at_once_and_keeps_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice() -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
            for _ in range(10_000):  # Python runs the handler between two instructions; two pending signals would be one
                pass

    at_step(monkeypatch, 6, twice)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore the signal
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "r")
    finally:
        signal.signal(signal.SIGINT, before)
    _, metadata = load_tensors(tmp_path / "r" / "checkpoint.safetensors")
    assert json.loads(metadata["state"])["step"] == 4


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    original = GPT.loss

    def loss(self: GPT, x: Any, y: Any) -> Any:
        found = original(self, x, y)
        return found * value if self.training and len(steps) == 6 else found

    steps: list[int] = []
    monkeypatch.setattr(GPT, "loss", loss)
    at_step(monkeypatch, -1, None)
    stepped = loop._Run.step
    monkeypatch.setattr(loop._Run, "step", lambda self, k: (stepped(self, k), steps.append(k))[0])
    with pytest.raises(UserError, match=rf"^the loss became {value} at step 6: try a lower --lr"):
        run(tmp_path / "r")
    monkeypatch.undo()
    assert run(tmp_path / "r", resume=True).finished  # from the checkpoint before


def test_a_run_that_diverges_ends_in_a_sentence_without_warnings(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(UserError, match=r"^the [a-z ]+ became (nan|inf) at step \d+: try a lower --lr$"):
            run(tmp_path / "r", replace(CONFIG, lr=1e30))


def test_a_checkpoint_never_holds_weights_that_diverged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last loss was fine, but the gradients were not: no checkpoint after that, and no model that was published."""
    stepped = AdamW.step
    monkeypatch.setattr(AdamW, "step", lambda self: (stepped(self), math.inf)[1])
    with pytest.raises(UserError, match=r"^the norm of the gradients became inf at step 0: try a lower --lr$"):
        run(tmp_path / "r", replace(CONFIG, steps=3, checkpoint_every=1))
    assert not (tmp_path / "r" / "checkpoint.safetensors").exists()
    assert not (tmp_path / "r" / "model").exists()


def test_a_checkpoint_of_another_model_is_refused(straight: Path, tmp_path: Path) -> None:
    run(tmp_path / "r", replace(CONFIG, steps=3))
    wider = GPT(GPTConfig(len(TOKENIZER), block_size=8, n_layer=2, n_head=2, n_embd=20))
    with pytest.raises(UserError, match=r"^--resume: .*checkpoint.safetensors does not fit this model"):
        train(wider, TOKENIZER, feed(CONFIG), CONFIG, tmp_path / "r", resume=True)
    data = (straight / "checkpoint.safetensors").read_bytes()
    (tmp_path / "r" / "checkpoint.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"is not a whole safetensors file"):
        run(tmp_path / "r", resume=True)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steps": 0}, "steps is 0, but it must be positive"),
        ({"batch_size": -1}, "batch_size is -1, but it must be positive"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": math.nan}, "lr is nan, but it must be finite"),
        ({"clip": math.inf}, "clip is inf"),
        ({"seed": -1}, "seed is -1, but it must be 0 or above"),
        ({"seed": 2**64}, r"seed is 18446744073709551616, but it must be below 2\*\*64"),
        ({"warmup": 14}, "warmup is 14, but it must be below steps"),
        ({"min_lr": 1.0}, "min_lr is 1.0, but it must be at most lr"),
        ({"beta2": 1.0}, "beta1 is 0.9 and beta2 1.0"),
        ({"steps": 2.5}, "steps is 2.5, but it must be a whole number"),
        ({"steps": True}, "steps is True, but it must be a whole number"),
        ({"steps": "5"}, "steps is '5', but it must be a whole number"),
        ({"steps": int("9" * 400)}, r"steps is 9+\.\.\.9+, but it must be below 2\*\*31"),
        ({"lr": "fast"}, "lr is 'fast', but it must be a number"),
        ({"lr": math.inf}, "lr is inf, but it must be finite"),
    ],
)
def test_senseless_settings_are_sentences(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=r"^" + sentence):
        replace(CONFIG, **changes)


# ---- the process


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from handgrad.engine.cli.main import run; run()", "train", "gpt", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy())


def interrupt(process: subprocess.Popen[str], metrics: Path, beyond: int) -> str:
    """SIGINT once the log has gone beyond a step; what stderr said."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and any(json.loads(x)["step"] > beyond for x in metrics.read_text().split("\n")[:-1]):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    return stderr


def test_ctrl_c_leaves_a_run_that_can_be_resumed_and_exit_code_130(tmp_path: Path) -> None:
    text, out = tmp_path / "t.txt", tmp_path / "run"
    text.write_text(TEXT)
    sizes = ("--steps", "100000", "--layers", "1", "--heads", "1", "--width", "8", "--context", "8", "--batch", "2")
    rest = ("--dropout", "0.1", "--eval-every", "0")
    stderr = interrupt(start("--text", str(text), "--out", str(out), *sizes, *rest), out / "metrics.jsonl", 0)
    first = json.loads(load_tensors(out / "checkpoint.safetensors")[1]["state"])["step"]
    assert f"interrupted after step {first}; go on with: handgrad train gpt --resume --out {out}" in stderr
    assert first > 0
    assert load_model(out / "model")[0].config.n_embd == 8
    interrupt(start("--resume", "--out", str(out)), out / "metrics.jsonl", first)
    second = json.loads(load_tensors(out / "checkpoint.safetensors")[1]["state"])["step"]
    assert second > first
    steps = [line["step"] for line in read_metrics(out / "metrics.jsonl") if "loss" in line]
    assert steps == sorted(set(steps))
