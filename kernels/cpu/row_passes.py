"""Passes over one row as LLVM intrinsics: reductions with several accumulators, and results stored around the caches.

A loop of Numba's that sums `exp` or takes a maximum has one accumulator, and each vector waits for the one before. Here
there are ACCUMULATORS, combined at the end in a fixed order, so the bits depend on the row's length alone.

    row_largest      max x_j                      row_exp_sum      sum_j e^(x_j - shift)
    row_exp_kept     the same, y_j = e^(x_j - shift)
    row_sum          sum_j x_j                    row_dot          sum_j a_j b_j
    row_exp          y_j = scale e^(x_j - shift)  row_scale        y_j = scale x_j + offset
    row_shift        y_j = (x_j - first) - second
    row_plus         y_j = a_j + b_j              row_times        y_j = a_j b_j
    row_softmax_vjp  dx_j = y_j (dy_j - inner)    row_log_vjp      dx_j = dy_j + e^(y_j) minus_total
    row_largest_where, row_exp_sum_where, row_exp_where            over the entries that a boolean row allows
    row_kept         y_j = scale x_j where a bit is 1, else 0     row_kept_add     the same added to another row

A row is a flat array and a start, in elements; nothing checks bounds. What writes y takes a `mode`: WRITE, ADD to what is
there, or STREAM. An ordinary store first reads the line of memory that it fills. A streaming one does not, which saves a
quarter to a third of the traffic where results are larger than the last cache (`mode_for` decides); where they
fit, they had better stay in it. Streaming stores need whole, aligned vectors: the first ones up to the boundary are masked.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .exp import exp_of_vector
from .jit import intrinsic, jit
from .tile import _INDEX, VECTOR_BYTES, _index, _Row

ACCUMULATORS = 4
UNROLL = 4
WRITE, ADD, STREAM = 0, 1, 2
STREAM_BYTES = 1 << 25  # a result of 32 MB and more would push everything out of the last cache, itself included
_FLAGS = ("contract",)
_BYTE, _BIT = ir.IntType(8), ir.IntType(1)


class _Pass(_Row):
    """One pass: what a step sees is a vector of each array at i, under a mask where the row ends (None: whole)."""

    def __init__(self, context: Any, builder: Any, size: Any, kinds: Any, values: Any, arrays: int) -> None:
        super().__init__(context, builder, size, kinds[0].dtype)
        self.kinds, given = kinds, list(zip(kinds, values, strict=True))
        self.rows = [
            self.pointer(value, kind, given[2 * a + 1][1]) for a, (kind, value) in enumerate(given[: 2 * arrays : 2])
        ]
        self.read = self.rows[:1]  # what ask_ahead fetches
        self.scalars = [self.splat(value) for _, value in given[2 * arrays :]]
        lanes = ir.VectorType(_INDEX, self.lanes)
        self.order = ir.Constant(lanes, list(range(self.lanes)))

    def add(self, a: Any, b: Any) -> Any:
        return self.builder.fadd(a, b, flags=_FLAGS)

    def subtract(self, a: Any, b: Any) -> Any:
        return self.builder.fsub(a, b, flags=_FLAGS)

    def multiply(self, a: Any, b: Any) -> Any:
        return self.builder.fmul(a, b, flags=_FLAGS)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fmuladd.v{self.lanes}f{8 * self.itemsize}"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [a, b, c])

    def exp(self, x: Any) -> Any:
        return exp_of_vector(self.builder, self.kinds[0].dtype, self.lanes, x)

    def larger(self, a: Any, b: Any) -> Any:
        """b where b > a: false for NaN, so NaN never enters."""
        return self.builder.select(self.builder.fcmp_ordered(">", b, a, flags=_FLAGS), b, a)

    def only(self, mask: Any, value: Any, otherwise: Any) -> Any:
        return value if mask is None else self.builder.select(mask, value, otherwise)

    def row(self, a: int, i: Any, mask: Any) -> Any:
        """The vector at i of the a-th array."""
        return self.load(self.rows[a], i, mask, self.constant(0.0))

    def allowed(self, a: int, i: Any, mask: Any) -> Any:
        """The vector at i of the a-th array, which holds booleans, as a mask."""
        at = self.builder.bitcast(self.builder.gep(self.rows[a], [i]), ir.VectorType(_BYTE, self.lanes).as_pointer())
        nothing = ir.Constant(ir.VectorType(_BYTE, self.lanes), [0] * self.lanes)
        if mask is None:
            return self.builder.icmp_unsigned("!=", self.builder.load(at, align=1), nothing)
        kind = ir.FunctionType(nothing.type, [at.type, ir.IntType(32), self.mask_type, nothing.type])
        load = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.masked.load.v{self.lanes}i8.p0")
        bytes_ = self.builder.call(load, [at, ir.Constant(ir.IntType(32), 1), mask, nothing])
        return self.builder.icmp_unsigned("!=", bytes_, nothing)

    def kept(self, a: int, i: Any) -> Any:
        """The mask that begins at bit i of the a-th array, of uint32, bits of low value first. Four bytes are read, so the
        array must go on for three bytes more; the lower byte of a word is taken to come first in memory.
        """
        builder, word = self.builder, ir.IntType(32)
        at = builder.gep(builder.bitcast(self.rows[a], _BYTE.as_pointer()), [builder.lshr(i, _index(3))])
        bits = builder.load(builder.bitcast(at, word.as_pointer()), align=1)
        bits = builder.lshr(bits, builder.trunc(builder.and_(i, _index(7)), word))
        return builder.bitcast(builder.trunc(bits, ir.IntType(self.lanes)), ir.VectorType(_BIT, self.lanes))

    def kept_or_zero(self, a: int, i: Any, value: Any) -> Any:
        """value times the first scalar where the mask of `kept` allows, else 0; never fused with what is added to it."""
        return self.builder.select(self.kept(a, i), self.builder.fmul(value, self.scalars[0]), self.constant(0.0))

    def first(self, count: Any) -> Any:
        """The mask of lanes below `count`."""
        undefined = ir.Constant(self.order.type, ir.Undefined)
        counts = self.builder.insert_element(undefined, count, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.icmp_signed("<", self.order, self.builder.shuffle_vector(counts, undefined, zeros))

    def whole(self, start: Any, step: int) -> Any:
        """The end of the last whole step of so many elements from `start`."""
        length = self.builder.sub(self.size, start)
        return self.builder.sub(self.size, self.builder.and_(length, _index(step - 1)))

    def ask_ahead(self, i: Any) -> None:
        """Fetches what lies one row behind i into the second cache: nothing waits, no address is wrong."""
        builder, narrow = self.builder, ir.IntType(32)
        for at in self.read:
            address = builder.bitcast(builder.gep(at, [builder.add(i, self.size)]), _BYTE.as_pointer())
            kind = ir.FunctionType(ir.VoidType(), [address.type, narrow, narrow, narrow])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            builder.call(function, [address, *(ir.Constant(narrow, value) for value in (0, 2, 1))])  # to read, L2, data

    def reduce(self, start: float, step: Callable[..., Any], combine: Callable[..., Any]) -> Any:
        """One number: step(carried, i, mask) -> carried, from vectors of `start`."""
        builder, begin = self.builder, self.constant(start)
        sums = [cgutils.alloca_once_value(builder, begin) for _ in range(ACCUMULATORS)]
        many, one = self.whole(_index(0), ACCUMULATORS * self.lanes), self.whole(_index(0), self.lanes)
        with cgutils.for_range_slice(builder, _index(0), many, _index(ACCUMULATORS * self.lanes)) as (i, _):
            for k, sum_ in enumerate(sums):
                at = builder.add(i, _index(k * self.lanes))
                builder.store(step(builder.load(sum_), at, None), sum_)
        with cgutils.for_range_slice(builder, many, one, _index(self.lanes)) as (i, _):
            builder.store(step(builder.load(sums[0]), i, None), sums[0])
        with builder.if_then(builder.icmp_signed("<", one, self.size)):
            mask, carried = self.first(builder.sub(self.size, one)), builder.load(sums[0])
            builder.store(builder.select(mask, step(carried, one, mask), carried), sums[0])
        vectors = [builder.load(sum_) for sum_ in sums]
        while len(vectors) > 1:
            vectors = [combine(vectors[k], vectors[k + 1]) for k in range(0, len(vectors), 2)]
        return self.across(vectors[0], combine)

    def write(self, y: Any, mode: Any, step: Callable[..., Any]) -> None:
        """y[i] = step(i, mask), added to or streamed as `mode` says; y is a pointer."""
        builder = self.builder

        def is_(value: int) -> Any:
            return builder.icmp_signed("==", mode, _index(value))

        def put(i: Any, mask: Any) -> None:
            """Under a mask: the few at either end."""
            value = step(i, mask)
            summed = self.add(value, self.load(y, i, mask, self.constant(0.0)))
            self.store(builder.select(is_(ADD), summed, value), y, i, mask)

        address = builder.ptrtoint(y, _INDEX)
        astray = builder.and_(builder.neg(address), _index(VECTOR_BYTES - 1))
        astray = builder.select(is_(STREAM), builder.udiv(astray, _index(self.itemsize)), _index(0))
        begin = builder.select(builder.icmp_signed("<", astray, self.size), astray, self.size)
        with builder.if_then(builder.icmp_signed(">", begin, _index(0))):
            put(_index(0), self.first(begin))
        end = self.whole(begin, self.lanes)

        def every(kind: int) -> None:
            many = self.whole(begin, UNROLL * self.lanes)
            for first, last, count in ((begin, many, UNROLL), (many, end, 1)):
                with cgutils.for_range_slice(builder, first, last, _index(count * self.lanes)) as (i, _):
                    places = [builder.add(i, _index(k * self.lanes)) for k in range(count)]
                    values = [step(place, None) for place in places]  # loads first: a store may be in their way
                    for place in places if kind == STREAM else ():
                        self.ask_ahead(place)
                    for place, value in zip(places, values, strict=True):
                        keep(kind, value, self._at(y, place))

        def keep(kind: int, value: Any, at: Any) -> None:
            if kind == ADD:
                value = self.add(value, builder.load(at, align=self.itemsize))
            store = builder.store(value, at, align=VECTOR_BYTES if kind == STREAM else self.itemsize)
            if kind == STREAM:
                store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))

        with builder.if_else(is_(STREAM)) as (then, otherwise):
            with then:
                every(STREAM)
            with otherwise, builder.if_else(is_(ADD)) as (then_add, otherwise_write):
                with then_add:
                    every(ADD)
                with otherwise_write:
                    every(WRITE)
        with builder.if_then(builder.icmp_signed("<", end, self.size)):
            put(end, self.first(builder.sub(self.size, end)))


def _kinds(arrays: Any, scalars: int) -> tuple[Any, ...]:
    """The types of (array, start) for each array, then of the scalars, which are of the first array's dtype."""
    given = [kind for array in arrays for kind in (array, types.int64)]
    return (*given, *[arrays[0].dtype] * scalars)


