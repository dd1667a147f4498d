"""What generate.py and its workers agree on: the model, the prompt, and how many tokens a step writes. Needs NumPy only.

GPT-2's smallest model (Radford et al. 2019): 124 million parameters; the weights are random, which costs the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from serve import run_queue_wait

VOCAB, BLOCK, LAYERS, HEADS, WIDTH = 50257, 1024, 12, 12, 768
PROMPT = np.random.default_rng(0).integers(0, VOCAB, 64)
NEW = 16
"""Tokens after the prompt: a step reads the prompt and writes these, the likeliest first."""
READ = LAYERS * 12 * WIDTH**2 + VOCAB * WIDTH
"""Weights that every token reads: those of the blocks' products, and the table of tokens."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}

Sample = tuple[float, float]


def timed(step: Callable[[], Any]) -> tuple[Any, Sample]:
    """What step() returns, and its (seconds, run queue wait)."""
    waited, began = run_queue_wait(), time.perf_counter()
    result = step()
    return result, (time.perf_counter() - began, max(0.0, run_queue_wait() - waited))


def write(read: Callable[[Any, int], int], count: int) -> tuple[list[int], list[Sample]]:
    """The likeliest tokens after the prompt, and a sample for each. read(ids, start) -> the likeliest next token."""
    new, place, found, samples = PROMPT, 0, [], []
    for _ in range(count):
        token, sample = timed(lambda new=new, place=place: read(new, place))
        place += len(new)
        new = np.array([token])
        found.append(token)
        samples.append(sample)
    return found, samples


def block(read: Callable[[Any, int], int], seconds: float, what: str) -> list[Sample]:
    """Samples of about `seconds`: what is "token" (one after the second of a text), or "prompt" (reading it)."""
    found: list[Sample] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        found += write(read, NEW)[1][2:] if what == "token" else write(read, 1)[1]
    return found
