"""`handgrad explain [OP]`: formula, gradient, derivation, where each version lives, an example; or the list of all."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from ...reference.op import Op
from .. import ops
from ..errors import UserError
from ..kernel_table import CPU
from . import operations
from .check import find
from .examples import EXAMPLES, generic, given

ROOT = Path(__file__).resolve().parents[2]


def run(name: str | None, x: str | None = None) -> None:
    """Prints everything about the operation `name`, or the list of all operations where none is named.

    x: numbers for its only input, such as "1 2 3", rows apart by ";". Raises UserError for an unknown operation, for
    numbers that are none or do not fit, and for an `x` without an operation, or with one that has several inputs.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    if name is None:
        if x is not None:
            raise UserError("--x needs an operation to go with it, such as explain softmax --x '1 2 3'")
        return operations.show(console)
    op = find(name)
    sample = None if x is None else given(op, x)

    def title(text: str) -> None:
        console.print(f"\n{text}\n{'-' * len(text)}", style="bold", markup=False)

    def say(text: str = "") -> None:
        console.print(text, markup=False, soft_wrap=True)

    signature = op.signature if isinstance(op.signature, str) else None
    heading = f"{op.name}({', '.join(op.inputs)}) -> {', '.join(op.outputs)}"
    console.print(heading + (f"      shapes {signature}" if signature else ""), style="bold", markup=False)
    title("Formula (LaTeX)")
    say(op.formula)
    title("Gradient (LaTeX; a bar is the cotangent)")
    say(op.gradient)
    title("Derivation")
    say(inspect.cleandoc(sys.modules[op.forward.__module__].__doc__ or ""))
    title("Source")
    say(textwrap.fill(op.source, 96))
    title("Where it lives")
    for what, place in places(op):
        say(f"{what:<44} {place}")
    example = EXAMPLES.get(op.name)
    if example is not None:
        example(op, sample, title, say)
    else:
        generic(op, sample, title, say)


def places(op: Op) -> list[tuple[str, str]]:
    """(what, file:line) of every version: formulas, definition, kernels by rung, the engine's function."""
    found = []
    for what in ("forward", "vjp", "jvp", "definition"):
        found.append((f"{what} (formula)" if what != "definition" else what, _place(getattr(op, what))))
    stem = CPU.get(op)
    if stem is not None:
        for path in sorted((ROOT / "kernels" / "cpu").glob("*.py")):
            if path.stem == stem or (path.stem.startswith(f"{stem}_") and path.stem not in CPU.values()):
                found += _rungs(path, path.stem == stem)
    function: Callable[..., Any] | None = getattr(ops, op.name, None)
    if function is not None:
        found.append(("engine function", _place(function)))
    return found


def _place(function: Callable[..., Any]) -> str:
    code = inspect.unwrap(function).__code__
    path = Path(code.co_filename).resolve()
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return f"{shown}:{code.co_firstlineno}"


def _rungs(path: Path, production: bool) -> list[tuple[str, str]]:
    """Rungs of a ladder in a kernel file, and the pair that production calls, whether it is defined there or made by a
    launcher (`forward, vjp, accepts = ...`). Read, not imported.
    """
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        pair = [name for name in _names(node) if name in ("forward", "vjp", "accepts")]
        if isinstance(node, ast.FunctionDef) and re.search(r"_\d\d(_|$)", node.name):
            what = f"kernel {node.name}"
        elif production and pair:
            what = f"kernel pair, {', '.join(pair)}"
        else:
            continue
        found.append((what, f"{path.relative_to(ROOT)}:{node.lineno}"))
    return found


def _names(node: ast.stmt) -> list[str]:
    """What a statement defines: a function's name, or those on the left of an assignment."""
    if isinstance(node, ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
