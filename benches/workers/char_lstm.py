"""The character model of lstm_quality.py, in one place for both sides, and its batches. Needs NumPy only."""

from __future__ import annotations

import numpy as np

VOCAB, WIDTH, LAYERS, STREAMS, STEPS = 65, 128, 2, 32, 64
LR, MIN_LR, WARMUP, ITERATIONS = 3e-3, 3e-4, 100, 2000
BETAS, WEIGHT_DECAY, CLIP = (0.9, 0.99), 0.1, 1.0
FIRST = 20

SETTINGS = {
    "vocab_size": VOCAB, "embed_size": WIDTH, "hidden_size": WIDTH, "num_layers": LAYERS, "streams": STREAMS,
    "steps": STEPS, "dtype": "float32", "optimizer": "AdamW", "lr": LR, "min_lr": MIN_LR, "warmup": WARMUP,
    "betas": list(BETAS), "weight_decay": WEIGHT_DECAY, "clip": CLIP,
}  # fmt: skip


def streams(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y (STREAMS, length): the text cut into streams, and the characters that follow (PyTorch's side uses this)."""
    length = (len(ids) - 1) // STREAMS
    starts = np.arange(STREAMS)[:, None] * length + np.arange(length)
    return ids[starts].astype(np.int64), ids[starts + 1].astype(np.int64)


def learning_rate(step: int) -> float:
    """A linear rise, then half a cosine (PyTorch's side uses this one)."""
    if step < WARMUP:
        return LR * (step + 1) / (WARMUP + 1)
    turn = np.pi * min(1.0, (step - WARMUP) / (ITERATIONS - WARMUP))
    return float(MIN_LR + 0.5 * (1.0 + np.cos(turn)) * (LR - MIN_LR))
