"""Launches linear_cross_entropy_01_tiles.cu: 256 threads for each tile of 128 x 128, of any product. float32."""

from .linear_losses import LinearCrossEntropy, kernels

production = LinearCrossEntropy(
    {"float32": kernels(__file__, "01", "tiles")},
    shared_mem=128 * (16 + 1) * 16,  # of 128 rows what 16 threads kept, 16 bytes each, and room for one more; tiles are smaller
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
