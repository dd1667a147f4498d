"""Dot products of a few rows of a matrix with a vector, the matrix in whatever form it is stored, as LLVM intrinsics.

A line of the cache of every row is asked for ahead of its turn and taken at once, so that memory never waits for arithmetic.
Each row has one vector of partial sums: the order in which its products are added depends on its length alone, not on the
other rows, nor on where the arrays lie. What is left at a row's end is loaded under a mask.

What a number of W is stored as says the dtype of its array; it is widened in registers:

    float32, float64   as it is
    uint16             the bits of a bfloat16, which are the upper half of a float32's: shifted left by 16
    int16              the bits of a float16 (Numba has none for the CPU): converted
    int8               converted; the caller multiplies the sum by the row's scale
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .jit import intrinsic
from .tile import VECTOR_BYTES

_INDEX, _NARROW, _BYTE = ir.IntType(64), ir.IntType(32), ir.IntType(8)
_STORED = {
    types.float32: (ir.FloatType(), "f32", 4),
    types.float64: (ir.DoubleType(), "f64", 8),
    types.uint16: (ir.IntType(16), "i16", 2),
    types.int16: (ir.HalfType(), "f16", 2),
    types.int8: (ir.IntType(8), "i8", 1),
}
"""Elements of W's array -> (LLVM's type, its name there, bytes)."""

_LINE, _AHEAD = 64, 16384
"""Bytes of a line of the cache, and from the line that is taken to the one that is asked for."""


def _widened(builder: Any, stored: Any, value: Any, kind: Any) -> Any:
    """A number, or a vector of them, as it is stored -> as `kind`, in which it is added up."""
    if stored == types.uint16:
        lanes = kind.count if isinstance(kind, ir.VectorType) else 0
        wide = ir.VectorType(_NARROW, lanes) if lanes else _NARROW
        upper = builder.shl(builder.zext(value, wide), ir.Constant(wide, [16] * lanes if lanes else 16))
        return builder.bitcast(upper, kind)
    if stored == types.int8:
        return builder.sitofp(value, kind)
    return value if value.type == kind else builder.fpext(value, kind)


@intrinsic
def widened(typingctx: Any, value: Any, like: Any) -> Any:
    """One number of W as it is stored, as a number of the type of `like`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        stored = arguments[0]
        if value == types.int16:
            stored = builder.bitcast(stored, ir.HalfType())
        return _widened(builder, value, stored, _STORED[like][0])

    return like(value, like), generate


