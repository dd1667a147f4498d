"""What attention does to a row beside products, as LLVM intrinsics: a vector at a time, the last one under a mask.

A loop that Numba compiles would first compare the addresses of what it reads and writes, for every row anew; rows of 32
numbers are two vectors, so that the question costs more than the answer.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

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


def _fma(builder: Any, walk: _Row, *arguments: Any) -> Any:
    kind = ir.FunctionType(walk.vector, [walk.vector] * 3)
    name = f"llvm.fmuladd.v{walk.lanes}f{8 * walk.itemsize}"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


@intrinsic
def dot_row(typingctx: Any, x: Any, x0: Any, y: Any, y0: Any, size: Any) -> Any:
    """sum over i < size of x[x0 + i] y[y0 + i]."""
    signature = x.dtype(x, types.int64, y, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x_, x0_, y_, y0_, size_ = arguments
        walk = _Row(context, builder, size_, x.dtype)
        x_at, y_at, zero = walk.pointer(x_, x, x0_), walk.pointer(y_, y, y0_), walk.constant(0.0)

        def step(i: Any, mask: Any, total: Any) -> Any:
            return _fma(builder, walk, walk.load(x_at, i, mask, zero), walk.load(y_at, i, mask, zero), total)

        return walk.across(walk.fold(step, zero), lambda a, b: builder.fadd(a, b, flags=("contract",)))

    return signature, generate


@intrinsic
def add_four_rows(typingctx: Any, p: Any, p0: Any, v: Any, v0: Any, stride: Any, out: Any, size: Any) -> Any:
    """out[i] += sum over j < 4 of p[p0 + j] v[v0 + j stride + i], for i < size: out is loaded and stored once for four."""
    signature = types.void(p, types.int64, v, types.int64, types.int64, out, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        p_, p0_, v_, v0_, stride_, out_, size_ = arguments
        walk = _Row(context, builder, size_, out.dtype)
        start, zero = ir.Constant(ir.IntType(64), 0), walk.constant(0.0)
        p_at, out_at = walk.pointer(p_, p, p0_), walk.pointer(out_, out, start)
        factors, rows, row = [], [], walk.pointer(v_, v, v0_)
        for j in range(4):
            factors.append(walk.splat(builder.load(builder.gep(p_at, [ir.Constant(ir.IntType(64), j)]))))
            rows.append(row)
            row = builder.gep(row, [stride_])

        def step(i: Any, mask: Any, carried: Any) -> Any:
            total = walk.load(out_at, i, mask, zero)
            for factor, at in zip(factors, rows, strict=True):
                total = _fma(builder, walk, factor, walk.load(at, i, mask, zero), total)
            walk.store(total, out_at, i, mask)
            return carried

        walk.fold(step, zero)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def add_row(typingctx: Any, factor: Any, x: Any, x0: Any, y: Any, y0: Any, size: Any) -> Any:
    """y[y0 + i] += factor x[x0 + i] for i < size."""
    signature = types.void(y.dtype, x, types.int64, y, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        factor_, x_, x0_, y_, y0_, size_ = arguments
        walk = _Row(context, builder, size_, y.dtype)
        x_at, y_at = walk.pointer(x_, x, x0_), walk.pointer(y_, y, y0_)
        factors, zero = walk.splat(factor_), walk.constant(0.0)

        def step(i: Any, mask: Any, carried: Any) -> Any:
            total = _fma(builder, walk, factors, walk.load(x_at, i, mask, zero), walk.load(y_at, i, mask, zero))
            walk.store(total, y_at, i, mask)
            return carried

        walk.fold(step, zero)
        return context.get_dummy_value()

    return signature, generate
