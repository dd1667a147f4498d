"""What generate.py and its workers agree on: the model, the prompt, and how many tokens a step writes. Needs NumPy only.

GPT-2's smallest model (Radford et al. 2019): 124 million parameters; the weights are random, which costs the same.
"""

from __future__ import annotations

import numpy as np

VOCAB, BLOCK, LAYERS, HEADS, WIDTH = 50257, 1024, 12, 12, 768
PROMPT = np.random.default_rng(0).integers(0, VOCAB, 64)
NEW = 16
"""Tokens after the prompt: a step reads the prompt and writes these, the likeliest first."""
