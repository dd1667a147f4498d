r"""Attention as it began: a decoder that writes a translation looks at the encoder's states, word by word.

Letters: B batch, T target positions (queries), S source positions, H hidden, D the width of a source state.
states h (B, S, D) are what is looked at; a mask (B, S), True at real positions, leaves padding out.

    additive (Bahdanau)          e_ts = v . tanh(q_t + k_s)      q = s Wq, k = h Wk   both (.., H)
    multiplicative (Luong)       e_ts = q_t . h_s                q = s Wa             "general"

    a_t = softmax over s of e_t      (B, T, S), zero where the mask is False
    c_t = sum_s a_ts h_s             (B, T, D), the context

Backwards, from the cotangents cbar (B, T, D) and abar (B, T, S):

    hbar_s  = sum_t a_ts cbar_t
    abar_ts = abar_ts + cbar_t . h_s
    ebar_t  = softmax_vjp(abar_t)         a_ts (abar_ts - sum_r a_tr abar_tr)
additive, with u_ts = tanh(q_t + k_s):
    vbar    = sum_ts ebar_ts u_ts
    zbar_ts = ebar_ts v (1 - u_ts^2)      of what is inside tanh
    qbar_t  = sum_s zbar_ts,   kbar_s = sum_t zbar_ts
multiplicative:
    qbar_t  = sum_s ebar_ts h_s,   hbar_s = hbar_s + sum_t ebar_ts q_t

Additive costs T S H tanh's and a tensor (B, T, S, H); multiplicative is two matrix products, which is why it stayed.
Scaled by 1/sqrt(H), with separate keys and values and many heads, it is the Transformer's (attention.py).

Sources: Bahdanau, Cho and Bengio 2015, "Neural Machine Translation by Jointly Learning to Align and Translate", section
3.1 and appendix A.1.2; Luong, Pham and Manning 2015, "Effective Approaches to Attention-based Neural Machine
Translation", section 3.1.
"""

from __future__ import annotations

from .namespace import Array, array_namespace
from .softmax import softmax, softmax_vjp


def _look(scores: Array, states: Array, mask: Array | None) -> tuple[Array, Array]:
    """(context, weights) of scores (B, T, S)."""
    xp = array_namespace(scores)
    if mask is not None:
        scores = xp.where(mask[:, None, :], scores, -xp.inf)
    weights = softmax(scores, axis=-1)
    return xp.matmul(weights, states), weights


def additive_attention(q: Array, k: Array, v: Array, states: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """(context, weights). Shapes: (B, T, H), (B, S, H), (H,), (B, S, D), bool (B, S) -> (B, T, D), (B, T, S)."""
    xp = array_namespace(q)
    u = xp.tanh(q[:, :, None, :] + k[:, None, :, :])  # (B, T, S, H)
    return _look(xp.sum(u * v, axis=-1), states, mask)


def multiplicative_attention(q: Array, states: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """(context, weights). Shapes: (B, T, D), (B, S, D), bool (B, S) -> (B, T, D), (B, T, S)."""
    xp = array_namespace(q)
    return _look(xp.matmul(q, xp.matrix_transpose(states)), states, mask)


def _scores_cotangent(dcontext: Array, dweights: Array, weights: Array, states: Array) -> tuple[Array, Array]:
    """(ebar, the part of hbar that comes through the context)."""
    xp = array_namespace(dcontext)
    dweights = dweights + xp.matmul(dcontext, xp.matrix_transpose(states))
    (dscores,) = softmax_vjp(dweights, weights, weights, axis=-1)
    return dscores, xp.matmul(xp.matrix_transpose(weights), dcontext)


def additive_attention_vjp(
    dy: tuple[Array, Array],
    y: tuple[Array, Array],
    q: Array,
    k: Array,
    v: Array,
    states: Array,
    mask: Array | None = None,
) -> tuple[Array, Array, Array, Array]:
    """(dq, dk, dv, dstates)."""
    xp = array_namespace(q)
    dscores, dstates = _scores_cotangent(*dy, y[1], states)
    u = xp.tanh(q[:, :, None, :] + k[:, None, :, :])  # (B, T, S, H)
    dscores = dscores[:, :, :, None]
    dz = dscores * v * (1.0 - u * u)
    return xp.sum(dz, axis=2), xp.sum(dz, axis=1), xp.sum(dscores * u, axis=(0, 1, 2)), dstates


def multiplicative_attention_vjp(
    dy: tuple[Array, Array], y: tuple[Array, Array], q: Array, states: Array, mask: Array | None = None
) -> tuple[Array, Array]:
    """(dq, dstates)."""
    xp = array_namespace(q)
    dscores, dstates = _scores_cotangent(*dy, y[1], states)
    return xp.matmul(dscores, states), dstates + xp.matmul(xp.matrix_transpose(dscores), q)
