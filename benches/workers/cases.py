"""What is timed of each row: sizes of language models, and the arrays of each, the same for every side. Needs NumPy only."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

BYTES = {"ids": 8, "mask": 1}


@dataclass(frozen=True)
class Case:
    """One row at one size.

    inputs: a shape for numbers from N(0, 1); ("ids", shape, n) for integers below n; ("mask", shape, p) for booleans that
    are False with probability p.
    """

    op: str
    label: str
    inputs: tuple[Any, ...]
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.op} {self.label}"

    def arrays(self, copy: int = 0) -> list[np.ndarray]:
        """The inputs, float32, int64, bool; other numbers for each copy. Weights have entries of variance 1/rows."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), copy])
        found = []
        for place, shape in enumerate(self.inputs):
            if shape[:1] == ("ids",):
                found.append(rng.integers(0, shape[2], shape[1]))
            elif shape[:1] == ("mask",):
                found.append(rng.random(shape[1]) >= shape[2])
            else:
                scale = shape[0] ** -0.5 if self.op in WEIGHTED and len(shape) == 2 and place else 1.0
                found.append((rng.standard_normal(shape, np.float32) * np.float32(scale)).astype(np.float32))
        return found

    @property
    def bytes(self) -> int:
        """Of one copy of the inputs."""
        return sum(
            BYTES[s[0]] * math.prod(s[1]) if s[:1] in (("ids",), ("mask",)) else 4 * math.prod(s) for s in self.inputs
        )

    @property
    def directions(self) -> tuple[str, ...]:
        """A row is timed in both; an update has no gradient."""
        return ("forward",) if self.op in UPDATES else ("forward", "backward")


def cotangent(shape: Any, copy: int = 0) -> np.ndarray:
    """The cotangent of a copy's result, the same for every side."""
    return np.random.default_rng([1, copy]).standard_normal(tuple(shape), np.float32)


def tighter(max_norm: float) -> Iterator[float]:
    """A bound for each pass of clip_grad_norm, a little below what the pass before left: none has nothing to do."""
    while True:
        yield max_norm
        max_norm *= 0.999


WEIGHTED = ("linear", "matmul", "linear_cross_entropy", "lstm", "gru", "rnn")

PRODUCTS = ("matmul", "linear", "linear_cross_entropy", "attention", "packed_attention", "lstm", "gru", "rnn")
"""Rows whose cost counts multiply-adds, which nothing can do faster than the peak. (An exponential has no fixed count.)"""

UPDATES = ("adamw", "clip_grad_norm")
"""No rows: what happens to parameters between two steps, in place. checks.py has their formulas, each side its own way."""


def _rows(op: str, *sizes: tuple[int, int], vectors: int = 0, **params: Any) -> list[Case]:
    return [Case(op, f"{r}x{n}", ((r, n), *((n,),) * vectors), params) for r, n in sizes]


def _elements(op: str, *sizes: tuple[int, ...]) -> list[Case]:
    return [Case(op, "x".join(map(str, size)), (size,)) for size in sizes]


def _attention(*sizes: tuple[int, ...]) -> list[Case]:
    return [Case("attention", "x".join(map(str, s)) + " causal", (s, s, s), {"causal": True}) for s in sizes]


def _dropout(*sizes: tuple[int, ...]) -> list[Case]:
    return [Case("dropout", "x".join(map(str, s)), (s, ("mask", s, 0.1)), {"p": 0.1}) for s in sizes]


def _recurrent(op: str, gates: int, states: int, biases: int, T: int, B: int, H: int) -> Case:
    inputs = ((T, B, H), *((B, H),) * states, (H, gates * H), (H, gates * H), *((gates * H,),) * biases)
    return Case(op, f"{T}x{B}x{H}", inputs)


def _block_of_gpt2(C: int = 768) -> tuple[tuple[int, ...], ...]:
    """The shapes of the parameters of one of GPT-2's blocks."""
    matrices = (((C, 3 * C), (3 * C,)), ((C, C), (C,)), ((C, 4 * C), (4 * C,)), ((4 * C, C), (C,)))
    return (*((C,),) * 4, *(shape for pair in matrices for shape in pair))


