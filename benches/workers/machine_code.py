"""The machine code of a row's compiled kernels, and what of it computes on vectors. For `handgrad bench OP --asm`.

Everything is compiled afresh, into a folder that is thrown away: Numba keeps no assembly of what it loads from its cache. Loops
are found as jumps back to a label; one without another inside is an innermost loop, where the time goes.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
from harness import print_table

REGISTERS = {"zmm": "512", "ymm": "256", "xmm": "128"}
PACKED = re.compile(r"^v?(?:add|sub|mul|div|sqrt|max|min|fn?m(?:add|sub)\d*)p[sd]$")
SCALAR = re.compile(r"^v?(?:add|sub|mul|div|sqrt|max|min|fn?m(?:add|sub)\d*)s[sd]$")
LABEL = re.compile(r"^(\.L\w+):")
JUMP = re.compile(r"^j\w+\s+(\.L\w+)")


def counted(asm: str) -> Counter[str]:
    """Arithmetic instructions on vectors, by bits ("512") and together ("packed"), on single numbers ("scalar"), and calls."""
    found: Counter[str] = Counter()
    for line in asm.splitlines():
        words = line.split("#")[0].split(None, 1)
        if not words or words[0].startswith(".") or words[0].endswith(":"):
            continue
        name = words[0]
        if SCALAR.match(name):
            found["scalar"] += 1
        elif PACKED.match(name):
            found["packed"] += 1
            found[next((bits for register, bits in REGISTERS.items() if register in line), "128")] += 1
        elif name.startswith("call"):
            found["calls"] += 1
    return found


def innermost(asm: str) -> list[str]:
    """The code of each innermost loop."""
    lines = [line.strip() for line in asm.splitlines()]
    labels = {match[1]: i for i, line in enumerate(lines) if (match := LABEL.match(line))}
    ends: dict[int, int] = {}
    for i, line in enumerate(lines):
        if (match := JUMP.match(line)) and labels.get(match[1], i + 1) <= i:
            start = labels[match[1]]
            ends[start] = max(ends.get(start, i), i)
    return [
        "\n".join(lines[start : end + 1])
        for start, end in ends.items()
        if not any(start < other and ends[other] <= end for other in ends)
    ]


def row_of(name: str, asm: str) -> list[str]:
    """What the summary says of a function: innermost loops by what they compute on, width, and instructions."""
    loops = [counted(loop) for loop in innermost(asm)]
    vector = [loop for loop in loops if loop["packed"]]
    single = [loop for loop in loops if loop["scalar"] and not loop["packed"]]
    found = counted(asm)
    widest = next((bits for bits in REGISTERS.values() if any(loop[bits] for loop in vector)), "")
    width = f"{widest} bits" if widest else "none"
    return [name, *(str(n) for n in (len(vector), len(single), len(loops) - len(vector) - len(single))), width,
            str(found["packed"]), str(found["scalar"]), str(found["calls"])]  # fmt: skip


def run(op: str) -> None:
    """One pass of a row or an update, forward and backward, at its first size, through the engine with its kernels."""
    import cases
    import numpy as np

    import handgrad as hg
    from handgrad.engine.tensor import apply
    from handgrad.reference.table import BY_NAME

    case = next(c for c in cases.CASES if c.op == op)
    arrays = case.arrays()
    with hg.use_kernels("auto" if op in cases.UPDATES else "force"):
        tensors = [hg.Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
        if op in cases.UPDATES:
            for t in tensors:
                (t * t).backward(np.ones(t.shape, np.float32))
            hg.optim.AdamW(tensors, max_norm=1.0).step()
            return
        y = apply(BY_NAME[op], *tensors, **case.params)
        y = y[0] if isinstance(y, tuple) else y
        y.backward(np.ones(y.shape, np.float32))


def compiled() -> dict[str, str]:
    """name of a kernel's function -> its assembly, of all that this process compiled."""
    found = {}
    for module_name, module in sorted(sys.modules.items()):
        if module_name.startswith("handgrad.kernels.cpu."):
            for name, function in vars(module).items():
                dispatcher: Any = function
                if getattr(dispatcher, "__module__", "") == module_name:
                    for i, signature in enumerate(getattr(dispatcher, "signatures", [])):
                        found[name if i == 0 else f"{name} ({i + 1})"] = dispatcher.inspect_asm(signature)
    return found


def main(op: str, code: bool) -> None:
    """Print what vectorised, a line for each function, and with `code` the assembly behind it."""
    if platform.machine() not in ("x86_64", "AMD64"):
        sys.exit(refused(f"--asm reads x86-64 code, and this machine is {platform.machine()}"))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NUMBA_CACHE_DIR"] = folder
        from handgrad.engine import process

        process.settle()
        from handgrad.engine import kernel_table
        from handgrad.reference.table import BY_NAME

        if op != "adamw" and BY_NAME.get(op) not in kernel_table.CPU:
            sys.exit(refused(f"{op} has no kernel of its own, so there is no machine code to show"))
        kernel_table.announce_compilation = lambda: None  # nothing of this is kept
        print(f"compiling {op} afresh ...", file=sys.stderr)
        run(op)
        functions = compiled()
    head = [f"{op}, float32", "loops on vectors", "on single numbers", "neither", "width", "packed", "scalar", "calls"]
    rows = [row_of(name, asm) for name, asm in functions.items()]
    print_table(head, [row for row in rows if row[4] != "none" or int(row[6])])
    if rest := [row[0] for row in rows if row[4] == "none" and not int(row[6])]:
        print(f"without floating-point arithmetic: {', '.join(rest)}")
    print(
        "\nInnermost loops, by what they compute on; beside one on vectors, one on single numbers is mostly its tail.\n"
        "packed, scalar: floating-point arithmetic instructions. A function contains those of this project that it calls."
    )
    if code:
        for name, asm in functions.items():
            print(f"\n; ==== {name}\n{asm}")
    else:
        print(f"The code itself: handgrad bench {op} --asm --code")


def refused(sentence: str) -> int:
    """Say why not; the exit code of that."""
    print(f"handgrad bench: {sentence}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main(sys.argv[1], "--code" in sys.argv[2:])