def _reduction(arrays: Any, scalars: int, start: float, step: Callable[..., Any], combine: str) -> tuple[Any, Any]:
    """The intrinsic f(size, array, start, ..., scalar, ...) -> number; step(walk, carried, i, mask) -> carried."""
    kinds = _kinds(arrays, scalars)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        walk = _Pass(context, builder, arguments[0], kinds, arguments[1:], len(arrays))
        return walk.reduce(start, lambda carried, i, mask: step(walk, carried, i, mask), getattr(walk, combine))

    return arrays[0].dtype(types.int64, *kinds), generate


def _map(arrays: Any, scalars: int, step: Callable[..., Any], *, ahead: int | None = None) -> tuple[Any, Any]:
    """The intrinsic f(size, array, start, ..., y, start, scalar, ..., mode); step(walk, i, mask) -> vector of y.

    ahead: how many of the arrays are fetched ahead, all but y where it is None.
    """
    kinds = _kinds(arrays, scalars)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        walk = _Pass(context, builder, arguments[0], kinds, arguments[1:-1], len(arrays))
        walk.read = walk.rows[:-1][:ahead]
        walk.write(walk.rows[-1], arguments[-1], lambda i, mask: step(walk, i, mask))
        return context.get_dummy_value()

    return types.void(types.int64, *kinds, types.int64), generate


