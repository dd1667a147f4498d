"""What attention does to a row beside products, as LLVM intrinsics: a vector at a time, the last one under a mask.

A loop that Numba compiles would first compare the addresses of what it reads and writes, for every row anew; rows of 32
numbers are two vectors, so that the question costs more than the answer.
"""

from typing import Any

from numba import types

from .exp import exp_of_vector
from .jit import intrinsic
from .tile import _Row


@intrinsic
def scale_row(typingctx: Any, x: Any, x0: Any, y: Any, y0: Any, size: Any, factor: Any) -> Any:
    """y[y0 + i] = factor x[x0 + i] for i < size. A loop would first compare the addresses of x and y, for each row anew."""
    signature = types.void(x, types.int64, y, types.int64, types.int64, y.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x_, x0_, y_, y0_, size_, factor_ = arguments
        walk = _Row(context, builder, size_, y.dtype)
        x_at, y_at = walk.pointer(x_, x, x0_), walk.pointer(y_, y, y0_)
        factors, zero = walk.splat(factor_), walk.constant(0.0)

        def step(i: Any, mask: Any, carried: Any) -> Any:
            walk.store(builder.fmul(walk.load(x_at, i, mask, zero), factors, flags=("contract",)), y_at, i, mask)
            return carried

        walk.fold(step, zero)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def softmax_row_back(typingctx: Any, p: Any, d: Any, at: Any, size: Any, lse: Any, delta: Any) -> Any:
    """p[at + i] = e^(p[at + i] - lse), then d[at + i] = p[at + i] (d[at + i] - delta), for i < size: both in one pass."""
    signature = types.void(p, d, types.int64, types.int64, p.dtype, p.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        p_, d_, at_, size_, lse_, delta_ = arguments
        walk = _Row(context, builder, size_, p.dtype)
        p_at, d_at = walk.pointer(p_, p, at_), walk.pointer(d_, d, at_)
        lses, deltas, zero = walk.splat(lse_), walk.splat(delta_), walk.constant(0.0)

        def step(i: Any, mask: Any, carried: Any) -> Any:
            shifted = builder.fsub(walk.load(p_at, i, mask, zero), lses, flags=("contract",))
            e = exp_of_vector(builder, p.dtype, walk.lanes, shifted)
            difference = builder.fsub(walk.load(d_at, i, mask, zero), deltas, flags=("contract",))
            walk.store(e, p_at, i, mask)
            walk.store(builder.fmul(e, difference, flags=("contract",)), d_at, i, mask)
            return carried

        walk.fold(step, zero)
        return context.get_dummy_value()

    return signature, generate
