r"""What the layers of encoder and decoder are made of: a residual branch with its norm, and the feed-forward branch.

A branch F (attention, or the feed-forward net) only adds a correction to x. Where the norm stands makes two designs:

    post-norm (Vaswani et al. 2017)      s = x + F(x),       y = layer_norm(s)
    pre-norm                             n = layer_norm(x),  y = x + F(n)

A sum hands its cotangent to both terms, and x, which is read twice, adds what both readers send:

    post-norm      sbar = layer_norm_vjp(ybar),     xbar = sbar + F_vjp(sbar)
    pre-norm       nbar = F_vjp(ybar),              xbar = ybar + layer_norm_vjp(nbar)

With pre-norm ybar reaches x unchanged, through additions alone, however many layers are stacked. With post-norm it goes
through every norm on the way; gradients are then large near the output when training starts, which is why such stacks
need a learning rate that warms up (Xiong et al., section 3).

The feed-forward net looks at one position at a time, (B, T, C) -> (B, T, F) -> (B, T, C):

    f = x W1^T + b1,   g = relu(f) or gelu(f),   y = g W2^T + b2
    gbar, ... = linear_vjp(ybar),   fbar = relu_vjp(gbar) or gelu_vjp(gbar),   xbar, ... = linear_vjp(fbar)

Parameters are a dict under PyTorch's names, "<layer>.weight" (out, in) and "<layer>.bias", which may be missing.

Sources: Vaswani et al. 2017, Attention Is All You Need, sections 3.1 and 3.3; Xiong et al. 2020, On Layer Normalization in
the Transformer Architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from .activations import relu, relu_vjp
from .gelu_erf import gelu_erf, gelu_erf_vjp
from .layer_norm import layer_norm, layer_norm_vjp
from .linear import linear, linear_vjp
from .namespace import Array

Parameters = Mapping[str, Array]

Branch = tuple[Callable[..., Array], Callable[..., tuple[Any, ...]]]
"""(F, its vjp): F(x) -> y and vjp(dy, y, x) -> (dx, and what else it finds)."""

ACTIVATIONS: dict[str, Branch] = {"relu": (relu, relu_vjp), "gelu": (gelu_erf, gelu_erf_vjp)}


def bind(forward: Callable[..., Array], vjp: Callable[..., tuple[Any, ...]], **arguments: Any) -> Branch:
    """The branch of one layer: everything but x is given."""
    return partial(forward, **arguments), partial(vjp, **arguments)


# ---- parameters by name


def affine(params: Parameters, layer: str) -> tuple[Array, ...]:
    """(weight, bias) of a layer, or (weight,) where it has no bias."""
    weight, bias = params[f"{layer}.weight"], params.get(f"{layer}.bias")
    return (weight,) if bias is None else (weight, bias)


def named(layer: str, daffine: Iterable[Array]) -> dict[str, Array]:
    """What `affine` took apart, under its names again."""
    return {f"{layer}.{name}": d for name, d in zip(("weight", "bias"), daffine, strict=False)}


def below(params: Parameters, layer: str) -> dict[str, Array]:
    """The parameters of a layer that has layers of its own, under the names that it gives them."""
    return {name.removeprefix(f"{layer}."): p for name, p in params.items() if name.startswith(f"{layer}.")}


def above(dparams: Parameters, layer: str) -> dict[str, Array]:
    """What `below` picked, under its full names again."""
    return {f"{layer}.{name}": d for name, d in dparams.items()}


# ---- a branch with its norm


def residual(x: Array, branch: Branch, params: Parameters, norm: str, *, norm_first: bool, eps: float) -> Array:
    """layer_norm(x + F(x)), or x + F(layer_norm(x)) with norm_first. Shapes: (B, T, C) -> (B, T, C)."""
    forward, scale = branch[0], affine(params, norm)
    if norm_first:
        return x + forward(layer_norm(x, *scale, eps=eps))
    return layer_norm(x + forward(x), *scale, eps=eps)


def residual_vjp(
    dy: Array, y: Any, x: Array, branch: Branch, params: Parameters, norm: str, *, norm_first: bool, eps: float
) -> tuple[Any, ...]:
    """(dx, dparams of the norm, and what else the branch's vjp finds). y is not read."""
    (forward, vjp), scale = branch, affine(params, norm)
    if norm_first:
        n = layer_norm(x, *scale, eps=eps)
        dn, *found = vjp(dy, None, n)
        dx, *dscale = layer_norm_vjp(dn, None, x, *scale, eps=eps)
        return dy + dx, named(norm, dscale), *found
    s = x + forward(x)
    ds, *dscale = layer_norm_vjp(dy, None, s, *scale, eps=eps)
    dx, *found = vjp(ds, None, x)
    return ds + dx, named(norm, dscale), *found


# ---- the feed-forward branch


def feed_forward(x: Array, params: Parameters, *, activation: str) -> Array:
    """y = act(x W1^T + b1) W2^T + b2 with linear1, linear2. Shapes: (B, T, C) -> (B, T, C)."""
    act, _ = ACTIVATIONS[activation]
    g = act(linear(x, *affine(params, "linear1"), transposed=True))  # (B, T, F)
    return linear(g, *affine(params, "linear2"), transposed=True)


def feed_forward_vjp(
    dy: Array, y: Any, x: Array, params: Parameters, *, activation: str
) -> tuple[Array, dict[str, Array]]:
    """(dx, dparams of linear1 and linear2). y is not read."""
    act, act_vjp = ACTIVATIONS[activation]
    first, second = affine(params, "linear1"), affine(params, "linear2")
    f = linear(x, *first, transposed=True)  # (B, T, F)
    g = act(f)  # (B, T, F)
    dg, *dsecond = linear_vjp(dy, None, g, *second, transposed=True)  # (B, T, F)
    (df,) = act_vjp(dg, g, f)  # (B, T, F)
    dx, *dfirst = linear_vjp(df, None, x, *first, transposed=True)  # (B, T, C)
    return dx, named("linear1", dfirst) | named("linear2", dsecond)
