"""nanoGPT's CPU configuration, in one place for both sides, and batches of it. Needs NumPy only.

Source: nanoGPT's README, "I only have a macbook": 4 layers, 4 heads, 128 dims, context 64, batch 12, no dropout; the rest
from train.py and config/train_shakespeare_char.py (bias False, AdamW betas 0.9 and 0.99, weight decay 0.1, clip 1.0).
"""

from __future__ import annotations

import numpy as np

VOCAB, BLOCK, LAYERS, HEADS, WIDTH, BATCH = 65, 64, 4, 4, 128, 12
LR, MIN_LR, WARMUP, ITERATIONS = 1e-3, 1e-4, 100, 2000
BETAS, WEIGHT_DECAY, CLIP = (0.9, 0.99), 0.1, 1.0

SETTINGS = {
    "n_layer": LAYERS, "n_head": HEADS, "n_embd": WIDTH, "block_size": BLOCK, "batch_size": BATCH, "vocab_size": VOCAB,
    "bias": False, "dropout": 0.0, "dtype": "float32", "optimizer": "AdamW", "lr": LR, "betas": list(BETAS),
    "weight_decay": WEIGHT_DECAY, "clip": CLIP,
}  # fmt: skip


def random_batches(n: int, seed: int = 0, vocab: int = VOCAB) -> list[tuple[np.ndarray, np.ndarray]]:
    """n batches (x, y) of random tokens, int64 (BATCH, BLOCK); y is x one token later. The same for every side."""
    tokens = np.random.default_rng(seed).integers(0, vocab, (n, BATCH, BLOCK + 1))
    return [(t[:, :-1].copy(), t[:, 1:].copy()) for t in tokens]


def batch_at(ids: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The blocks of `ids` (N,) that begin at `starts` (B,): x and y, int64 (B, BLOCK)."""
    places = starts[:, None] + np.arange(BLOCK)  # (B, T)
    return ids[places].astype(np.int64), ids[places + 1].astype(np.int64)


def evaluation_batches(ids: np.ndarray, rows: int = 64) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every whole block of `ids` (N,) once and in order, `rows` blocks a batch (the last one may have fewer)."""
    starts = np.arange((len(ids) - 1) // BLOCK) * BLOCK
    return [batch_at(ids, starts[i : i + rows]) for i in range(0, len(starts), rows)]


def learning_rate(step: int) -> float:
    """nanoGPT's get_lr, written down a second time: a linear rise, then half a cosine (the PyTorch side uses this one)."""
    if step < WARMUP:
        return LR * (step + 1) / (WARMUP + 1)
    turn = np.pi * min(1.0, (step - WARMUP) / (ITERATIONS - WARMUP))
    return float(MIN_LR + 0.5 * (1.0 + np.cos(turn)) * (LR - MIN_LR))
