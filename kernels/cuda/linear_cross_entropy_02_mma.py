"""Launches linear_cross_entropy_02_mma.cu: 8 warps for each tile of 128 x 128, of any product. bfloat16 and float16."""

import numpy as np

from .linear_losses import LinearCrossEntropy, kernels

TYPES = ("bfloat16", "float16")
CHECKED = np.float16
"""The type in which `handgrad check` holds it to the formula."""

production = LinearCrossEntropy(
    {dtype: kernels(__file__, "02", "mma", dtype) for dtype in TYPES},
    multiple=8,
    shared_mem=2 * 2 * 128 * (32 + 8) * 2,  # two stages of two tiles: 128 rows of 32 numbers and 8 of padding
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
