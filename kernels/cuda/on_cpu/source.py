"""What the loader must know of a `.cu` before a compiler has seen it: its kernels, and where it asks for dynamic shared memory.

A kernel is launched by name, so it is a function `extern "C" __global__ void name(...)`. Its parameters' types are found
by the compiler (launch.hpp); only their names are read here, for messages.
"""

import re
from pathlib import Path

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_ATTRIBUTES = r"((?:__(?:launch_bounds|cluster_dims)__\s*\([^)]*\)\s*)*)"
_KERNEL = re.compile(rf"__global__\s+{_ATTRIBUTES}void\s+{_ATTRIBUTES}(\w+)\s*\(([^)]*)\)")
_CLUSTER = re.compile(r"__cluster_dims__\s*\(([^)]*)\)")
_DYNAMIC = re.compile(
    r"extern\s+__shared__\s+(?:(?:__align__|alignas)\s*\([^)]*\)\s*)?((?:\w+\s+)*?\w+)\s+(\w+)\s*\[\s*\]\s*;"
)


def without_comments(text: str) -> str:
    """The source with blanks for comments, so that lines keep their numbers."""
    return _COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def kernels(text: str) -> dict[str, list[str]]:
    """name -> names of its parameters, in the order of the file."""
    found = _KERNEL.findall(without_comments(text))
    return {
        name: [p.split()[-1].lstrip("*&") for p in parameters.split(",") if p.strip()]
        for _, _, name, parameters in found
    }


def clusters(text: str) -> dict[str, str]:
    """name -> what its __cluster_dims__ says, "1" where there is none."""
    found = _KERNEL.findall(without_comments(text))
    said = {name: _CLUSTER.search(before + after) for before, after, name, _ in found}
    return {name: words[1] if words else "1" for name, words in said.items()}


def translated(path: Path, text: str) -> str:
    """The C++ program of a `.cu`: the emulator, the source as it stands, and the list of its kernels.

    One thing is rewritten: `extern __shared__ T name[];` becomes a pointer to the memory of the launch.
    """
    body = _DYNAMIC.sub(r"\1* const \2 = on_cpu::dynamic_shared<\1>();", text)
    exports = "".join(f"ON_CPU_EXPORT({name}, (dim3({dims})))\n" for name, dims in clusters(text).items())
    return (
        f'#include "launch.hpp"\n#line 1 "{path}"\n{body}\n#line 1 "kernels of {path.name}"\n'
        f'static const on_cpu::Export on_cpu_exports[] = {{\n{exports}}};\n#include "job.hpp"\n'
    )
