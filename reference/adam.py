r"""Adam: every parameter takes steps of about the same length, measured in its own gradient's typical size.

    g <- g + weight_decay * p                           L2: the gradient of weight_decay |p|^2 / 2
    m <- beta1 m + (1 - beta1) g                        running mean of the gradient
    v <- beta2 v + (1 - beta2) g^2                      running mean of its square
    mhat = m / (1 - beta1^k),   vhat = v / (1 - beta2^k)
    p <- p - lr * mhat / (sqrt(vhat) + eps)

Why the corrections: m starts at zero, so after k steps with a constant gradient g it is

    (1 - beta1) sum_{j<k} beta1^j g = (1 - beta1^k) g,

and dividing gives g back; likewise for v. The first step is then lr * g / |g|, whatever the scale of g. eps stands
outside of the root and after the correction, as in the paper and in PyTorch.

The decay goes through the gradient here, and so it is divided by sqrt(vhat) like everything else: parameters with large
gradients decay less than others. adamw.py takes it out of the quotient.

This is an update, not a row: nobody differentiates it.

Sources: Kingma and Ba 2015, Adam: A Method for Stochastic Optimization, algorithm 1 and section 3. Order of operations as
in torch.optim.Adam.
"""

from __future__ import annotations

import math

from .namespace import Array, array_namespace


def adam_update(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    step: int,
) -> tuple[Array, Array, Array]:
    """(param, m, v) after step number `step`, which counts from 1; all arrays have the parameter's shape."""
    xp = array_namespace(param)
    if weight_decay:
        grad = grad + weight_decay * param
    m = beta1 * m + (1.0 - beta1) * grad
    v = beta2 * v + (1.0 - beta2) * grad * grad
    # lr * mhat / (sqrt(vhat) + eps), the scalar factors taken together as PyTorch does
    deviation = xp.sqrt(v) / math.sqrt(1.0 - beta2**step) + eps
    return param - (lr / (1.0 - beta1**step)) * m / deviation, m, v
