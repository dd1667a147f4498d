"""The training loop: batches in, a run folder out, interrupted and resumed at any step.

A run folder holds

    model/              config.json, model.safetensors, tokenizer.json
    metrics.jsonl       loss, learning rate, tokens/s; validation loss
    loss.svg            both losses against steps
    run.json            the settings and which text it was
    checkpoint.safetensors   everything that a resumed run needs to be bit-identical to one that was never interrupted
"""

from __future__ import annotations

import contextlib
import json
import math
import reprlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import process, random
from ..device import host
from ..errors import UserError
from ..files import load_tensors, read_text, save_tensors, write_text_atomically
from ..models.folder import save_model
from ..optim import AdamW
from .curve import loss_curve_svg
from .feed import Feed
from .metrics import MetricsLog, read_metrics
from .progress import ProgressLine
from .schedule import warmup_cosine

_WHOLE = ("steps", "batch_size", "warmup", "seed", "eval_every", "log_every", "checkpoint_every")
_FROM_ZERO = ("min_lr", "warmup", "weight_decay", "beta1", "beta2", "seed", "eval_every")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. The defaults are nanoGPT's for a small character model on a CPU."""

    steps: int = 2000
    batch_size: int = 12
    lr: float = 1e-3
    min_lr: float = 1e-4
    warmup: int = 100
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    clip: float = 1.0
    seed: int = 1
    eval_every: int = 250
    log_every: int = 10
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if wanted := _wanted(name, value):
                raise UserError(f"{name} is {reprlib.repr(value)}, but it must be {wanted}")
        if self.warmup >= self.steps:
            raise UserError(f"warmup is {self.warmup}, but it must be below steps, which is {self.steps}")
        if self.min_lr > self.lr:
            raise UserError(f"min_lr is {self.min_lr}, but it must be at most lr, which is {self.lr}")
        if max(self.beta1, self.beta2) >= 1:
            raise UserError(f"beta1 is {self.beta1} and beta2 {self.beta2}, but both must be below 1")


def _wanted(name: str, value: Any) -> str:
    """What the setting must be; empty where it is that."""
    if isinstance(value, bool) or not isinstance(value, int if name in _WHOLE else (int, float)):
        return "a whole number" if name in _WHOLE else "a number"
    if value < 0 or (value == 0 and name not in _FROM_ZERO):
        return "0 or above" if name in _FROM_ZERO else "positive"
    if name in _WHOLE:
        bits = 64 if name == "seed" else 31
        return "" if value < 1 << bits else f"below 2**{bits}"
    return "" if value < math.inf else "finite"


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    start: int  # the step at which this call began; `step` where a finished run was resumed
    step: int
    finished: bool  # False: interrupted; the folder can be resumed
    first_validation: float | None  # before the first step
    last_validation: float | None
    seconds: float  # of this call


def check_folder(
    folder: Path, *, overwrite: bool, hint: str = "say --resume to go on with it or --overwrite to replace it"
) -> None:
    """UserError where a new run cannot begin: a file is in the way, or other things, or a run that must not be lost."""
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir():
        raise UserError(f"--out: {above} is a file, but it must be a folder")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / "run.json").exists():
            raise UserError(f"--out {folder} holds files that are no run of handgrad; name an empty or new folder")
        if not overwrite:
            raise UserError(f"--out {folder} holds another run; {hint}")


