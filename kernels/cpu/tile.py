"""Vector building blocks as LLVM intrinsics: a register-tile product and the largest value of a row.

Numba's loops leave the choice of registers to LLVM's loop vectoriser, which never keeps a block of C in registers. Here the
block is written out: ROWS x (vectors x LANES) accumulators that live in registers for the whole sum over k.

All arrays are flat and contiguous; a matrix inside is an offset and strides, in elements. Nothing checks bounds.
LANES for float32 is 16 where the machine has AVX-512 and 8 elsewhere (half for float64), ROWS 8 and 4, so that the
accumulators fill half of the machine's vector registers. LLVM splits the vectors on machines with narrower ones.
"""

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import jit

_WIDE = bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))
VECTOR_BYTES = 64 if _WIDE else 32
ROWS = 8 if _WIDE else 4
_INDEX = ir.IntType(64)


def _formats(numba_type: Any) -> tuple[Any, Any, int]:
    """(LLVM scalar type, LLVM vector type, bytes of a scalar)"""
    scalar = ir.FloatType() if numba_type == types.float32 else ir.DoubleType()
    size = 4 if numba_type == types.float32 else 8
    return scalar, ir.VectorType(scalar, VECTOR_BYTES // size), size


def _index(value: int) -> Any:
    return ir.Constant(_INDEX, value)


def make_tile(rows: int, vectors: int) -> Any:
    """C[rows, vectors * LANES] (+)= sum_k A[i, k] B[k, j]: outer products of a column of A and a row of B.

    tile(K, a, a0, a_i, a_k, b, b0, b_k, c, c0, c_i, add): element A[i, k] is a[a0 + i a_i + k a_k], B[k, j] is
    b[b0 + k b_k + j], C[i, j] is c[c0 + i c_i + j]. K >= 1. add: 0 overwrites C, anything else adds to it.
    The sum over k is one chain of (fused) multiply-adds for each element: its order never changes.
    """

    @intrinsic
    def tile(
        typingctx: Any,
        K: Any,
        a: Any,
        a0: Any,
        a_i: Any,
        a_k: Any,
        b: Any,
        b0: Any,
        b_k: Any,
        c: Any,
        c0: Any,
        c_i: Any,
        add: Any,
    ) -> Any:  # noqa: E501
        i64 = types.int64
        signature = types.void(i64, a, i64, i64, i64, b, i64, i64, c, i64, i64, i64)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            K_, a_, a0_, a_i_, a_k_, b_, b0_, b_k_, c_, c0_, c_i_, add_ = arguments
            scalar, vector, size = _formats(c.dtype)
            lanes = VECTOR_BYTES // size

            def pointer(array: Any, array_type: Any, offset: Any) -> Any:
                return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])

            def load(at: Any, offset: Any) -> Any:
                at = builder.bitcast(builder.gep(at, [offset]), vector.as_pointer())
                return builder.load(at, align=size)

            a_at, b_at, c_at = pointer(a_, a, a0_), pointer(b_, b, b0_), pointer(c_, c, c0_)
            c_rows = [builder.gep(c_at, [builder.mul(c_i_, _index(i))]) for i in range(rows)]
            block = {name: builder.append_basic_block(name) for name in ("load_c", "zero_c", "loop", "done")}
            builder.cbranch(builder.icmp_signed("!=", add_, _index(0)), block["load_c"], block["zero_c"])

            builder.position_at_end(block["load_c"])
            before = [[load(row, _index(v * lanes)) for v in range(vectors)] for row in c_rows]
            builder.branch(block["loop"])
            builder.position_at_end(block["zero_c"])
            zero = ir.Constant(vector, [0.0] * lanes)
            builder.branch(block["loop"])

            builder.position_at_end(block["loop"])
            k = builder.phi(_INDEX)
            k.add_incoming(_index(0), block["load_c"])
            k.add_incoming(_index(0), block["zero_c"])
            sums = [[builder.phi(vector) for _ in range(vectors)] for _ in range(rows)]
            for i in range(rows):
                for v in range(vectors):
                    sums[i][v].add_incoming(before[i][v], block["load_c"])
                    sums[i][v].add_incoming(zero, block["zero_c"])
            b_k_at = builder.gep(b_at, [builder.mul(k, b_k_)])
            a_k_at = builder.gep(a_at, [builder.mul(k, a_k_)])
            b_row = [load(b_k_at, _index(v * lanes)) for v in range(vectors)]
            fma_type = ir.FunctionType(vector, [vector] * 3)
            fma = cgutils.get_or_insert_function(builder.module, fma_type, f"llvm.fmuladd.v{lanes}f{8 * size}")
            undefined = ir.Constant(vector, ir.Undefined)
            everywhere = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
            after = []
            for i in range(rows):
                a_ik = builder.load(builder.gep(a_k_at, [builder.mul(a_i_, _index(i))]))
                a_ik = builder.insert_element(undefined, a_ik, ir.Constant(ir.IntType(32), 0))
                a_ik = builder.shuffle_vector(a_ik, undefined, everywhere)
                after.append([builder.call(fma, [a_ik, b_row[v], sums[i][v]]) for v in range(vectors)])
            next_k = builder.add(k, _index(1))
            k.add_incoming(next_k, block["loop"])
            for i in range(rows):
                for v in range(vectors):
                    sums[i][v].add_incoming(after[i][v], block["loop"])
            builder.cbranch(builder.icmp_signed("<", next_k, K_), block["loop"], block["done"])

            builder.position_at_end(block["done"])
            for i in range(rows):
                for v in range(vectors):
                    at = builder.bitcast(builder.gep(c_rows[i], [_index(v * lanes)]), vector.as_pointer())
                    builder.store(after[i][v], at, align=size)
            return context.get_dummy_value()

        return signature, generate

    return tile


