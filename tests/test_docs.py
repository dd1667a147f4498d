"""The lines in the pages of docs/ print what the pages say."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


PAGES = [
    ("checking.md", 8), ("generation.md", 12), ("glove.md", 25), ("misreadings.md", 20), ("seq2seq.md", 33),
    ("tokenizers.md", 6),
]  # fmt: skip


@pytest.mark.parametrize(("page", "examples"), PAGES)
def test_page(page, examples):
    result = doctest.testfile(str(DOCS / page), module_relative=False, encoding="utf-8")
    assert result.failed == 0 and result.attempted >= examples
