r"""The Transformer block of GPT-2: attention lets tokens talk, the MLP lets each one think; both only add corrections.

Letters: B batch, T time, C channels, H heads (C = H D).

    a = layer_norm(x, ln_1)              (B, T, C)
    s = linear(a, attn.c_attn)           (B, T, 3C)    queries, keys and values of all heads, side by side
    z = packed_attention(s)              (B, T, C)     causal, every head on its own
    r = x + linear(z, attn.c_proj)       (B, T, C)     first residual
    n = layer_norm(r, ln_2)              (B, T, C)
    f = linear(n, mlp.c_fc)              (B, T, 4C)
    g = gelu(f)                          (B, T, 4C)
    y = r + linear(g, mlp.c_proj)        (B, T, C)     second residual

"Pre-norm": the norms stand inside of the branches, so that from y back to x there is a path of additions alone. A sum
hands its cotangent to both terms, and an array that is read twice adds what both readers send:

    gbar, ... = linear_vjp(ybar)         the branch of the MLP, last step first
    fbar = gelu_vjp(gbar)
    nbar, ... = linear_vjp(fbar)
    rbar = ybar + layer_norm_vjp(nbar)   r is read by the sum and by the norm
    zbar, ... = linear_vjp(rbar)         the branch of attention
    sbar = packed_attention_vjp(zbar)
    abar, ... = linear_vjp(sbar)
    xbar = rbar + layer_norm_vjp(abar)   x is read by the sum and by the norm

Without the norms' terms xbar would be ybar: however many blocks are stacked, the gradient reaches the first undamped.

Parameters are a dict under GPT-2's names, weights (in, out); "<layer>.bias" may be missing. The engine's automatic
differentiation must find the same numbers.

Sources: Radford et al. 2019, section 2.3; Xiong et al. 2020, On Layer Normalization in the Transformer Architecture;
nanoGPT's model.py. The initialisation is GPT-2's: deviation 0.02.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .gelu import gelu, gelu_vjp
from .layer_norm import layer_norm, layer_norm_vjp
from .linear import linear, linear_vjp
from .namespace import Array
from .packed_attention import packed_attention, packed_attention_vjp
from .residual import Parameters, affine, named


def init_parameters(rng: np.random.Generator, n_embd: int, *, bias: bool = True) -> dict[str, Array]:
    """Random float64 parameters of one block: norms are one and zero, weights have deviation 0.02, biases are zero."""
    c = n_embd
    layers = {"attn.c_attn": (c, 3 * c), "attn.c_proj": (c, c), "mlp.c_fc": (c, 4 * c), "mlp.c_proj": (4 * c, c)}
    params: dict[str, Array] = {f"{name}.weight": 0.02 * rng.standard_normal(shape) for name, shape in layers.items()}
    params |= {"ln_1.weight": np.ones(c), "ln_2.weight": np.ones(c)}
    if bias:
        params |= {f"{name}.bias": np.zeros(shape[1]) for name, shape in layers.items()}
        params |= {"ln_1.bias": np.zeros(c), "ln_2.bias": np.zeros(c)}
    return params


def _intermediates(x: Array, params: Parameters, n_head: int, eps: float) -> tuple[Array, ...]:
    """a, s, z, r, n, f, g of the page."""
    a = layer_norm(x, *affine(params, "ln_1"), eps=eps)  # (B, T, C)
    s = linear(a, *affine(params, "attn.c_attn"))  # (B, T, 3C)
    z = packed_attention(s, n_head=n_head, causal=True)  # (B, T, C)
    r = x + linear(z, *affine(params, "attn.c_proj"))  # (B, T, C)
    n = layer_norm(r, *affine(params, "ln_2"), eps=eps)  # (B, T, C)
    f = linear(n, *affine(params, "mlp.c_fc"))  # (B, T, 4C)
    return a, s, z, r, n, f, gelu(f)


def transformer_block(x: Array, params: Parameters, *, n_head: int, eps: float = 1e-5) -> Array:
    """y = r + MLP(LN(r)), r = x + attention(LN(x)). Shapes: (B, T, C) -> (B, T, C)."""
    *_, r, _, _, g = _intermediates(x, params, n_head, eps)
    return r + linear(g, *affine(params, "mlp.c_proj"))


def transformer_block_vjp(
    dy: Array, y: Any, x: Array, params: Parameters, *, n_head: int, eps: float = 1e-5
) -> tuple[Array, dict[str, Array]]:
    """(dx, dparams): dx has the shape of x, dparams the keys and shapes of params. y is not read."""
    a, s, z, r, n, f, g = _intermediates(x, params, n_head, eps)
    dparams: dict[str, Array] = {}

    def back(vjp: Any, layer: str, dout: Array, into: Array, **options: float) -> Array:
        """One affine layer backwards: keeps the cotangents of its weight and bias, returns that of its input."""
        dinto, *daffine = vjp(dout, None, into, *affine(params, layer), **options)
        dparams.update(named(layer, daffine))
        return dinto

    dg = back(linear_vjp, "mlp.c_proj", dy, g)  # (B, T, 4C)
    (df,) = gelu_vjp(dg, g, f)  # (B, T, 4C)
    dn = back(linear_vjp, "mlp.c_fc", df, n)  # (B, T, C)
    dr = dy + back(layer_norm_vjp, "ln_2", dn, r, eps=eps)  # (B, T, C)
    dz = back(linear_vjp, "attn.c_proj", dr, z)  # (B, T, C)
    (ds,) = packed_attention_vjp(dz, z, s, n_head=n_head, causal=True)  # (B, T, 3C)
    da = back(linear_vjp, "attn.c_attn", ds, a)  # (B, T, C)
    dx = dr + back(layer_norm_vjp, "ln_1", da, x, eps=eps)  # (B, T, C)
    return dx, dparams
