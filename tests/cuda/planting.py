"""Where mistakes are planted: the source of a rung with the headers that only a few rungs share written into it."""

import re
from pathlib import Path

import handgrad

FOLDER = Path(handgrad.__path__[0], "kernels", "cuda")


def whole(stem: str) -> str:
    """The text of `<stem>.cu`, with attention*.cuh, linear_losses.cuh and philox.cuh in the place of the lines that include
    them."""
    text = (FOLDER / f"{stem}.cu").read_text()
    include = re.compile(r'#include "((?:attention\w*|linear_losses|philox)\.cuh)"\n')
    while found := include.search(text):
        header = (FOLDER / found[1]).read_text().replace("#pragma once\n", "")
        text = text[: found.start()] + header + text[found.end() :]
    return text


def with_switches(text: str, mistakes: dict[str, tuple[str, str]]) -> tuple[str, list[tuple[str, int]]]:
    """The source with a switch, `planted`, for each mistake, so that it is compiled once; and what the numbers mean: (kind,
    which one of it). mistakes: kind -> (what, what instead). Statements end with a semicolon; a mistake may lie in another one.
    """
    code = re.sub(r"//[^\n]*", lambda m: " " * len(m[0]), text)
    found = [(m, kind, k) for kind, (p, _) in mistakes.items() for k, m in enumerate(re.finditer(p, code))]
    before, after = [""] * (len(code) + 1), [""] * (len(code) + 1)
    for number, (m, kind, _) in sorted(enumerate(found), key=lambda each: -each[1][0].end()):  # the outer one is opened first
        wrong, right_ends = m.expand(mistakes[kind][1]), m.end()
        if m[0].endswith(";"):
            before[m.start()] += f"if (planted == {number}) {{ {wrong} }} else "
        else:
            before[m.start()] += f"(planted == {number} ? ({wrong}) : ("
            after[right_ends] = "))" + after[right_ends]
    head = '#include <cstdlib>\nextern "C" __attribute__((visibility("default"))) int planted = atoi(getenv("PLANTED"));\n'
    return head + "".join(after[i] + before[i] + letter for i, letter in enumerate(code)), [(kind, k) for _, kind, k in found]
