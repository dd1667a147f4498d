"""The way back of layer_norm, add_layer_norm and rms_norm as an LLVM intrinsic, four rows of C features at a time.

    g = dy weight,   slope = r^3 mean(g c),   shift = r mean(g),   where c = x - mean
    dx = r g - slope c - shift,   dweight += dy r c,   dbias += dy

First the two sums of every row, then one visit, while the rows sit in L1, that writes dx and adds to dweight and dbias:
four rows at a time, so that weight, dweight and dbias are read and written once for four.

That visit reads up to nineteen places and writes up to ten. LLVM's own vectoriser would first compare the addresses of
each with each, and for so many it gives up.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .jit import intrinsic
from .tile import _Row

ROWS = 4
"""Rows of one visit."""
_FLAGS = ("contract",)


class _Lines(_Row):
    """Arithmetic on vectors, and sums over their lanes."""

    def add(self, a: Any, b: Any) -> Any:
        return self.builder.fadd(a, b, flags=_FLAGS)

    def subtract(self, a: Any, b: Any) -> Any:
        return self.builder.fsub(a, b, flags=_FLAGS)

    def multiply(self, first: Any, *others: Any) -> Any:
        for other in others:
            first = self.builder.fmul(first, other, flags=_FLAGS)
        return first

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fmuladd.v{self.lanes}f{8 * self.itemsize}"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [a, b, c])

    def pick(self, a: Any, b: Any, order: list[int]) -> Any:
        """The lanes of a, and behind them those of b, in this order."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), order))

    def sums(self, vectors: list[Any]) -> list[Any]:
        """The sum over the lanes of each of the vectors (one, two or four of them), in all lanes."""
        count, span = len(vectors), 1
        while len(vectors) > 1:  # lane j of a pair's sum belongs to the first where j & span is 0, else to the second
            keep = [j if not j & span else self.lanes + j for j in range(self.lanes)]
            fold = [j ^ span if not j & span else self.lanes + (j ^ span) for j in range(self.lanes)]
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            vectors, span = [self.add(self.pick(a, b, keep), self.pick(a, b, fold)) for a, b in pairs], 2 * span
        (total,) = vectors
        while span < self.lanes:
            total, span = self.add(total, self.pick(total, total, [j ^ span for j in range(self.lanes)])), 2 * span
        return [self.pick(total, total, [k] * self.lanes) for k in range(count)]

    def plus(self, vectors: list[Any], condition: Any, places: list[Any], j: Any, mask: Any) -> list[Any]:
        """The vectors, each with what lies at its place added where the condition holds: one jump for all of them."""
        before, zero = self.builder.block, self.constant(0.0)
        with self.builder.if_then(condition):
            sums = [self.add(v, self.load(place, j, mask, zero)) for v, place in zip(vectors, places, strict=True)]
            inside = self.builder.block
        merged = [self.builder.phi(self.vector) for _ in vectors]
        for phi, vector, total in zip(merged, vectors, sums, strict=True):
            phi.add_incoming(vector, before)
            phi.add_incoming(total, inside)
        return merged


