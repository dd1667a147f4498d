"""g++ makes a library (or, with AddressSanitizer, a program) of a `.cu`; results are kept under the user's cache folder.

What is compiled is named after the hash of all that it depends on: the source and what lies beside it, the emulator's own
headers, the compiler's version and the options. So an edit anywhere makes a new one. It is written under another name and
renamed: a kill at any moment leaves the old state or the new one, and several processes may compile the same.
"""

import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from .source import translated

HERE = Path(__file__).parent
OPTIONS = (
    "-std=c++17", "-O2", "-g1", "-fno-strict-aliasing", "-ffp-contract=off", "-fvisibility=hidden", "-fno-gnu-unique",
    "-w", f"-I{HERE}", f"-I{HERE.parent}",
)  # fmt: skip
"""CUDA code reads floats as float4 and as integers, so no strict aliasing; one rounding an operation, as it is written."""
LIBRARY = ("-shared", "-fPIC", "-fno-semantic-interposition")
SANITIZED = (
    "-O1", "-fsanitize=address,alignment", "-fno-sanitize-recover=alignment", "-fsanitize-sections=cuda_shared",
    "-fno-omit-frame-pointer",
)  # fmt: skip


class CompileError(ValueError):
    """A `.cu` that g++ refuses; one sentence with the line and the compiler's own first words."""


@functools.cache
def compiler() -> tuple[str, str]:
    """(path, version) of g++. Raises OSError with a sentence that says what to install."""
    path = shutil.which(os.environ.get("CXX") or "g++")
    if path is None:
        raise OSError(
            "running CUDA kernels on the CPU needs g++: install it (apt install g++), or set CXX to a C++17 compiler"
        )
    return path, subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout


def folder(name: str = "cuda_on_cpu") -> Path:
    """~/.cache/handgrad/`name` or under XDG_CACHE_HOME; a temporary one where that cannot be written."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    place = Path(base, "handgrad", name)
    try:
        place.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except OSError:
        return _temporary(name)
    return place


@functools.cache
def _temporary(name: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"handgrad_{name}_"))


def _digest(path: Path, text: str, options: tuple[str, ...]) -> str:
    digest = hashlib.sha256("\0".join((str(path), text, compiler()[1], *options)).encode())
    beside = [
        *HERE.glob("*.h*"),
        *HERE.parent.glob("*.cuh"),
        *path.parent.glob("*.cuh"),
        *path.parent.glob("*.h"),
        *path.parent.glob("*.hpp"),
    ]
    for header in sorted(beside):
        digest.update(header.name.encode() + b"\0" + header.read_bytes())
    return digest.hexdigest()[:20]


def compiled(path: Path, text: str, *, sanitize: bool = False) -> Path:
    """The library, or the sanitized program, of the source `text`, which lies (or could lie) at `path`.

    Raises CompileError where the compiler refuses it, OSError where there is none.
    """
    options = (*OPTIONS, f"-I{path.parent}", *(SANITIZED if sanitize else LIBRARY))
    place = folder()
    target = place / f"{path.stem}-{_digest(path, text, options)}{'' if sanitize else '.so'}"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        program = Path(scratch, "kernel.cpp")
        program.write_text(translated(path, text), encoding="utf-8")
        made = Path(scratch, "made")
        command = [compiler()[0], *options, str(program), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False)
        if done.returncode:
            raise CompileError(_first_error(path, done.stderr))
        os.replace(made, target)
    return target


def _first_error(path: Path, words: str) -> str:
    """`softmax.cu does not compile: line 12: 'foo' was not declared in this scope`."""
    found = re.search(r"^(.*?):(\d+):(?:\d+:)? (?:fatal )?error: (.*)$", words, re.MULTILINE)
    if found is None:
        lines = words.strip().splitlines() or ["the compiler says nothing"]
        return f"{path.name} does not compile: {lines[0]}"
    where = "line" if Path(found[1]).name == path.name else f"{Path(found[1]).name} line"
    return f"{path.name} does not compile: {where} {found[2]}: {found[3]}"