def open_run(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Makes or empties the folder of a new run, or finds the checkpoint to resume. UserError where it cannot."""
    if resume:
        if not (folder / "checkpoint.safetensors").exists():
            raise UserError(f"--resume: {folder} holds no checkpoint.safetensors to go on from; begin with --text")
        return
    check_folder(folder, overwrite=overwrite)
    models = ("model/config.json", "model/model.safetensors", "model/tokenizer.json")
    for name in ("checkpoint.safetensors", "metrics.jsonl", "loss.svg", *models):
        (folder / name).unlink(missing_ok=True)  # all but run.json, which `train` replaces: so it stays a run's folder
    folder.mkdir(parents=True, exist_ok=True)


def train(
    model: Any,
    tokenizer: Any,
    data: Feed,
    config: TrainingConfig,
    folder: str | Path,
    *,
    resume: bool = False,
    description: dict[str, Any] | None = None,
) -> Result:
    """Trains `model` and leaves a run folder; `open_run` has made it.

    data: what it trains on (feed.py); the model has `parameter_groups(weight_decay)`, `to_files()` and what data asks for.
    Ctrl-C ends the step, writes a checkpoint and returns; pressed twice it stops at once, and the checkpoint before
    stays. Raises UserError where the run diverges.
    """
    folder = Path(folder)
    run = _Run(model, tokenizer, data, config, folder, description or {})
    start = run.restore() if resume else run.begin()
    began = time.monotonic()
    step = run.go_on(start, began) if start < config.steps else start
    run.checkpoint(step)
    run.publish()
    return Result(start, step, step >= config.steps, run.first, run.last, time.monotonic() - began)


class _Run:
    """The state of a run: what a checkpoint holds, and where things are written."""

    def __init__(
        self, model: Any, tokenizer: Any, data: Feed, config: TrainingConfig, folder: Path, description: dict[str, Any]
    ) -> None:
        self.model, self.tokenizer, self.data, self.config = model, tokenizer, data, config
        self.folder, self.description = folder, description
        self.optimizer = AdamW(
            model.parameter_groups(config.weight_decay),
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            max_norm=config.clip,
        )
        self.first: float | None = None
        self.last: float | None = None
        model.train()

    def begin(self) -> int:
        settings = {"model": self.model.to_files()[0], "training": asdict(self.config), **self.description}
        write_text_atomically(self.folder / "run.json", json.dumps(settings, indent=2) + "\n")
        self.log = MetricsLog(self.folder / "metrics.jsonl")
        self.first = self.validate(0)
        return 0

    def go_on(self, start: int, began: float) -> int:
        """Trains from step `start` to the end or to an interruption; the steps that are done then."""
        process.join_pools()
        print(f"handgrad: {process.describe()}", file=sys.stderr)
        config, step = self.config, start
        quiet = np.errstate(all="ignore")  # a run that diverges ends in one sentence, not in NumPy's warnings
        line = ProgressLine(config.steps, tokens_per_step=self.data.tokens_per_step)
        with interruptible() as interrupted, line as progress, quiet:
            if self.last is not None:
                progress.validation(start, self.last)
            while step < config.steps and not interrupted.is_set():
                loss, lr, norm = self.step(step)
                step += 1
                progress.update(step, loss)
                if step % config.log_every == 0 or step == config.steps:
                    seconds = round(time.monotonic() - began, 3)
                    self.log.append(step, loss=loss, lr=lr, grad_norm=norm, seconds=seconds)
                if step == config.steps or (config.eval_every and step % config.eval_every == 0):
                    progress.validation(step, self.validate(step))
                if step % config.checkpoint_every == 0 and step < config.steps:
                    self.checkpoint(step)
        return step

    def step(self, step: int) -> tuple[float, float, float]:
        """One update. Returns (loss, learning rate, norm of the gradients). UserError where one is not finite."""
        config = self.config
        lr = warmup_cosine(step, lr=config.lr, min_lr=config.min_lr, warmup=config.warmup, total=config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        loss = self.data.loss(self.model)
        value = loss.item()
        _finite("loss", value, step)
        self.optimizer.zero_grad()
        loss.backward()
        norm = self.optimizer.step()
        _finite("norm of the gradients", norm, step)
        return value, lr, norm

    def validate(self, step: int) -> float:
        self.last = self.data.validate(self.model)
        _finite("validation loss", self.last, step)
        self.log.append(step, validation_loss=self.last)
        return self.last

    def checkpoint(self, step: int) -> None:
        """Parameters, moments, counters, generators and where the data stands: one file, atomically, from the CPU's memory."""
        carried, data = self.data.state()
        arrays = {f"model.{name}": host(p.data) for name, p in self.model.named_parameters()}
        arrays |= {f"optimizer.{name}": a for name, a in self.optimizer.state_dict().items()}
        arrays |= {f"data.{name}": a for name, a in carried.items()}
        state = {
            "step": step,
            "first": self.first,
            "last": self.last,
            "data": data,
            "default": random.default.state(),
        }
        save_tensors(self.folder / "checkpoint.safetensors", arrays, {"state": json.dumps(state)})

    def restore(self) -> int:
        path = self.folder / "checkpoint.safetensors"
        arrays, metadata = load_tensors(path)
        try:
            state = json.loads(metadata["state"])
            model, optimizer, carried = (_under(prefix, arrays) for prefix in ("model.", "optimizer.", "data."))
            self.model.load_state_dict(model, strict=False)
            missing = {name for name, _ in self.model.named_parameters()} - set(model)
            if missing:
                raise KeyError(f"no {sorted(missing)[0]}")
            self.optimizer.load_state_dict(optimizer)
            self.data.set_state(carried, state["data"])
            random.default.set_state(state["default"])
            self.first, self.last = state["first"], state["last"]
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(f"--resume: {path} does not fit this model: {error.args[0]}") from error
        self.log = MetricsLog(self.folder / "metrics.jsonl", resume_step=int(state["step"]))
        return int(state["step"])

    def publish(self) -> None:
        save_model(self.folder / "model", self.model, self.tokenizer)
        loss_curve_svg(read_metrics(self.folder / "metrics.jsonl"), self.folder / "loss.svg")


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _finite(what: str, value: float, step: int) -> None:
    if not math.isfinite(value):
        raise UserError(f"the {what} became {value} at step {step}: try a lower --lr")


def read_run(folder: Path) -> dict[str, Any]:
    """The content of run.json, with its parts of the right types; UserError where it is missing or broken."""
    path = folder / "run.json"
    text = read_text(path)
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is broken: it is not JSON ({error})") from error
    for name, kind in (("text", list), ("sha256", str), ("model", dict), ("training", dict)):
        if not isinstance(settings, dict) or not isinstance(settings.get(name), kind):
            raise UserError(f"{path} is broken: it must be an object with a {kind.__name__} called {name!r}")
    return settings


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event, so that the step in progress ends well; the second one interrupts as usual."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {s: signal.getsignal(s) for s in signals}

    def stop(number: int, frame: Any) -> None:
        asked.set()
        for s in signals:
            signal.signal(s, before[s])

    for s in signals:
        signal.signal(s, stop)
    try:
        yield asked
    finally:
        for s in signals:
            signal.signal(s, before[s])
