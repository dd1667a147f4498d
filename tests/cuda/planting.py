"""Mistakes planted in rungs: in sources into which the headers that only a few rungs share are written, each behind a switch,
so that all of a source are compiled once.
"""

import ctypes
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

import handgrad
from handgrad.kernels.cuda import launch
from handgrad.kernels.cuda.on_cpu.kernel import Kernel, KernelError

FOLDER = Path(handgrad.__path__[0], "kernels", "cuda")


def whole(stem: str) -> str:
    """The text of `<stem>.cu`, with attention*.cuh, linear_losses*.cuh and philox.cuh in the place of the lines that include
    them."""
    text = (FOLDER / f"{stem}.cu").read_text()
    include = re.compile(r'#include "((?:attention\w*|linear_losses\w*|philox)\.cuh)"\n')
    while found := include.search(text):
        header = (FOLDER / found[1]).read_text().replace("#pragma once\n", "")
        text = text[: found.start()] + header + text[found.end() :]
    return text


def with_switches(text: str, mistakes: dict[str, tuple[str, str]]) -> tuple[str, list[tuple[str, int, int]]]:
    """The source with a switch, `planted`, for each mistake; and what the numbers mean: (kind, which one, where it stands).

    mistakes: kind -> (what, what instead). Statements end with a semicolon; a mistake may lie in another one.
    """
    code = re.sub(r"//[^\n]*", lambda m: " " * len(m[0]), text)
    found = [(m, kind, k) for kind, (p, _) in mistakes.items() for k, m in enumerate(re.finditer(p, code))]
    before, after = [""] * (len(code) + 1), [""] * (len(code) + 1)
    for number, (m, kind, _) in sorted(enumerate(found), key=lambda each: -each[1][0].end()):  # the outer one is opened first
        wrong = m.expand(mistakes[kind][1])
        if m[0].endswith(";"):
            before[m.start()] += f"if (planted == {number}) {{ {wrong} }} else "
        else:
            before[m.start()] += f"(planted == {number} ? ({wrong}) : ("
            after[m.end()] = "))" + after[m.end()]
    head = '#include <cstdlib>\nextern "C" __attribute__((visibility("default"))) int planted = atoi(getenv("PLANTED"));\n'
    body = "".join(after[i] + before[i] + letter for i, letter in enumerate(code))
    return head + body, [(kind, k, m.start()) for m, kind, k in found]


class Planted:
    """All mistakes in the sources of some rungs, of which one at a time is switched on."""

    def __init__(self, texts: dict[str, str], mistakes: dict[str, tuple[str, str]]) -> None:
        self.mistakes = mistakes
        self.sources = {stem: with_switches(text, mistakes) for stem, text in texts.items()}
        self.all = [
            (stem, kind, k, number) for stem, (_, found) in self.sources.items() for number, (kind, k, _) in enumerate(found)
        ]
        """(stem, kind, which one of it, number of the switch)."""
        self.each = pytest.mark.parametrize(
            ("stem", "kind", "which", "number"), self.all, ids=[f"{stem}-{kind}-{k}" for stem, kind, k, _ in self.all]
        )
        self._made: dict[str, Kernel] = {}

    def caught(self, monkeypatch: pytest.MonkeyPatch, stem: str, number: int, run: Callable[[], Any]) -> str | None:
        """What run() says where this mistake is switched on (none, if the number is -1), or None if it says nothing."""

        def switched(path: Path, name: str) -> Kernel:
            if path.stem != stem:
                return Kernel(path, name)
            if name not in self._made:
                self._made[name] = Kernel(path, name, self.sources[stem][0])
            ctypes.c_int.in_dll(self._made[name]._library, "planted").value = number
            return self._made[name]

        monkeypatch.setenv("PLANTED", str(number))  # for kernels in processes of their own
        monkeypatch.setattr(launch, "on_cpu", switched)
        try:
            run()
        except (AssertionError, KernelError) as error:
            return str(error) or "an assertion"
        return None

    def are_of_every_kind(self, harmless: Collection[tuple[str, str, int]]) -> None:
        """Each kind stands somewhere, and few mistakes cannot be caught."""
        assert {kind for _, kind, _, _ in self.all} == set(self.mistakes)
        assert len(harmless) <= 0.05 * len(self.all)
        assert set(harmless) <= {mistake[:3] for mistake in self.all}
