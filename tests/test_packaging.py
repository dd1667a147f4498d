"""The checkout is the package: what pyproject.toml says against the tree, and what an import costs."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import handgrad

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = ("reference", "kernels", "engine")


def test_the_packages_list_is_the_tree() -> None:
    folders = {p.parent.relative_to(ROOT) for room in ROOMS for p in (ROOT / room).rglob("*.py")}
    folders |= {parent for folder in folders for parent in folder.parents}
    tree = {".".join(("handgrad", *folder.parts)) for folder in folders}
    assert sorted(tree) == sorted(PROJECT["tool"]["setuptools"]["packages"])
    assert PROJECT["tool"]["setuptools"]["package-dir"] == {"handgrad": "."}


def test_kernels_cannot_shadow_and_the_other_rooms_refuse_their_bare_names() -> None:
    assert not (ROOT / "kernels" / "__init__.py").exists()
    for room in ("engine", "reference"):
        done = subprocess.run(
            [sys.executable, "-c", f"import {room}"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert f"import this package as handgrad.{room}" in done.stderr


def test_the_typing_links_resolve_to_the_rooms() -> None:
    folder = ROOT / ".typing" / "handgrad"
    assert {p.name for p in folder.iterdir()} == {*ROOMS, "__init__.py", "py.typed"}
    for link in folder.iterdir():
        assert link.is_symlink()
        assert not link.readlink().is_absolute()
        assert link.resolve() == ROOT / link.name
        assert link.resolve().exists()


def test_the_version_the_script_and_the_dependencies() -> None:
    assert PROJECT["project"]["version"] == handgrad.__version__
    module, function = PROJECT["project"]["scripts"]["handgrad"].split(":")
    assert callable(getattr(import_module(module), function))
    extras = [
        d for extra, names in PROJECT["project"]["optional-dependencies"].items() if extra != "peers" for d in names
    ]
    named = {re.split(r"[>=<]", d)[0].replace("-", "_") for d in [*PROJECT["project"]["dependencies"], *extras]}
    sources = "\n".join(p.read_text() for room in ROOMS for p in (ROOT / room).rglob("*.py"))
    imported = set(re.findall(r"^\s*(?:from|import) ([a-z]\w*)[ .\n]", sources, re.MULTILINE)) - sys.stdlib_module_names
    wanted = {name for name in imported if importlib.util.find_spec(name) and name != "handgrad"} - {
        "llvmlite"
    }  # numba's
    assert wanted <= named | {"cupy"}, f"imported, but no dependency: {wanted - named}"  # its wheels have other names
    assert (ROOT / "py.typed").exists()


def files() -> list[Path]:
    found = [p for room in (*ROOMS, "tests", "benches") for p in (ROOT / room).rglob("*.py")]
    return [*found, ROOT / "__init__.py"]


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_rooms_are_small() -> None:
    assert {p.relative_to(ROOT).as_posix(): lines(p) for p in files() if lines(p) > 400} == {}


def test_the_heart_stays_minimal() -> None:
    assert lines(ROOT / "engine" / "tensor.py") + lines(ROOT / "engine" / "autograd.py") < 600


def test_every_file_says_what_it_is() -> None:
    rooms = [p for room in ROOMS for p in (ROOT / room).rglob("*.py")]
    silent = [p.relative_to(ROOT).as_posix() for p in rooms if not ast.get_docstring(ast.parse(p.read_text()))]
    assert silent == []


def loaded(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_neither_numpy_nor_numba() -> None:
    modules = loaded("import handgrad, handgrad.engine, handgrad.engine.cli.main")
    assert not {"numpy", "numba", "safetensors"} & modules
    assert "handgrad.engine.cli.main" in modules


def test_numba_is_loaded_when_an_array_is_worth_it() -> None:
    code = "import handgrad as hg; x = hg.Tensor([1.0, 2.0], requires_grad=True); hg.sum(hg.softmax(x)).backward()"
    modules = loaded(code)
    assert "numpy" in modules
    assert "numba" not in modules
    assert "cupy" not in modules
