"""What each rung of a ladder is about, in the words of its own docstring: the first thing that its first line says.

A rung's functions are called <op>_forward_<NN>_<idea>, <op>_vjp_<NN>_<idea>, or <op>_<NN>_<idea> where both directions run the
same one, in kernels/cpu/<op>.py and the files that it is cut into. A number means the same in both directions; one that has
nothing new in a direction is missing there. The pair "numba <NN>_<idea>" is told by the function of that number.
Production is told by the last rung that there is; on one thread, where that last rung is the threads, by the one before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

KERNELS = Path(__file__).resolve().parents[1] / "kernels" / "cpu"
RUNG = re.compile(r"(?P<what>\w+?)_(?P<number>\d\d)_(?P<idea>\w+)")
END = re.compile(r"\.(?=\s+[A-Z0-9]|$)|[:;](?=\s)")
DIRECTIONS = {"forward": "forward", "backward": "vjp"}


def told(op: str, versions: list[str], direction: str) -> dict[str, str]:
    """version -> its idea, for each version of a row's ladder that has something new in this direction. A file whose rungs
    differ in more than a function has them in words, IDEAS.
    """
    if not (KERNELS / f"{op}.py").exists():
        return {}
    in_words = getattr(import_module(f"handgrad.kernels.cpu.{op}"), "IDEAS", {})
    return ideas(functions_of(op), versions, direction) | in_words.get(direction, {})


def functions_of(op: str) -> dict[str, Any]:
    """The functions of a row's rungs by name, from all of its files in kernels/cpu."""
    files = [path for path in sorted(KERNELS.glob(f"{op}*.py")) if f"def {op}_" in path.read_text(encoding="utf-8")]
    found = {}
    for path in files:
        found |= vars(import_module(f"handgrad.kernels.cpu.{path.stem}"))
    rung = re.compile(rf"{op}(_step)?(_forward|_vjp)?_\d\d_\w+")
    return {name: function for name, function in found.items() if rung.fullmatch(name)}


def ideas(functions: Mapping[str, Any], versions: list[str], direction: str) -> dict[str, str]:
    """version -> its idea, for each version that has a function with a docstring."""
    rungs = []
    for name, function in functions.items():
        match, text = RUNG.fullmatch(name), (getattr(function, "__doc__", None) or "").strip()
        if match and text and callable(function):
            ways = [way for way in DIRECTIONS.values() if f"_{way}" in match["what"]] or list(DIRECTIONS.values())
            if DIRECTIONS[direction] in ways:
                rungs.append((match["number"], match["idea"], text))
    rungs.sort()
    found = {}
    for version in versions:
        idea = version.removeprefix("numba").strip()
        if version == "numba":
            told = [text for _, _, text in rungs[-1:]]
        elif version == "numba, 1 thread":
            below = [rung for rung in rungs if rung[0] < rungs[-1][0] and rungs[-1][1] == "threads"]
            told = [text for number, _, text in below[-1:] if not any(v.startswith(f"numba {number}_") for v in versions)]
        else:
            told = [text for number, _, text in rungs if number == idea[:2]]
        if told:
            found[version] = first(told[0])
    return found


def first(text: str) -> str:
    """A docstring up to its first full stop, colon or semicolon outside of brackets: what follows is what the idea bought,
    where it was written.
    """
    line = " ".join(text.split())
    ends = [stop.start() for stop in END.finditer(line)]
    return next((line[:end] for end in ends if line[:end].count("(") == line[:end].count(")")), line)
