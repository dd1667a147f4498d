"""The machine code of a row's compiled kernels, and what of it computes on vectors. For `handgrad bench OP --asm`."""

from __future__ import annotations

import re
import sys
from collections import Counter
from importlib import import_module
from typing import Any

from handgrad.engine import process

process.settle()

import cases  # noqa: E402
import numpy as np  # noqa: E402

REGISTERS = {"zmm": "512-bit", "ymm": "256-bit", "xmm": "128-bit"}
PACKED = re.compile(r"^v?(?:add|sub|mul|div|sqrt|max|min|fn?m(?:add|sub)\d*)p[sd]$")
SCALAR = re.compile(r"^v?(?:add|sub|mul|div|sqrt|max|min|fn?m(?:add|sub)\d*)s[sd]$")


def counted(asm: str) -> Counter[str]:
    """How many instructions there are; of these, arithmetic on vectors by their width, on single numbers, and calls."""
    found: Counter[str] = Counter()
    for line in asm.splitlines():
        words = line.split("#")[0].split(None, 1)
        if not words or words[0].startswith(".") or words[0].endswith(":"):
            continue
        name = words[0]
        found["instructions"] += 1
        if SCALAR.match(name):
            found["scalar"] += 1
        elif PACKED.match(name):
            width = next((bits for register, bits in REGISTERS.items() if register in line), "vectors")
            found[width] += 1
        elif name.startswith("call"):
            found["calls"] += 1
    return found


def verdict(found: Counter[str]) -> str:
    """In words: whether it vectorised."""
    widths = [f"{found[bits]} on {bits} vectors" for bits in (*REGISTERS.values(), "vectors") if found[bits]]
    return ", ".join([*widths, f"{found['scalar']} on single numbers", f"{found['calls']} calls"])


def main(op: str) -> None:
    """Compiles the row's kernels for float32 by one pass forward and backward, prints their code, and what vectorised."""
    import handgrad as hg
    from handgrad.engine import kernel_table
    from handgrad.engine.tensor import apply
    from handgrad.reference.table import ROWS

    row = next(r for r in ROWS if r.name == op)
    stem = kernel_table.CPU.get(row)
    if stem is None:
        sys.exit(f"handgrad bench: {op} has no kernel of its own, so there is no machine code to show")
    case = next(c for c in cases.CASES if c.op == op)
    with hg.use_kernels("force"):
        tensors = [hg.Tensor(a, requires_grad=a.dtype.kind == "f") for a in case.arrays()]
        y = apply(row, *tensors, **case.params)
        y = y[0] if isinstance(y, tuple) else y
        y.backward(np.ones(y.shape, np.float32))
    module: Any = import_module(f"handgrad.kernels.cpu.{stem}")
    summary = []
    for name, function in vars(module).items():
        for signature in getattr(function, "signatures", []):
            asm = function.inspect_asm(signature)
            print(f"\n; ==== {name}{signature}\n{asm}")
            summary.append(f"{name}: {verdict(counted(asm))}")
    print(f"\n{op}: arithmetic instructions of the functions that ran on float32", file=sys.stderr)
    for line in summary:
        print(f"  {line}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1])