CASES = [
    Case("matmul", "512x512x512", ((512, 512), (512, 512))),
    Case("matmul", "1024x1024x1024", ((1024, 1024), (1024, 1024))),
    Case("matmul", "768x128x512", ((768, 128), (128, 512))),
    Case("matmul", "256x768x3072", ((256, 768), (768, 3072))),
    Case("linear", "768x128 to 512", ((768, 128), (128, 512), (512,))),
    Case("linear", "256x768 to 3072", ((256, 768), (768, 3072), (3072,))),
    *_rows("softmax", (4096, 64), (4096, 1024), (512, 50257)),
    *_rows("log_softmax", (4096, 64), (4096, 1024)),
    *_rows("logsumexp", (4096, 64), (4096, 1024), axis=-1),
    *(Case("masked_softmax", f"{r}x{n}", ((r, n), ("mask", (r, n), 0.3))) for r, n in ((4096, 64), (4096, 1024))),
    *_rows("layer_norm", (768, 128), (4096, 768), vectors=2),
    *_rows("rms_norm", (768, 128), (4096, 768), vectors=1),
    *(Case("add_layer_norm", f"{r}x{n}", ((r, n), (r, n), (n,), (n,))) for r, n in ((768, 128), (4096, 768))),
    *_elements("gelu", (768, 512), (4096, 3072)),
    *_elements("gelu_erf", (768, 512)),
    *_elements("silu", (768, 512), (4096, 3072)),
    *_elements("sigmoid", (768, 512)),
    *_elements("relu", (768, 512)),
    *(Case(op, f"{r}x{n}", ((r, n), (r, n))) for op in ("add", "multiply") for r, n in ((768, 128), (4096, 3072))),
    *_dropout((768, 128), (4096, 768)),
    *_attention((12, 4, 64, 32), (4, 12, 256, 64), (1, 12, 1024, 64)),
    Case("packed_attention", "12x64x384, 4 heads", ((12, 64, 384),), {"n_head": 4}),
    *_elements("rotary_embedding", (4, 12, 256, 64)),
    Case("embedding", "65x128, 768 ids", ((65, 128), ("ids", (12, 64), 65))),
    Case("embedding", "50257x768, 256 ids", ((50257, 768), ("ids", (4, 64), 50257))),
    Case("cross_entropy", "768x65", ((768, 65), ("ids", (768,), 65))),
    Case("cross_entropy", "256x50257", ((256, 50257), ("ids", (256,), 50257))),
    Case("linear_cross_entropy", "768x128 to 65", ((768, 128), (128, 65), ("ids", (768,), 65))),
    Case("linear_cross_entropy", "256x768 to 50257", ((256, 768), (768, 50257), ("ids", (256,), 50257))),
    _recurrent("lstm", 4, 2, 1, 64, 20, 256),
    _recurrent("gru", 3, 1, 2, 64, 20, 256),
    _recurrent("rnn", 1, 1, 1, 64, 20, 256),
    *(Case(op, f"{r}x{n}", ((r, n), (n,))) for op in ("bias_gelu", "bias_silu") for r, n in ((768, 512), (4096, 3072))),
    *(Case("swiglu", f"{r}x{n}", ((r, n), (r, n))) for r, n in ((768, 512), (4096, 3072))),
    *(
        Case("dropout_add", f"{r}x{n}", ((r, n), (r, n), ("ids", (3,), 1 << 31)), {"p": 0.1})
        for r, n in ((768, 512), (4096, 3072))
    ),
    Case("adamw", "10M", ((10_000_000,), (10_000_000,)), {"lr": 1e-3, "weight_decay": 0.1}),
    Case("clip_grad_norm", "7M in 12 arrays", _block_of_gpt2(), {"max_norm": 1.0}),
]


def case(name: str) -> Case:
    """The case of this name."""
    return next(c for c in CASES if c.name == name)
