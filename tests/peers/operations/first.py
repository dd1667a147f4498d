"""Operations as PyTorch has them: row name -> function of torch tensors and the row's own parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F


def tensor(x: Any) -> Any:
    """A Python number as a 0-d float64 tensor (torch.add wants one tensor); tensors as they are."""
    return x if isinstance(x, torch.Tensor) else torch.tensor(x, dtype=torch.float64)


def t_getitem(x: Any, *, key: tuple[Any, ...]) -> Any:
    """PyTorch has no negative steps, so axis by axis: an int selects, a slice is a list of indices."""
    axis = 0
    for k in key:
        if isinstance(k, slice):
            x = torch.index_select(x, axis, torch.tensor(range(x.shape[axis])[k], dtype=torch.int64))
            axis += 1
        else:
            x = torch.select(x, axis, k)
    return x


def t_scatter_slice(x: Any, *, key: Any, shape: tuple[int, ...]) -> Any:
    size = math.prod(shape)
    places = torch.from_numpy(np.arange(size).reshape(shape)[key].reshape(-1).copy())
    return torch.zeros(size, dtype=x.dtype).index_put((places,), x.reshape(-1)).reshape(shape)


def t_sum(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    axis = tuple(range(x.ndim)) if axis is None else axis
    return torch.sum(x, dim=axis, keepdim=keepdims) if axis != () else x


def t_mean(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    axis = tuple(range(x.ndim)) if axis is None else axis
    return torch.mean(x, dim=axis, keepdim=keepdims) if axis != () else x


def t_max(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    axis = tuple(range(x.ndim)) if axis is None else axis
    return torch.amax(x, dim=axis, keepdim=keepdims) if axis != () else x


def t_linear(x: Any, weight: Any, bias: Any = None, *, transposed: bool = False) -> Any:
    return F.linear(x, weight if transposed else weight.T, bias)


def t_layer_norm(x: Any, weight: Any, bias: Any = None, *, eps: float = 1e-5) -> Any:
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def t_lstm_cell(x: Any, h: Any, c: Any, w: Any, u: Any, b: Any) -> Any:
    return torch.lstm_cell(x, (h, c), w.T, u.T, b, torch.zeros_like(b))


PEERS: dict[str, Callable[..., Any]] = {
    "add": lambda x1, x2: torch.add(tensor(x1), x2),
    "subtract": lambda x1, x2: torch.sub(tensor(x1), x2),
    "multiply": lambda x1, x2: torch.mul(tensor(x1), x2),
    "divide": lambda x1, x2: torch.div(tensor(x1), x2),
    "power": lambda x1, x2: torch.pow(x1, x2),
    "negative": torch.neg,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "tanh": torch.tanh,
    "where": torch.where,
    "astype": lambda x, *, dtype: x.to(dtype),
    "sum": t_sum,
    "mean": t_mean,
    "max": t_max,
    "reshape": lambda x, *, shape: torch.reshape(x, shape),
    "permute_dims": lambda x, *, axes: torch.permute(x, axes),
    "broadcast_to": lambda x, *, shape: torch.broadcast_to(x, shape),
    "concat": lambda *xs, axis=0: torch.cat(xs, dim=axis),
    "getitem": t_getitem,
    "scatter_slice": t_scatter_slice,
    "take": lambda x, indices, *, axis: torch.index_select(x, axis, indices.reshape(-1)),
    "matmul": torch.matmul,
    "linear": t_linear,
    "scatter_rows": lambda x, ids, *, n: torch.zeros((n, x.shape[1]), dtype=x.dtype).index_add(0, ids.long(), x),
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "softmax": lambda x, *, axis=-1: torch.softmax(x, dim=axis),
    "layer_norm": t_layer_norm,
    "dropout": lambda x, mask, *, p: torch.where(mask, x / (1.0 - p), 0.0),
    "lstm_cell": t_lstm_cell,
}
