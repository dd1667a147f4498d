"""The learning rate of each step."""

from __future__ import annotations

import math

__all__ = ["warmup_cosine"]


def warmup_cosine(step: int, *, lr: float, min_lr: float, warmup: int, total: int) -> float:
    r"""Return the learning rate of iteration `step` (0, 1, 2 ...): a linear rise, half a cosine down, then flat.

        lr (step + 1) / (warmup + 1)                                      step < warmup
        min_lr + (1 + cos(pi (step - warmup) / (total - warmup))) / 2
                 (lr - min_lr)                                            warmup <= step <= total
        min_lr                                                            total < step

    lr: the peak, reached at step == warmup; min_lr: the floor, reached at step == total. Raises ValueError unless
    step >= 0, 0 <= min_lr <= lr, lr > 0 and 0 <= warmup < total.
    Source: nanoGPT, train.py, get_lr (warmup_iters, lr_decay_iters), after Loshchilov and Hutter,
    "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, equation 5.
    """
    if step < 0:
        raise ValueError(f"warmup_cosine: step is {step}, but it must be 0 or more")
    if not (0 < lr < math.inf):
        raise ValueError(f"warmup_cosine: lr is {lr}, but it must be positive and finite")
    if not 0 <= min_lr <= lr:
        raise ValueError(f"warmup_cosine: min_lr is {min_lr}, but it must lie between 0 and lr = {lr}")
    if not 0 <= warmup < total:
        raise ValueError(f"warmup_cosine: warmup is {warmup}, but it must lie between 0 and total - 1 = {total - 1}")
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    if step > total:
        return min_lr
    decay_ratio = (step - warmup) / (total - warmup)
    coefficient = 0.5 * (1.0 + math.cos(math.pi * decay_ratio))
    return min_lr + coefficient * (lr - min_lr)
