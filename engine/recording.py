"""Whether operations are written down: on by default, off inside `no_grad`; each thread has its own switch."""

from __future__ import annotations

import threading
from contextlib import ContextDecorator
from typing import ClassVar


class _State(threading.local):
    record = True
    transforms = 0  # how many of hg.grad's functions are running just now
    pushing = False  # whether operations carry directions forward just now: hg.jvp
    follow = False  # and whether an outer derivative follows these

    def __init__(self) -> None:  # once in each thread
        self.outer: list[bool] = []  # what `record` was outside of each switch that is entered


state = _State()


class _Recording(ContextDecorator):
    """Holds nothing of its own, so that one switch may be entered again (recursion) and by several threads at once."""

    _record: ClassVar[bool]

    def __enter__(self) -> None:
        state.outer.append(state.record)
        state.record = self._record

    def __exit__(self, *_: object) -> None:
        state.record = state.outer.pop()


class no_grad(_Recording):
    """Inside it (a `with` block or a decorated function) nothing is recorded: results do not require grad."""

    _record = False


class enable_grad(_Recording):
    """The opposite of `no_grad`, for use inside it."""

    _record = True


def is_grad_enabled() -> bool:
    """Whether operations are recorded just now in this thread."""
    return state.record
