"""What the kernels of a `.cu` take, read from the source as it stands, for machines on which no C++ compiler says it."""

import re

from .on_cpu.source import kernels, without_comments

_QUALIFIER = re.compile(r"\b(?:__restrict__|__restrict|__grid_constant__|volatile)\b")


def signatures(text: str) -> dict[str, list[tuple[str, str]]]:
    """kernel -> (type, name) of each of its parameters, such as ("const float*", "x"), in the order of the file."""
    code = without_comments(text)
    return {name: _parameters(code, name) for name in kernels(text)}


def _parameters(code: str, kernel: str) -> list[tuple[str, str]]:
    found = re.search(rf"__global__[^;{{}}]*?\b{kernel}\s*\(([^)]*)\)", code)
    return [_parameter(words) for words in found[1].split(",") if words.strip()] if found else []


def _parameter(text: str) -> tuple[str, str]:
    """Of `float const *__restrict__ x`: ("const float*", "x")."""
    *words, name = _QUALIFIER.sub(" ", text.replace("*", " * ")).split()
    constant = "*" in words and "const" in words[: words.index("*")]
    plain = " ".join(word for word in words if word != "const")
    return ("const " if constant else "") + plain.replace(" *", "*"), name
