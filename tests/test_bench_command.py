"""`handgrad bench` as people call it: what cannot be timed ends in one sentence and exit code 2."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "handgrad", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


OWN = """
import numpy as np
import numba
def right_forward(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)
def tail(x):
    y = np.empty_like(x)
    y.reshape(-1)[:-5] = right_forward(x).reshape(-1)[:-5]
    return y
def bad_shape(x): return right_forward(x)[1:]
def wide(x): return right_forward(x.astype(np.float64))
def nothing(x): pass
def raises(x): return x @ x
@numba.njit
def uncompilable(x): return x.nothing_such()
def writes(x):
    x -= 1
    return x
"""


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("tail", "finite elsewhere than the formula, in 5 of 262144 numbers"),
        ("bad_shape", r"bad_shape: the result has shape \(4095, 64\), but it must have \(4096, 64\)"),
        ("wide", "the result is float64, but it must be float32"),
        ("nothing", "the result is None"),
        ("raises", r"raises failed: ValueError: matmul: .*\(own.py, line 14\)"),
        ("uncompilable", "uncompilable failed: Numba cannot compile it: Unknown attribute 'nothing_such'"),
        ("writes", "writes failed: ValueError: output array is read-only"),
        ("absent", "own.py defines no function called absent"),
    ],
)
def test_a_wrong_kernel_is_a_sentence(tmp_path: Path, function: str, sentence: str) -> None:
    """Among them one that leaves five numbers unwritten: without the poison it would find an earlier, right result there."""
    (tmp_path / "own.py").write_text(OWN)
    short = ["--rounds", "1", "--seconds", "0.01", "--against", "numpy", "--caches", "warm", "--no-ladders", "--out"]
    done = run(*short, tmp_path / "ops.json", "--kernel", f"{tmp_path / 'own.py'}:{function}", "--as", "softmax")
    assert done.returncode == 2 and re.search(sentence, done.stderr), done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "ops.json").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing"], "nothing has no sizes to be timed at; there are matmul, linear"),
        (["silu", "--kernel", "absent.py:f"], "--kernel is absent.py:f, but it must be FILE.py:FUNCTION"),
        (["--kernel", f"{__file__}:f"], "--kernel needs the one OP"),
        (["--kernel", f"{__file__}:f", "--as", "adamw"], "--kernel cannot stand in for adamw"),
        (["--as", "silu"], "--as belongs to --kernel"),
        (["silu", "--backend", "cuda"], "--backend cuda is for a CUDA kernel of your own"),
        (["--against", "numpy", "silu"], "--against silu is none of torch, numpy, jax; an OP goes before the options"),
        (["--against", "jax", "--rounds", "0"], "--rounds: 0 is no positive whole number"),
        (["silu", "--seconds", "x"], "--seconds: x is no positive number"),
        (["silu", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["silu", "--out", "/"], "--out is /, but it must be a file"),
        (["--asm"], "--asm needs the one OP"),
        (["adamw", "--directions", "backward"], "adamw is an update of parameters, which has no backward"),
    ],
)
def test_bad_arguments_are_a_sentence(arguments: list[str], sentence: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("jax") is not None, reason="JAX is installed")
def test_a_rival_that_is_not_installed_is_a_sentence() -> None:
    done = run("silu", "--against", "jax")
    assert done.returncode == 2 and "jax is not installed" in done.stderr and "pip install jax" in done.stderr
