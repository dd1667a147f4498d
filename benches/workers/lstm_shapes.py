"""What lstm_step.py and its workers agree on: the shapes, and the numbers that both sides start from."""

from __future__ import annotations

import numpy as np

SHAPES = {"T=35, B=20, H=200": (35, 20, 200), "T=128, B=32, H=256": (128, 32, 256)}
"""Steps, sequences, hidden units (and as many inputs): the small word model of Zaremba et al. 2014, and a longer one."""


def numbers(shape: str) -> dict[str, np.ndarray]:
    """x and a cotangent of the outputs (T, B, H), and the weights under PyTorch's names: float32."""
    steps, rows, width = SHAPES[shape]
    rng = np.random.default_rng(0)
    arrays = {
        "x": rng.standard_normal((steps, rows, width)),
        "dy": rng.standard_normal((steps, rows, width)),
        "weight_ih_l0": rng.uniform(-1, 1, (4 * width, width)) / width**0.5,
        "weight_hh_l0": rng.uniform(-1, 1, (4 * width, width)) / width**0.5,
        "bias_ih_l0": rng.uniform(-1, 1, 4 * width) / width**0.5,
        "bias_hh_l0": rng.uniform(-1, 1, 4 * width) / width**0.5,
    }
    return {name: a.astype(np.float32) for name, a in arrays.items()}
