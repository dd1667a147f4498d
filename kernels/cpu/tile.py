"""Vector building blocks as LLVM intrinsics: a register-tile product, a moved vector, a transposed block, maximum and
exponentials of a row.

Numba's loops leave the choice of registers to LLVM's loop vectoriser, which never keeps a block of C in registers.
Here the block is written out: ROWS x (vectors x LANES) accumulators that live in registers for the whole sum over k.

All arrays are flat and contiguous; a matrix inside is an offset and strides, in elements. Nothing checks bounds.
LANES for float32 is 16 where the machine has AVX-512 and 8 elsewhere (half for float64), ROWS 8 and 4, so that the
accumulators fill half of the machine's vector registers. LLVM splits the vectors on machines with narrower ones.
"""

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .exp import exp_of_vector
from .jit import intrinsic, jit, numba_settings

# NUMBA_CPU_NAME asks for code for another machine: then nothing is assumed.
_WIDE = not numba_settings.CPU_NAME and bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))
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


def make_tile(rows: int, vectors: int, *, takes_row: bool = False) -> Any:
    """C[rows, vectors * LANES] (+)= sum_k A[i, k] B[k, j]: outer products of a column of A and a row of B.

    tile(K, a, a0, a_i, a_k, b, b0, b_k, c, c0, c_i, add): element A[i, k] is a[a0 + i a_i + k a_k], B[k, j] is
    b[b0 + k b_k + j], C[i, j] is c[c0 + i c_i + j]. K >= 1. add: 0 overwrites C, anything else adds to it.
    takes_row: two more parameters; where add is 2, C becomes the sum and row[row0 + j].
    The sum over k is one chain of (fused) multiply-adds for each element: its order never changes.
    """

    def typed(a: Any, b: Any, c: Any, *extra: Any) -> tuple[Any, Any]:
        i64 = types.int64
        signature = types.void(i64, a, i64, i64, i64, b, i64, i64, c, i64, i64, i64, *extra)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            K_, a_, a0_, a_i_, a_k_, b_, b0_, b_k_, c_, c0_, c_i_, add_, *extra_ = arguments
            _, vector, size = _formats(c.dtype)
            lanes = VECTOR_BYTES // size

            def pointer(array: Any, array_type: Any, offset: Any) -> Any:
                return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])

            def load(at: Any, offset: Any) -> Any:
                at = builder.bitcast(builder.gep(at, [offset]), vector.as_pointer())
                return builder.load(at, align=size)

            a_at, b_at, c_at = pointer(a_, a, a0_), pointer(b_, b, b0_), pointer(c_, c, c0_)
            c_rows = [builder.gep(c_at, [builder.mul(c_i_, _index(i))]) for i in range(rows)]
            starts = {"zero_c": 0, "load_c": 1} | ({"load_row": 2} if takes_row else {})
            block = {name: builder.append_basic_block(name) for name in (*starts, "loop", "done")}
            choice = builder.switch(add_, block["load_c"])
            for name, value in starts.items():
                choice.add_case(_index(value), block[name])

            builder.position_at_end(block["load_c"])
            begin = {"load_c": [[load(line, _index(v * lanes)) for v in range(vectors)] for line in c_rows]}
            builder.branch(block["loop"])
            builder.position_at_end(block["zero_c"])
            begin["zero_c"] = [[ir.Constant(vector, [0.0] * lanes)] * vectors] * rows
            builder.branch(block["loop"])
            if takes_row:
                builder.position_at_end(block["load_row"])
                at = pointer(extra_[0], extra[0], extra_[1])
                begin["load_row"] = [[load(at, _index(v * lanes)) for v in range(vectors)]] * rows
                builder.branch(block["loop"])

            builder.position_at_end(block["loop"])
            k = builder.phi(_INDEX)
            for name in starts:
                k.add_incoming(_index(0), block[name])
            sums = [[builder.phi(vector) for _ in range(vectors)] for _ in range(rows)]
            for i in range(rows):
                for v in range(vectors):
                    for name in starts:
                        sums[i][v].add_incoming(begin[name][i][v], block[name])
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

    if takes_row:

        @intrinsic
        def tile_and_row(
            typingctx: Any, K: Any, a: Any, a0: Any, a_i: Any, a_k: Any, b: Any, b0: Any, b_k: Any, c: Any, c0: Any,
            c_i: Any, add: Any, row: Any, row0: Any,
        ) -> Any:  # fmt: skip
            return typed(a, b, c, row, types.int64)

        return tile_and_row

    @intrinsic
    def tile(
        typingctx: Any, K: Any, a: Any, a0: Any, a_i: Any, a_k: Any, b: Any, b0: Any, b_k: Any, c: Any, c0: Any,
        c_i: Any, add: Any,
    ) -> Any:  # fmt: skip
        return typed(a, b, c)

    return tile


