r"""AdamW: Adam (adam.py) whose weight decay does not pass through the moments.

    p <- p (1 - lr * weight_decay)                      decay first, apart from the gradient ("decoupled")
    m <- beta1 m + (1 - beta1) g                        running mean of the gradient
    v <- beta2 v + (1 - beta2) g^2                      running mean of its square
    mhat = m / (1 - beta1^k),   vhat = v / (1 - beta2^k)
    p <- p - lr * mhat / (sqrt(vhat) + eps)

After the first line this is Adam, derived on its own page.

Why decoupled: L2's gradient, weight_decay * p, put into g would be divided by sqrt(vhat) like everything else, and
parameters with large gradients would decay less than others.

Clipping by the global norm scales all gradients by one factor, so that their direction stays and their length does not
exceed max_norm: min(1, max_norm / (norm + 1e-6)), norm^2 = sum of squares over all parameters.

These are updates, not rows: nobody differentiates them.

Sources: Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization, algorithm 2;
Pascanu, Mikolov and Bengio 2013, algorithm 1. Order of operations as in torch.optim.AdamW and clip_grad_norm_.
"""

from __future__ import annotations

from collections.abc import Sequence

from .adam import adam_update
from .namespace import Array, array_namespace


def adamw_update(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    step: int,
) -> tuple[Array, Array, Array]:
    """(param, m, v) after step number `step`, which counts from 1; all arrays have the parameter's shape."""
    decayed = param * (1.0 - lr * weight_decay)
    return adam_update(decayed, grad, m, v, lr=lr, beta1=beta1, beta2=beta2, eps=eps, step=step)


def global_norm(grads: Sequence[Array]) -> Array:
    """The length of all gradients as one long vector: sqrt of the sum of all squares. At least one gradient."""
    xp = array_namespace(grads[0])
    total = xp.sum(grads[0] * grads[0])
    for grad in grads[1:]:
        total = total + xp.sum(grad * grad)
    return xp.sqrt(total)


def clip_factor(grads: Sequence[Array], max_norm: float) -> Array | float:
    """min(1, max_norm / (norm + 1e-6)): multiply every gradient by it. A norm that is not a number stays one."""
    if not grads:
        return 1.0
    factor = max_norm / (global_norm(grads) + 1e-6)
    xp = array_namespace(factor)
    return xp.where(factor > 1.0, 1.0, factor)
