"""A launch in a process of its own under AddressSanitizer, and its report in one sentence.

Each array is allocated by that process with red zones around it, and so is each shared variable: reading or writing one
byte outside of any of them is found, whatever value lies there.
"""

import os
import re
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from .tensor_map import TensorMap

_ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0:use_sigaltstack=0:color=never"}


def run_sanitized(
    program: Path, head: list[int], arguments: list[Any], names: list[str], file: str
) -> tuple[str | None, list[np.ndarray | None]]:
    """Runs program on the arguments; returns (what went wrong or None, what each array held afterwards).

    head: kernel number, grid, block, shared bytes, schedule. The file format is job.hpp's.
    """
    with tempfile.TemporaryDirectory() as scratch:
        job, answer = Path(scratch, "job"), Path(scratch, "answer")
        with open(job, "wb") as out:
            out.write(struct.pack("10I", *head, len(arguments)))
            for argument in arguments:
                kind, data = int(isinstance(argument, np.ndarray)), b""
                if isinstance(argument, TensorMap):
                    kind, data, argument = 2, argument.packed(0), argument.array
                data += argument.tobytes()
                out.write(struct.pack("=IQ", kind, len(data)) + data)
        done = subprocess.run(
            [str(program), str(job), str(answer)], capture_output=True, text=True, errors="replace", check=False,
            env={**os.environ, **_ENVIRONMENT},
        )  # fmt: skip
        if done.returncode:
            return _sentence(done.stderr, names, file, done.returncode), []
        data = answer.read_bytes()
    results: list[np.ndarray | None] = []
    start = 0
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            results.append(np.frombuffer(data, argument.dtype, argument.size, start).reshape(argument.shape))
            start += argument.nbytes
        else:
            results.append(None)
    return None, results


def _sentence(words: str, names: list[str], file: str, code: int) -> str:
    """`reads 4 bytes outside of x in line 12, 0 bytes after its end`."""
    failed = re.search(r"^failed: (.*)$", words, re.MULTILINE)
    if failed:
        return failed[1]
    crooked = re.search(r":(\d+):\d+: runtime error: (load|store) .*misaligned address.* for type '(.*?)'", words)
    if crooked:
        return (
            f"a {crooked[2]} of a {crooked[3]} in line {crooked[1]} at an address that is no multiple of its alignment"
        )
    error = re.search(r"AddressSanitizer: ([\w-]+) on (?:unknown )?address (0x[0-9a-f]+)", words)
    if error is None:
        last = words.strip().splitlines()[-1:] or ["it says nothing"]
        return f"its process ended with code {code}: {last[0]}"
    access = re.search(r"(READ|WRITE) of size (\d+)", words)
    verb = f"{access[1].lower()}s {access[2]} bytes" if access else "touches memory"
    line = re.search(rf"{re.escape(file)}:(\d+)", words)
    return f"{verb} outside of {_where(words, names)}{f' in line {line[1]}' if line else ''}"


def _where(words: str, names: list[str]) -> str:
    """The array, or the shared variable, that lies nearest."""
    variable = re.search(r"(\d+) bytes (to the right of|after|to the left of|before) global variable '(\w+)'", words)
    if variable:
        return f"the shared variable {variable[3]}"
    if "is located" not in words:
        return "all arrays"
    arrays = [
        (int(start, 16), int(size), names[int(k)])
        for k, start, size in re.findall(r"^parameter (\d+) at (0x[0-9a-f]+), (\d+) bytes$", words, re.MULTILINE)
    ]
    region = re.search(r"(\d+)-byte region \[(0x[0-9a-f]+),", words)
    if region:
        for start, _, name in arrays:
            if start == int(region[2], 16):
                return name
        return "the dynamic shared memory"
    return "all arrays"
