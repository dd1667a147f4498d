r"""AdaGrad: the step of every parameter shrinks with all the gradient that it has seen.

    g <- g + weight_decay * p                           L2: the gradient of weight_decay |p|^2 / 2
    s <- s + g^2                                        the sum of squares so far
    p <- p - lr / (1 + (k - 1) lr_decay) * g / (sqrt(s) + eps)          in step k = 1, 2 ...

Parameters that are rarely touched, such as the vectors of rare words, keep long steps; frequent ones settle. With a
constant gradient s = k g^2 and step k has the length lr / sqrt(k), whatever the scale of g: their sum grows like
2 lr sqrt(k), so that no minimum is out of reach, and the steps go to zero without a schedule.

s never forgets, which is why Adam (adam.py) replaces the sum by a running mean. s starts at `initial_accumulator`: with
zero the first step has length lr for any g, with a larger value small first gradients make small first steps.

This is an update, not a row: nobody differentiates it.

Sources: Duchi, Hazan and Singer 2011, Adaptive Subgradient Methods for Online Learning and Stochastic Optimization,
section 1.1 (diagonal matrices). lr_decay and the place of eps are as in torch.optim.Adagrad.
"""

from __future__ import annotations

from .namespace import Array, array_namespace


def adagrad_update(
    param: Array,
    grad: Array,
    squares: Array,
    *,
    lr: float,
    lr_decay: float = 0.0,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
    step: int,
) -> tuple[Array, Array]:
    """(param, squares) after step number `step`, which counts from 1; all arrays have the parameter's shape.

    squares is filled with the initial accumulator before the first step.
    """
    xp = array_namespace(param)
    if weight_decay:
        grad = grad + weight_decay * param
    squares = squares + grad * grad
    return param - (lr / (1.0 + (step - 1) * lr_decay)) * grad / (xp.sqrt(squares) + eps), squares
