"""The ladders in story order: operation -> stems of its rungs. A rung is `<stem>.cu` and its launcher `<stem>.py`, a pair
with forward, vjp and accepts as kernels/README.md describes it. The last rung is the one to use.
"""

from importlib import import_module
from types import ModuleType

LADDERS: dict[str, tuple[str, ...]] = {
    "attention": ("01_three_kernels", "02_online", "03_mma"),
    "gelu": ("01_elementwise", "02_vector_loads"),
    "layer_norm": ("01_thread_per_row", "02_warp_per_row"),
    "matmul": (
        "01_naive", "02_coalesced", "03_shared_tile", "04_register_column", "05_register_tile", "06_vector_loads",
        "07_warp_tile", "08_mma",
    ),
    "rms_norm": ("01_warp_per_row",),
    "silu": ("01_elementwise",),
    "softmax": ("01_thread_per_row", "02_warp_per_row", "03_block_per_row", "04_online", "05_registers"),
}  # fmt: skip


def rung(operation: str, name: str) -> ModuleType:
    """The launcher of rung `name`, such as ("matmul", "03_shared_tile")."""
    return import_module(f".{operation}_{name}", __package__)
