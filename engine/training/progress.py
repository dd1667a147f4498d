"""The progress of a run on stderr: one live line on a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["ProgressLine"]

_REDRAW_SECONDS = 0.1
_WINDOW_SECONDS = 10.0
_BAR_COLUMNS = 110  # a narrower terminal has room for the line alone


class ProgressLine:
    """`step 1200/2000  loss 1.4702  validation 1.6911  81,920 tokens/s  0:02:13 left`, kept up to date.

    total: iterations of the whole run; tokens_per_step: tokens (or what `unit` says) an iteration trains on; every: seconds
    between plain lines when stderr is not a terminal, where a validation prints one at once. Speed and time left are
    those of the last 10 seconds without the validations, so that compiling kernels does not count. Starts no thread.
    """

    def __init__(
        self,
        total: int,
        *,
        tokens_per_step: int,
        stream: TextIO | None = None,
        unit: str = "tokens",
        every: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.tokens_per_step, self.unit, self.every = total, tokens_per_step, unit, every
        self._stream, self._clock = stream if stream is not None else sys.stderr, clock
        self._step, self._loss, self._validation = 0, "", ""
        self._marks: list[tuple[float, int]] = []  # (seconds, step) of the updates in the window
        self._steps_per_second = 0.0
        self._shown_at = -float("inf")
        self._shown = ""
        self._live: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> ProgressLine:
        if self._stream.isatty() and os.environ.get("TERM") != "dumb":
            self._live = _live_line(self._stream, self.total)
            self._live[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._step and self._line() != self._shown:
            self._show()
        if self._live:
            self._live[0].stop()

    def update(self, step: int, loss: float) -> None:
        """Say that `step` iterations are done and the last one's loss was `loss`."""
        now = self._clock()
        self._step, self._loss = step, f"loss {loss:.4f}"
        recent = [mark for mark in self._marks if now - mark[0] <= _WINDOW_SECONDS]
        self._marks = (recent or self._marks[-1:]) + [(now, step)]  # a step may take longer than the window
        then, first = self._marks[0]
        if now > then:
            self._steps_per_second = (step - first) / (now - then)
        if now - self._shown_at >= (_REDRAW_SECONDS if self._live else self.every):
            self._show()

    def validation(self, step: int, loss: float) -> None:
        """Say that after `step` iterations the validation loss was `loss`; call it when the validation is over."""
        self._step, self._validation = step, f"validation {loss:.4f}"
        self._marks = [(self._clock(), step)]
        self._show()

    def _line(self) -> str:
        parts = [f"step {self._step}/{self.total}", self._loss, self._validation]
        if self._steps_per_second > 0:
            seconds = round(max(self.total - self._step, 0) / self._steps_per_second)
            parts += [f"{self._steps_per_second * self.tokens_per_step:,.0f} {self.unit}/s"]
            parts += [f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left"]
        return "  ".join(part for part in parts if part)

    def _show(self) -> None:
        self._shown_at, self._shown = self._clock(), self._line()
        if self._live:
            progress, task = self._live
            progress.update(task, completed=self._step, line=self._shown, refresh=True)
        else:
            print(self._shown, file=self._stream, flush=True)


def _live_line(stream: TextIO, total: int) -> tuple[Progress, TaskID]:
    from rich.console import Console  # a tenth of a second, and only where there is a terminal
    from rich.progress import BarColumn, Progress, TextColumn

    console, line = Console(file=stream), TextColumn("{task.fields[line]}", markup=False)
    columns = (BarColumn(bar_width=20), line) if console.width >= _BAR_COLUMNS else (line,)
    progress = Progress(*columns, console=console, auto_refresh=False)
    return progress, progress.add_task("", total=total, line="")