@intrinsic
def row_largest(typingctx: Any, size: Any, x: Any, x0: Any) -> Any:
    """Largest of the row, NaN ignored; -inf for nothing."""
    return _reduction((x,), 0, float("-inf"), lambda w, best, i, mask: w.larger(best, w.row(0, i, mask)), "larger")


@intrinsic
def row_sum(typingctx: Any, size: Any, x: Any, x0: Any) -> Any:
    """Sum of the row."""
    return _reduction((x,), 0, 0.0, lambda w, total, i, mask: w.add(total, w.row(0, i, mask)), "add")


@intrinsic
def row_dot(typingctx: Any, size: Any, a: Any, a0: Any, b: Any, b0: Any) -> Any:
    """Inner product of two rows."""

    def step(w: Any, total: Any, i: Any, mask: Any) -> Any:
        return w.fma(w.row(0, i, mask), w.row(1, i, mask), total)

    return _reduction((a, b), 0, 0.0, step, "add")


@intrinsic
def row_exp_sum(typingctx: Any, size: Any, x: Any, x0: Any, shift: Any) -> Any:
    """Sum of e^(x - shift): nothing is stored. The next row is fetched meanwhile."""

    def step(w: Any, total: Any, i: Any, mask: Any) -> Any:
        w.ask_ahead(i)
        return w.add(total, w.exp(w.subtract(w.row(0, i, mask), w.scalars[0])))

    return _reduction((x,), 1, 0.0, step, "add")


