r"""Weights in fewer bits, for a model that is only read: bfloat16, and int8 with one scale a row.

A model that writes one token after the other reads all its weights for each, and does two operations with each. What that
takes is how long memory takes, so half the bytes are half the time. Two ways to round a weight w, and how far off the
rounded one is:

bfloat16 is a float32 without its lower 16 bits: 8 exponent bits as before (nothing overflows but by rounding up), and 8
significant bits with the leading one, so that neighbours near 2^e are 2^(e-7) apart. Rounded to the nearest, ties to even,

    |w - bfloat16(w)| <= 2^(e-8) <= 2^-8 |w|                  2^e <= |w| < 2^(e+1), for normal numbers

float16 has 11 significant bits, and so 2^-11 |w|, but only 5 exponent bits: above 65504 there is nothing, below 2^-14 the
error is at most 2^-25, whatever w is.

int8, symmetric: a row of the matrix shares a scale, the largest number of the row is 127, and zero stays zero:

    scale = max_i |w_i| / 127,    q_i = round(w_i / scale) in -127 ... 127,    w_i is taken for q_i scale

The quotient is rounded to the nearest integer, so it is off by 1/2 at most (computed in a format with the unit roundoff u,
by 127 u more, and by 127 more u for the scale's own rounding):

    |w_i - q_i scale| <= scale (1/2 + 254 u)

and a product with x, whatever its signs, is off by no more than the weights' errors together:

    |sum_i w_i x_i - scale sum_i q_i x_i| <= scale (1/2 + 254 u) sum_i |x_i|                                       (*)

A scale a row, not one for the matrix, because the bound goes with the largest number that shares it. The rows are those of a
weight (out, in), as layers store it: then the scale is a factor of the whole sum, and is multiplied once.

A row with a NaN or an infinity has the scale NaN, so that the product shows it; one whose numbers are so small that its scale
would not be a normal number becomes zero.

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
(the symmetric case, of the weights alone); Kalamkar et al. 2019, "A Study of BFLOAT16 for Deep Learning Training".
"""

from __future__ import annotations

import math

import numpy as np

from .namespace import Array, array_namespace

LARGEST = 127
"""-128 is left out: then -w is quantized to -q."""


def quantize(w: Array) -> tuple[Array, Array]:
    """(q (..., n) int8, scale (...)) of w (..., n): w is about q scale, row by row."""
    xp = array_namespace(w)
    if not w.shape[-1]:
        return xp.astype(w, xp.int8), xp.zeros(w.shape[:-1], dtype=w.dtype)
    largest = xp.max(xp.abs(w), axis=-1, keepdims=True)  # (..., 1)
    scale = largest / LARGEST
    usable = (scale >= xp.finfo(w.dtype).smallest_normal) & (scale < math.inf)
    q = xp.where(usable, xp.round(xp.where(usable, w, 0.0) / xp.where(usable, scale, 1.0)), 0.0)
    scale = xp.where(usable, scale, xp.where(largest < math.inf, 0.0, math.nan))
    return xp.astype(xp.clip(q, -LARGEST, LARGEST), xp.int8), xp.astype(scale[..., 0], w.dtype)


def dequantize(q: Array, scale: Array) -> Array:
    """q scale (..., n), in the scale's dtype."""
    xp = array_namespace(q)
    return xp.astype(q, scale.dtype) * scale[..., None]


def quantize_definition(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same number by number, for w (R, n) with finite numbers that are not tiny."""
    q, scales = np.zeros(w.shape, np.int8), np.zeros(len(w), w.dtype)
    for r, row in enumerate(w):
        largest = w.dtype.type(0)
        for number in row:
            largest = max(largest, abs(number))
        scales[r] = largest / w.dtype.type(LARGEST)
        for i, number in enumerate(row):
            q[r, i] = round(number / scales[r]) if largest else 0  # Python's round too takes ties to the even one
    return q, scales


def error_bound(scale: Array, unit_roundoff: float) -> Array:
    """The largest |w - q scale| of each row; times sum |x|, that of a product: (*)."""
    return scale * (0.5 + 2 * LARGEST * unit_roundoff)


def bfloat16_bits(w: np.ndarray) -> np.ndarray:
    """The bits (uint16) of the bfloat16 next to each float32; of two as near the even one. NaN stays NaN.

    Half a unit of the last place, less the smallest bit, carries into the upper half exactly if the lower half is above one
    half; where it is one half, the upper half's own last bit decides.
    """
    bits = np.asarray(w, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(w), np.uint32(0x7FC0), rounded).astype(np.uint16)


def from_bfloat16_bits(bits: np.ndarray) -> np.ndarray:
    """float32, exactly: the lower half is zero."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
