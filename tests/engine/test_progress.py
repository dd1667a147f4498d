"""The progress line, on a terminal and elsewhere."""

from __future__ import annotations

import io
import threading

import pytest

from handgrad.engine.training.progress import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def train(stream: io.StringIO, steps: int, seconds: float, validate: tuple[int, ...] = ()) -> list[str]:
    """Run `steps` iterations of `seconds` each, the first 20 s longer; validations take 3 s."""
    clock = Clock()
    with ProgressLine(1000, tokens_per_step=100, stream=stream, every=5.0, clock=clock) as line:
        clock.now += 20.0
        for step in range(1, steps + 1):
            clock.now += seconds
            line.update(step, 2.0 / step)
            if step in validate:
                clock.now += 3.0
                line.validation(step, 1.5)
    return stream.getvalue().splitlines()


def test_plain_lines_come_every_few_seconds() -> None:
    lines = train(io.StringIO(), 40, 0.5)
    assert [line.split("  ")[0] for line in lines] == [f"step {n}/1000" for n in (1, 11, 21, 31, 40)]
    assert lines[0] == "step 1/1000  loss 2.0000"  # no speed yet: the first step may compile kernels
    assert lines[1] == "step 11/1000  loss 0.1818  200 tokens/s  0:08:14 left"


def test_a_validation_prints_at_once_and_does_not_count_as_training() -> None:
    lines = train(io.StringIO(), 12, 0.5, validate=(3,))
    assert lines[1] == "step 3/1000  loss 0.6667  validation 1.5000  200 tokens/s  0:08:18 left"
    assert lines[-1].endswith("validation 1.5000  200 tokens/s  0:08:14 left")


def test_steps_longer_than_the_window_have_a_speed() -> None:
    assert train(io.StringIO(), 3, 20.0)[-1].endswith("5 tokens/s  5:32:20 left")


def test_the_last_line_is_printed_once() -> None:
    assert len(train(io.StringIO(), 1, 0.5)) == 1
    assert train(io.StringIO(), 0, 0.5) == []


def test_no_control_characters_off_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    train(stream, 40, 0.5, validate=(10,))
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()


def test_a_terminal_gets_one_live_line_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    stream, before = Terminal(), threading.active_count()
    with ProgressLine(1000, tokens_per_step=100, stream=stream) as line:
        line.update(1, 2.0)
        line.validation(1, 1.5)
        assert threading.active_count() == before
    assert "\x1b" in stream.getvalue()
    assert "step 1/1000  loss 2.0000  validation 1.5000" in stream.getvalue()


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert train(Terminal(), 1, 0.5) == ["step 1/1000  loss 2.0000"]


def test_nan_is_shown() -> None:
    stream = io.StringIO()
    with ProgressLine(10, tokens_per_step=1, stream=stream) as line:
        line.update(1, float("nan"))
    assert stream.getvalue() == "step 1/10  loss nan\n"