@intrinsic
def row_exp_kept(typingctx: Any, size: Any, x: Any, x0: Any, y: Any, y0: Any, shift: Any) -> Any:
    """Sum of e^(x - shift), each of which is left in y. The next row of x is fetched meanwhile."""

    def step(w: Any, total: Any, i: Any, mask: Any) -> Any:
        e = w.exp(w.subtract(w.row(0, i, mask), w.scalars[0]))
        w.store(e, w.rows[1], i, mask)
        w.ask_ahead(i)
        return w.add(total, e)

    return _reduction((x, y), 1, 0.0, step, "add")


@intrinsic
def row_exp(typingctx: Any, size: Any, x: Any, x0: Any, y: Any, y0: Any, shift: Any, scale: Any, mode: Any) -> Any:
    """y = scale e^(x - shift)."""

    def step(w: Any, i: Any, mask: Any) -> Any:
        return w.multiply(w.exp(w.subtract(w.row(0, i, mask), w.scalars[0])), w.scalars[1])

    return _map((x, y), 2, step)


@intrinsic
def row_scale(typingctx: Any, size: Any, x: Any, x0: Any, y: Any, y0: Any, scale: Any, offset: Any, mode: Any) -> Any:
    """y = scale x + offset; x and y may be one place."""
    return _map((x, y), 2, lambda w, i, mask: w.fma(w.row(0, i, mask), w.scalars[0], w.scalars[1]))


@intrinsic
def row_shift(typingctx: Any, size: Any, x: Any, x0: Any, y: Any, y0: Any, first: Any, second: Any, mode: Any) -> Any:
    """y = (x - first) - second: two subtractions, because first + second would round the smaller one's digits away."""
    return _map((x, y), 2, lambda w, i, mask: w.subtract(w.subtract(w.row(0, i, mask), w.scalars[0]), w.scalars[1]))


@intrinsic
def row_plus(typingctx: Any, size: Any, a: Any, a0: Any, b: Any, b0: Any, y: Any, y0: Any, mode: Any) -> Any:
    """y = a + b."""
    return _map((a, b, y), 0, lambda w, i, mask: w.builder.fadd(w.row(0, i, mask), w.row(1, i, mask)))


@intrinsic
def row_times(typingctx: Any, size: Any, a: Any, a0: Any, b: Any, b0: Any, y: Any, y0: Any, mode: Any) -> Any:
    """y = a b; where it is added to y, the product is rounded first."""
    return _map((a, b, y), 0, lambda w, i, mask: w.builder.fmul(w.row(0, i, mask), w.row(1, i, mask)))


