"""The two models whose training step is timed, in one place for both sides, and batches for them. Needs NumPy only.

nanogpt  nanoGPT's CPU configuration (nanogpt.py)
gpt2     llm.c's case: GPT-2's smallest model, 124 million parameters, batches of 4 texts of 64 tokens
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import nanogpt as n
import numpy as np


@dataclass(frozen=True)
class Size:
    """A GPT, and the shape of a batch."""

    vocab: int
    context: int
    layers: int
    heads: int
    width: int
    bias: bool
    batch: int
    length: int

    def batches(self, count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
        """count batches (x, y) of random tokens, int64 (batch, length); y is x one token later. The same for every side."""
        tokens = np.random.default_rng(seed).integers(0, self.vocab, (count, self.batch, self.length + 1))
        return [(t[:, :-1].copy(), t[:, 1:].copy()) for t in tokens]

    def describe(self) -> dict[str, Any]:
        """For the record, with how both models are trained."""
        rates = {"lr": n.LR, "betas": list(n.BETAS), "weight_decay": n.WEIGHT_DECAY, "clip": n.CLIP}
        return {**asdict(self), "dropout": 0.0, "dtype": "float32", "optimizer": "AdamW", **rates}


SIZES = {
    "nanogpt": Size(n.VOCAB, n.BLOCK, n.LAYERS, n.HEADS, n.WIDTH, bias=False, batch=n.BATCH, length=n.BLOCK),
    "gpt2": Size(50257, 1024, 12, 12, 768, bias=True, batch=4, length=64),
    "tiny": Size(
        64, 32, 1, 2, 64, bias=True, batch=8, length=32
    ),  # loads every kernel of a step; small beside the others
}


def page_faults() -> int:
    """Pages that this process was given so far because it touched fresh memory."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def resident() -> tuple[int, int]:
    """(bytes of this process in memory now, the most there have been); zeros where there is no /proc."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
    except OSError:
        return 0, 0
    return int(fields["VmRSS"].split()[0]) << 10, int(fields["VmHWM"].split()[0]) << 10
