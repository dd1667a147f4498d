"""What lstm_step.py and its workers agree on: the shapes, and the numbers that both sides start from."""

from __future__ import annotations

import numpy as np

SHAPES = {"T=64, B=20, H=256": (64, 20, 256, 1), "T=35, B=20, H=650, 2 layers": (35, 20, 650, 2)}
"""Steps, sequences, hidden units (and as many inputs), layers: a character model, and the medium word model of Zaremba et
al. 2014."""


def numbers(shape: str) -> dict[str, np.ndarray]:
    """x and a cotangent of the outputs (T, B, H), and the weights under PyTorch's names: float32."""
    steps, rows, width, layers = SHAPES[shape]
    rng = np.random.default_rng(0)
    arrays = {"x": rng.standard_normal((steps, rows, width)), "dy": rng.standard_normal((steps, rows, width))}
    for layer in range(layers):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            size = (4 * width, width) if name.startswith("weight") else (4 * width,)
            arrays[f"{name}_l{layer}"] = rng.uniform(-1, 1, size) / width**0.5
    return {name: a.astype(np.float32) for name, a in arrays.items()}
