"""The second device of these tests: a GPU by CuPy where there is one, elsewhere the stand-in of fake_cupy.py."""

import importlib.util
import sys
from pathlib import Path

import pytest

from handgrad.engine import device
from handgrad.engine.errors import UserError

_spec = importlib.util.spec_from_file_location("fake_cupy", Path(__file__).with_name("fake_cupy.py"))
assert _spec is not None and _spec.loader is not None
fake_cupy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake_cupy)


@pytest.fixture(autouse=True, scope="module")
def cupy():
    """The module `cupy`, real or not."""
    try:
        yield device.cupy()
        return
    except UserError:
        pass
    sys.modules.update(fake_cupy.installed())
    with pytest.MonkeyPatch.context() as monkeypatch:
        fake_cupy.compiled_by_nobody(monkeypatch)
        try:
            yield device.cupy()
        finally:
            fake_cupy.forget()


@pytest.fixture
def stand_in():
    """The module fake_cupy."""
    return fake_cupy