_tile_block_2 = make_tile(ROWS, 2)
_tile_block_1 = make_tile(ROWS, 1)
_tile_row_2 = make_tile(1, 2)
_tile_row_1 = make_tile(1, 1)


@intrinsic
def never_inline(typingctx: Any) -> Any:
    """Compile the function this stands in as it is: a call of tens of nanoseconds' work, many places to call it from."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


@jit(inner=True)
def product(rows, K, a, a0, a_i, a_k, b, b0, b_k, c, c0, c_i, columns, add):
    """C[rows, columns] (+)= A B with the offsets and strides of `make_tile`; rows is ROWS or 1, columns whole vectors."""
    never_inline()
    lanes = VECTOR_BYTES // c.itemsize
    j = 0
    if rows == 1:
        while j + 2 * lanes <= columns:
            _tile_row_2(K, a, a0, a_i, a_k, b, b0 + j, b_k, c, c0 + j, c_i, add)
            j += 2 * lanes
        if j < columns:
            _tile_row_1(K, a, a0, a_i, a_k, b, b0 + j, b_k, c, c0 + j, c_i, add)
    else:
        while j + 2 * lanes <= columns:
            _tile_block_2(K, a, a0, a_i, a_k, b, b0 + j, b_k, c, c0 + j, c_i, add)
            j += 2 * lanes
        if j < columns:
            _tile_block_1(K, a, a0, a_i, a_k, b, b0 + j, b_k, c, c0 + j, c_i, add)


@intrinsic
def largest(typingctx: Any, row: Any, start: Any, size: Any) -> Any:
    """Largest of row[start : start + size], NaN ignored; -inf when there is nothing (LLVM's own loops need nnan for a maximum)."""
    signature = row.dtype(row, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        row_, start_, size_ = arguments
        scalar, vector, itemsize = _formats(row.dtype)
        lanes = VECTOR_BYTES // itemsize
        at = builder.gep(context.make_array(row)(context, builder, row_).data, [start_])
        i32 = ir.IntType(32)

        def larger(a: Any, b: Any) -> Any:  # b where b > a: false for NaN, so NaN never enters
            return builder.select(builder.fcmp_ordered(">", b, a, flags=("contract",)), b, a)

        def load(offset: Any) -> Any:
            return builder.load(builder.bitcast(builder.gep(at, [offset]), vector.as_pointer()), align=itemsize)

        names = ("vectors", "vectors_body", "fold", "rest", "rest_body", "done")
        block = {name: builder.append_basic_block(name) for name in names}
        lowest = ir.Constant(vector, [float("-inf")] * lanes)
        entry = builder.block
        builder.branch(block["vectors"])

        builder.position_at_end(block["vectors"])  # whole vectors, four at a time would gain nothing on short rows
        i = builder.phi(_INDEX)
        best = builder.phi(vector)
        i.add_incoming(_index(0), entry)
        best.add_incoming(lowest, entry)
        after = builder.add(i, _index(lanes))
        builder.cbranch(builder.icmp_signed("<=", after, size_), block["vectors_body"], block["fold"])
        builder.position_at_end(block["vectors_body"])
        best.add_incoming(larger(best, load(i)), block["vectors_body"])
        i.add_incoming(after, block["vectors_body"])
        builder.branch(block["vectors"])

        builder.position_at_end(block["fold"])  # halve until one lane is left
        folded, width = best, lanes
        while width > 1:
            width //= 2
            order = [*range(width, 2 * width)] + [0] * (lanes - width)
            mask = ir.Constant(ir.VectorType(i32, lanes), order)
            folded = larger(folded, builder.shuffle_vector(folded, folded, mask))
        first = builder.extract_element(folded, ir.Constant(i32, 0))
        builder.branch(block["rest"])

        builder.position_at_end(block["rest"])
        j = builder.phi(_INDEX)
        result = builder.phi(scalar)
        j.add_incoming(i, block["fold"])
        result.add_incoming(first, block["fold"])
        builder.cbranch(builder.icmp_signed("<", j, size_), block["rest_body"], block["done"])
        builder.position_at_end(block["rest_body"])
        result.add_incoming(larger(result, builder.load(builder.gep(at, [j]))), block["rest_body"])
        j.add_incoming(builder.add(j, _index(1)), block["rest_body"])
        builder.branch(block["rest"])

        builder.position_at_end(block["done"])
        return result

    return signature, generate