def _make(rows: int, *, centred: bool) -> Any:
    """norm_vjp for this many rows. Not centred, mean and shift are 0 and dbias is left alone: rms_norm."""

    @intrinsic
    def norm_vjp(
        typingctx: Any, dy: Any, x: Any, i: Any, C: Any, weight: Any, means: Any, scales: Any, share: Any, dx: Any,
        dx_i: Any, add: Any, ds: Any, with_ds: Any, twin: Any, with_twin: Any, dweight: Any, dbias: Any,
    ) -> Any:  # fmt: skip
        """Rows i on of dy, x (R, C), means and scales (R,): dx from row dx_i on is written, or added to where `add`, and
        dweight, dbias (C,) are added to. Where `with_ds`, ds (R, C) is part of dx; where `with_twin`, twin (R, C) gets
        dx as well. share is 1 / C.
        """
        i64, flag = types.int64, types.boolean
        signature = types.void(
            dy, x, i64, i64, weight, means, scales, x.dtype, dx, i64, flag, ds, flag, twin, flag, dweight, dbias
        )

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            dy_, x_, i_, C_, weight_, means_, scales_, share_, dx_, dx_i_, add_, ds_, with_ds_, *rest = arguments
            twin_, with_twin_, dweight_, dbias_ = rest
            walk = _Lines(context, builder, C_, x.dtype)
            zero, nowhere = walk.constant(0.0), ir.Constant(C_.type, 0)

            def lines(array: Any, kind: Any, row: Any) -> list[Any]:
                """Where the rows begin."""
                first = walk.pointer(array, kind, builder.mul(row, C_))
                return [builder.gep(first, [builder.mul(C_, ir.Constant(C_.type, k))]) for k in range(rows)]

            def numbers(array: Any, kind: Any) -> list[Any]:
                """The rows' own numbers, each in all lanes."""
                first = walk.pointer(array, kind, i_)
                return [walk.splat(builder.load(builder.gep(first, [ir.Constant(C_.type, k)]))) for k in range(rows)]

            def centre(k: int, j: Any, mask: Any) -> Any:
                """c of row k; 0 outside the row."""
                v = walk.load(x_at[k], j, mask, mean[k] if centred else zero)
                return walk.subtract(v, mean[k]) if centred else v

            def sum_up(k: int) -> Any:
                def step(j: Any, mask: Any, carried: Any) -> Any:
                    g = walk.multiply(walk.load(dy_at[k], j, mask, zero), walk.load(weight_at, j, mask, zero))
                    builder.store(walk.fma(g, centre(k, j, mask), builder.load(sums_gc[k])), sums_gc[k])
                    if centred:
                        builder.store(walk.add(g, builder.load(sums_g[k])), sums_g[k])
                    return carried

                return step

            def visit(j: Any, mask: Any, carried: Any) -> Any:
                w, dw, db = (walk.load(place, j, mask, zero) for place in (weight_at, dw_at, db_at))
                found = []
                for k in range(rows):
                    d, c = walk.load(dy_at[k], j, mask, zero), centre(k, j, mask)
                    scaled = walk.multiply(d, r[k])
                    found.append(walk.subtract(walk.multiply(scaled, w), walk.fma(c, slope[k], shift[k])))
                    dw, db = walk.fma(scaled, c, dw), walk.add(db, d)
                walk.store(dw, dw_at, j, mask)
                if centred:
                    walk.store(db, db_at, j, mask)
                found = walk.plus(found, with_ds_, ds_at, j, mask)
                found = walk.plus(found, add_, dx_at, j, mask)
                for vector, place in zip(found, dx_at, strict=True):
                    walk.store(vector, place, j, mask)
                with builder.if_then(with_twin_):
                    for vector, place in zip(found, twin_at, strict=True):
                        walk.store(vector, place, j, mask)
                return carried

            dy_at, x_at, ds_at = lines(dy_, dy, i_), lines(x_, x, i_), lines(ds_, ds, i_)
            dx_at, twin_at = lines(dx_, dx, dx_i_), lines(twin_, twin, dx_i_)
            weight_at, dw_at, db_at = (
                walk.pointer(array, kind, nowhere)
                for array, kind in ((weight_, weight), (dweight_, dweight), (dbias_, dbias))
            )
            r, mean = numbers(scales_, scales), numbers(means_, means) if centred else []
            # On the stack in name only: LLVM keeps them in registers.
            sums_gc, sums_g = ([cgutils.alloca_once(builder, walk.vector) for _ in range(rows)] for _ in range(2))
            for place in (*sums_gc, *sums_g):
                builder.store(zero, place)
            for k in range(rows):  # one after the other: rows that are read side by side come slower from L2
                walk.fold(sum_up(k), zero)
            part, shift = walk.splat(share_), [zero] * rows
            along = walk.sums([builder.load(place) for place in sums_gc])
            slope = [walk.multiply(a, part, scale, scale, scale) for a, scale in zip(along, r, strict=True)]
            if centred:
                level = walk.sums([builder.load(place) for place in sums_g])
                shift = [walk.multiply(a, part, scale) for a, scale in zip(level, r, strict=True)]
            walk.fold(visit, zero)
            return context.get_dummy_value()

        return signature, generate

    return norm_vjp


norm_vjp_four, norm_vjp_one = _make(ROWS, centred=True), _make(1, centred=True)
rms_vjp_four, rms_vjp_one = _make(ROWS, centred=False), _make(1, centred=False)