_tile_block_2 = make_tile(ROWS, 2)
_tile_block_1 = make_tile(ROWS, 1)
_tile_row_2 = make_tile(1, 2)
_tile_row_1 = make_tile(1, 1)


@intrinsic
def lanes_of(typingctx: Any, array: Any) -> Any:
    """LANES for this dtype, as a constant: a division by it is a shift. An array's itemsize is read at run time."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _index(VECTOR_BYTES // _formats(array.dtype)[2])

    return types.int64(array), generate


@intrinsic
def never_inline(typingctx: Any) -> Any:
    """Compile the function this stands in: a call of tens of nanoseconds' work, many places to call it from."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


@jit(inner=True)
def product(rows, K, a, a0, a_i, a_k, b, b0, b_k, c, c0, c_i, columns, add):
    """C[rows, columns] (+)= A B with the offsets and strides of `make_tile`; rows is ROWS or 1, columns whole
    vectors.
    """
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


class _Row:
    """Walks flat[start : start + size] a vector at a time; the last, partial vector is loaded and stored under a
    mask.
    """

    def __init__(self, context: Any, builder: Any, size: Any, numba_type: Any) -> None:
        self.context, self.builder, self.size = context, builder, size
        self.scalar, self.vector, self.itemsize = _formats(numba_type)
        self.lanes = VECTOR_BYTES // self.itemsize
        self.mask_type = ir.VectorType(ir.IntType(1), self.lanes)

    def splat(self, value: Any) -> Any:
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(
            first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        )

    def constant(self, value: float) -> Any:
        return ir.Constant(self.vector, [value] * self.lanes)

    def pointer(self, array: Any, array_type: Any, start: Any) -> Any:
        return self.builder.gep(self.context.make_array(array_type)(self.context, self.builder, array).data, [start])

    def _at(self, pointer: Any, i: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(pointer, [i]), self.vector.as_pointer())

    def load(self, pointer: Any, i: Any, mask: Any, otherwise: Any) -> Any:
        if mask is None:
            return self.builder.load(self._at(pointer, i), align=self.itemsize)
        name = f"llvm.masked.load.v{self.lanes}f{8 * self.itemsize}.p0"
        kind = ir.FunctionType(self.vector, [self.vector.as_pointer(), ir.IntType(32), self.mask_type, self.vector])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        align = ir.Constant(ir.IntType(32), self.itemsize)
        return self.builder.call(function, [self._at(pointer, i), align, mask, otherwise])

    def store(self, value: Any, pointer: Any, i: Any, mask: Any) -> None:
        if mask is None:
            self.builder.store(value, self._at(pointer, i), align=self.itemsize)
            return
        name = f"llvm.masked.store.v{self.lanes}f{8 * self.itemsize}.p0"
        parts = [self.vector, self.vector.as_pointer(), ir.IntType(32), self.mask_type]
        function = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(ir.VoidType(), parts), name)
        self.builder.call(function, [value, self._at(pointer, i), ir.Constant(ir.IntType(32), self.itemsize), mask])

    def fold(self, step: Any, start: Any) -> Any:
        """step(i, mask, carried) -> carried over all vectors of the row, from the vector `start`; mask None: whole."""
        builder = self.builder
        names = ("row_test", "row_whole", "row_rest", "row_part", "row_done")
        test, whole, rest, part, done = (builder.append_basic_block(name) for name in names)
        entry = builder.block
        builder.branch(test)
        builder.position_at_end(test)
        i, carried = builder.phi(_INDEX), builder.phi(self.vector)
        i.add_incoming(_index(0), entry)
        carried.add_incoming(start, entry)
        after = builder.add(i, _index(self.lanes))
        builder.cbranch(builder.icmp_signed("<=", after, self.size), whole, rest)
        builder.position_at_end(whole)
        carried.add_incoming(step(i, None, carried), builder.block)
        i.add_incoming(after, builder.block)
        builder.branch(test)
        builder.position_at_end(rest)
        builder.cbranch(builder.icmp_signed("<", i, self.size), part, done)
        builder.position_at_end(part)
        narrow = ir.IntType(32)
        left = builder.trunc(builder.sub(self.size, i), narrow)
        lefts = builder.insert_element(
            ir.Constant(ir.VectorType(narrow, self.lanes), ir.Undefined), left, ir.Constant(narrow, 0)
        )
        zeros = ir.Constant(ir.VectorType(narrow, self.lanes), [0] * self.lanes)
        lefts = builder.shuffle_vector(lefts, lefts, zeros)
        order = ir.Constant(ir.VectorType(narrow, self.lanes), list(range(self.lanes)))
        last = step(i, builder.icmp_signed("<", order, lefts), carried)
        part_end = builder.block
        builder.branch(done)
        builder.position_at_end(done)
        result = builder.phi(self.vector)
        result.add_incoming(carried, rest)
        result.add_incoming(last, part_end)
        return result

    def across(self, vector: Any, combine: Any) -> Any:
        """One number from the lanes of a vector: halves combined until one is left."""
        narrow, width = ir.IntType(32), self.lanes
        while width > 1:
            width //= 2
            order = [*range(width, 2 * width)] + [0] * (self.lanes - width)
            mask = ir.Constant(ir.VectorType(narrow, self.lanes), order)
            vector = combine(vector, self.builder.shuffle_vector(vector, vector, mask))
        return self.builder.extract_element(vector, ir.Constant(narrow, 0))


