"""Launches linear_cross_entropy_03_wgmma.cu: two warpgroups for each tile of 128 x 128, tensor maps of both factors; the mean
and the sums of columns are rung 02's. bfloat16.
"""

from dataclasses import replace

from . import linear_cross_entropy_02_mma as second
from .linear_losses import LinearCrossEntropy, kernels

CHECKED = "bfloat16"
"""The only type that it takes."""

_others = second.production.kernels["bfloat16"]
production = LinearCrossEntropy(
    {"bfloat16": replace(kernels(__file__, "03", "wgmma"), mean=_others.mean, dbias=_others.dbias)},
    multiple=8,
    shared_mem=4 * 4 * 8192 + 64 + 1024,  # four stages of 2 + 2 panels of 8 KB, two mbarriers each; room to begin at 1024 bytes
    maps=True,
)
forward, vjp, accepts = production.forward, production.vjp, production.accepts
