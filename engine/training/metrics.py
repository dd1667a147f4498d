"""The log of a run: `metrics.jsonl`, one JSON object a line, each with its `step`.

    {"step": 10, "loss": 3.21, "lr": 0.001}
    {"step": 10, "validation_loss": 3.3}

A run killed while it wrote leaves a last line without newline, which readers ignore.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from typing import Any

from ..errors import UserError
from ..files import StrPath, write_text_atomically

__all__ = ["MetricsLog", "Record", "read_metrics"]

Record = dict[str, Any]


class MetricsLog:
    """Appends to a metrics file, one line a call, which is with the operating system when the call returns.

    resume_step: keep only the lines with step <= resume_step before appending, because the resumed run will write the
    later ones again. None keeps every whole line. The cut is atomic; a file that does not exist is begun.
    Raises UserError if the folder does not exist or the file there holds something else.
    """

    def __init__(self, path: StrPath, resume_step: int | None = None) -> None:
        self.path = path
        lines = _lines(path) if os.path.exists(path) else ()
        write_text_atomically(path, "".join(x for step, x in lines if resume_step is None or step <= resume_step))

    def append(self, step: int, **values: float | int | str | None) -> None:
        """Write one line; NumPy scalars and one-element arrays become numbers, NaN and infinities null."""
        record = {"step": step} | {name: _plain(value) for name, value in values.items()}
        with open(self.path, "a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(record) + "\n")


def read_metrics(path: StrPath) -> list[Record]:
    """Return the records in the order they were written.

    Raises UserError if the file is missing or a whole line is not a JSON object with an integer `step`.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path} does not exist or is not a file")
    return [json.loads(line) for _, line in _lines(path)]


def _lines(path: StrPath) -> Iterator[tuple[int, str]]:
    """Yield (step, line with its newline) of every whole line."""
    with open(path, encoding="utf-8", newline="\n", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return  # the writer was killed here
            try:
                step = json.loads(line)["step"]
                if type(step) is not int:
                    raise TypeError
            except (json.JSONDecodeError, KeyError, TypeError):
                raise UserError(f"{path}, line {number}, is not a JSON object with an integer step") from None
            yield step, line


def _plain(value: Any) -> float | int | str | None:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
