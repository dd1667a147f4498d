"""The progress of a walk through a text, in words."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

__all__ = ["WordProgress"]


class WordProgress:
    """`counting words: 1,200,000 words  840,000 words/s` on stderr: live on a terminal, else a line every 5 seconds.

    Nothing where all is done before the first line is due. what: what the words are read for.
    """

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._clock, self._live = what, clock, sys.stderr.isatty()
        self._start = self._shown = clock()
        self._words = 0

    def due(self) -> bool:
        """Whether it is time for a line."""
        return self._clock() - self._shown >= (0.2 if self._live else 5.0)

    def say(self, words: int) -> None:
        """So many words have been read."""
        self._words = words
        if self.due():
            self._show("\r" if self._live else "\n")

    def end(self) -> None:
        """All is read: say the last line if there was one before."""
        if self._shown > self._start:
            self._show("\n")

    def _show(self, end: str) -> None:
        self._shown = self._clock()
        speed = self._words / (self._shown - self._start)
        line = f"{self._what}: {self._words:,} words  {speed:,.0f} words/s"
        print(line, end=end, file=sys.stderr, flush=True)
