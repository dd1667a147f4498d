"""Losses and the table look-up as PyTorch has them: functions of torch tensors and the row's own parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F


def t_cross_entropy(logits: Any, targets: Any, *, ignore_index: int | None = None, label_smoothing: float = 0.0) -> Any:
    """PyTorch always ignores one index, and divides 0 by 0 where nothing else is left: there our loss is 0."""
    flat, ids = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1).long()
    ignored = -(10**9) if ignore_index is None else ignore_index
    if bool(torch.all(ids == ignored)):
        return torch.sum(0.0 * flat)
    if bool(torch.isnan(flat).any()):  # PyTorch's gradient lets the NaN of an ignored row through
        flat = torch.where((ids == ignored)[:, None], 0.0, flat)
    return F.cross_entropy(flat, ids, ignore_index=ignored, label_smoothing=label_smoothing)


def t_linear_cross_entropy(
    x: Any,
    weight: Any,
    targets: Any,
    bias: Any = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    transposed: bool = False,
) -> Any:
    logits = F.linear(x, weight if transposed else weight.T, bias)
    return t_cross_entropy(logits, targets, ignore_index=ignore_index, label_smoothing=label_smoothing)


def reduced(losses: Any, reduction: str) -> Any:
    """What PyTorch's losses do at the end."""
    if reduction == "batchmean":
        return torch.sum(losses) / losses.shape[0]
    return {"none": lambda x: x, "sum": torch.sum, "mean": torch.mean}[reduction](losses)


def t_binary_cross_entropy_with_logits(x: Any, t: Any, *, reduction: str = "mean") -> Any:
    """PyTorch's own up to |x| = 20. Beyond, it loses a small loss: (1 - t) x - log_sigmoid(x) is -50 + 50 = 0 for x = -50
    and t = 0, where e^-50 is right, and NaN at infinity. There we take its log_sigmoid, once for yes and once for no."""
    near = torch.abs(x) < 20.0
    own = F.binary_cross_entropy_with_logits(torch.where(near, x, 0.0), t, reduction="none")
    far = -t * F.logsigmoid(x) - (1.0 - t) * F.logsigmoid(-x)
    return reduced(torch.where(near, own, far), reduction)


def t_kl_divergence(log_q: Any, target: Any, *, log_target: bool = False, reduction: str = "mean") -> Any:
    """PyTorch's entries where p > 0. Where p is 0 its values and gradients are NaN as soon as something is infinite."""
    met = (torch.exp(target) if log_target else target) != 0
    log_q, target = torch.where(met, log_q, 0.0), torch.where(met, target, 0.0 if log_target else 1.0)
    losses = F.kl_div(log_q, target, log_target=log_target, reduction="none")
    return reduced(torch.where(met, losses, 0.0), reduction)


def t_embedding(weight: Any, ids: Any, *, padding_idx: int | None = None) -> Any:
    return F.embedding(ids, weight, padding_idx=padding_idx)


PEERS: dict[str, Callable[..., Any]] = {
    "cross_entropy": t_cross_entropy,
    "linear_cross_entropy": t_linear_cross_entropy,
    "mse": lambda prediction, target, *, reduction="mean": F.mse_loss(prediction, target, reduction=reduction),
    "binary_cross_entropy_with_logits": t_binary_cross_entropy_with_logits,
    "kl_divergence": t_kl_divergence,
    "embedding": t_embedding,
}
