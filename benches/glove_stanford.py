"""Stanford's C program of GloVe, for the benches: how it was built, a textbook version of it, and one and the same run.

What its glove.c does with the error e of a pair and its weight f, in float64:

    number of a vector:  u = eta clip(f e q, +-100),   p <- p - u / sqrt(s),   s <- s + u^2,   s starts at 1
    bias:                                              b <- b - f e / sqrt(s), s <- s + (f e)^2,   s starts at 1

where q is what p is multiplied by in e. With S = s / eta^2 the first line is  p <- p - f e q / sqrt(S),  S <- S + (f e q)^2,
S from 1 / eta^2: AdaGrad with lr = 1 and an initial accumulator of 400 for eta = 0.05, and eta only decides that start.
Biases: lr = 1 and an initial accumulator of 1. What is left is that a square is added after the step that it belongs to,
and in the textbook (Duchi et al. 2011) before. `patched` moves it to before, so that both programs do the same arithmetic.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from harness import BenchError

ETA = 0.05
LR, OF_VECTORS, OF_BIASES = 1.0, 1 / ETA**2, 1.0  # the same AdaGrad, as this project writes it
FLAGS = ("-pthread", "-O3", "-march=native", "-funroll-loops")  # those of its Makefile
PATCH = "glove.c adds the square of a gradient to gradsq before the step that divides by its root, instead of after"

Array = np.ndarray[Any, np.dtype[Any]]


def patched(build: Path, folder: Path) -> Path:
    """Their glove with the textbook's AdaGrad (see PATCH), made from the sources beside the build folder."""
    source = build.parent / "src"
    if not (source / "glove.c").is_file():
        raise BenchError(f"{build} has no sources beside it: {source / 'glove.c'} does not exist")
    (folder / "textbook.c").write_text(textbook((source / "glove.c").read_text()))
    command = ["gcc", str(folder / "textbook.c"), str(source / "common.c"), "-I", str(source), "-o",
               str(folder / "textbook"), *FLAGS, "-lm"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the patched glove.c does not compile: {done.stderr[-300:]}")
    return folder / "textbook"


def textbook(source: str) -> str:
    """glove.c with every line `gradsq[...] += ...` moved up, to before the first line with `sqrt` of the same."""
    lines = source.replace("fdiff *= fdiff;", "").replace("+= fdiff;", "+= fdiff * fdiff;").splitlines()
    moved = 0
    for line in [line for line in lines if re.match(r"\s*gradsq\[.*\] \+= ", line)]:
        divides = f"sqrt({line.split(' += ')[0].strip()})"
        places = [n for n, other in enumerate(lines) if divides in other]
        if places and places[0] < lines.index(line):
            lines.remove(line)
            lines.insert(places[0], line)
            moved += 1
    if moved != 4:
        raise BenchError(f"glove.c is another version: 4 lines add to gradsq after a step, but {moved} were found")
    return "\n".join(lines) + "\n"


def one_run(program: Path, words: int, size: int, epochs: int, parameters: Array) -> tuple[list[float], Array]:
    """(cost of each epoch, parameters after the last) of their program: one thread, no clipping, from `parameters`.

    Parameters are (2 V, d + 1) float64, words and then contexts, the bias last. It reads vocab.txt and
    cooccurrence.shuf.bin in this folder.
    """
    parameters.astype("<f8").tofile("initial.bin")
    command = [str(program), "-threads", "1", "-iter", str(epochs), "-vector-size", str(size), "-eta", str(ETA),
               "-x-max", "100", "-grad-clip", "1e30", "-load-init-param", "1", "-init-param-file", "initial.bin",
               "-binary", "1", "-save-file", "same"]  # fmt: skip
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    costs = [float(cost) for cost in re.findall(r"iter: \d+, cost: ([\d.]+)", done.stderr)]
    if done.returncode or len(costs) != epochs:
        raise BenchError(f"{program.name} ended with {done.returncode}: {done.stderr[-300:]}")
    return costs, np.fromfile("same.bin", "<f8").reshape(2 * words, size + 1)


def our_run(table: Array, epochs: int, parameters: Array, dtype: Any) -> tuple[list[float], Array]:
    """The same of this project's kernel: the records (word1, word2, val) of `table` in their order, one thread."""
    from handgrad.kernels.cpu.glove import glove_pairs_02_packed, pack, unpack
    from handgrad.reference.glove import weighting

    size = parameters.shape[1] - 1
    words, contexts = (
        pack(half[:, :size].astype(dtype), half[:, size].astype(dtype), np.full((len(half), size), OF_VECTORS, dtype),
             np.full(len(half), OF_BIASES, dtype), context=context)
        for half, context in zip(np.split(parameters, 2), (False, True), strict=True)
    )  # fmt: skip
    pairs = (table["i"] - 1, table["j"] - 1, np.log(table["x"]).astype(dtype), weighting(table["x"]).astype(dtype))
    order, costs = np.arange(len(table)), []
    for _ in range(epochs):
        cost, bad = glove_pairs_02_packed(words, contexts, *map(np.ascontiguousarray, pairs), order, LR)
        if bad >= 0:
            raise BenchError(f"the kernel diverged at record {bad}")
        costs.append(cost / len(table))
    w, b, *_ = unpack(words, size, context=False)
    w_context, b_context, *_ = unpack(contexts, size, context=True)
    return costs, np.concatenate([np.column_stack([w, b]), np.column_stack([w_context, b_context])]).astype(np.float64)


def same_run(build: Path, table: Array, words: int, size: int, epochs: int) -> dict[str, Any]:
    """Their patched program and our kernel from the same initial parameters, through the same records in the same order."""
    start = (np.random.default_rng(1).random((2 * words, size + 1)) - 0.5) / size
    theirs, their_end = one_run(patched(build, Path.cwd()), words, size, epochs, start)
    as_it_is, _ = one_run(build / "glove", words, size, epochs, start)
    found: dict[str, Any] = {
        "patch": PATCH, "flags": " ".join(FLAGS), "epochs": epochs, "lr": LR, "initial_accumulator": OF_VECTORS,
        "initial_accumulator_of_biases": OF_BIASES, "costs_patched": theirs, "costs_unpatched": as_it_is,
    }  # fmt: skip
    for dtype in ("float64", "float32"):
        costs, end = our_run(table, epochs, start, dtype)
        found[dtype] = {
            "costs": [round(cost, 9) for cost in costs],
            "relative_difference_of_cost": _largest(costs, theirs),
            "relative_difference_from_unpatched": _largest(costs, as_it_is),
            "largest_difference_of_a_parameter": float(np.abs(end - their_end).max()),
            "largest_parameter": float(np.abs(their_end).max()),
        }
    return found


def _largest(ours: list[float], theirs: list[float]) -> float:
    return max(abs(a / b - 1) for a, b in zip(ours, theirs, strict=True))