@intrinsic
def largest(typingctx: Any, row: Any, start: Any, size: Any) -> Any:
    """Largest of row[start : start + size], NaN ignored; -inf for nothing. LLVM's own loop would need nnan."""
    signature = row.dtype(row, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        walk = _Row(context, builder, arguments[2], row.dtype)
        at, lowest = walk.pointer(arguments[0], row, arguments[1]), walk.constant(float("-inf"))

        def larger(a: Any, b: Any) -> Any:  # b where b > a: false for NaN, so NaN never enters
            return builder.select(builder.fcmp_ordered(">", b, a, flags=("contract",)), b, a)

        best = walk.fold(lambda i, mask, best: larger(best, walk.load(at, i, mask, lowest)), lowest)
        return walk.across(best, larger)

    return signature, generate


@intrinsic
def exp_row(typingctx: Any, x: Any, x0: Any, y: Any, y0: Any, size: Any, shift: Any) -> Any:
    """y[y0 + i] = e^(x[x0 + i] - shift) for i < size; returns their sum. x and y may be one place."""
    signature = y.dtype(x, types.int64, y, types.int64, types.int64, y.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x_, x0_, y_, y0_, size_, shift_ = arguments
        walk = _Row(context, builder, size_, y.dtype)
        x_at, y_at = walk.pointer(x_, x, x0_), walk.pointer(y_, y, y0_)
        shifts, zero = walk.splat(shift_), walk.constant(0.0)

        def add(a: Any, b: Any) -> Any:
            return builder.fadd(a, b, flags=("contract",))

        def step(i: Any, mask: Any, total: Any) -> Any:
            difference = builder.fsub(walk.load(x_at, i, mask, zero), shifts, flags=("contract",))
            e = exp_of_vector(builder, y.dtype, walk.lanes, difference)
            walk.store(e, y_at, i, mask)
            return add(total, e if mask is None else builder.select(mask, e, zero))

        return walk.across(walk.fold(step, zero), add)

    return signature, generate


@intrinsic
def move(typingctx: Any, a: Any, a0: Any, b: Any, b0: Any) -> Any:
    """b[b0 + j] = a[a0 + j] for one vector, j < LANES. A loop would first compare the addresses of a and b."""
    signature = types.void(a, types.int64, b, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        walk, at = _Row(context, builder, None, a.dtype), _index(0)
        vector = walk.load(walk.pointer(arguments[0], a, arguments[1]), at, None, None)
        walk.store(vector, walk.pointer(arguments[2], b, arguments[3]), at, None)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Asks for the line of the cache with array[index], as far as the second cache: nothing waits, no address is wrong."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = builder.gep(context.make_array(array)(context, builder, arguments[0]).data, [arguments[1]])
        address, narrow = builder.bitcast(address, ir.IntType(8).as_pointer()), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, narrow, narrow, narrow])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, *(ir.Constant(narrow, value) for value in (0, 2, 1))])  # to read, L2, data
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@intrinsic
def transpose(typingctx: Any, a: Any, a0: Any, a_i: Any, b: Any, b0: Any, b_i: Any) -> Any:
    """b[b0 + j b_i + i] = a[a0 + i a_i + j] for a block of LANES x LANES, exchanged in registers by powers of two."""
    i64 = types.int64
    signature = types.void(a, i64, i64, b, i64, i64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a_, a0_, a_i_, b_, b0_, b_i_ = arguments
        walk = _Row(context, builder, None, a.dtype)
        a_at, b_at, lanes = walk.pointer(a_, a, a0_), walk.pointer(b_, b, b0_), walk.lanes
        rows = [walk.load(a_at, builder.mul(a_i_, _index(i)), None, None) for i in range(lanes)]
        span = 1
        while span < lanes:
            low = [j if not j & span else lanes + (j ^ span) for j in range(lanes)]  # second operand: lanes + index
            high = [j ^ span if not j & span else lanes + j for j in range(lanes)]
            masks = [ir.Constant(ir.VectorType(ir.IntType(32), lanes), order) for order in (low, high)]
            for i in range(lanes):
                if not i & span:
                    pair = rows[i], rows[i | span]
                    rows[i], rows[i | span] = (builder.shuffle_vector(*pair, mask) for mask in masks)
            span *= 2
        for j in range(lanes):
            walk.store(rows[j], b_at, builder.mul(b_i_, _index(j)), None)
        return context.get_dummy_value()

    return signature, generate
