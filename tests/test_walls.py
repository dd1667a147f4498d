"""The walls of DESIGN.md, held by reading every import of every file: also those inside of functions."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("reference", "kernels", "engine")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))

OUTSIDE = {
    "reference": {"numpy", "array_api_compat"},
    "kernels": {"numpy", "numba", "llvmlite", "cupy", "cuda"},
    "engine": {"numpy", "regex", "safetensors", "rich", "typer", "threadpoolctl", "ml_dtypes", "jieba", "matplotlib"},
    "engine/testing": {"pytest", "hypothesis", "numba"},
}
"""What a room may import beside Python's own library; engine: what pyproject.toml names."""

FLOORS = (
    {"engine/errors", "engine/pools", "engine/recording"},
    {"engine/environment", "engine/files", "engine/device"},
    {"engine/door", "engine/show"},
    {"engine/process", "engine/tensor"},
    {"engine/autograd", "engine/forward", "engine/kernel_table", "engine/moving"},
    {"engine/transforms", "engine/debug", "engine/random"},
    {"engine/ops"},
    {"engine/nn", "engine/optim"},
    {"engine/text"},
    {"engine/models"},
    {"engine/training"},
    {"engine/tasks"},
    {"engine/testing"},
    {"engine/cli"},
)
"""engine/ from the ground up. A file imports from floors below its own, and from its own folder."""

EXCEPTIONS = {("engine/tensor.py", "engine/autograd", "backward"), ("engine/tensor.py", "engine/moving", "to")}
"""(file, what it imports, the function that does): so that `y.backward()` and `y.to("cuda")` can be written."""


def imports(source: str, package: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(module, function) of each import in a file of `package`; ours as paths such as engine/ops/shape, "" at the top."""
    tree = ast.parse(source)
    owner: dict[ast.AST, str] = {}
    for node in ast.walk(tree):
        inner = node.name if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else owner.get(node, "")
        for child in ast.iter_child_nodes(node):
            owner[child] = inner
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield _ours(alias.name.split(".")), owner.get(node, "")
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = [*base, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                full = [*module, alias.name]
                yield (_ours(full) if module[:1] == ["handgrad"] else ".".join(module)), owner.get(node, "")
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            "import_module",
            "__import__",
        ):
            parts = [
                v.value for v in ast.walk(node.args[0]) if isinstance(v, ast.Constant) and isinstance(v.value, str)
            ]
            name = parts[0] if parts else ""
            level = len(name) - len(name.lstrip("."))
            found = [*package[: len(package) - level + 1], *name.strip(".").split(".")] if level else name.split(".")
            yield _ours([part for part in found if part]), owner.get(node, "")


def _ours(parts: list[str]) -> str:
    """handgrad.engine.ops.shape.reshape as engine/ops/shape; somebody else's as it is."""
    if parts[:1] != ["handgrad"]:
        return ".".join(parts)
    parts = parts[1:]
    while parts and not ((ROOT.joinpath(*parts)).is_dir() or ROOT.joinpath(*parts).with_suffix(".py").is_file()):
        parts = parts[:-1]
    return "/".join(parts)


def found(path: Path) -> list[tuple[str, str]]:
    package = ("handgrad", *path.relative_to(ROOT).parent.parts)
    return list(imports(path.read_text(encoding="utf-8"), package))


def is_ours(module: str) -> bool:
    return module == "" or module.split("/")[0] in ROOMS


def floor(module: str) -> int:
    """The floor of a path such as engine/ops/shape."""
    place = "/".join(module.split("/")[:2])
    for level, names in enumerate(FLOORS):
        if place in names:
            return level
    raise AssertionError(f"{module} stands on no floor: give it one in {Path(__file__).name}")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_room_imports_only_the_rooms_it_may(path: Path) -> None:
    room = name(path).split("/")[0]
    allowed = {"reference": {"reference"}, "kernels": {"kernels"}, "engine": {"engine", "kernels", "reference"}}[room]
    libraries = set().union(*(more for place, more in OUTSIDE.items() if name(path).startswith((f"{place}/", f"{place}."))))
    for module, function in found(path):
        if is_ours(module):
            root = module == "" and name(path).startswith("engine/cli/")  # the version
            assert root or module.split("/")[0] in allowed, f"{name(path)} {function} imports {module or 'handgrad'}"
        else:
            top = module.split(".")[0]
            assert top in sys.stdlib_module_names or top in libraries, f"{name(path)} {function} imports {module}"


@pytest.mark.parametrize("path", [p for p in FILES if name(p).startswith("engine/")], ids=name)
def test_a_floor_imports_only_floors_below(path: Path) -> None:
    own = name(path).removesuffix(".py")
    if own == "engine/__init__":
        assert found(path) == []
        return
    for module, function in found(path):
        if not module.startswith("engine/") or (name(path), module, function) in EXCEPTIONS:
            continue
        same_folder = own.count("/") == 2 and own.rsplit("/", 1)[0] == "/".join(module.split("/")[:2])
        assert same_folder or floor(module) < floor(own), (
            f"{name(path)} {function}() imports {module}, which is not below it"
        )


def test_every_floor_is_there_and_every_file_has_one() -> None:
    there = {
        f"engine/{p.stem}" for p in (ROOT / "engine").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert there - {"engine/__init__"} == set().union(*FLOORS)


def test_only_the_table_of_kernels_and_their_direct_users_name_kernels() -> None:
    users = {
        name(p) for p in FILES if name(p).startswith("engine/") and any(m.startswith("kernels") for m, _ in found(p))
    }
    assert users == {
        "engine/cli/check_cuda.py",
        "engine/device.py",
        "engine/kernel_table.py",
        "engine/models/glove.py",
        "engine/models/matrix.py",
        "engine/optim/clip.py",
        "engine/pools.py",
        "engine/random.py",
        "engine/text/counting.py",
        "engine/text/word_table.py",
    }


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("import numpy as np\nimport numba.core", [("numpy", ""), ("numba.core", "")]),
        ("from ..tensor import Tensor", [("engine/tensor", "")]),
        ("from ... import __version__", [("", "")]),
        ("from . import shape", [("engine/ops/shape", "")]),
        ("def f():\n    from ...kernels.cpu.jit import jit", [("kernels/cpu/jit", "f")]),
        ("def f():\n    if 1:\n        import torch", [("torch", "f")]),
        ("class A:\n    def g(self):\n        from handgrad.engine import cli", [("engine/cli", "g")]),
        ("import_module('...kernels.cpu.jit', __package__)", [("kernels/cpu/jit", "")]),
        ("def f(stem):\n    importlib.import_module(f'...kernels.cpu.{stem}', __package__)", [("kernels/cpu", "f")]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", [("typing", ""), ("torch", "")]),
    ],
)
def test_the_reader_of_imports_sees_them(source: str, want: list[tuple[str, str]]) -> None:
    assert list(imports(source, ("handgrad", "engine", "ops"))) == want
