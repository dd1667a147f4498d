"""What is timed of each CUDA ladder: the sizes, in one table, and what they cost. Needs NumPy only.

An operation without a ladder is not run; a ladder without a row here is not timed, which gpu.py says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

UPDATES = ("adamw",)
"""No rows: what happens to parameters in place. They have no gradient."""

ADAMW = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 1e-2, "step": 3}
ITEMSIZE = {"float32": 4, "tf32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Case:
    """One operation at one size and in one type.

    inputs: a shape for numbers from N(0, 1), ("ids", shape, n) for integers below n, ("mask", shape, p) for booleans that
    are False with probability p. tiny: the inputs of the rehearsal. checked: inputs of the check, where float64 does not
    fit at the size that is timed. on_host: the formula in float64 is computed by NumPy.
    """

    op: str
    label: str
    inputs: tuple[Any, ...]
    tiny: tuple[Any, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    checked: tuple[Any, ...] | None = None
    on_host: bool = False

    @property
    def name(self) -> str:
        return f"{self.op} {self.label} {self.dtype}"

    @property
    def directions(self) -> tuple[str, ...]:
        return ("forward",) if self.op in UPDATES else ("forward", "backward")


def _products(size: int) -> list[Case]:
    square, tiny = ((size, size),) * 2, ((20, 24), (24, 36))
    return [
        Case("matmul", f"{size}x{size}x{size}", square, tiny, dtype=dtype) for dtype in ("float32", "bfloat16")
    ]


def _rows(op: str, rows: int, length: int, vectors: int = 0) -> Case:
    return Case(op, f"{rows}x{length}", ((rows, length), *((length,),) * vectors), ((5, 36), *((36,),) * vectors))


def _elements(op: str, millions: int) -> Case:
    return Case(op, f"{millions}M", ((millions << 20,),), ((133,),))


def _attention(B: int, H: int, T: int, D: int, causal: bool) -> list[Case]:
    size, checked, tiny = ((B, H, T, D),) * 3, ((1, 4, 1024, D),) * 3, ((1, 2, 9, 16),) * 3
    label = f"{B}x{H}x{T}x{D}" + " causal" * causal
    return [
        Case("attention", label, size, tiny, {"causal": causal}, dtype, checked) for dtype in ("bfloat16", "float32")
    ]


def _linear_losses(R: int, C: int, V: int) -> list[Case]:
    size, tiny = ((R, C), (C, V), ("ids", (R,), V)), ((5, 8), (8, 36), ("ids", (5,), 36))
    return [
        Case("linear_cross_entropy", f"{R}x{C}x{V}", size, tiny, dtype=dtype) for dtype in ("float32", "bfloat16")
    ]


def _lstm(T: int, B: int, H: int) -> tuple[Any, ...]:
    return ((T, B, H), (B, H), (B, H), (H, 4 * H), (H, 4 * H), (4 * H,))


def _dropout(millions: int) -> Case:
    shape = (millions << 20,)
    return Case("dropout", f"{millions}M", (shape, ("mask", shape, 0.1)), ((133,), ("mask", (133,), 0.1)), {"p": 0.1})


def _updated(millions: int) -> Case:
    return Case("adamw", f"{millions}M", ((millions * 10**6,),) * 4, ((133,),) * 4, ADAMW)


CASES: tuple[Case, ...] = (
    *_products(4096),
    *_products(8192),
    *_products(1024),
    *(_rows(op, rows, length) for op in ("softmax", "log_softmax")
      for rows, length in ((4096, 1024), (4096, 4096), (4096, 50257), (64, 131072))),
    _rows("layer_norm", 8192, 4096, vectors=2),
    _rows("rms_norm", 8192, 4096, vectors=1),
    _elements("gelu", 64),
    _elements("silu", 64),
    *_attention(4, 16, 4096, 128, causal=True),
    *_attention(4, 16, 4096, 128, causal=False),
    *_attention(4, 16, 4096, 64, causal=True),
    *_attention(4, 16, 4096, 64, causal=False),
    *_attention(1, 16, 16384, 128, causal=True),
    *_attention(1, 16, 16384, 128, causal=False),
    Case("cross_entropy", "4096x50257", ((4096, 50257), ("ids", (4096,), 50257)), ((5, 36), ("ids", (5,), 36))),
    *_linear_losses(4096, 768, 50257),
    Case("embedding", "50257x768 8192 ids", ((50257, 768), ("ids", (8192,), 50257)), ((36, 8), ("ids", (9,), 36)),
         on_host=True),
    _dropout(64),
    Case("rotary_embedding", "4x16x4096x128", ((4, 16, 4096, 128),), ((1, 2, 5, 8),), on_host=True),
    Case("lstm", "64x128x256", _lstm(64, 128, 256), _lstm(3, 2, 8), on_host=True),
    _updated(124),
)  # fmt: skip


def chosen(only: Sequence[str], ladders: Mapping[str, Sequence[str]]) -> list[Case]:
    """The cases of operations that have a ladder, the first size of each operation before the second of any.

    Raises ValueError with one sentence for a name in `only` that has no ladder or no case.
    """
    known = [op for op in dict.fromkeys(case.op for case in CASES) if op in ladders]
    for name in only:
        if name not in known:
            raise ValueError(f"{name} has no CUDA ladder with sizes to time; there are {', '.join(known)}")
    turns: dict[str, int] = {}
    placed = []
    for case in CASES:
        if case.op in (only or known) and case.op in known:
            kind = f"{case.op} {case.dtype}"
            turns[kind] = turns.get(kind, 0) + 1
            placed.append((turns[kind], case))
    return [case for _, case in sorted(placed, key=lambda pair: pair[0])]


def numbers(shape: Any) -> int:
    """How many numbers an input holds."""
    return math.prod(shape[1] if shape[:1] in (("ids",), ("mask",)) else shape)


def nbytes(inputs: Iterable[Any], dtype: str) -> int:
    """Bytes of one copy of the inputs; ids are int64."""
    sizes = {"ids": 8, "mask": 1}
    return sum(numbers(s) * (sizes[s[0]] if s[:1] in (("ids",), ("mask",)) else ITEMSIZE[dtype]) for s in inputs)


def copies(one: int, cache: int) -> int:
    """The fewest copies of `one` bytes that together exceed three times the cache."""
    return 3 * cache // max(one, 1) + 1


def cost(case: Case, direction: str) -> tuple[float, float]:
    """(operations, bytes) that a pass needs at least at the timed size: inputs and results once each.

    A causal product has half of the pairs; the backward pass counts twice the forward operations, as a row's cost does.
    """
    import numpy as np

    from handgrad.reference.op import Spec
    from handgrad.reference.table import BY_NAME

    item = ITEMSIZE[case.dtype]
    if case.op in UPDATES:
        n = numbers(case.inputs[0])
        return 12.0 * n, 4.0 * 7 * n  # reads parameter, gradient and two moments; writes all but the gradient
    kinds = {"ids": np.int64, "mask": np.bool_}
    specs = [
        Spec(s[1], kinds[s[0]]) if s[:1] in (("ids",), ("mask",)) else Spec(s, np.float32) for s in case.inputs
    ]
    op = BY_NAME[case.op]
    flops, elements = op.cost(*specs, **case.params)
    if case.params.get("causal"):
        flops /= 2
    first = result_size(case)
    given = {name: nbytes([s], case.dtype) for name, s in zip(op.inputs, case.inputs, strict=False)}
    if direction == "forward":
        # a row's cost counts a boolean like every other element
        wide = sum((item - 1) * spec.size for spec in specs if spec.dtype == np.bool_)
        return float(flops), float(item * elements - wide)
    gradients = sum(item * spec.size for spec in specs if spec.dtype == np.float32)
    read = sum(size for name, size in given.items() if name in op.reads) + item * first * ("y" in op.reads)
    return 2.0 * flops, float(item * first + read + gradients)


def result_size(case: Case) -> int:
    """Numbers of the first result."""
    first = case.inputs[0]
    if case.op == "matmul":
        return first[0] * case.inputs[1][1]
    if case.op in ("cross_entropy", "linear_cross_entropy"):
        return 1
    if case.op == "embedding":
        return numbers(case.inputs[1]) * first[1]
    return math.prod(first)
