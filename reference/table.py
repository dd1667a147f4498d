"""Every row, by import: the only registry. Tests, benches, the command line and the documentation walk through ROWS."""

from .arithmetic import ADD, DIVIDE, MULTIPLY, SUBTRACT
from .attention import ATTENTION, PACKED_ATTENTION
from .cross_entropy import CROSS_ENTROPY
from .dropout import DROPOUT
from .elementwise import ASTYPE, EXP, LOG, NEGATIVE, SQRT, TANH
from .embedding import EMBEDDING, SCATTER_ROWS
from .gelu import GELU
from .indexing import GETITEM, SCATTER_SLICE, TAKE
from .layer_norm import LAYER_NORM
from .linear import LINEAR, MATMUL
from .lstm_cell import LSTM_CELL
from .op import Op
from .power import POWER
from .reductions import MAX, MEAN, SUM
from .shape import BROADCAST_TO, CONCAT, PERMUTE_DIMS, RESHAPE
from .softmax import SOFTMAX
from .where import WHERE

ROWS: tuple[Op, ...] = (
    ADD, SUBTRACT, MULTIPLY, DIVIDE, POWER, NEGATIVE, EXP, LOG, SQRT, TANH, WHERE, ASTYPE,
    SUM, MEAN, MAX,
    RESHAPE, PERMUTE_DIMS, BROADCAST_TO, CONCAT, GETITEM, SCATTER_SLICE, TAKE,
    MATMUL, LINEAR, EMBEDDING, SCATTER_ROWS,
    GELU, SOFTMAX, LAYER_NORM, CROSS_ENTROPY, DROPOUT, ATTENTION, PACKED_ATTENTION, LSTM_CELL,
)  # fmt: skip

BY_NAME: dict[str, Op] = {op.name: op for op in ROWS}
