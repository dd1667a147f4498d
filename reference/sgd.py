r"""Stochastic gradient descent, with momentum: a heavy ball that rolls down the loss.

    g <- g + weight_decay * p                           L2: the gradient of weight_decay |p|^2 / 2
    b <- momentum * b + (1 - dampening) g               the velocity; b = g at the first step, undamped
    d = g + momentum * b  if nesterov, else  b
    p <- p - lr * d

With a constant gradient, momentum mu and no dampening the velocity is b_k = (1 + mu + ... + mu^(k-1)) g, which goes to
g / (1 - mu): momentum 0.9 makes steps ten times longer along a direction that persists, and averages out those that
change their sign. dampening = mu would keep the length of the steps.

Nesterov's method takes the gradient where the ball is going to be, q = p - lr mu b, and not where it is:

    b' = mu b + g(q),   p' = p - lr b'

Written for q alone, so that nobody has to keep two points: since p' = q + lr mu b - lr (mu b + g) = q - lr g,

    q' = p' - lr mu b' = q - lr (g + mu b')

which is the line with `nesterov` above; what is called p there is the point that looks ahead.

This is an update, not a row: nobody differentiates it.

Sources: Robbins and Monro 1951; Polyak 1964; Nesterov 1983; Sutskever et al. 2013, On the importance of initialization and
momentum in deep learning, section 2. Where lr stands, and the first step, are as in torch.optim.SGD.
"""

from __future__ import annotations

from .namespace import Array


def sgd_update(
    param: Array,
    grad: Array,
    velocity: Array,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    step: int,
) -> tuple[Array, Array]:
    """(param, velocity) after step number `step`, which counts from 1; all arrays have the parameter's shape."""
    if weight_decay:
        grad = grad + weight_decay * param
    if momentum:
        velocity = grad if step == 1 else momentum * velocity + (1.0 - dampening) * grad
        grad = grad + momentum * velocity if nesterov else velocity
    return param - lr * grad, velocity
