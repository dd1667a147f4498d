"""AdamW (Loshchilov and Hutter, 2019) as PyTorch computes it, one pass over flat parameters, in place; and what clipping by
the global norm needs, a sum of squares and a scaling in place.

    p <- p (1 - lr wd);  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
    p <- p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)              g is grad times grad_scale (the
    clipping factor)
Five streams of memory and no temporary: the pass runs at the speed of memory.
"""

import math

import numpy as np
from numba import prange

from .jit import CONTRACT, FLOATS, REDUCE, frozen, jit
from .threads import CHUNK, PARALLEL_WORK, chunks


@jit(fastmath=CONTRACT)
def adamw_update_01_fused(param, grad, m, v, rates, first, last):
    """All five streams in one pass: 800000 float32 in 227 us. Elements first to last; rates = (decay, beta1,
    beta2, step size, 1 / sqrt(1 - beta2^t), eps, grad scale).
    """
    number = param.dtype.type
    one = number(1)
    decay, beta1, beta2 = number(rates[0]), number(rates[1]), number(rates[2])
    rest1, rest2 = number(1.0 - rates[1]), number(1.0 - rates[2])
    step, root, eps, scale = number(rates[3]), number(rates[4]), number(rates[5]), number(rates[6])
    param, grad, m, v = param[first:last], grad[first:last], m[first:last], v[first:last]
    for i in range(param.size):
        g = grad[i] * scale
        m_i = beta1 * m[i] + rest1 * g
        v_i = beta2 * v[i] + rest2 * g * g
        m[i] = m_i
        v[i] = v_i
        param[i] = param[i] * decay - step * m_i * (one / (math.sqrt(v_i) * root + eps))


@jit(parallel=True)
def adamw_update_02_threads(param, grad, m, v, rates, blocks):
    """Chunks on all threads: 1.7 times rung 01 on two cores (800000 float32: 227 to 138 us)."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        adamw_update_01_fused(param, grad, m, v, rates, b * CHUNK, (b + 1) * CHUNK)


@jit(fastmath=REDUCE)
def squared_norm_01_chunks(grad, parts, first, last):
    """Vector lanes in float64: 800000 float32 in 50 us. parts[b] = sum of squares of chunk b, in float64, for chunks
    first to last.
    """
    for b in range(first, last):
        chunk = grad[b * CHUNK : (b + 1) * CHUNK]
        total = 0.0
        for i in range(chunk.size):
            g = np.float64(chunk[i])
            total += g * g
        parts[b] = total


@jit(parallel=True)
def squared_norm_02_threads(grad, parts):
    """Chunks on all threads: 1.2 times rung 01 on two cores with everything around it (800000 float32: 50 to 43 us)."""
    for index in prange(parts.size):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        squared_norm_01_chunks(grad, parts, b, b + 1)


@jit()
def scale_01_chunk(grad, factor, first, last):
    """Elements first to last of grad *= factor."""
    part, number = grad[first:last], grad.dtype.type(factor)
    for i in range(part.size):
        part[i] *= number


@jit(parallel=True)
def scale_02_threads(grad, factor, blocks):
    """Chunks on all threads."""
    for index in prange(blocks):
        b = np.int64(index)  # not the unsigned index: one compiled version of the callee
        scale_01_chunk(grad, factor, b * CHUNK, (b + 1) * CHUNK)


def _check(name: str, **arrays: np.ndarray) -> None:
    first = next(iter(arrays.values()))
    for what, array in arrays.items():
        if array.ndim != 1 or not array.flags.c_contiguous:
            raise ValueError(f"{name}: {what} has shape {array.shape}, but wants a flat contiguous array")
        if array.size != first.size or array.dtype != first.dtype or array.dtype not in FLOATS:
            raise ValueError(
                f"{name}: {what} is {array.dtype}[{array.size}], but wants floats like {first.dtype}[{first.size}]"
            )


def adamw_update(
    param: np.ndarray, grad: np.ndarray, m: np.ndarray, v: np.ndarray, *,
    lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, step: int, grad_scale: float = 1.0,
) -> None:  # fmt: skip
    """One step on flat contiguous arrays of one dtype: param, m, v change in place, grad does not. step counts from
    1.
    """
    _check("adamw_update", param=param, grad=grad, m=m, v=v)
    if step < 1:
        raise ValueError(f"adamw_update: step is {step}, but counts from 1")
    rates = (
        1.0 - lr * weight_decay, float(beta1), float(beta2), lr / (1.0 - beta1**step),
        1.0 / math.sqrt(1.0 - beta2**step), float(eps), float(grad_scale),
    )  # fmt: skip
    if param.size < PARALLEL_WORK:
        adamw_update_01_fused(param, frozen(grad), m, v, rates, 0, param.size)
    else:
        adamw_update_02_threads(param, frozen(grad), m, v, rates, chunks(param.size))


def squared_norm(grad: np.ndarray) -> float:
    """Sum of squares of a flat contiguous array, accumulated in float64; the same bits for any number of threads."""
    _check("squared_norm", grad=grad)
    parts = np.empty(chunks(grad.size), np.float64)
    if grad.size < PARALLEL_WORK:
        squared_norm_01_chunks(frozen(grad), parts, 0, parts.size)
    else:
        squared_norm_02_threads(frozen(grad), parts)
    return math.fsum(parts)


def scale_in_place(grad: np.ndarray, factor: float) -> None:
    """grad *= factor, for a flat contiguous array."""
    _check("scale_in_place", grad=grad)
    if grad.size < PARALLEL_WORK:
        scale_01_chunk(grad, float(factor), 0, grad.size)
    else:
        scale_02_threads(grad, float(factor), chunks(grad.size))
