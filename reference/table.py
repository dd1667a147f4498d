"""Every row, by import: the only registry. Tests, benches, the command line and the documentation walk through ROWS."""

from .activations import RELU, SIGMOID, SILU, SOFTPLUS
from .add_layer_norm import ADD_LAYER_NORM
from .arithmetic import ADD, DIVIDE, MULTIPLY, SUBTRACT
from .attention import ATTENTION
from .axes import EXPAND_DIMS, FLIP, SQUEEZE
from .bias_activations import BIAS_GELU, BIAS_SILU
from .binary_cross_entropy import BINARY_CROSS_ENTROPY_WITH_LOGITS
from .cross_entropy import CROSS_ENTROPY
from .cumulative_sum import CUMULATIVE_SUM
from .dropout import DROPOUT
from .dropout_add import DROPOUT_ADD
from .einsum import EINSUM
from .elementwise import ASTYPE, EXP, LOG, NEGATIVE, SQRT, TANH
from .embedding import EMBEDDING, SCATTER_ROWS
from .erf import ERF
from .extremes import MAX, MIN
from .gelu import GELU
from .gelu_erf import GELU_ERF
from .glove import GLOVE
from .gru import GRU
from .hyperbolic import ACOSH, ASINH, ATANH, COSH, SINH
from .indexing import GETITEM, SCATTER_SLICE, TAKE
from .joining import SPLIT, STACK
from .kl_divergence import KL_DIVERGENCE
from .layer_norm import LAYER_NORM
from .linear import LINEAR, MATMUL
from .linear_cross_entropy import LINEAR_CROSS_ENTROPY
from .log_softmax import LOG_SOFTMAX
from .logarithms import EXPM1, LOG1P, LOG2, LOG10, LOGADDEXP
from .logsumexp import LOGSUMEXP
from .lstm import LSTM
from .lstm_cell import LSTM_CELL
from .masked_softmax import MASKED_SOFTMAX
from .mse import MSE
from .op import Op
from .packed_attention import PACKED_ATTENTION
from .padding import PAD
from .piecewise import ABS, CLIP, MAXIMUM, MINIMUM, REMAINDER
from .polar import ATAN2, HYPOT
from .power import POWER
from .products import CUMULATIVE_PROD, PROD
from .reductions import MEAN, SUM
from .rms_norm import RMS_NORM
from .rnn import RNN
from .rotary_embedding import ROTARY_EMBEDDING
from .shape import BROADCAST_TO, CONCAT, PERMUTE_DIMS, RESHAPE
from .softmax import SOFTMAX
from .swiglu import SWIGLU
from .trigonometric import ACOS, ASIN, ATAN, COS, SIN, TAN
from .variance import VAR
from .where import WHERE

ROWS: tuple[Op, ...] = (
    ADD, SUBTRACT, MULTIPLY, DIVIDE, POWER, NEGATIVE, EXP, LOG, SQRT, TANH, WHERE, ASTYPE,
    SIN, COS, TAN, ASIN, ACOS, ATAN, SINH, COSH, ASINH, ACOSH, ATANH, EXPM1, LOG1P, LOG2, LOG10, LOGADDEXP, HYPOT, ATAN2,
    ABS, MAXIMUM, MINIMUM, CLIP, REMAINDER, SIGMOID, SOFTPLUS, SILU, RELU, ERF, GELU_ERF,
    SUM, MEAN, MAX, MIN, VAR, PROD, LOGSUMEXP, CUMULATIVE_SUM, CUMULATIVE_PROD,
    RESHAPE, PERMUTE_DIMS, BROADCAST_TO, CONCAT, STACK, SPLIT, EXPAND_DIMS, SQUEEZE, FLIP, PAD, GETITEM, SCATTER_SLICE, TAKE,
    MATMUL, EINSUM, LINEAR, EMBEDDING, SCATTER_ROWS,
    GELU, SOFTMAX, LOG_SOFTMAX, MASKED_SOFTMAX, LAYER_NORM, CROSS_ENTROPY, DROPOUT, ATTENTION, PACKED_ATTENTION,
    LSTM_CELL, LSTM, GRU, RNN, RMS_NORM, ADD_LAYER_NORM, ROTARY_EMBEDDING, DROPOUT_ADD, BIAS_GELU, BIAS_SILU, SWIGLU,
    MSE, BINARY_CROSS_ENTROPY_WITH_LOGITS, KL_DIVERGENCE, LINEAR_CROSS_ENTROPY, GLOVE,
)  # fmt: skip

BY_NAME: dict[str, Op] = {op.name: op for op in ROWS}
