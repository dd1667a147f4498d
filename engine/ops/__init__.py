"""One thin function an operation: it validates at the door and calls `apply` with the row."""

from .elementwise import (
    add,
    astype,
    divide,
    dropout,
    exp,
    gelu,
    log,
    multiply,
    negative,
    power,
    sqrt,
    subtract,
    tanh,
    where,
)
from .namespace import NUMPY, Namespace
from .products import (
    attention,
    cross_entropy,
    embedding,
    linear,
    lstm_cell,
    matmul,
    packed_attention,
    scatter_rows,
)
from .reductions import layer_norm, max, mean, softmax, sum
from .shape import (
    broadcast_to,
    concat,
    expand_dims,
    getitem,
    matrix_transpose,
    permute_dims,
    reshape,
    scatter_slice,
    squeeze,
    stack,
    take,
)

__all__ = [
    "add", "astype", "attention", "broadcast_to", "concat", "cross_entropy", "divide", "dropout", "embedding", "exp",
    "expand_dims", "gelu", "getitem", "layer_norm", "linear", "log", "lstm_cell", "matmul", "matrix_transpose", "max", "mean",
    "multiply", "negative", "packed_attention", "permute_dims", "power", "reshape",
    "scatter_rows", "scatter_slice", "softmax", "sqrt", "squeeze", "stack", "subtract", "sum", "take", "tanh", "where",
]  # fmt: skip
