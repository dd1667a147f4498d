"""docs/semantics.md and the tests in this folder speak of the same questions: none without an answer, none unasked.

What the document says of PyTorch is asked of PyTorch itself, in tests/peers/test_semantics.py.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "semantics.md"
PEERS = HERE.parent / "peers" / "test_semantics.py"


def questions(text: str) -> dict[str, str]:
    """Question -> answer, of every line of every table."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows]
    broken = [row for row, cell in zip(rows, cells, strict=True) if len(cell) != 2]
    assert not broken, f"docs/semantics.md has lines without two columns (a cell may hold no |): {broken}"
    found = [row for row in cells if row not in (("question", "answer"), ("---", "---"))]
    twice = [question for question, n in Counter(question for question, _ in found).items() if n > 1]
    assert not twice, f"docs/semantics.md asks twice: {twice}"
    return {row[0]: row[1] for row in found}


def answered(files: list[Path]) -> dict[str, str]:
    """Question -> one test that says that it answers it: a function test_* marked with answers("...", ...)."""
    found = {}
    for file in files:
        for item in ast.walk(ast.parse(file.read_text())):
            if isinstance(item, ast.FunctionDef) and item.name.startswith("test_"):
                for mark in item.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "answers":
                        found.update({ast.literal_eval(text): f"{file.name}::{item.name}" for text in mark.args})
    return found


def test_every_question_has_a_test() -> None:
    missing = questions(DOCUMENT.read_text()).keys() - answered(sorted(HERE.glob("test_*.py"))).keys()
    assert not missing, f"docs/semantics.md asks what no test answers: {sorted(missing)}"


def test_every_answer_has_its_question() -> None:
    asked = questions(DOCUMENT.read_text())
    unasked = {q: test for q, test in answered([*HERE.glob("test_*.py"), PEERS]).items() if q not in asked}
    assert not unasked, f"tests answer what docs/semantics.md does not ask: {unasked}"


def test_what_is_said_of_pytorch_is_asked_of_pytorch() -> None:
    said = {q for q, answer in questions(DOCUMENT.read_text()).items() if "PyTorch" in q + answer}
    missing = said - answered([PEERS]).keys()
    assert not missing, f"docs/semantics.md says of PyTorch what tests/peers/test_semantics.py does not ask: {missing}"
