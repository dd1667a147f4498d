r"""Constants of the mathematics, to twice the digits of a double: each is the sum of two doubles, high + low.

A Python float is a double, 53 bits. In a longdouble formula (64 bits) a rounded 1 / ln 2 would be wrong in the last
eleven bits, and the oracle no oracle. So `times` adds the two in x's dtype before it multiplies: there high + low is
the constant, rounded once. (high x + low x would be inf - inf for an infinite x, where low is negative.)
"""

from __future__ import annotations

from .namespace import Array, array_namespace

Constant = tuple[float, float]  # high, low

TWO_OVER_ROOT_PI: Constant = (1.1283791670955126, 1.533545961316588e-17)
ONE_OVER_ROOT_2: Constant = (0.7071067811865476, -4.833646656726457e-17)
ONE_OVER_ROOT_2PI: Constant = (0.3989422804014327, -2.49232720227773e-17)  # the peak of the normal distribution
ONE_OVER_LN_2: Constant = (1.4426950408889634, 2.0355273740931033e-17)
ONE_OVER_LN_10: Constant = (0.4342944819032518, 1.098319650216765e-17)


def times(x: Array, constant: Constant) -> Array:
    """x times the constant, in x's dtype. Shapes: (...) -> (...)."""
    high, low = constant
    return x * (array_namespace(x).asarray(high, dtype=x.dtype) + low)
