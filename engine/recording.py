"""Whether operations are written down: on by default, off inside `no_grad`; each thread has its own switch."""

from __future__ import annotations

import threading
from contextlib import ContextDecorator
from typing import ClassVar


class _State(threading.local):
    record = True
    order = 0  # counts recorded operations, so that sorting by it is a topological order
    transforms = 0  # how many of hg.grad's functions are running just now


state = _State()


class _Recording(ContextDecorator):
    _record: ClassVar[bool]

    def __enter__(self) -> None:
        self._before = state.record
        state.record = self._record

    def __exit__(self, *_: object) -> None:
        state.record = self._before


class no_grad(_Recording):
    """Inside it (a `with` block or a decorated function) nothing is recorded: results do not require grad."""

    _record = False


class enable_grad(_Recording):
    """The opposite of `no_grad`, for use inside it."""

    _record = True


def is_grad_enabled() -> bool:
    """Whether operations are recorded just now in this thread."""
    return state.record