@intrinsic
def row_softmax_vjp(
    typingctx: Any, size: Any, dy: Any, dy0: Any, y: Any, y0: Any, dx: Any, dx0: Any, inner: Any, mode: Any
) -> Any:
    """dx = y (dy - inner)."""

    def step(w: Any, i: Any, mask: Any) -> Any:
        return w.multiply(w.row(1, i, mask), w.subtract(w.row(0, i, mask), w.scalars[0]))

    return _map((dy, y, dx), 1, step)


@intrinsic
def row_log_vjp(
    typingctx: Any, size: Any, dy: Any, dy0: Any, y: Any, y0: Any, dx: Any, dx0: Any, minus_total: Any, mode: Any
) -> Any:
    """dx = dy + e^y minus_total."""

    def step(w: Any, i: Any, mask: Any) -> Any:
        return w.fma(w.exp(w.row(1, i, mask)), w.scalars[0], w.row(0, i, mask))

    return _map((dy, y, dx), 1, step)


@intrinsic
def row_largest_where(typingctx: Any, size: Any, x: Any, x0: Any, allowed: Any, allowed0: Any) -> Any:
    """Largest of the entries allowed, NaN ignored; -inf for nothing."""

    def step(w: Any, best: Any, i: Any, mask: Any) -> Any:
        return w.builder.select(w.allowed(1, i, mask), w.larger(best, w.row(0, i, mask)), best)

    return _reduction((x, allowed), 0, float("-inf"), step, "larger")


@intrinsic
def row_exp_sum_where(typingctx: Any, size: Any, x: Any, x0: Any, allowed: Any, allowed0: Any, shift: Any) -> Any:
    """Sum of e^(x - shift) over the entries allowed."""

    def step(w: Any, total: Any, i: Any, mask: Any) -> Any:
        more = w.add(total, w.exp(w.subtract(w.row(0, i, mask), w.scalars[0])))
        return w.builder.select(w.allowed(1, i, mask), more, total)

    return _reduction((x, allowed), 1, 0.0, step, "add")


@intrinsic
def row_exp_where(
    typingctx: Any, size: Any, x: Any, x0: Any, allowed: Any, allowed0: Any, y: Any, y0: Any, shift: Any, scale: Any,
    mode: Any,
) -> Any:  # fmt: skip
    """y = e^(x - shift) scale where allowed, 0 elsewhere."""

    def step(w: Any, i: Any, mask: Any) -> Any:
        e = w.multiply(w.exp(w.subtract(w.row(0, i, mask), w.scalars[0])), w.scalars[1])
        return w.builder.select(w.allowed(1, i, mask), e, w.constant(0.0))

    return _map((x, allowed, y), 2, step)


@intrinsic
def row_kept(
    typingctx: Any, size: Any, x: Any, x0: Any, bits: Any, bits0: Any, y: Any, y0: Any, scale: Any, mode: Any
) -> Any:
    """y = scale x where a bit of the uint32 from bits[bits0] on is 1, else 0; see `_Pass.kept`."""
    return _map((x, bits, y), 1, lambda w, i, mask: w.kept_or_zero(1, i, w.row(0, i, mask)), ahead=1)


@intrinsic
def row_kept_add(
    typingctx: Any, size: Any, x: Any, x0: Any, other: Any, other0: Any, bits: Any, bits0: Any, y: Any, y0: Any, scale: Any,
    mode: Any,
) -> Any:  # fmt: skip
    """y = other + (scale x where a bit is 1, else 0)."""

    def step(w: Any, i: Any, mask: Any) -> Any:
        return w.add(w.row(1, i, mask), w.kept_or_zero(2, i, w.row(0, i, mask)))

    return _map((x, other, bits, y), 1, step, ahead=2)


@jit(inner=True)
def mode_for(y, add):
    """How the rows of a result are to be stored: by its size alone, so never by where it lies or who computes it."""
    if add:
        return ADD
    return STREAM if y.size * y.itemsize >= STREAM_BYTES else WRITE