class _Dots:
    """Writes the code of one `dots`. lanes: numbers in a vector; steps: vectors of x that a line of W meets."""

    def __init__(self, context: Any, builder: Any, stored: Any, number: Any) -> None:
        self.context, self.builder, self.type = context, builder, stored
        self.stored, self.number = _STORED[stored], _STORED[number]
        self.lanes = VECTOR_BYTES // self.number[2]
        self.steps = max(1, _LINE // (self.lanes * self.stored[2]))
        self.vector = ir.VectorType(self.number[0], self.lanes)

    def address(self, array: Any, array_type: Any, index: Any) -> Any:
        """Of a flat element."""
        data = self.context.make_array(array_type)(self.context, self.builder, array).data
        return self.builder.gep(self.builder.bitcast(data, _STORED[array_type.dtype][0].as_pointer()), [index])

    def load(self, address: Any, form: Any, mask: Any) -> Any:
        """A vector of numbers as they are stored, zero where the mask says False; mask None: all of them."""
        kind, name, size = form
        vector = ir.VectorType(kind, self.lanes)
        address = self.builder.bitcast(address, vector.as_pointer())
        if mask is None:
            return self.builder.load(address, align=size)
        signature = ir.FunctionType(vector, [address.type, _NARROW, mask.type, vector])
        name = f"llvm.masked.load.v{self.lanes}{name}.p0"
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, [address, ir.Constant(_NARROW, size), mask, ir.Constant(vector, None)])

    def ask_for(self, address: Any) -> None:
        """The line of the cache that lies _AHEAD behind; no address is wrong."""
        address = self.builder.bitcast(address, _BYTE.as_pointer())
        address = self.builder.gep(address, [ir.Constant(_INDEX, _AHEAD)])
        signature = ir.FunctionType(ir.VoidType(), [address.type, _NARROW, _NARROW, _NARROW])
        function = cgutils.get_or_insert_function(self.builder.module, signature, "llvm.prefetch.p0")
        kind = [ir.Constant(_NARROW, value) for value in (0, 3, 1)]  # to read, L1, data
        self.builder.call(function, [address, *kind])

    def line(self, rows: list[Any], x: Any, i: Any, totals: list[Any], masks: list[Any]) -> list[Any]:
        """totals + the products of a line of each row at i with x[i]."""
        builder = self.builder
        signature = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fmuladd.v{self.lanes}{self.number[1]}"
        fma = cgutils.get_or_insert_function(builder.module, signature, name)
        for step, mask in enumerate(masks):
            at = builder.add(i, ir.Constant(_INDEX, step * self.lanes))
            v = self.load(builder.gep(x, [at]), self.number, mask)
            found = [self.load(builder.gep(row, [at]), self.stored, mask) for row in rows]
            found = [_widened(builder, self.type, w, self.vector) for w in found]
            totals = [builder.call(fma, [w, v, total]) for w, total in zip(found, totals, strict=True)]
        return totals

    def sums(self, rows: list[Any], x: Any, size: Any) -> list[Any]:
        """A vector of partial sums for the row at each address."""
        builder, lanes = self.builder, self.lanes
        test, whole, rest, part, done = (builder.append_basic_block(f"dots_{n}") for n in ("test", *"abcd"))
        entry = builder.block
        builder.branch(test)
        builder.position_at_end(test)
        i, totals = builder.phi(_INDEX), [builder.phi(self.vector) for _ in rows]
        after = builder.add(i, ir.Constant(_INDEX, self.steps * lanes))
        builder.cbranch(builder.icmp_signed("<=", after, size), whole, rest)

        builder.position_at_end(whole)
        for row in rows:
            self.ask_for(builder.gep(row, [i]))
        further = self.line(rows, x, i, totals, [None] * self.steps)
        builder.branch(test)
        i.add_incoming(ir.Constant(_INDEX, 0), entry)
        i.add_incoming(after, whole)
        for total, more in zip(totals, further, strict=True):
            total.add_incoming(ir.Constant(self.vector, [0.0] * lanes), entry)
            total.add_incoming(more, whole)

        builder.position_at_end(rest)
        builder.cbranch(builder.icmp_signed("<", i, size), part, done)
        builder.position_at_end(part)
        many = ir.VectorType(_NARROW, lanes)
        left = builder.trunc(builder.sub(size, i), _NARROW)
        left = builder.insert_element(ir.Constant(many, ir.Undefined), left, ir.Constant(_NARROW, 0))
        left = builder.shuffle_vector(left, left, ir.Constant(many, [0] * lanes))
        places = [ir.Constant(many, list(range(s * lanes, (s + 1) * lanes))) for s in range(self.steps)]
        last = self.line(rows, x, i, totals, [builder.icmp_signed("<", place, left) for place in places])
        builder.branch(done)
        builder.position_at_end(done)
        found = [builder.phi(self.vector) for _ in rows]
        for result, total, more in zip(found, totals, last, strict=True):
            result.add_incoming(total, rest)
            result.add_incoming(more, part)
        return found

    def across(self, vector: Any) -> Any:
        """The sum of the lanes: halves added until one is left."""
        width = self.lanes
        while width > 1:
            width //= 2
            order = [*range(width, 2 * width)] + [0] * (self.lanes - width)
            half = self.builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_NARROW, self.lanes), order))
            vector = self.builder.fadd(vector, half, flags=("contract",))
        return self.builder.extract_element(vector, ir.Constant(_NARROW, 0))


def make_dots(rows: int) -> Any:
    """dots(w, w0, w_row, x, x0, size, y, y0): y[y0 + j] = sum over i < size of w[w0 + j w_row + i] x[x0 + i], j < rows.

    Arrays are contiguous; what is inside them is an offset in elements. Nothing checks bounds.
    """

    @intrinsic
    def dots(typingctx: Any, w: Any, w0: Any, w_row: Any, x: Any, x0: Any, size: Any, y: Any, y0: Any) -> Any:
        i64 = types.int64
        signature = types.void(w, i64, i64, x, i64, i64, y, i64)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            w_, w0_, w_row_, x_, x0_, size_, y_, y0_ = arguments
            code = _Dots(context, builder, w.dtype, y.dtype)
            first, target = code.address(w_, w, w0_), code.address(y_, y, y0_)
            lines = [builder.gep(first, [builder.mul(w_row_, ir.Constant(_INDEX, j))]) for j in range(rows)]
            for j, total in enumerate(code.sums(lines, code.address(x_, x, x0_), size_)):
                builder.store(code.across(total), builder.gep(target, [ir.Constant(_INDEX, j)]))
            return context.get_dummy_value()

        return signature, generate

    return dots
