"""All operations at a glance: the list that `handgrad explain` prints, and the README's table.

python -m handgrad.engine.cli.operations README.md     rewrites the table between <!-- operations --> and its end
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from functools import cache
from pathlib import Path

from rich.console import Console

from ...reference import table as t
from ...reference.op import Op
from ..kernel_table import CPU, ladders
from . import program

BEGIN, END = "<!-- operations -->", "<!-- /operations -->"
FEW = 2
"""Up to so many operations of one page are shown by their formulas; a larger family by the first sentence of its page."""


@cache
def pages() -> dict[Op, str]:
    """Row -> the stem of its page: where reference/table.py imports it from."""
    imports = [node for node in ast.parse(inspect.getsource(t)).body if isinstance(node, ast.ImportFrom)]
    names = {getattr(t, alias.name): node.module or "" for node in imports for alias in node.names}
    return {op: names[op] for op in t.ROWS}


def first_sentence(text: str | None) -> str:
    """The first sentence of a docstring, on one line, without its full stop."""
    line = " ".join((text or "").split("\n\n")[0].split())
    return re.split(r"(?<!\.)\.(?:\s|$)", line)[0].rstrip(".:")


def derivatives(op: Op) -> str:
    """How often the row can be differentiated: a formula that runs on Tensors can be as often as one likes."""
    return "any order" if any(op.differentiable) else "none"


def show(console: Console) -> None:
    """Prints one line an operation; only what it computes is cut short where lines are."""
    grid = [["operation", "what it computes", "page", "kernel", "derivatives"]]
    for op, page in pages().items():
        what = first_sentence(op.forward.__doc__) or op.formula
        kernels = [name for name, there in (("numba", op in CPU), ("cuda", op.name in ladders.LADDERS)) if there]
        grid.append([op.name, what, page, "+".join(kernels) or "-", derivatives(op)])
    sizes = [max(map(len, column)) for column in zip(*grid, strict=True)]
    sizes[1] = max(len(grid[0][1]), min(sizes[1], console.width - sum(sizes) + sizes[1] - 2 * len(sizes) + 2))
    for number, cells in enumerate(grid):
        cells[1] = cells[1] if len(cells[1]) <= sizes[1] else cells[1][: sizes[1] - 3].rstrip() + "..."
        line = "  ".join(cell.ljust(size) for cell, size in zip(cells, sizes, strict=True)).rstrip()
        console.print(line, style="bold" if number == 0 else None, markup=False, soft_wrap=True)
    last = f"{len(t.ROWS)} operations; their pages lie in reference/. Next: {program()} explain softmax"
    console.print(f"\n{last}", markup=False, soft_wrap=True)


def markdown() -> str:
    """The README's table: one line a page of the textbook, in the order of reference/table.py."""
    families: dict[str, list[Op]] = {}
    for op, page in pages().items():
        families.setdefault(page, []).append(op)
    lines = ["| operation | formula | page | kernel | laws |", "|---|---|---|---|---|"]
    for page, ops in families.items():
        fast = {"CPU": [op.name for op in ops if op in CPU], "CUDA": [op.name for op in ops if op.name in ladders.LADDERS]}
        kernel = ", ".join(where for where, names in fast.items() if len(names) == len(ops))
        some = [f"{where}: {', '.join(names)}" for where, names in fast.items() if 0 < len(names) < len(ops)]
        kernel = "; ".join([*([kernel] if kernel else []), *some])
        laws = dict.fromkeys(law.replace("_", " ") for op in ops for law in op.laws)
        cells = (
            ", ".join(op.name for op in ops),
            _formula(page, ops),
            f"[{page}](reference/{page}.py)",
            kernel,
            ", ".join(laws),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _formula(page: str, ops: list[Op]) -> str:
    if len(ops) > FEW:
        return first_sentence(sys.modules[f"{t.__package__}.{page}"].__doc__).replace("|", r"\|")
    formulas = [op.formula.replace(r"\|", r"\Vert ").replace("|", r"\vert ") for op in ops]  # a bar ends a cell
    return "; ".join(f"$`{formula}`$" for formula in formulas)


def rewritten(text: str) -> str:
    """`text` with the present table between the marks. Raises ValueError where they are missing."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"the text needs the lines {BEGIN} and {END}, between which the table stands")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{markdown()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(rewritten(Path(name).read_text(encoding="utf-8")), encoding="utf-8")
