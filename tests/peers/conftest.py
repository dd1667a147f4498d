"""Comparisons with PyTorch and transformers, which the engine itself never imports. `pip install -e '.[peers]'` brings them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from handgrad.engine import process

process.settle_late()  # before PyTorch: thread pools that do not spin against each other


@pytest.fixture(scope="session")
def torch_gpt() -> ModuleType:
    """benches/workers/torch_gpt.py, the GPT that the benches time: the same model is compared and timed."""
    pytest.importorskip("torch", reason="PyTorch is absent: pip install -e '.[peers]'")
    path = Path(__file__).parents[2] / "benches" / "workers" / "torch_gpt.py"
    spec = importlib.util.spec_from_file_location("torch_gpt", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
