"""The lines in the pages on GloVe and on misreadings print what the pages say."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize(("page", "examples"), [("glove.md", 25), ("misreadings.md", 20)])
def test_page(page, examples):
    result = doctest.testfile(str(DOCS / page), module_relative=False, encoding="utf-8")
    assert result.failed == 0 and result.attempted >= examples
