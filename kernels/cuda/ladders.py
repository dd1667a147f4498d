"""The ladders in story order: operation -> stems of its rungs. A rung is `<stem>.cu` and its launcher `<stem>.py`, a pair
with forward, vjp and accepts as kernels/README.md describes it. The last rung that accepts a problem is the one to use.
"""

from importlib import import_module
from types import ModuleType

LADDERS: dict[str, tuple[str, ...]] = {
    "add": ("01_vector_loads",),
    "add_layer_norm": ("01_warp_per_row",),
    "attention": ("01_three_kernels", "02_online", "03_mma", "04_wgmma", "05_warp_specialised"),
    "bias_gelu": ("01_slabs",),
    "cross_entropy": ("01_warp_per_row", "02_block_online"),
    "dropout": ("01_elementwise", "02_vector_loads"),
    "dropout_add": ("01_word_per_thread", "02_block_per_thread"),
    "embedding": ("01_naive", "02_sorted"),
    "gelu": ("01_elementwise", "02_vector_loads"),
    "gelu_erf": ("01_vector_loads",),
    "layer_norm": ("01_thread_per_row", "02_warp_per_row"),
    "linear_cross_entropy": ("01_tiles", "02_mma", "03_wgmma"),
    "log_softmax": ("01_thread_per_row", "02_warp_per_row", "03_block_per_row", "04_online", "05_registers"),
    "lstm": ("01_steps", "02_persistent"),
    "matmul": (
        "01_naive", "02_coalesced", "03_shared_tile", "04_register_column", "05_register_tile", "06_vector_loads",
        "07_warp_tile", "08_mma", "09_wgmma", "10_tma", "11_warp_specialised", "12_clusters",
    ),
    "multiply": ("01_vector_loads",),
    "relu": ("01_vector_loads",),
    "rms_norm": ("01_warp_per_row",),
    "rotary_embedding": ("01_thread_per_pair", "02_tables"),
    "sigmoid": ("01_vector_loads",),
    "silu": ("01_elementwise",),
    "softmax": (
        "01_thread_per_row", "02_warp_per_row", "03_block_per_row", "04_online", "05_registers", "06_cluster",
    ),
    "swiglu": ("01_vector_loads",),
}  # fmt: skip

NO_ROWS: dict[str, tuple[str, ...]] = {
    "adamw": ("01_fused", "02_vector_loads"),
    "philox": ("01_block_per_thread",),
}
"""Ladders of what nobody differentiates, so that it is no row: each has the calls of its namesake in kernels/cpu."""


def rung(operation: str, name: str) -> ModuleType:
    """The launcher of rung `name`, such as ("matmul", "03_shared_tile")."""
    return import_module(f".{operation}_{name}", __package__)
